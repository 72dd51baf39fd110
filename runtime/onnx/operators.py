"""The table of ONNX's operators: what each becomes in the model."""

from collections.abc import Callable, Mapping

import numpy as np

from runtime.onnx import cuts, matrices, pointwise, resize, shapes, transposed, windows
from runtime.onnx.builder import Builder
from runtime.onnx.graph import Op, Unsupported
from runtime.onnx.inputs import constant, data
from runtime.onnx.values import BATCH


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
    if len(x.axes) < 2 or scale.shape != (b.dims(x)[1],):
        raise Unsupported(f"{scale.size} channels for sizes {list(b.dims(x))}")
    along = (-1, *[1] * (len(x.axes) - 2))
    b.affine(op, x, scale.reshape(along), shift.reshape(along))


def softmax(b: Builder, op: Op) -> None:
    """Softmax over one axis; before opset 13 over all from it on."""
    x = data(b.take(op.inputs[0]))
    axis = op.attrs.get("axis", -1 if op.opset >= 13 else 1) % len(x.axes)
    over = [axis] if op.opset >= 13 else list(range(axis, len(x.axes)))
    if any(x.axes[i] == (BATCH,) for i in over):
        raise Unsupported("the batch axis, where another is needed")
    over = [i for i in over if x.axes[i]]
    rest = [i for i in x.data_axes if i not in over and x.axes[i]]
    groups = x.groups()
    fits = groups is not None and list(groups[-1]) == over
    if not fits and not (len(x.shape) == 1 and not rest):
        groups = ((), rest, over) if rest else (over,)
        x = b.form(op, x, groups)
    b.emit(op, "softmax", [x])


Handler = Callable[[Builder, Op], None]

OPERATORS: Mapping[str, Handler] = {
    "Add": pointwise.add,
    "AveragePool": windows.average_pool,
    "BatchNormalization": batch_norm,
    "Cast": shapes.cast,
    "CastLike": shapes.cast,
    "Clip": pointwise.clip,
    "Concat": cuts.concat,
    "Conv": windows.conv,
    "ConvTranspose": transposed.conv_transpose,
    "DepthToSpace": shapes.to_depth,
    "Div": pointwise.div,
    "Dropout": shapes.same,
    "Expand": shapes.expand,
    "Flatten": shapes.flatten,
    "Gather": cuts.gather,
    "Gemm": matrices.gemm,
    "GlobalAveragePool": windows.whole_pool("average_pool"),
    "GlobalMaxPool": windows.whole_pool("max_pool"),
    "HardSigmoid": pointwise.function("hard_sigmoid", alpha=0.2, beta=0.5),
    "HardSwish": pointwise.function("hard_swish"),
    "Identity": shapes.same,
    "LeakyRelu": pointwise.function("leaky_relu", slope=0.01),
    "MatMul": matrices.matmul,
    "Max": pointwise.extreme,
    "MaxPool": windows.max_pool,
    "Min": pointwise.extreme,
    "Mul": pointwise.mul,
    "Neg": pointwise.negative,
    "PRelu": pointwise.prelu,
    "Pad": shapes.pad,
    "Pow": pointwise.power,
    "Reciprocal": pointwise.reciprocal,
    "ReduceMax": windows.reduce,
    "ReduceMean": windows.reduce,
    "ReduceMin": windows.reduce,
    "ReduceSum": windows.reduce,
    "Relu": pointwise.function("relu"),
    "Reshape": shapes.reshape,
    "Resize": resize.resize,
    "Shape": shapes.shape,
    "Sigmoid": pointwise.function("sigmoid"),
    "Slice": cuts.cut,
    "Softmax": softmax,
    "SpaceToDepth": shapes.to_depth,
    "Split": cuts.split,
    "Squeeze": shapes.squeeze,
    "Sub": pointwise.sub,
    "Sum": pointwise.sums,
    "Swish": pointwise.swish,
    "Tanh": pointwise.function("tanh"),
    "Transpose": shapes.transpose,
    "Unsqueeze": shapes.unsqueeze,
    "Upsample": resize.resize,
}
