"""ONNX's elementwise operators."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from runtime.onnx.builder import Builder
from runtime.onnx.fold import Constant
from runtime.onnx.graph import Op, Unsupported
from runtime.onnx.values import Value
from runtime.onnx.windows import data, optional

LARGEST = float(np.finfo(np.float32).max)  # the model file's word for no limit


def function(kind: str, **defaults: float) -> Callable[[Builder, Op], None]:
    """An operator of one input whose attributes are numbers: ONNX's name of each, and its default."""
    names = {"slope": "alpha"} if kind == "leaky_relu" else {}

    def handle(b: Builder, op: Op) -> None:
        x = b.plain(op, data(b.take(op.inputs[0])))
        attrs = {name: float(op.attrs.get(names.get(name, name), value)) for name, value in defaults.items()}
        b.emit(op, kind, [x], attrs, order=x.order)

    return handle


def clip(b: Builder, op: Op) -> None:
    """Clip, by attributes (opset < 11) or inputs; the upper limit wins."""
    x = b.plain(op, data(b.take(op.inputs[0])))
    limits = []
    for at, (key, nothing) in enumerate((("min", -LARGEST), ("max", LARGEST)), start=1):
        given = optional(b, op, at)
        limit = float(op.attrs.get(key, nothing) if given is None else given.floats("a limit").item())
        limits.append(min(max(limit, -LARGEST), LARGEST))
    low, high = min(limits), limits[1]
    if (low, high) == (0.0, LARGEST):
        b.emit(op, "relu", [x], order=x.order)
    else:
        b.emit(op, "clip", [x], {"low": low, "high": high}, order=x.order)


def prelu(b: Builder, op: Op) -> None:
    """PRelu with a constant slope for all or for each channel."""
    x, slope = b.plain(op, data(b.take(op.inputs[0]))), optional(b, op, 1)
    vector = None if slope is None else b.channels(x, slope.floats("slopes"))
    if slope is None or vector is None:
        raise Unsupported("slopes that are not one number a channel")
    b.emit(op, "prelu", [x], tensors={"slope": np.ascontiguousarray(vector, np.float32)}, order=x.order)


def _two(b: Builder, op: Op) -> tuple[Value | Constant, Value | Constant]:
    first, second = (b.take(name) for name in op.inputs)
    assert first is not None, "the checker knows the arity"
    assert second is not None, "the checker knows the arity"
    return first, second


def _pair(b: Builder, op: Op, first: Value, second: Value) -> tuple[Value, Value]:
    """Two values whose axes stand alike; the second may be one pixel for all of the first's."""
    first, second = b.plain(op, first), b.plain(op, second)
    same = (first.labelled(), first.order, first.shape) == (second.labelled(), second.order, second.shape)
    if same:
        return first, second
    if len(first.axes) != len(second.axes):
        raise Unsupported(f"inputs of axes {first.axes!r} and {second.axes!r}")
    if len(first.axes) == 2:
        return b.flat(op, first), b.flat(op, second)
    return b.image(op, first), b.image(op, second)


def _is_pixel(x: Value, all_of: Value) -> bool:
    return x.shape != all_of.shape and x.shape == (1, 1, all_of.shape[-1])


def add(b: Builder, op: Op) -> None:
    """Add: of two values, or of a value and a constant for each channel."""
    first, second = _two(b, op)
    if isinstance(first, Value) and isinstance(second, Value):
        x, y = _pair(b, op, first, second)
        x, y = (y, x) if _is_pixel(x, y) else (x, y)
        if _is_pixel(y, x):  # x + y = x - -y, to the last bit
            tensors = {"scale": np.full(y.shape[-1], -1, np.float32)}
            b.emit(op, "sub", [x, b.emit(op, "scale", [y], tensors=tensors, last=False)])
        else:
            b.emit(op, "add", [x, y], order=x.order)
        return
    value, shift = (first, second) if isinstance(first, Value) else (second, first)
    _by_channel(b, op, value, None, shift)


def mul(b: Builder, op: Op) -> None:
    """Mul: of two values, or of a value and a constant for each channel."""
    first, second = _two(b, op)
    if isinstance(first, Value) and isinstance(second, Value):
        x, y = _pair(b, op, first, second)
        x, y = (y, x) if _is_pixel(x, y) else (x, y)
        b.emit(op, "mul", [x, y], order=x.order)
        return
    value, scale = (first, second) if isinstance(first, Value) else (second, first)
    _by_channel(b, op, value, scale, None)


def sub(b: Builder, op: Op) -> None:
    """Sub: of two values, or of a value and a constant for each channel, in any order."""
    first, second = _two(b, op)
    if isinstance(first, Value) and isinstance(second, Value):
        x, y = _pair(b, op, first, second)
        b.emit(op, "sub", [x, y], order=x.order)
    elif isinstance(first, Value):
        _by_channel(b, op, first, None, _map(second, np.negative))
    else:
        _by_channel(b, op, second, Constant.of(np.full(1, -1, np.float32)), first)


def div(b: Builder, op: Op) -> None:
    """Div by a constant for each channel: multiplied by its reciprocal."""
    first, second = _two(b, op)
    if isinstance(second, Value):
        raise Unsupported("a division by what the graph computes")
    if not second.first.all():
        raise Unsupported("a division by zero")
    _by_channel(b, op, first, _map(second, np.reciprocal), None)


def _map(x: Value | Constant, f: Callable[[np.ndarray], np.ndarray]) -> Constant:
    assert isinstance(x, Constant), "only constants come here"
    return Constant.of(f(x.floats("a constant")))


def _by_channel(
    b: Builder, op: Op, x: Value | Constant, scale: Value | Constant | None, shift: Value | Constant | None
) -> None:
    """x * scale + shift, both constants for each channel."""
    value, vectors = data(x), []
    value = replace(value, axes=value.labelled())
    for given, nothing in ((scale, 1.0), (shift, 0.0)):
        assert not isinstance(given, Value), "only constants come here"
        array = np.full(1, nothing, np.float32) if given is None else given.floats("a constant")
        vector = b.channels(value, array)
        if vector is None:
            raise Unsupported(f"a constant of shape {list(array.shape)}, which is not one number a channel")
        vectors.append(vector)
    b.affine(op, value, *vectors)
