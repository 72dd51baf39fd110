"""ONNX's operators, one function each, and the table of them: what each becomes in the model."""

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from runtime.onnx import pointwise, shapes, windows
from runtime.onnx.builder import Builder
from runtime.onnx.graph import Op, Unsupported
from runtime.onnx.values import Value
from runtime.onnx.windows import constant, data, optional


def gemm(b: Builder, op: Op) -> None:
    """Gemm with constant weights: alpha and beta go into them."""
    if op.attrs.get("transA", 0):
        raise Unsupported("transA: the data transposed")
    x = b.features(op, data(b.take(op.inputs[0])))
    weights = constant(b.take(op.inputs[1]), "weights").floats("weights")
    kernel = weights.T if op.attrs.get("transB", 0) else weights
    _dense(b, op, x, kernel * np.float32(op.attrs.get("alpha", 1.0)))
    bias = optional(b, op, 2)
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
    b.emit(op, "conv2d", [b.plain(op, x)], {"padding": "valid"}, {"kernel": weights[None, None]})


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
    """Softmax over one axis; before opset 13 over all from it on."""
    x = b.plain(op, data(b.take(op.inputs[0])))
    axis = op.attrs.get("axis", -1 if op.opset >= 13 else 1) % len(x.axes)
    if op.opset < 13 and axis < len(x.axes) - 1 and any(x.size(label) != 1 for label in x.axes[axis + 1 :]):
        if axis != 1 or x.axes[0] != "n":
            raise Unsupported(f"axes from {axis} of {x.axes!r}")
        features = b.emit(op, "softmax", [b.flat(op, x)], axes="nf", last=False)
        b.spread(op, features, x.image_dims, last=True)
        return
    x = x if x.axes[axis] == "f" else b.innermost(op, x, axis)
    b.emit(op, "softmax", [x], order=x.order)


Handler = Callable[[Builder, Op], None]

OPERATORS: Mapping[str, Handler] = {
    "Add": pointwise.add,
    "AveragePool": windows.average_pool,
    "BatchNormalization": batch_norm,
    "Cast": shapes.cast,
    "Clip": pointwise.clip,
    "Concat": shapes.concat,
    "Conv": windows.conv,
    "Div": pointwise.div,
    "Dropout": shapes.same,
    "Flatten": shapes.flatten,
    "Gemm": gemm,
    "GlobalAveragePool": windows.whole_pool("average_pool"),
    "GlobalMaxPool": windows.whole_pool("max_pool"),
    "HardSigmoid": pointwise.function("hard_sigmoid", alpha=0.2, beta=0.5),
    "HardSwish": pointwise.function("hard_swish"),
    "Identity": shapes.same,
    "LeakyRelu": pointwise.function("leaky_relu", slope=0.01),
    "MatMul": matmul,
    "MaxPool": windows.max_pool,
    "Mul": pointwise.mul,
    "PRelu": pointwise.prelu,
    "Pad": shapes.pad,
    "ReduceMean": windows.reduce_mean,
    "Relu": pointwise.function("relu"),
    "Reshape": shapes.reshape,
    "Resize": shapes.resize,
    "Shape": shapes.shape,
    "Sigmoid": pointwise.function("sigmoid"),
    "Slice": shapes.cut,
    "Softmax": softmax,
    "Split": shapes.split,
    "Squeeze": shapes.squeeze,
    "Sub": pointwise.sub,
    "Tanh": pointwise.function("tanh"),
    "Transpose": shapes.transpose,
    "Unsqueeze": shapes.unsqueeze,
    "Upsample": shapes.resize,
}
