"""Operators that only move numbers (reshape, concat, pad), their vector-Jacobian products beside them."""

from math import prod

import numpy as np

from lhc_ref.arrays import Array, check_float, check_like, namespace
from lhc_ref.errors import InputError


def reshape(x: Array, *, shape: tuple[int, ...]) -> Array:
    """The numbers of f[...] in C order as f[shape], which holds as many; no length may be left open.

    Cost: none, a view where x is contiguous. Source: elementary (`x.reshape(shape)`).
    """
    check_float(x, "x")
    if any(size < 0 for size in shape) or prod(shape) != x.size:
        raise InputError(
            f"shape: expected {x.size} numbers of {tuple(x.shape)}, got {tuple(shape)}. Give every length."
        )
    return x.reshape(shape)


def reshape_vjp(dy: Array, x: Array, *, shape: tuple[int, ...]) -> tuple[Array]:
    """Vector-Jacobian product of `reshape`."""
    check_like(dy, "dy", shape, x, "x")
    return (dy.reshape(x.shape),)


def concat(*arrays: Array, axis: int = -1) -> Array:
    """Arrays f[...] one after the other along an axis (the channels); all other lengths and the dtypes agree.

    Cost: one copy. Source: elementary (`numpy.concatenate`).

    Raises
    ------
    InputError : no array, an axis that is none, arrays that do not go together.
    """
    _concat_axis(arrays, axis)
    return namespace(arrays[0]).concatenate(arrays, axis=axis)


def concat_vjp(dy: Array, *arrays: Array, axis: int = -1) -> tuple[Array, ...]:
    """Vector-Jacobian product of `concat`: each array's part of `dy`."""
    axis = _concat_axis(arrays, axis)
    stops = np.cumsum([a.shape[axis] for a in arrays]).tolist()
    first = arrays[0]
    check_like(dy, "dy", (*first.shape[:axis], stops[-1], *first.shape[axis + 1 :]), first, "the arrays")
    before = (slice(None),) * axis
    return tuple(dy[*before, start:stop] for start, stop in zip([0, *stops], stops, strict=False))


def _concat_axis(arrays: tuple[Array, ...], axis: int) -> int:
    """The axis counted from the front; checks all arrays."""
    if not arrays:
        raise InputError("concat: expected at least one array, got none. Pass the arrays one by one.")
    first = arrays[0]
    check_float(first, "arrays[0]")
    if not -first.ndim <= axis < first.ndim:
        raise InputError(f"axis: expected one of {first.ndim}, got {axis}. -1 is the channels.")
    axis %= first.ndim
    for i, a in enumerate(arrays[1:], 1):
        length = a.shape[axis] if getattr(a, "ndim", 0) == first.ndim else first.shape[axis]
        check_like(a, f"arrays[{i}]", (*first.shape[:axis], length, *first.shape[axis + 1 :]), first, "arrays[0]")
    return axis


def pad(x: Array, *, widths: tuple[tuple[int, int], ...], value: float = 0.0) -> Array:
    """A border of a constant: f[...] grows by `widths`, (before, after) for every axis.

    Cost: one copy. Source: elementary (`numpy.pad`).
    """
    _check_widths(x, widths)
    return namespace(x).pad(x, widths, constant_values=value)


def pad_vjp(dy: Array, x: Array, *, widths: tuple[tuple[int, int], ...], value: float = 0.0) -> tuple[Array]:
    """Vector-Jacobian product of `pad`: `dy` without the border."""
    _check_widths(x, widths)
    check_like(dy, "dy", tuple(s + sum(w) for s, w in zip(x.shape, widths, strict=True)), x, "x")
    return (dy[tuple(slice(w[0], w[0] + s) for s, w in zip(x.shape, widths, strict=True))],)


def _check_widths(x: Array, widths: tuple[tuple[int, int], ...]) -> None:
    check_float(x, "x")
    if len(widths) != x.ndim or any(len(w) != 2 or min(w) < 0 for w in widths):
        raise InputError(
            f"widths: expected {x.ndim} pairs (before, after) of numbers >= 0, got {widths!r}. One for each axis."
        )
