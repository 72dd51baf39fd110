"""How arrays are read, padded and strided, and in which arithmetic."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from lhc_ref.check.cases import Array, Case
from lhc_ref.check.mistakes.base import MASKED, Mistake
from lhc_ref.check.precision import FORMATS, TF32


def _memory(source: str, read_as: str, ours: str) -> tuple[Callable[..., Array], Callable[..., Array]]:
    """Reading the memory of one layout as another, and its adjoint; both take and give `ours`."""
    to_source, to_read = ([ours.index(c) for c in layout] for layout in (source, read_as))

    def read(a: Array, *_: Case) -> Array:
        shape = [a.shape[i] for i in to_read]
        return np.ascontiguousarray(a.transpose(to_source)).reshape(shape).transpose(np.argsort(to_read))

    def back(a: Array, *_: Case) -> Array:
        shape = [a.shape[i] for i in to_source]
        return np.ascontiguousarray(a.transpose(to_read)).reshape(shape).transpose(np.argsort(to_source))

    return read, back


_DISGUISE = "arithmetic in disguise: operands of the convolutions are"


def _ties_away(values: Array) -> Array:
    """As PTX's cvt.rna.tf32.f32 rounds."""
    return np.trunc(values + np.copysign(0.5, values))


def _tf32(to_integer: Callable[[Array], Array]) -> Callable[[Array, Case], Array]:
    """Hardware reads float32 so, and no other format."""
    return lambda a, case: TF32.round(a, to_integer) if case.dtype == "float32" else a


def reads() -> Iterator[Mistake]:
    """Each as a `Mistake`."""
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
    for how, to_integer in (("rounded", _ties_away), ("rounded, ties to even", np.rint), ("truncated", np.trunc)):
        yield Mistake(f"TF32 {_DISGUISE} {how}", {"operands": _tf32(to_integer)})
    for name in ("bfloat16", "float16"):
        yield Mistake(f"{name} {_DISGUISE} rounded", {"operands": lambda a, case, f=FORMATS[name]: f.round(a)})
    for name, format_ in (("TF32", TF32), ("bfloat16", FORMATS["bfloat16"]), ("float16", FORMATS["float16"])):
        yield Mistake(f"the output is rounded to {name}", {"after": format_.round})
        both = {"after": format_.round, "after_vjp": lambda dy, y, f=format_: f.round(dy)}
        yield Mistake(f"the output and its cotangent are rounded to {name}", both)


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


def _bordered(mode: str) -> dict[str, Any]:
    """`same` padding with what the image holds, by the names of np.pad, instead of zeros."""

    def indices(case: Case) -> tuple[Array, Array]:
        """Which row and which column each of the padded image's is."""
        totals = _halves(_totals(case)) if case.padding == "same" else [(0, 0), (0, 0)]
        rows, columns = (
            np.pad(np.arange(size), pads, mode=mode)  # type: ignore[call-overload]
            for size, pads in zip((case.h, case.w), totals, strict=True)
        )
        return rows[:, None], columns

    def read(x: Array, case: Case) -> Array:
        rows, columns = indices(case)
        return x[:, rows, columns]

    def back(dx: Array, case: Case) -> Array:
        rows, columns = indices(case)
        out = np.zeros((case.h, case.w, case.n, case.ci))
        np.add.at(out, (rows, columns), dx.transpose(1, 2, 0, 3))
        return out.transpose(2, 0, 1, 3)

    return {"read_x": read, "write_dx": back, "pads": _same(lambda c: [(0, 0), (0, 0)])}


def _explicit(turn: Callable[[Any], Any]) -> Callable[[Case], Any]:
    return lambda case: case.pads if isinstance(case.pads, str) else turn(case.pads)


PADS: dict[str, Callable[[Case], Any]] = {
    "`same` puts the odd pixel at the start instead of the end": _same(
        lambda c: [(t - t // 2, t // 2) for t in _totals(c)]
    ),
    "`same` is symmetric: half the kernel on both sides": _same(
        lambda c: [((e + 1) // 2, (e + 1) // 2) for e in _extents(c)]
    ),
    "`same` is symmetric: half the kernel rounded down on both sides": _same(
        lambda c: [(e // 2, e // 2) for e in _extents(c)]
    ),
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


def windows() -> Iterator[Mistake]:
    """Each as a `Mistake`."""
    for name, pads in PADS.items():
        yield Mistake(name, {"pads": pads})
    for word, mode in (("its edge repeated", "edge"), ("its reflection", "reflect"), ("its other side", "wrap")):
        levels = (*MASKED, "csg")
        yield Mistake(f"`same` pads the image with {word} instead of zeros", _bordered(mode), levels, common=False)
    # Pads are worked out by the user from the right stride and dilation; only the convolution has them wrong.
    fixed = {"pads": _same(lambda c: _halves(_totals(c)))}
    yield Mistake("vertical and horizontal stride swapped", {"stride": lambda c: (c.sx, c.sy), **fixed})
    yield Mistake("stride ignored", {"stride": lambda c: (1, 1), **fixed})
    yield Mistake("horizontal stride used for both", {"stride": lambda c: (c.sx, c.sx), **fixed})
    yield Mistake("vertical stride used for both", {"stride": lambda c: (c.sy, c.sy), **fixed})
    yield Mistake("vertical and horizontal dilation swapped", {"dilation": lambda c: (c.rx, c.ry), **fixed})
    yield Mistake("dilation ignored", {"dilation": lambda c: (1, 1), **fixed})
    yield Mistake("dilation ignored, in the padding too", {"dilation": lambda c: (1, 1)})
