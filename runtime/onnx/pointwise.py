"""ONNX's elementwise operators."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from runtime.onnx.builder import Builder
from runtime.onnx.fold import Constant
from runtime.onnx.graph import Op, Unsupported
from runtime.onnx.inputs import constant, data, optional
from runtime.onnx.values import Value, batch_axis

LARGEST = float(np.finfo(np.float32).max)  # the model file's word for no limit


def function(kind: str, **defaults: float) -> Callable[[Builder, Op], None]:
    """An operator of one input whose attributes are numbers: ONNX's name of each, and its default."""
    names = {"slope": "alpha"} if kind == "leaky_relu" else {}

    def handle(b: Builder, op: Op) -> None:
        attrs = {name: float(op.attrs.get(names.get(name, name), value)) for name, value in defaults.items()}
        b.emit(op, kind, [data(b.take(op.inputs[0]))], attrs)

    return handle


def clip(b: Builder, op: Op) -> None:
    """Clip, by attributes (opset < 11) or inputs; the upper limit wins."""
    limits = []
    for at, (key, nothing) in enumerate((("min", -LARGEST), ("max", LARGEST)), start=1):
        given = optional(b, op, at)
        limits.append(float(op.attrs.get(key, nothing) if given is None else given.floats("a limit").item()))
    _limit(b, op, data(b.take(op.inputs[0])), min(limits), limits[1])


def _limit(b: Builder, op: Op, x: Value, low: float, high: float) -> None:
    low, high = (min(max(limit, -LARGEST), LARGEST) for limit in (low, high))
    if (low, high) == (0.0, LARGEST):
        b.emit(op, "relu", [x])
    else:
        b.emit(op, "clip", [x], {"low": low, "high": high})


def extreme(b: Builder, op: Op) -> None:
    """Max and Min of data and one number: a limit."""
    values = [b.take(name) for name in op.inputs]
    if len(values) == 1:
        b.alias(op, data(values[0]))
        return
    numbers = [x for x in values if isinstance(x, Constant)]
    if len(values) != 2 or len(numbers) != 1 or numbers[0].first.size != 1:
        raise Unsupported("other inputs than data and one number")
    x, limit = next(data(x) for x in values if isinstance(x, Value)), float(numbers[0].floats("a limit").item())
    _limit(b, op, x, *((limit, LARGEST) if op.kind == "Max" else (-LARGEST, limit)))


def prelu(b: Builder, op: Op) -> None:
    """PRelu with constant slopes."""
    slopes = constant(b.take(op.inputs[1]), "slopes").floats("slopes")
    x, (vector,) = b.vectors(op, data(b.take(op.inputs[0])), slopes)
    b.emit(op, "prelu", [x], tensors={"slope": np.ascontiguousarray(vector, np.float32)})


def alike(b: Builder, op: Op, first: Value, second: Value) -> tuple[Value, Value]:
    """Two values that lie alike; or one of them is one pixel for all of the other's."""
    rank = max(len(first.axes), len(second.axes))
    x, y = (replace(value, axes=((),) * (rank - len(value.axes)) + value.axes) for value in (first, second))
    if batch_axis(x) != batch_axis(y):
        raise Unsupported("two inputs whose batch axes are not the same")
    dims = np.broadcast_shapes(b.dims(x), b.dims(y))
    for big, small in ((x, y), (y, x)):
        groups = big.groups()
        if b.dims(big) == dims and groups is not None and len(groups) == 3:
            outside = [axis for axis in small.data_axes if small.axes[axis] and axis not in groups[2]]
            if not outside and b.dims(small) != dims and all(small.axes[axis] for axis in groups[2]):
                pixel = b.form(op, small, ((), (), groups[2]))
                return (x, pixel) if big is x else (pixel, y)
    x, y = b.spread(op, x, dims), b.spread(op, y, dims)
    if (x.shape, x.split, x.axes) == (y.shape, y.split, y.axes):
        return x, y
    groups = x.groups() or y.groups() or b.usual(x)
    return b.form(op, x, groups), b.form(op, y, groups)


def _two(b: Builder, op: Op) -> tuple[Value | Constant, Value | Constant]:
    first, second = (b.take(name) for name in op.inputs)
    assert first is not None, "the checker knows the arity"
    assert second is not None, "the checker knows the arity"
    return first, second


def _data_first(first: Value | Constant, second: Value | Constant) -> tuple[Value, np.ndarray]:
    """Data and the constant beside them, in either order."""
    x, given = (first, second) if isinstance(first, Value) else (second, first)
    return data(x), constant(given, "a constant").floats("a constant")


def _minus(b: Builder, op: Op, x: Value, last: bool = False) -> Value:
    tensors = {"scale": np.full(x.shape[-1], -1, np.float32)}
    return b.emit(op, "scale", [x], tensors=tensors, last=last)


def plus(b: Builder, op: Op, first: Value, second: Value, last: bool = True) -> Value:
    """The sum of two values."""
    x, y = alike(b, op, first, second)
    if x.shape == y.shape:
        return b.emit(op, "add", [x, y], last=last)
    x, y = (y, x) if _is_pixel(x, y) else (x, y)
    return b.emit(op, "sub", [x, _minus(b, op, y)], last=last)  # x + y = x - -y, to the last bit


def add(b: Builder, op: Op) -> None:
    """Add: of two values, or of a value and a constant."""
    first, second = _two(b, op)
    if isinstance(first, Value) and isinstance(second, Value):
        plus(b, op, first, second)
    else:
        x, given = _data_first(first, second)
        b.affine(op, x, np.ones(()), given)


def sums(b: Builder, op: Op) -> None:
    """Sum: of any number of values."""
    first, *others = (data(b.take(name)) for name in op.inputs)
    for i, other in enumerate(others, start=1):
        first = plus(b, op, first, other, last=i == len(others))
    if not others:
        b.alias(op, first)


def mul(b: Builder, op: Op) -> None:
    """Mul: of two values, or of a value and a constant."""
    first, second = _two(b, op)
    if isinstance(first, Value) and isinstance(second, Value):
        x, y = alike(b, op, first, second)
        b.emit(op, "mul", [y, x] if _is_pixel(x, y) else [x, y])
    else:
        x, given = _data_first(first, second)
        b.affine(op, x, given, np.zeros(()))


def _is_pixel(x: Value, all_of: Value) -> bool:
    return x.shape != all_of.shape and x.shape[:2] == (1, 1)


def sub(b: Builder, op: Op) -> None:
    """Sub: of two values, or of a value and a constant, in any order."""
    first, second = _two(b, op)
    if isinstance(first, Value) and isinstance(second, Value):
        x, y = alike(b, op, first, second)
        if _is_pixel(x, y):
            _minus(b, op, b.emit(op, "sub", [y, x], last=False), last=True)
        else:
            b.emit(op, "sub", [x, y])
    elif isinstance(first, Value):
        b.affine(op, first, np.ones(()), -constant(second, "what is taken away").floats("a constant"))
    else:
        b.affine(op, data(second), np.full((), -1.0), first.floats("a constant"))


def negative(b: Builder, op: Op) -> None:
    """Neg."""
    b.affine(op, data(b.take(op.inputs[0])), np.full((), -1.0), np.zeros(()))


def div(b: Builder, op: Op) -> None:
    """Div: by a value, of a value or a constant; by a constant, multiplied by its reciprocal."""
    first, second = _two(b, op)
    if isinstance(second, Constant):
        divisor = second.floats("a constant").astype(np.float64)
        if not divisor.all():
            raise Unsupported("a division by zero")
        b.affine(op, data(first), 1 / divisor, np.zeros(()))
    elif isinstance(first, Constant):
        _constant_by(b, op, first.floats("a constant"), second)
    else:
        x, y = alike(b, op, first, second)
        if _is_pixel(x, y):
            x = b.emit(op, "upsample", [x], {"factor": y.shape[:2]}, seen=(y.split, y.axes), last=False)
        b.emit(op, "div", [x, y])


def _constant_by(b: Builder, op: Op, given: np.ndarray, x: Value) -> None:
    """A constant divided by a value: ones, as many as the value has numbers, times the constant; no rounding so far."""
    x, (vector,) = b.vectors(op, x, given)
    filled = b.emit(op, "clip", [x], {"low": 1.0, "high": 1.0}, last=False)
    if (vector != 1).any():
        filled = b.emit(op, "scale", [filled], tensors={"scale": vector.astype(np.float32)}, last=False)
    b.emit(op, "div", [filled, x])


def reciprocal(b: Builder, op: Op) -> None:
    """Reciprocal: one divided by data."""
    _constant_by(b, op, np.ones(()), data(b.take(op.inputs[0])))


def power(b: Builder, op: Op) -> None:
    """Pow with a constant exponent of 1 or 2."""
    x, exponent = data(b.take(op.inputs[0])), constant(b.take(op.inputs[1]), "an exponent").fixed
    if exponent.size != 1 or exponent.item() not in (1, 2):
        raise Unsupported(f"exponent {exponent.tolist()}, where 1 or 2 is possible")
    if exponent.item() == 1:
        b.alias(op, x)
    else:
        b.emit(op, "mul", [x, x])


def swish(b: Builder, op: Op) -> None:
    """Swish: x times its sigmoid."""
    if op.attrs.get("alpha", 1.0) != 1.0:
        raise Unsupported(f"alpha {op.attrs['alpha']}, where 1 is possible")
    x = data(b.take(op.inputs[0]))
    b.emit(op, "mul", [x, b.emit(op, "sigmoid", [x], last=False)])
