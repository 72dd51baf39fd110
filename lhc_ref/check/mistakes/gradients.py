"""Slopes of the steps, and cotangents."""

from collections.abc import Callable, Iterator

import numpy as np

from lhc_ref import mask
from lhc_ref.check.cases import Array, Arrays, Case
from lhc_ref.check.mistakes.base import MASKED, PATTERNED, Mistake
from lhc_ref.check.steps import CORRECT


def _window(inside: Callable[[Array], Array], within: float = 1.0, outside: float = 0.1) -> Callable[[Array], Array]:
    return lambda s: np.where(inside(s), within, outside)


def _open(s: Array) -> Array:
    return np.abs(s) < 1


SLOPES: dict[str, Callable[[Array], Array]] = {
    **{
        f"wrong slope outside the window: {v:g} instead of 0.1": _window(_open, outside=v)
        for v in (0, 1, 0.01, 0.2, 0.5)
    },
    "slope window inverted": _window(_open, 0.1, 1.0),
    "slope only where the step is on": lambda s: (s > 0) * 1.0,
    "slope of the sigmoid": lambda s: 1 / (2 + np.exp(s) + np.exp(-s)),
    "slope of tanh": lambda s: 1 - np.tanh(s) ** 2,
    "slope of the arctangent": lambda s: 1 / (1 + s**2),
    "slope of a triangle: 1 - |score|, not below 0": lambda s: np.maximum(1 - abs(s), 0),
    "slope of Bi-Real Net: 2 - 2 |score|, not below 0": lambda s: np.maximum(2 - 2 * abs(s), 0),
    "slope 0.1 outside the window is float32's, whatever the dtype": _window(_open, outside=float(np.float32(0.1))),
    "slope 0: nothing passes the step": lambda s: 0.0 * s,
}  # fmt: skip


WINDOWS: dict[str, Callable[[Array], Array]] = {
    "slope window on the wrong side of equality (<= 1 instead of < 1)": lambda s: abs(s) <= 1,
    "slope window without its lower edge (score < 1 without the absolute value)": lambda s: s < 1,
    "slope window without its upper edge": lambda s: s > -1,
    "slope window of half the width": lambda s: abs(s) < 0.5,
    "slope window of twice the width": lambda s: abs(s) < 2,
}
for _name, _inside in WINDOWS.items():
    SLOPES[_name] = _window(_inside)
    for _outside in (0, 0.01):
        SLOPES[f"{_name}, and {_outside:g} instead of 0.1 outside"] = _window(_inside, outside=_outside)


def _winner(dscores: Array, scores: Array) -> Array:
    return dscores * mask.rigid_one_hot(scores)


def _softmax_vjp(dhot: Array, scores: Array) -> Array:
    p = np.exp(scores - scores.max(axis=0))
    p /= p.sum(axis=0)
    return p * (dhot - (p * dhot).sum(axis=0))


def slopes() -> Iterator[Mistake]:
    """Each as a `Mistake`."""
    for name, slope in SLOPES.items():
        yield Mistake(name, {"slope": slope}, ("free",))
        centred = lambda s, slope=slope: slope(s - s.mean(axis=0))  # noqa: E731
        yield Mistake(name, {"rigid_slope": centred}, ("rigid",))
    yield Mistake("rigid slope's window lies about 0 instead of the mean", {"rigid_slope": CORRECT.slope}, ("rigid",))
    yield Mistake(
        "rigid slope's window lies about the largest score",
        {"rigid_slope": lambda s: CORRECT.slope(s - s.max(0))},
        ("rigid",),
    )
    yield Mistake(
        "rigid slope's window lies about the median",
        {"rigid_slope": lambda s: CORRECT.slope(s - np.median(s, 0))},
        ("rigid",),
    )
    yield Mistake(
        "rigid slope's window lies about the mean of all scores",
        {"rigid_slope": lambda s: CORRECT.slope(s - s.mean())},
        ("rigid",),
    )
    yield Mistake(
        "rigid slope of the softmax", {"rigid_slope": lambda s: 0 * s + 1, "center_vjp": _softmax_vjp}, ("rigid",)
    )
    yield Mistake("only the winner's score gets a gradient", {"center_vjp": _winner}, ("rigid",))
    through: Callable[[Array, Array], Array] = lambda d, s: d - d.mean(axis=0)  # noqa: E731
    yield Mistake("gradient flows through the mean of the 15", {"center_vjp": through}, ("rigid",))


def _only(keep: Callable[[Case], Array]) -> Callable[[Array, Case], Array]:
    """Collect the copies where `keep` (c_in, c_out) says so."""
    return lambda dmask, case: CORRECT.collect(dmask * keep(case), case)


def _whole(case: Case) -> Array:
    return (np.arange(case.ci) < case.ci // case.gi * case.gi)[:, None] & (
        np.arange(case.co) < case.co // case.go * case.go
    )


def _copies(case: Case) -> Array:
    return CORRECT.collect(np.ones((case.kh, case.kw, case.ci, case.co)), case)


def gradients() -> Iterator[Mistake]:
    """Each as a `Mistake`."""
    dkernels = {
        "gradient of the kernel leaks through masked taps": lambda d, m, patterns: d,
        "gradient of the kernel is masked by the pattern where `enabled` is off": lambda d, m, patterns: patterns * d,
        "gradient of the kernel reaches masked taps alone": lambda d, m, patterns: (1 - m) * d,
    }
    for name, dkernel in dkernels.items():
        yield Mistake(name, {"dkernel": dkernel}, ("free", "rigid", "masked", "hetconv"))
    dmasks = {
        "gradient of the scores uses the masked kernel": lambda d, k, m: k * m * d,
        "the mask is multiplied in twice: the scores' gradient is doubled where open, 0 where closed": (
            lambda d, k, m: 2 * k * m * d
        ),
        "gradient of the scores lacks the kernel as a factor": lambda d, k, m: d,
        "gradient of the scores uses the kernel's absolute value": lambda d, k, m: abs(k) * d,
        "gradient of the scores lacks the cotangent as a factor": lambda d, k, m: k,
    }
    for name, dmask in dmasks.items():
        yield Mistake(name, {"dmask": dmask}, PATTERNED)
    yield from _rescaled()
    collects = {
        "mean instead of sum over the group (nominal size)": lambda d, c: CORRECT.collect(d, c) / (c.gi * c.go),
        "mean instead of sum over the group (real copies)": lambda d, c: CORRECT.collect(d, c) / _copies(c),
        "mean over the group's input channels": lambda d, c: CORRECT.collect(d, c) / c.gi,
        "mean over the group's output channels": lambda d, c: CORRECT.collect(d, c) / c.go,
        "gradient missing for scores of a cropped group": _only(_whole),
        "only the first copy of a group passes its gradient on": _only(
            lambda c: (np.arange(c.ci) % c.gi == 0)[:, None] & (np.arange(c.co) % c.go == 0)
        ),
        "only the last copy of a group passes its gradient on": _only(
            lambda c: (np.arange(c.ci) % c.gi == c.gi - 1)[:, None] & (np.arange(c.co) % c.go == c.go - 1)
        ),
    }
    for name, collect in collects.items():
        yield Mistake(name, {"collect": collect}, PATTERNED)
    clipped: Callable[[Array, Case], Array] = lambda d, c: np.clip(CORRECT.collect(d, c), -1, 1)  # noqa: E731
    yield Mistake("gradient of the scores clipped to [-1, 1] before the slope", {"collect": clipped}, ("free",))
    yield Mistake(
        "dx uses the kernel without its mask", {"mask_for_dx": np.ones_like, "write_dkernel": _unchanged}, MASKED
    )
    yield Mistake(
        "dx correlates with the kernel as it is instead of flipped", {"kernel_of_dx": lambda k: k[::-1, ::-1]}
    )
    yield Mistake("a ReLU is built in", {"after": lambda y: np.maximum(y, 0), "after_vjp": lambda dy, y: dy * (y > 0)})
    yield Mistake("a ReLU is built in, and its gradient forgotten", {"after": lambda y: np.maximum(y, 0)})
    yield Mistake("bias ignored", {"add_bias": lambda y, b: y, "dbias": lambda dy, b: 0.0 * b})
    yield Mistake("bias ignored in the forward pass alone", {"add_bias": lambda y, b: y})
    yield Mistake(
        "bias added twice", {"add_bias": lambda y, b: y + 2 * b, "dbias": lambda dy, b: 2 * dy.sum(axis=(0, 1, 2))}
    )
    yield Mistake("bias subtracted", {"add_bias": lambda y, b: y - b, "dbias": lambda dy, b: -dy.sum(axis=(0, 1, 2))})
    wrong_axes = {
        "of the first image alone": lambda dy, b: dy[0].sum(axis=(0, 1)),
        "kept for each image": lambda dy, b: dy.sum(axis=(1, 2)),
        "summed over the batch alone": lambda dy, b: dy.sum(axis=0),
        "summed over all axes": lambda dy, b: dy.sum() * np.ones(b.shape),
        "of the first pixel alone": lambda dy, b: dy[:, 0, 0].sum(axis=0),
        "of the first row alone": lambda dy, b: dy[:, 0].sum(axis=(0, 1)),
        "of the first column alone": lambda dy, b: dy[:, :, 0].sum(axis=(0, 1)),
        "summed over channels instead of rows": lambda dy, b: dy.sum(axis=(0, 2, 3)),
        "summed over channels instead of columns": lambda dy, b: dy.sum(axis=(0, 1, 3)),
        "summed over channels instead of images": lambda dy, b: dy.sum(axis=(1, 2, 3)),
    }
    for name, dbias in wrong_axes.items():
        yield Mistake(f"bias gradient over the wrong axes: {name}", {"dbias": dbias})


def _rescaled() -> Iterator[Mistake]:
    """Kept weights scaled up as dropout does."""

    def through(d: Array, k: Array, m: Array) -> Array:
        return (k * d - (k * m * d).sum() / max(m.sum(), 1)) / _density(m)

    def combine(k: Array, m: Array) -> Array:
        return k * m / _density(m)

    def dkernel(d: Array, m: Array, _: Array) -> Array:
        return d * m / _density(m)

    name = "kept weights are scaled up by 1/density, as dropout does"
    for more, dmask in (("", through), (", without gradient", lambda d, k, m: k * d / _density(m))):
        yield Mistake(
            f"{name}{more}", {"combine": combine, "dkernel": dkernel, "dmask": dmask}, PATTERNED, common=False
        )


def _density(m: Array) -> float:
    return max(float(m.mean()), 1e-3)


def _unchanged(d: Array) -> Array:
    return d


FACTORS: dict[str, Callable[[Case], float]] = {
    "is averaged over the batch": lambda c: 1 / c.n,
    "is averaged over batch and pixels": lambda c: 1 / (c.n * c.output_hw[0] * c.output_hw[1]),
    "is averaged over the pixels": lambda c: 1 / (c.output_hw[0] * c.output_hw[1]),
    "has the wrong sign": lambda c: -1.0,
    "is zero": lambda c: 0.0,
    "is doubled": lambda c: 2.0,
}
COTANGENTS = ("dx", "dkernel", "dscores", "dbias", "dcodes", "dgenerator", "dstencil", "dpointwise")


def _scale(name: str, factor: Callable[[Case], float]) -> Callable[[Arrays, Case], Arrays]:
    return lambda tensors, case: {k: a * factor(case) if k == name else a for k, a in tensors.items()}


def _clip(name: str) -> Callable[[Arrays, Case], Arrays]:
    return lambda tensors, case: {k: np.clip(a, -1, 1) if k == name else a for k, a in tensors.items()}


def factors() -> Iterator[Mistake]:
    """Each as a `Mistake`."""
    for tensor in COTANGENTS:
        yield Mistake(f"{tensor} is clipped to [-1, 1]", {"finish": _clip(tensor)}, common=False)
        for name, factor in FACTORS.items():
            yield Mistake(f"{tensor} {name}", {"finish": _scale(tensor, factor)})
