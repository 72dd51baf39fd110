"""ONNX's operators, one function each, and the table of them: what each becomes in the model."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from math import prod

import numpy as np

from runtime.onnx import windows
from runtime.onnx.builder import Builder
from runtime.onnx.fold import Constant
from runtime.onnx.graph import Op, Unsupported
from runtime.onnx.values import Order, Shape, Value
from runtime.onnx.windows import constant, data


def _optional(b: Builder, op: Op, at: int) -> Constant | None:
    """An input that may be left out, and is constant otherwise."""
    given = b.take(op.inputs[at]) if len(op.inputs) > at else None
    return None if given is None else constant(given, f"input {at}")


# --- Layers ----------------------------------------------------------------------------------------------------------


def gemm(b: Builder, op: Op) -> None:
    """Gemm with constant weights: alpha and beta go into them."""
    if op.attrs.get("transA", 0):
        raise Unsupported("transA: the data transposed")
    x = b.features(op, data(b.take(op.inputs[0])))
    weights = constant(b.take(op.inputs[1]), "weights").floats("weights")
    kernel = weights.T if op.attrs.get("transB", 0) else weights
    _dense(b, op, x, kernel * np.float32(op.attrs.get("alpha", 1.0)))
    bias = _optional(b, op, 2)
    if bias is not None:
        made = data(b.take(op.outputs[0]))
        shift = b.channels(made, bias.floats("bias") * np.float32(op.attrs.get("beta", 1.0)))
        if shift is None:
            raise Unsupported(f"a bias of shape {list(bias.first.shape)}, which is not one number a unit")
        b.affine(op, replace(made, sole=True), np.ones(1), shift)


def _dense(b: Builder, op: Op, x: Value, kernel: np.ndarray) -> None:
    if kernel.ndim != 2 or kernel.shape[0] != x.shape[0]:
        raise Unsupported(f"weights of shape {list(kernel.shape)} for {x.shape[0]} features")
    rows = kernel if x.order is None else kernel[x.order.index()]
    b.emit(op, "dense", [x], tensors={"kernel": np.ascontiguousarray(rows, np.float32)}, axes="nf")


def matmul(b: Builder, op: Op) -> None:
    """MatMul with constant weights: dense, or a 1x1 convolution where the last axis is that of channels."""
    x = data(b.take(op.inputs[0]))
    weights = constant(b.take(op.inputs[1]), "the second factor").floats("weights")
    if len(x.axes) == 2:
        _dense(b, op, b.features(op, x), weights)
        return
    if not x.axes.endswith("c") or weights.ndim != 2 or weights.shape[0] != x.shape[2]:
        raise Unsupported(f"weights of shape {list(weights.shape)} for axes {x.axes!r} of sizes {x.dims(1)[1:]}")
    b.emit(op, "conv2d", [b.plain(x)], {"padding": "valid"}, {"kernel": weights[None, None]})


def batch_norm(b: Builder, op: Op) -> None:
    """BatchNormalization as it is in inference."""
    if op.attrs.get("training_mode", 0) or len([name for name in op.outputs if name]) > 1:
        raise Unsupported("training mode")
    x = data(b.take(op.inputs[0]))
    gamma, beta, mean, var = (
        constant(b.take(name), what).floats(what).astype(np.float64)
        for name, what in zip(op.inputs[1:], ("scale", "bias", "mean", "variance"), strict=True)
    )
    with np.errstate(all="ignore"):
        scale = gamma / np.sqrt(var + np.float32(op.attrs.get("epsilon", 1e-5)))
        shift = beta - mean * scale
    label = "f" if len(x.shape) == 1 else "c"
    if x.axes[1:2] != label or scale.shape != (x.shape[-1],):
        raise Unsupported(f"{scale.size} channels for axes {x.axes!r} of sizes {x.dims(1)[1:]}")
    at = slice(None) if x.order is None else x.order.index()
    b.affine(op, x, scale[at], shift[at])


def softmax(b: Builder, op: Op) -> None:
    """Softmax over the channels or the features."""
    x = b.plain(data(b.take(op.inputs[0])))
    axis = op.attrs.get("axis", -1 if op.opset >= 13 else 1) % len(x.axes)
    over = x.axes[axis] if op.opset >= 13 else x.axes[axis:]
    if over.replace("1", "") not in ("c", "f") and not (op.opset < 13 and _one_of(x, over)):
        raise Unsupported(f"axis {axis} of {x.axes!r}, where it must be that of channels or features")
    b.emit(op, "softmax", [x], order=x.order)


def _one_of(x: Value, labels: str) -> bool:
    """Whether of these axes only that of channels is longer than 1."""
    return "c" in labels and all(x.size(label) == 1 for label in labels if label not in "cn") and "n" not in labels


# --- Elementwise -----------------------------------------------------------------------------------------------------


def relu(b: Builder, op: Op) -> None:
    """Relu."""
    x = b.plain(data(b.take(op.inputs[0])))
    b.emit(op, "relu", [x], order=x.order)


def clip(b: Builder, op: Op) -> None:
    """Clip, by attributes (opset < 11) or inputs."""
    x = b.plain(data(b.take(op.inputs[0])))
    limits = []
    for at, (key, nothing) in enumerate((("min", -np.inf), ("max", np.inf)), start=1):
        given = _optional(b, op, at)
        limits.append(float(op.attrs.get(key, nothing) if given is None else given.floats("a limit").item()))
    if limits != [0.0, np.inf]:
        raise Unsupported(f"limits {limits}, where 0 and infinity are possible")
    b.emit(op, "relu", [x], order=x.order)


def _pair(b: Builder, op: Op) -> tuple[Value | Constant, Value | Constant]:
    first, second = (b.take(name) for name in op.inputs)
    assert first is not None, "the checker knows the arity"
    assert second is not None, "the checker knows the arity"
    return first, second


def add(b: Builder, op: Op) -> None:
    """Add: of two values, or of a value and a constant for each channel."""
    first, second = _pair(b, op)
    if isinstance(first, Value) and isinstance(second, Value):
        first, second = _alike(b, op, first, second)
        b.emit(op, "add", [first, second], order=first.order)
        return
    x, shift = (first, second) if isinstance(first, Value) else (second, first)
    _by_channel(b, op, data(x), None, constant(shift, "an input"))


def _alike(b: Builder, op: Op, first: Value, second: Value) -> tuple[Value, Value]:
    """Two values of one shape whose axes stand alike."""
    first, second = b.plain(first), b.plain(second)
    if (first.labelled(), first.order, first.shape) != (second.labelled(), second.order, second.shape):
        raise Unsupported(
            f"inputs of axes {first.axes!r} and {second.axes!r}, sizes {first.dims(1)[1:]} and {second.dims(1)[1:]}"
        )
    return first, second


def _by_channel(b: Builder, op: Op, x: Value, scale: Constant | None, shift: Constant | None) -> None:
    """x * scale + shift, both constants for each channel."""
    vectors = []
    for given, nothing in ((scale, 1.0), (shift, 0.0)):
        array = np.full(1, nothing, np.float32) if given is None else given.floats("a constant")
        vector = b.channels(x, array)
        if vector is None:
            raise Unsupported(f"a constant of shape {list(array.shape)}, which is not one number a channel")
        vectors.append(vector)
    b.affine(op, x, *vectors)


# --- Shapes ----------------------------------------------------------------------------------------------------------


def same(b: Builder, op: Op) -> None:
    """What changes nothing in inference: Identity, Dropout."""
    if len([name for name in op.outputs if name]) > 1:
        raise Unsupported("a mask as a second output")
    if len(op.inputs) > 2 and op.inputs[2] and constant(b.take(op.inputs[2]), "training_mode").fixed.item():
        raise Unsupported("training mode")
    b.alias(op, data(b.take(op.inputs[0])))


def cast(b: Builder, op: Op) -> None:
    """A cast of data that are float32 to float32."""
    if op.attrs["to"] != 1:
        raise Unsupported("data cast to another type than float32")
    b.alias(op, data(b.take(op.inputs[0])))


def shape(b: Builder, op: Op) -> None:
    """The sizes of a value: a constant but for the batch."""
    x = data(b.take(op.inputs[0]))
    first, second = (np.array(x.dims(n)[op.attrs.get("start", 0) : op.attrs.get("end")], np.int64) for n in b.batch)
    b.values[op.outputs[0]] = Constant(first, second)


def transpose(b: Builder, op: Op) -> None:
    """Transpose: the same numbers, seen in another order."""
    x = data(b.take(op.inputs[0]))
    order = op.attrs.get("perm") or range(len(x.axes))[::-1]
    b.alias(op, x, axes="".join(x.axes[axis] for axis in order))


def _along(b: Builder, op: Op) -> list[int] | None:
    given = _optional(b, op, 1)
    return op.attrs.get("axes") if given is None else [int(axis) for axis in given.fixed]


def squeeze(b: Builder, op: Op) -> None:
    """Squeeze: axes of size 1 go."""
    x = data(b.take(op.inputs[0]))
    along = _along(b, op)
    if along is None:
        along = [i for i, label in enumerate(x.axes) if label != "n" and x.size(label) == 1]
    gone = {axis % len(x.axes) for axis in along}
    if any(x.axes[axis] == "n" or x.size(x.axes[axis]) != 1 for axis in gone):
        raise Unsupported(f"axes {sorted(gone)} of {x.axes!r}, which are not all of size 1 beside the batch")
    b.alias(op, x, axes="".join(label for i, label in enumerate(x.axes) if i not in gone))


def unsqueeze(b: Builder, op: Op) -> None:
    """Unsqueeze: axes of size 1 come."""
    x = data(b.take(op.inputs[0]))
    along = _along(b, op) or []
    rank = len(x.axes) + len(along)
    new, old = {axis % rank for axis in along}, iter(x.axes)
    b.alias(op, x, axes="".join("1" if i in new else next(old) for i in range(rank)))


def flatten(b: Builder, op: Op) -> None:
    """Flatten to (n, features)."""
    x = data(b.take(op.inputs[0]))
    axis = op.attrs.get("axis", 1)
    if axis % len(x.axes) != 1 or x.axes[0] != "n":
        raise Unsupported(f"axis {axis} of {x.axes!r}, where all but the batch must be flattened")
    to_features(b, op, x)


def to_features(b: Builder, op: Op, x: Value) -> None:
    """All but the batch as features, in ONNX's order."""
    x = b.plain(x)
    if len(x.shape) == 1:
        b.alias(op, x, axes="nf")
        return
    axes = [label for label in x.axes[1:] if label != "1"]
    split = tuple(x.size(label) for label in axes)
    order = Order(split, tuple(axes.index(label) for label in "hwc" if label in axes))
    plain = np.array_equal(order.index(), np.arange(prod(split)))
    b.emit(op, "flatten", [x], axes="nf", order=None if plain else order)


def reshape(b: Builder, op: Op) -> None:
    """Reshape to the same sizes, to sizes of 1 more or fewer, or to (n, features)."""
    x = data(b.take(op.inputs[0]))
    target = _target(b, op, x)
    if [size for size in target if size != 1] == [size for size in x.image_dims if size != 1]:
        labels = iter([label for label in x.axes[1:] if x.size(label) != 1])
        b.alias(op, x, axes="n" + "".join("1" if size == 1 else next(labels) for size in target))
    elif len(target) == 1:
        to_features(b, op, x)
    else:
        raise Unsupported(f"a reshape from {list(x.image_dims)} to {list(target)} beside the batch")


def _target(b: Builder, op: Op, x: Value) -> Shape:
    """The shape that a Reshape makes, without the batch, which stays the first axis."""
    given = constant(b.take(op.inputs[1]), "a shape")
    found = []
    for sizes, n in zip((given.first, given.second), b.batch, strict=True):
        dims = x.dims(n)
        keep = not op.attrs.get("allowzero", 0)
        if any(int(size) == 0 and (not keep or i >= len(dims)) for i, size in enumerate(sizes)):
            raise Unsupported(f"shape {sizes.tolist()}")
        full = [dims[i] if int(size) == 0 else int(size) for i, size in enumerate(sizes)]
        rest = prod(size for size in full if size != -1)
        if full.count(-1) == 1 and rest and prod(dims) % rest == 0:
            full[full.index(-1)] = prod(dims) // rest
        if prod(full) != prod(dims) or not full or full[0] != n:
            raise Unsupported(f"a reshape from {list(dims)} to {sizes.tolist()}, which does not keep the batch first")
        found.append(tuple(full[1:]))
    if found[0] != found[1]:
        raise Unsupported("a shape that depends on the batch")
    return found[0]


def pad(b: Builder, op: Op) -> None:
    """Pad with zeros on rows and columns: taken in by the convolution after it."""
    x = data(b.take(op.inputs[0]))
    mode, given, value = op.attrs.get("mode", "constant"), _optional(b, op, 1), _optional(b, op, 2)
    pads = [int(v) for v in (op.attrs.get("pads", []) if given is None else given.fixed)]
    along = _optional(b, op, 3)
    axes = range(len(x.axes)) if along is None else [int(axis) % len(x.axes) for axis in along.fixed]
    fill = float(op.attrs.get("value", 0.0) if value is None else value.fixed.item())
    amounts = dict.fromkeys("nhwcf1", (0, 0))
    for axis, low, high in zip(axes, pads[: len(pads) // 2], pads[len(pads) // 2 :], strict=True):
        if (low, high) != (0, 0):
            amounts[x.axes[axis]] = (low, high)
    outside = [label for label in "ncf1" if amounts[label] != (0, 0)]
    if mode != "constant" or fill != 0 or outside or min(min(pair) for pair in amounts.values()) < 0:
        raise Unsupported(f"mode {mode!r}, value {fill}, pads {pads} of {x.axes!r}: only zeros around images")
    (top, bottom), (left, right) = amounts["h"], amounts["w"]
    t, le, bo, r = x.pads
    b.alias(op, x, pads=(t + top, le + left, bo + bottom, r + right))


Handler = Callable[[Builder, Op], None]

OPERATORS: Mapping[str, Handler] = {
    "Add": add,
    "AveragePool": windows.average_pool,
    "BatchNormalization": batch_norm,
    "Cast": cast,
    "Clip": clip,
    "Conv": windows.conv,
    "Dropout": same,
    "Flatten": flatten,
    "Gemm": gemm,
    "GlobalAveragePool": windows.whole_pool("average_pool"),
    "GlobalMaxPool": windows.whole_pool("max_pool"),
    "Identity": same,
    "MatMul": matmul,
    "MaxPool": windows.max_pool,
    "Pad": pad,
    "ReduceMean": windows.reduce_mean,
    "Relu": relu,
    "Reshape": reshape,
    "Shape": shape,
    "Softmax": softmax,
    "Squeeze": squeeze,
    "Transpose": transpose,
    "Unsqueeze": unsqueeze,
}
