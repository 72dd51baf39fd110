"""Computes what is constant in a graph beforehand: weights behind shape operators, and the shapes exporters compute.

A batch may be symbolic, and then so are numbers made of it. Each constant is computed for two batch sizes, both prime:
where the two results are equal it does not depend on the batch, and where they are the batch sizes it is the batch.
"""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from runtime.onnx.graph import IN_FLOAT32, MAX_CONSTANT, Op, Unsupported

Array = np.ndarray


@dataclass(frozen=True, eq=False)
class Constant:
    """A constant for each of two batch sizes; both are one array where it does not depend on the batch."""

    first: Array
    second: Array

    @classmethod
    def of(cls, array: Array) -> "Constant":
        """A constant that does not depend on the batch."""
        return cls(array, array)

    @property
    def fixed(self) -> Array:
        """Its value, whatever the batch is."""
        if self.first is not self.second and not np.array_equal(self.first, self.second):
            raise Unsupported("a number that depends on the batch where a fixed one is needed")
        return self.first

    def floats(self, what: str) -> Array:
        """Its value as f32; other types are refused, not rounded."""
        if self.fixed.dtype != np.float32:
            raise Unsupported(f"{what} in {self.fixed.dtype}, where float32 is needed: {IN_FLOAT32}")
        return self.fixed


def _constant(op: Op) -> Array:
    for key in ("value", "sparse_value", "value_float", "value_floats", "value_int", "value_ints"):
        if key in op.attrs:
            dtype = {"float": np.float32, "int": np.int64}.get(key.removeprefix("value_").rstrip("s"))
            return np.asarray(op.attrs[key], dtype)
    raise Unsupported("a constant of texts")


def _axes(op: Op, given: Array | None) -> tuple[int, ...] | None:
    """Axes by input (newer opsets) or by attribute (older ones)."""
    axes = op.attrs.get("axes") if given is None else given
    return None if axes is None else tuple(int(axis) for axis in axes)


def _slice(op: Op, x: Array, *spans: Array) -> Array:
    return x[slices(op, x.shape, *spans)]


def slices(op: Op, shape: tuple[int, ...], *spans: Array | None) -> tuple[slice, ...]:
    """What a Slice takes of each axis."""
    starts, ends, axes, steps = (*spans, None, None, None, None)[:4]
    starts = op.attrs.get("starts") if starts is None else starts
    ends = op.attrs.get("ends") if ends is None else ends
    if starts is None or ends is None:
        raise Unsupported("a slice without starts or ends")
    along = _axes(op, axes) or range(len(starts))
    cuts = [slice(None)] * len(shape)
    for i, axis in enumerate(along):
        step = 1 if steps is None else int(steps[i])
        start, end = int(starts[i]), int(ends[i])
        size = shape[axis]
        start, end = (value + size if value < 0 else value for value in (start, end))
        if step > 0:
            start, stop = min(max(start, 0), size), min(max(end, 0), size)
            cuts[axis] = slice(start, max(start, stop), step)
        elif step < 0:
            start, stop = min(max(start, 0), size - 1), min(max(end, -1), size - 1)
            cuts[axis] = slice(start, None if stop < 0 else stop, step)
        else:
            raise Unsupported("a slice with step 0")
    return tuple(cuts)


def _unsqueeze(op: Op, x: Array, axes: Array | None = None) -> Array:
    return np.expand_dims(x, _axes(op, axes) or ())


def _squeeze(op: Op, x: Array, axes: Array | None = None) -> Array:
    return np.squeeze(x, _axes(op, axes))


def _reshape(op: Op, x: Array, shape: Array) -> Array:
    sizes = [x.shape[i] if size == 0 and not op.attrs.get("allowzero") else int(size) for i, size in enumerate(shape)]
    return x.reshape(sizes)


DTYPES = {1: np.float32, 2: np.uint8, 3: np.int8, 5: np.int16, 6: np.int32, 7: np.int64, 9: np.bool_, 11: np.float64}


def _cast(op: Op, x: Array) -> Array:
    if op.attrs["to"] not in DTYPES:
        raise Unsupported(f"a cast to ONNX's type number {op.attrs['to']}")
    return x.astype(DTYPES[op.attrs["to"]])


def _require_small(sizes: Array) -> None:
    """Refuse what is too large for a constant before there is memory for it."""
    if np.prod(sizes, dtype=np.float64) > MAX_CONSTANT:
        raise Unsupported(f"a constant of {' x '.join(f'{size:.0f}' for size in sizes.tolist())} numbers")


def _filled(op: Op, shape: Array) -> Array:
    value = op.attrs.get("value", np.zeros(1, np.float32))
    _require_small(shape)
    return np.full(shape.tolist(), value.reshape(-1)[0], value.dtype)


def _range(op: Op, begin: Array, end: Array, step: Array) -> Array:
    if not step:
        raise Unsupported("a range with step 0")
    _require_small(np.maximum(np.ceil((end - begin) / step), 0).reshape(1))
    return np.arange(begin.item(), end.item(), step.item()).astype(begin.dtype)


def _tile(op: Op, x: Array, repeats: Array) -> Array:
    _require_small(np.multiply(x.shape, repeats, dtype=np.float64))
    return np.tile(x, repeats)


def _expand(op: Op, x: Array, shape: Array) -> Array:
    sizes = np.broadcast_shapes(x.shape, tuple(shape.tolist()))
    _require_small(np.array(sizes))
    return np.broadcast_to(x, sizes).copy()


def _divide(op: Op, a: Array, b: Array) -> Array:
    if a.dtype.kind == "f":
        return a / b
    if not b.all():
        raise Unsupported("a division by zero")
    return (np.sign(a) * np.sign(b) * (np.abs(a) // np.abs(b))).astype(a.dtype)  # towards zero, as C does


def _where(op: Op, a: Array, x: Array, y: Array) -> Array:
    chosen: Array = np.where(a, x, y)
    return chosen


def _reduce(function: Callable[..., Array]) -> Callable[..., Array]:
    """A reduction over some axes, or all."""

    def over(op: Op, x: Array, axes: Array | None = None) -> Array:
        along = _axes(op, axes)
        return np.asarray(function(x, axis=along or None, keepdims=bool(op.attrs.get("keepdims", 1))), x.dtype)

    return over


FOLDS: Mapping[str, Callable[..., Array]] = {
    "Constant": _constant,
    "ConstantOfShape": _filled,
    "Identity": lambda op, x: x,
    "Dropout": lambda op, x, *_: x,
    "Cast": _cast,
    "Gather": lambda op, x, at: np.take(x, at, op.attrs.get("axis", 0)),
    "Slice": _slice,
    "Concat": lambda op, *xs: np.concatenate(xs, op.attrs["axis"]),
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
    "Reshape": _reshape,
    "Flatten": lambda op, x: x.reshape(int(np.prod(x.shape[: op.attrs.get("axis", 1) % (x.ndim + 1)])), -1),
    "Transpose": lambda op, x: x.transpose(op.attrs.get("perm")),
    "Add": lambda op, a, b: a + b,
    "Sub": lambda op, a, b: a - b,
    "Mul": lambda op, a, b: a * b,
    "Div": _divide,
    "Pow": lambda op, a, b: np.power(a, b).astype(a.dtype),
    "Mod": lambda op, a, b: np.fmod(a, b) if op.attrs.get("fmod", 0) else np.mod(a, b),
    "Max": lambda op, *xs: functools.reduce(np.maximum, xs),
    "Min": lambda op, *xs: functools.reduce(np.minimum, xs),
    "Equal": lambda op, a, b: a == b,
    "Less": lambda op, a, b: a < b,
    "LessOrEqual": lambda op, a, b: a <= b,
    "Greater": lambda op, a, b: a > b,
    "GreaterOrEqual": lambda op, a, b: a >= b,
    "And": lambda op, a, b: a & b,
    "Or": lambda op, a, b: a | b,
    "Not": lambda op, x: ~x,
    "Where": _where,
    "Abs": lambda op, x: np.abs(x),
    "Neg": lambda op, x: -x,
    "Sqrt": lambda op, x: np.sqrt(x),
    "Floor": lambda op, x: np.floor(x),
    "Ceil": lambda op, x: np.ceil(x),
    "Size": lambda op, x: np.array(x.size, np.int64),
    "ReduceProd": _reduce(np.prod),
    "ReduceMax": _reduce(np.max),
    "ReduceMin": _reduce(np.min),
    "ReduceSum": _reduce(np.sum),
    "Tile": _tile,
    "CastLike": lambda op, x, like: x.astype(like.dtype),
    "Shape": lambda op, x: np.array(x.shape[op.attrs.get("start", 0) : op.attrs.get("end")], np.int64),
    "Range": _range,
    "Expand": _expand,
}


def fold(op: Op, inputs: list[Constant | None]) -> Constant:
    """An operator of which all inputs are constant."""
    try:
        first = FOLDS[op.kind](op, *(None if x is None else x.first for x in inputs))
        if all(x is None or x.first is x.second for x in inputs):
            return Constant.of(first)
        return Constant(first, FOLDS[op.kind](op, *(None if x is None else x.second for x in inputs)))
    except (ValueError, IndexError, TypeError, KeyError) as error:  # NumPy's word on shapes and types that do not fit
        raise Unsupported(f"constants that do not fit ({error})") from error
