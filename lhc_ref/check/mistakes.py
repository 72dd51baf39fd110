"""Known mistakes, each as the reference's chain with another function in one place, so that it gives its numbers."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np

from lhc_ref import mask
from lhc_ref.check.cases import Array, Arrays, Case
from lhc_ref.check.penalties import PENALTIES
from lhc_ref.check.precision import FORMATS, TF32
from lhc_ref.check.reference import CORRECT, SR_STE_DECAY, Steps

PATTERNED = ("free", "rigid")
MASKED = (*PATTERNED, "masked", "hetconv", "nm")
LAYERS = (*MASKED, "csg", "lean")


@dataclass(frozen=True, eq=False)
class Mistake:
    """`changes` are the fields of Steps that differ; `common` ones are tried in pairs as well."""

    name: str
    changes: dict[str, Any]
    levels: tuple[str, ...] = LAYERS
    common: bool = True

    @property
    def steps(self) -> Steps:
        return replace(CORRECT, **self.changes)

    def with_(self, other: "Mistake") -> "Mistake | None":
        """Both at once, or None where both change the same step."""
        both = {**self.changes, **other.changes}
        shared = self.changes.keys() & other.changes.keys()
        if shared - {"finish"}:
            return None
        if shared:
            one, two = self.changes["finish"], other.changes["finish"]
            both["finish"] = lambda tensors, case: two(one(tensors, case), case)
        levels = tuple(level for level in self.levels if level in other.levels)
        return Mistake(f"{self.name}, and {other.name}", both, levels)


def mistakes(level: str) -> list[Mistake]:
    """All that a level can have."""
    return [m for m in ALL if level in m.levels]


# --- How arrays are read ---------------------------------------------------------------------------------------------


def _memory(source: str, read_as: str, ours: str) -> tuple[Callable[[Array], Array], Callable[..., Array]]:
    """Reading the memory of one layout as another, and its adjoint; both take and give `ours`."""
    to_source, to_read = ([ours.index(c) for c in layout] for layout in (source, read_as))

    def read(a: Array) -> Array:
        shape = [a.shape[i] for i in to_read]
        return np.ascontiguousarray(a.transpose(to_source)).reshape(shape).transpose(np.argsort(to_read))

    def back(a: Array, *_: Array) -> Array:
        shape = [a.shape[i] for i in to_source]
        return np.ascontiguousarray(a.transpose(to_read)).reshape(shape).transpose(np.argsort(to_source))

    return read, back


def _reads() -> Iterator[Mistake]:
    for source, read_as in (("OIHW", "IOHW"), ("OIHW", "HWIO"), ("HWIO", "OIHW"), ("HWIO", "HWOI"), ("OIHW", "OIWH")):
        read, back = _memory(source, read_as, "HWIO")
        changes = {"read_weight": read, "write_dweight": back}
        yield Mistake(f"kernel layouts swapped: {source} in memory is read as {read_as}", changes, MASKED)
    for source, read_as in (("NCHW", "NHWC"), ("NHWC", "NCHW"), ("NCHW", "NCWH")):
        read, back = _memory(source, read_as, "NHWC")
        yield Mistake(
            f"image layouts swapped: {source} in memory is read as {read_as}", {"read_x": read, "write_dx": back}
        )
    flip: Callable[[Array], Array] = lambda k: k[::-1, ::-1].copy()  # noqa: E731
    turn: Callable[[Array], Array] = lambda k: k.swapaxes(0, 1).copy()  # noqa: E731
    yield Mistake(
        "kernel flipped (true convolution, not cross-correlation)", {"read_kernel": flip, "write_dkernel": flip}
    )
    fixed = {"pads": _same(lambda c: _halves(_totals(c)))}
    yield Mistake("kernel's rows and columns swapped", {"read_kernel": turn, "write_dkernel": turn, **fixed})
    swap: Callable[[Array], Array] = lambda k: k.swapaxes(2, 3).copy()  # noqa: E731
    yield Mistake(
        "kernel's input and output channels swapped", {"read_kernel": swap, "write_dkernel": swap}, common=False
    )
    for name, format_ in (("TF32", TF32), ("bfloat16", FORMATS["bfloat16"]), ("float16", FORMATS["float16"])):
        yield Mistake(
            f"{name} arithmetic in disguise: operands of the convolutions are rounded", {"operands": format_.round}
        )
        yield Mistake(f"the output is rounded to {name}", {"after": format_.round})
        both = {"after": format_.round, "after_vjp": lambda dy, y, f=format_: f.round(dy)}
        yield Mistake(f"the output and its cotangent are rounded to {name}", both)


# --- Windows ---------------------------------------------------------------------------------------------------------


def _totals(case: Case, stride: Any = None, dilation: Any = None) -> list[int]:
    """Pixels of padding in all that "same" asks for, along each axis."""
    strides, dilations = stride or (case.sy, case.sx), dilation or (case.ry, case.rx)
    axes = zip((case.h, case.w), (case.kh, case.kw), strides, dilations, strict=True)
    return [max((-(-size // s) - 1) * s + (k - 1) * d + 1 - size, 0) for size, k, s, d in axes]


def _same(split: Callable[[Case], list[tuple[int, int]]]) -> Callable[[Case], Any]:
    return lambda case: tuple(split(case)) if case.padding == "same" else case.pads


def _halves(totals: list[int]) -> list[tuple[int, int]]:
    return [(t // 2, t - t // 2) for t in totals]


def _extents(case: Case) -> list[int]:
    return [(k - 1) * d for k, d in zip((case.kh, case.kw), (case.ry, case.rx), strict=True)]


def _explicit(turn: Callable[[Any], Any]) -> Callable[[Case], Any]:
    return lambda case: case.pads if isinstance(case.pads, str) else turn(case.pads)


PADS: dict[str, Callable[[Case], Any]] = {
    "`same` puts the odd pixel at the start instead of the end": _same(lambda c: [(t - t // 2, t // 2) for t in _totals(c)]),
    "`same` is symmetric: half the kernel on both sides": _same(lambda c: [((e + 1) // 2, (e + 1) // 2) for e in _extents(c)]),
    "`same` is symmetric: half the kernel rounded down on both sides": _same(lambda c: [(e // 2, e // 2) for e in _extents(c)]),
    "`same` pads without regard to the stride": _same(lambda c: _halves(_extents(c))),
    "`same` pads without regard to the stride, the odd pixel at the start": _same(
        lambda c: [(e - e // 2, e // 2) for e in _extents(c)]
    ),
    "`same` pads without regard to the dilation": _same(lambda c: _halves(_totals(c, dilation=(1, 1)))),
    "`same` pads rows as columns and columns as rows": _same(lambda c: _halves(_totals(c))[::-1]),
    "`same` pads all at the end": _same(lambda c: [(0, t) for t in _totals(c)]),
    "`same` is not padded at all": _same(lambda c: [(0, 0), (0, 0)]),
    "explicit pads of rows and columns swapped": _explicit(lambda p: (p[1], p[0])),
    "explicit pads of start and end swapped": _explicit(lambda p: (p[0][::-1], p[1][::-1])),
    "explicit pads ignored": _explicit(lambda p: ((0, 0), (0, 0))),
}  # fmt: skip


def _windows() -> Iterator[Mistake]:
    for name, pads in PADS.items():
        yield Mistake(name, {"pads": pads})
    # Pads are worked out by the user from the right stride and dilation; only the convolution has them wrong.
    fixed = {"pads": _same(lambda c: _halves(_totals(c)))}
    yield Mistake("vertical and horizontal stride swapped", {"stride": lambda c: (c.sx, c.sy), **fixed})
    yield Mistake("stride ignored", {"stride": lambda c: (1, 1), **fixed})
    yield Mistake("horizontal stride used for both", {"stride": lambda c: (c.sx, c.sx), **fixed})
    yield Mistake("vertical stride used for both", {"stride": lambda c: (c.sy, c.sy), **fixed})
    yield Mistake("vertical and horizontal dilation swapped", {"dilation": lambda c: (c.rx, c.ry), **fixed})
    yield Mistake("dilation ignored", {"dilation": lambda c: (1, 1), **fixed})
    yield Mistake("dilation ignored, in the padding too", {"dilation": lambda c: (1, 1)})


# --- The mask --------------------------------------------------------------------------------------------------------

Index = Callable[[int, int], Array]  # (channels, size of a group) -> the group of each channel


def _repeat(c: int, g: int) -> Array:
    return np.arange(c) // g


def _tile(c: int, g: int) -> Array:
    return np.arange(c) % -(-c // g)


def _short_first(c: int, g: int) -> Array:
    return (np.arange(c) + -c % g) // g


def _grouping(name: str, rows: Index, columns: Index, swap: bool = False) -> Iterator[Mistake]:
    """The mask expanded by other indices, with its adjoint; and the adjoint alone beside the right expansion."""

    def indices(case: Case) -> tuple[Array, Array]:
        gi, go = (case.go, case.gi) if swap else (case.gi, case.go)
        return rows(case.ci, gi)[:, None], columns(case.co, go)

    def expand(patterns: Array, case: Case) -> Array:
        i, j = indices(case)
        return patterns[:, :, i, j]

    def collect(dmask: Array, case: Case) -> Array:
        i, j = indices(case)
        out = np.zeros((case.kh, case.kw, *case.group_counts))
        np.add.at(out, (slice(None), slice(None), i, j), dmask)
        return out

    yield Mistake(f"groups {name}", {"expand": expand, "collect": collect}, PATTERNED)
    yield Mistake(f"gradients of groups gathered as if {name}", {"collect": collect}, PATTERNED, common=False)


def _only(keep: Callable[[Case], Array]) -> Callable[[Array, Case], Array]:
    """Collect the copies where `keep` (c_in, c_out) says so."""
    return lambda dmask, case: CORRECT.collect(dmask * keep(case), case)


def _whole(case: Case) -> Array:
    return (np.arange(case.ci) < case.ci // case.gi * case.gi)[:, None] & (
        np.arange(case.co) < case.co // case.go * case.go
    )


def _copies(case: Case) -> Array:
    return CORRECT.collect(np.ones((case.kh, case.kw, case.ci, case.co)), case)


def _masks() -> Iterator[Mistake]:
    steps: dict[str, Callable[[Array], Array]] = {
        "step is on at 0 (>= instead of >)": lambda s: (s >= 0) * 1.0,
        "step is on for NaN": lambda s: 1.0 - (s <= 0),
        "step is inverted": lambda s: (s < 0) * 1.0,
        "step is at 0.5, not at 0": lambda s: (s > 0.5) * 1.0,
        "step by the score's size, not its sign (|score| > 0.5)": lambda s: (abs(s) > 0.5) * 1.0,
        "sign (-1 or 1) instead of step (0 or 1)": np.sign,
    }
    for name, step in steps.items():
        yield Mistake(name, {"step": step}, ("free",))
    hots: dict[str, Callable[[Array], Array]] = {
        "rigid tie: every largest score is marked": lambda s: (s == s.max(axis=0)) * 1.0,
        "rigid tie: the last largest score wins": lambda s: mask.rigid_one_hot(s[::-1])[::-1],
        "the smallest of the 15 scores wins": lambda s: mask.rigid_one_hot(-s),
    }
    for name, hot in hots.items():
        yield Mistake(name, {"one_hot": hot}, ("rigid",))
    table = mask.PATTERNS.astype(np.float64)
    turned = {"transposed": table.swapaxes(1, 2), "upside down": table[:, ::-1], "mirrored": table[:, :, ::-1]}
    for name, patterns in {**turned, "in reverse order": table[::-1], "inverted": 1 - table}.items():
        yield Mistake(f"the 15 patterns are {name}", {"patterns": np.ascontiguousarray(patterns)}, ("rigid",))
    for i, j in combinations(range(len(table)), 2):
        order = list(range(len(table)))
        order[i], order[j] = j, i
        yield Mistake(f"patterns {i} and {j} have changed places", {"patterns": table[order]}, ("rigid",), common=False)
    yield from _grouping("tiled instead of repeated", _tile, _tile)
    yield from _grouping("of input channels tiled instead of repeated", _tile, _repeat)
    yield from _grouping("of output channels tiled instead of repeated", _repeat, _tile)
    yield from _grouping("cropped at the start: the short group comes first", _short_first, _short_first)
    yield from _grouping("cropped at the start along the inputs", _short_first, _repeat)
    yield from _grouping("cropped at the start along the outputs", _repeat, _short_first)
    yield from _grouping("with group_in and group_out swapped", _repeat, _repeat, swap=True)
    enabled: dict[str, Callable[[Array, Array], Array]] = {
        "`enabled` ignored": lambda m, e: m,
        "`enabled` inverted": lambda m, e: mask.apply_enabled(m, ~e),
        "channels that are not enabled are switched off instead of dense": lambda m, e: m * e,
    }
    backward = (lambda dm, e: dm, lambda dm, e: np.where(e, 0.0, dm), CORRECT.enable_vjp)
    for (name, enable), vjp in zip(enabled.items(), backward, strict=True):
        yield Mistake(name, {"enable": enable, "enable_vjp": vjp}, PATTERNED)
    yield Mistake("`enabled` ignored in the gradient of the scores", {"enable_vjp": backward[0]}, PATTERNED)
    yield Mistake("`enabled` ignored in the forward pass alone", {"enable": enabled["`enabled` ignored"]}, PATTERNED)


# --- Slopes and gradients --------------------------------------------------------------------------------------------


def _window(inside: Callable[[Array], Array], within: float = 1.0, outside: float = 0.1) -> Callable[[Array], Array]:
    return lambda s: np.where(inside(s), within, outside)


def _open(s: Array) -> Array:
    return np.abs(s) < 1


SLOPES: dict[str, Callable[[Array], Array]] = {
    **{f"wrong slope outside the window: {v:g} instead of 0.1": _window(_open, outside=v) for v in (0, 1, 0.01, 0.2, 0.5)},
    "slope window on the wrong side of equality (<= 1 instead of < 1)": _window(lambda s: abs(s) <= 1),
    "slope window without its lower edge (score < 1 without the absolute value)": _window(lambda s: s < 1),
    "slope window without its upper edge": _window(lambda s: s > -1),
    "slope window of half the width": _window(lambda s: abs(s) < 0.5),
    "slope window of twice the width": _window(lambda s: abs(s) < 2),
    "slope window inverted": _window(_open, 0.1, 1.0),
    "slope only where the step is on": lambda s: (s > 0) * 1.0,
    "slope of the sigmoid": lambda s: 1 / (2 + np.exp(s) + np.exp(-s)),
    "slope of tanh": lambda s: 1 - np.tanh(s) ** 2,
    "slope 0: nothing passes the step": lambda s: 0.0 * s,
}  # fmt: skip


def _winner(dscores: Array, scores: Array) -> Array:
    return dscores * mask.rigid_one_hot(scores)


def _slopes() -> Iterator[Mistake]:
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
    yield Mistake("only the winner's score gets a gradient", {"center_vjp": _winner}, ("rigid",))
    through: Callable[[Array, Array], Array] = lambda d, s: d - d.mean(axis=0)  # noqa: E731
    yield Mistake("gradient flows through the mean of the 15", {"center_vjp": through}, ("rigid",))


def _gradients() -> Iterator[Mistake]:
    dkernels = {
        "gradient of the kernel leaks through masked taps": lambda d, m, patterns: d,
        "gradient of the kernel is masked by the pattern where `enabled` is off": lambda d, m, patterns: patterns * d,
        "gradient of the kernel reaches masked taps alone": lambda d, m, patterns: (1 - m) * d,
    }
    for name, dkernel in dkernels.items():
        yield Mistake(name, {"dkernel": dkernel}, ("free", "rigid", "masked", "hetconv"))
    dmasks = {
        "gradient of the scores uses the masked kernel": lambda d, k, m: k * m * d,
        "gradient of the scores lacks the kernel as a factor": lambda d, k, m: d,
        "gradient of the scores uses the kernel's absolute value": lambda d, k, m: abs(k) * d,
        "gradient of the scores lacks the cotangent as a factor": lambda d, k, m: k,
    }
    for name, dmask in dmasks.items():
        yield Mistake(name, {"dmask": dmask}, PATTERNED)
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


def _factors() -> Iterator[Mistake]:
    for tensor in COTANGENTS:
        for name, factor in FACTORS.items():
            yield Mistake(f"{tensor} {name}", {"finish": _scale(tensor, factor)})


# --- Other levels ----------------------------------------------------------------------------------------------------


def _tiles(codes: Array, generator: Array, case: Case) -> Array:
    outs, ins = (-(-c // case.s) for c in (case.co, case.ci))
    rows = (codes @ generator.T).reshape(outs, ins, case.s, case.s, case.kh, case.kw).swapaxes(1, 2)
    oihw = rows.reshape(outs * case.s, ins * case.s, case.kh, case.kw)[: case.co, : case.ci]
    return np.ascontiguousarray(oihw.transpose(2, 3, 1, 0))


def _tiles_back(dkernel: Array, case: Case) -> Array:
    outs, ins = (-(-c // case.s) for c in (case.co, case.ci))
    whole = np.zeros((outs * case.s, ins * case.s, case.kh, case.kw))
    whole[: case.co, : case.ci] = dkernel.transpose(3, 2, 0, 1)
    tiles = whole.reshape(outs, case.s, ins, case.s, case.kh, case.kw).swapaxes(1, 2)
    return tiles.reshape(outs * ins, -1)


def _inputs_first(codes: Array, generator: Array, case: Case) -> Array:
    outs, ins = (-(-c // case.s) * case.s for c in (case.co, case.ci))
    iohw = (codes @ generator.T).reshape(ins, outs, case.kh, case.kw)[: case.ci, : case.co]
    return np.ascontiguousarray(iohw.transpose(2, 3, 0, 1))


def _inputs_first_back(dkernel: Array, case: Case) -> Array:
    outs, ins = (-(-c // case.s) * case.s for c in (case.co, case.ci))
    whole = np.zeros((ins, outs, case.kh, case.kw))
    whole[: case.ci, : case.co] = dkernel.transpose(2, 3, 0, 1)
    return whole.reshape(-1, case.s * case.s * case.kh * case.kw)


def _arranged(full: Callable[[Array, Array, int], Array], centre: float = 1.0) -> Callable[[Case], Array]:
    def build(case: Case) -> Array:
        ci, co = np.arange(case.ci)[:, None], np.arange(case.co)
        chosen = np.broadcast_to(full(ci, co, case.p), (case.ci, case.co))
        m = np.broadcast_to(chosen, (case.kh, case.kw, case.ci, case.co)).astype(np.float64)
        m[case.kh // 2, case.kw // 2] = np.maximum(m[case.kh // 2, case.kw // 2], centre)
        return m

    return build


def _other_levels() -> Iterator[Mistake]:
    tiles = {"generate": _tiles, "slices": _tiles_back}
    yield Mistake("a slice is an s x s tile of channels instead of a contiguous run", tiles, ("csg",))
    swapped = {"generate": _inputs_first, "slices": _inputs_first_back}
    yield Mistake("slices run over input channels first (IOHW instead of OIHW)", swapped, ("csg",))
    arrangements = {
        "HetConv's arrangement does not shift with the output channel": _arranged(lambda ci, co, p: ci % p == 0),
        "HetConv's arrangement shifts the other way": _arranged(lambda ci, co, p: (ci + co) % p == 0),
        "HetConv's arrangement starts one channel later": _arranged(lambda ci, co, p: (ci - co - 1) % p == 0),
        "HetConv without its centre taps": _arranged(lambda ci, co, p: (ci - co) % p == 0, 0.0),
        "HetConv keeps p of p channels' complement: the full and the centre kernels swapped": _arranged(
            lambda ci, co, p: (ci - co) % p != 0
        ),
    }
    for name, arrange in arrangements.items():
        yield Mistake(name, {"hetconv": arrange}, ("hetconv",))
    decays = {
        "SR-STE without its decay": lambda k, m: 0 * k,
        "SR-STE's decay on the kept weights instead of the dropped": lambda k, m: SR_STE_DECAY * m * k,
        "SR-STE's decay on all weights": lambda k, m: SR_STE_DECAY * k,
        "SR-STE's decay with the wrong sign": lambda k, m: -SR_STE_DECAY * (1 - m) * k,
        "SR-STE's decay ten times too large": lambda k, m: 10 * SR_STE_DECAY * (1 - m) * k,
    }
    for name, decay in decays.items():
        yield Mistake(name, {"decay": decay}, ("nm",))
    masked: Callable[[Array, Array], Array] = lambda d, m: d * m  # noqa: E731
    yield Mistake("N:M without straight-through: dropped weights get no task gradient", {"nm_dkernel": masked}, ("nm",))
    yield Mistake("N:M keeps the smallest weights", {"nm": lambda k, c: CORRECT.nm(1 / k, c)}, ("nm",))
    yield Mistake(
        "N:M keeps the largest weights, not the largest in size", {"nm": lambda k, c: CORRECT.nm(np.exp(k), c)}, ("nm",)
    )
    for name, (penalty, vjp) in PENALTIES.items():
        yield Mistake(name, {"penalty": penalty, "penalty_vjp": vjp}, ("regularizer",))


ALL: tuple[Mistake, ...] = (
    *_reads(), *_windows(), *_masks(), *_slopes(), *_gradients(), *_factors(), *_other_levels(),
)  # fmt: skip
