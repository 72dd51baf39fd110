"""For each area of the report a layer that is wrong there: `tests.check.wrong:dx`. And one that is wrong everywhere."""

import numpy as np

from tests.check import right

calls = told = 0


def set_threads(count):
    global told
    told = count


def all_wrong(arrays, geometry):
    """Every number, and another one each time and for each number of threads and images."""
    global calls
    calls += 1
    return {
        name: np.asarray(a + np.asarray(50 + calls % 7, a.dtype)) for name, a in right.plain(arrays, geometry).items()
    }


def _scaled(name):
    """One tensor is too large by 1e-4."""

    def layer(arrays, geometry):
        answer = right.plain(arrays, geometry)
        return {**answer, name: answer[name] * np.asarray(1.0001, answer[name].dtype)} if name in answer else answer

    return layer


forward = regularizer = _scaled("y")
dx, dkernel, dscores, dbias = map(_scaled, ("dx", "dkernel", "dscores", "dbias"))
kernel, dcodes, dgenerator = map(_scaled, ("kernel", "dcodes", "dgenerator"))
dstencil, dpointwise = map(_scaled, ("dstencil", "dpointwise"))


def mask(arrays, geometry):
    """Only told wrong: the layer itself uses the right one."""
    answer = right.plain(arrays, geometry)
    return {**answer, "mask": 1 - answer["mask"]}


def enabled(arrays, geometry):
    return right.plain({**arrays, "enabled": np.ones_like(arrays["enabled"])}, geometry)


def grouping(arrays, geometry):
    """The groups of output channels in reverse, where channels share patterns."""
    order = -1 if geometry["group_out"] > 1 else 1
    answer = right.plain({**arrays, "scores": arrays["scores"][..., ::order]}, geometry)
    return {**answer, "dscores": answer["dscores"][..., ::order]}


def padding(arrays, geometry):
    """The odd pixel of "same" at the start."""
    return right.plain(arrays, {**geometry, "padding": tuple(pads[::-1] for pads in geometry["pads"])})


def stride(arrays, geometry):
    """Begins with the last pixel of each stride."""
    sy, sx = geometry["stride"]
    return right.plain({**arrays, "x": np.roll(arrays["x"], (1 - sy, 1 - sx), (1, 2))}, geometry)


def dilation(arrays, geometry):
    return right.plain({**arrays, "x": arrays["x"] * max(geometry["dilation"])}, geometry)


def dtype(arrays, geometry):
    """Computes in float32, whatever is asked for."""
    single = {name: a.astype(np.float32) if a.dtype == np.float64 else a for name, a in arrays.items()}
    return {name: np.asarray(a, arrays["x"].dtype) for name, a in right.plain(single, geometry).items()}


def determinism(arrays, geometry):
    """The last bit of y differs from call to call, where y is no sum of integers: within the budget."""
    global calls
    calls += 1
    answer = right.plain(arrays, geometry)
    other = np.nextafter(answer["y"], answer["y"].dtype.type(calls % 2 * 100))
    return {**answer, "y": other} if (arrays["x"] % 1).any() else answer


def threads(arrays, geometry):
    """With several threads, each forgets the bias but the first."""
    answer = right.plain(arrays, geometry)
    return {**answer, "y": answer["y"] - arrays["bias"]} if told > 1 and "bias" in arrays else answer


def batch(arrays, geometry):
    """The input is centred over the batch."""
    return right.plain({**arrays, "x": arrays["x"] - arrays["x"].mean(axis=0, keepdims=True)}, geometry)


all_wrong.set_threads = threads.set_threads = set_threads
