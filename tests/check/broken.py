"""Targets that go wrong in other ways than with numbers, and one that gives some wrong numbers."""

import ctypes
import datetime
import os
import time

import numpy as np

from lhc_ref.check.protocol import UnsupportedError
from tests.check import numpy_layer


def raises(arrays, geometry):
    raise ValueError("no such layer")


def crashes(arrays, geometry):
    ctypes.string_at(0)


def ends(arrays, geometry):
    os._exit(3)


def exits(arrays, geometry):
    raise SystemExit(0)


def hangs(arrays, geometry):
    time.sleep(60)


def works(arrays, geometry):
    """For half a second of the processor's time, which does not pass while the process is stopped."""
    until = time.process_time() + 0.5
    while time.process_time() < until:
        pass
    return {"y": arrays["x"]}


def closes_all(arrays, geometry):
    os.closerange(0, 256)
    return {"y": arrays["x"]}


def closes_all_and_hangs(arrays, geometry):
    os.closerange(0, 256)
    time.sleep(60)


def closes_all_and_opens_others(arrays, geometry):
    os.closerange(0, 256)
    for _ in range(8):
        os.open(os.devnull, os.O_RDWR)
    return {"y": arrays["x"]}


def prints(arrays, geometry):
    print("this is no answer", flush=True)
    os.write(1, b"nor is this")
    return numpy_layer.layer(arrays, geometry)


def reads(arrays, geometry):
    try:
        input("go on?")
    except EOFError:
        return numpy_layer.layer(arrays, geometry)


def refuses(arrays, geometry):
    raise UnsupportedError("only on Sundays")


def declines(arrays, geometry):
    raise NotImplementedError("no kernels of even size")


def lacks(arrays, geometry):
    """Compiled code that says the same is no decision of the layer's."""
    datetime.tzinfo().utcoffset(None)


class Layer:
    pass


def nothing(arrays, geometry):
    return None


def nan(arrays, geometry):
    answer = numpy_layer.layer(arrays, geometry)
    answer["dx"][0, 0, 0, 0] = np.nan
    return answer


def short(arrays, geometry):
    return {**numpy_layer.layer(arrays, geometry), "y": numpy_layer.layer(arrays, geometry)["y"][:, :-1]}


def double(arrays, geometry):
    return {k: a.astype(np.float64) for k, a in numpy_layer.layer(arrays, geometry).items()}


def forward(arrays, geometry):
    return {"y": numpy_layer.layer(arrays, geometry)["y"]}


def crashes_on_stride(arrays, geometry):
    if geometry["stride"] != (1, 1):
        ctypes.string_at(0)
    return numpy_layer.layer(arrays, geometry)


def dbias_mean(arrays, geometry):
    answer = numpy_layer.layer(arrays, geometry)
    if "dbias" in answer:
        answer["dbias"] = arrays["dy"].mean(axis=(0, 1, 2))
    return answer


calls = 0


def random(arrays, geometry):
    global calls
    calls += 1
    answer = numpy_layer.layer(arrays, geometry)
    return {**answer, "y": np.nextafter(answer["y"], answer["y"].dtype.type(calls % 2 * 100))}


def noisy(arrays, geometry):
    global calls
    calls += 1
    answer = numpy_layer.layer(arrays, geometry)
    return {"y": (answer["y"] * (1 + calls % 7 / 10)).astype(answer["y"].dtype)}


masks: dict = {}


def stale(arrays, geometry):
    """Keeps the mask of the first scores of each shape."""
    shape = arrays["kernel"].shape
    mask = masks.setdefault(shape, numpy_layer.layer(arrays, geometry)["mask"].astype(bool))
    answer = numpy_layer.layer({**arrays, "mask": mask}, {**geometry, "level": "masked"})
    return {**answer, "mask": mask}


def centred(arrays, geometry):
    x = arrays["x"]
    answer = numpy_layer.layer({**arrays, "x": x - x.mean(axis=0, keepdims=True)}, geometry)
    return {"y": answer["y"]}


def objects(arrays, geometry):
    return {"y": np.array([Layer()], dtype=object)}


def text(arrays, geometry):
    return {"y": "twelve"}


def numbered(arrays, geometry):
    return {**numpy_layer.layer(arrays, geometry), 3: 4}


def forks(arrays, geometry):
    os.fork()
    return numpy_layer.layer(arrays, geometry)


def leaves_a_process(arrays, geometry):
    pid = os.fork()
    if not pid:
        time.sleep(60)
        os._exit(0)
    raise ValueError(f"left: {pid}")


def scalars(arrays, geometry):
    return {name: np.float32(0) for name in numpy_layer.layer(arrays, geometry)}


def empty(arrays, geometry):
    return {name: np.zeros((0, 3), np.float32) for name in numpy_layer.layer(arrays, geometry)}


def infinite(arrays, geometry):
    return {name: np.full_like(a, np.inf) for name, a in numpy_layer.layer(arrays, geometry).items()}


def odd_words(arrays, geometry):
    raise ValueError("\x1b[31m red \x00 \ud800 \u2192")


def slow(arrays, geometry):
    """Tells its process's id, and hangs from the tenth call on."""
    global calls
    calls += 1
    print(f"pid {os.getpid()}", file=open(os.environ["LHC_TEST_PIDS"], "a"), flush=True)  # noqa: SIM115
    if calls == 10:
        time.sleep(60)
    return dbias_mean(arrays, geometry)


not_callable = 3


def set_threads(count):
    pass


dbias_mean.set_threads = set_threads
