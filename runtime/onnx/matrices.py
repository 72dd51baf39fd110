"""ONNX's matrix products, with constants as one factor: dense layers, or 1x1 convolutions."""

from dataclasses import replace
from math import prod

import numpy as np

from runtime.onnx.builder import Builder
from runtime.onnx.fold import Constant
from runtime.onnx.graph import Op, Unsupported
from runtime.onnx.inputs import constant, data, optional
from runtime.onnx.values import BATCH, Value, batch_axis, laid, transposed


def gemm(b: Builder, op: Op) -> None:
    """Gemm with constant weights: alpha and beta go into them."""
    x = data(b.take(op.inputs[0]))
    if len(x.axes) != 2:
        raise Unsupported(f"an input of {len(x.axes)} axes, where 2 are needed")
    x = transposed(x, (1, 0)) if op.attrs.get("transA", 0) else x
    weights = constant(b.take(op.inputs[1]), "weights").floats("weights")
    kernel = (weights.T if op.attrs.get("transB", 0) else weights) * np.float32(op.attrs.get("alpha", 1.0))
    bias = optional(b, op, 2)
    y = product(b, op, x, kernel)
    if bias is None:
        b.alias(op, y)
    else:
        b.affine(op, y, np.ones(()), bias.floats("bias") * np.float32(op.attrs.get("beta", 1.0)))


def matmul(b: Builder, op: Op) -> None:
    """MatMul of data and constants, in any order."""
    first, second = (b.take(name) for name in op.inputs)
    if isinstance(first, Constant) and isinstance(second, Value):
        left = first.floats("the first factor")
        left = left[None] if left.ndim == 1 else left
        x = second if len(second.axes) > 1 else replace(second, axes=(*second.axes, ()))
        y = _multiplied(b, op, _turned(x), left.swapaxes(-1, -2))
        gone = [-2] * (first.first.ndim == 1) + [-1] * (len(second.axes) == 1)
        b.alias(op, _without(_turned(y), gone))
        return
    x, right = data(first), constant(second, "the second factor").floats("the second factor")
    gone = [-2] * (len(x.axes) == 1) + [-1] * (right.ndim == 1)
    x = replace(x, axes=((), *x.axes)) if len(x.axes) == 1 else x
    b.alias(op, _without(_multiplied(b, op, x, right[:, None] if right.ndim == 1 else right), gone))


def _turned(x: Value) -> Value:
    """The value with its last two of ONNX's axes exchanged."""
    return replace(x, axes=(*x.axes[:-2], x.axes[-1], x.axes[-2]))


def _without(x: Value, gone: list[int]) -> Value:
    """The value without axes of size 1, counted from the end."""
    at = {len(x.axes) + axis for axis in gone}
    return replace(x, axes=tuple(parts for axis, parts in enumerate(x.axes) if axis not in at))


def _multiplied(b: Builder, op: Op, x: Value, right: np.ndarray) -> Value:
    """x[..., m, k] times constants [..., k, n], one matrix for all or one for each of the places before."""
    if right.ndim > 2 and all(size == 1 for size in right.shape[:-2]):
        right = right.reshape(right.shape[-2:])
    if right.ndim == 2:
        return product(b, op, x, right)
    x = replace(x, axes=((),) * (right.ndim - len(x.axes)) + x.axes)
    right = right.reshape((1,) * (len(x.axes) - right.ndim) + right.shape)
    (*before, m, _), (k, n) = b.dims(x), right.shape[-2:]
    if any(x.axes[axis] == (BATCH,) and right.shape[axis] != 1 for axis in range(len(before))):
        raise Unsupported("a matrix for each image of the batch")
    outer = np.broadcast_shapes(tuple(before), right.shape[:-2])
    x = b.spread(op, x, (*outer, m, b.dims(x)[-1]))
    if b.dims(x)[-1] != k:
        raise Unsupported(f"weights of shape {list(right.shape)} for {b.dims(x)[-1]} features")
    places, rank = [axis for axis in x.data_axes if axis < len(outer)], len(x.axes)
    matrices = np.broadcast_to(right, (*(outer[axis] if axis in places else 1 for axis in range(len(outer))), k, n))
    count = prod(outer[axis] for axis in places)
    kernel = matrices.reshape(count, k, n).transpose(1, 0, 2).reshape(1, 1, k, count * n)
    x = b.form(op, x, ((), (rank - 2,), (*places, rank - 1)))
    seen = laid((*outer, m, n), ((), (rank - 2,), (*places, rank - 1)), batch_axis(x))
    attrs, tensors = {"groups": count, "padding": "valid"}, {"kernel": np.ascontiguousarray(kernel)}
    return b.emit(op, "conv2d", [x], attrs, tensors, seen=seen, last=False)


def product(b: Builder, op: Op, x: Value, kernel: np.ndarray) -> Value:
    """x[..., features] times a matrix: for one row an image a dense layer, which sees features in the model's order;
    else, and where the matrix holds zeros, which a convolution can leave out, a convolution.
    """
    last = len(x.axes) - 1
    if x.axes[last] == (BATCH,):
        raise Unsupported("a product along the batch axis: images are independent of each other")
    features = b.dims(x)[last]
    if kernel.ndim != 2 or kernel.shape[0] != features:
        raise Unsupported(f"weights of shape {list(kernel.shape)} for {features} features")
    kernel = np.ascontiguousarray(kernel, np.float32)
    units, zeros = kernel.shape[1], not kernel.all()
    if all(x.axes[axis] == () for axis in x.data_axes if axis != last):
        kernel, seen = kernel[x.index()], ((units,), (*x.axes[:-1], (0,)))
        if not zeros:
            x = b.reshape(op, x, (features,))
            return b.emit(op, "dense", [x], tensors={"kernel": kernel}, seen=seen, last=False)
        x = x if len(x.shape) == 3 else b.reshape(op, x, (1, 1, features))
        kernel = kernel.reshape(*x.shape, units)
    else:
        if x.place(last) != 2:
            x = b.form(op, x, ((), [axis for axis in x.data_axes if axis != last], (last,)))
        rest = [part for part in range(len(x.split)) if part not in x.axes[last]]
        seen = (*(x.split[part] for part in rest), units), (*x.axes[:-1], (len(rest),))
        kernel = kernel[None, None]
    return b.emit(op, "conv2d", [x], {"padding": "valid"}, {"kernel": kernel}, seen=seen, last=False)
