"""Convolutions and pools of ONNX."""

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from runtime.onnx.builder import Builder
from runtime.onnx.cuts import cut_axes
from runtime.onnx.graph import Op, Unsupported
from runtime.onnx.inputs import constant, data, optional
from runtime.onnx.values import BATCH, Axes, Shape, Value, batch_axis, laid

LARGEST = float(np.finfo(np.float32).max)  # whose negative no real pixel is below
Pair = tuple[int, int]
Pads = tuple[Pair, Pair]


def pair(values: object, count: int, default: int) -> Pair:
    """(y, x) of a list for `count` axes; a row's axis y is 1 long."""
    numbers = [int(v) for v in values] if isinstance(values, list) else [default] * count
    if len(numbers) != count:
        raise Unsupported(f"{numbers} for {count} axes")
    return (1, numbers[0]) if count == 1 else (numbers[0], numbers[1])


def as_image(x: Value) -> Callable[[Shape], tuple[Shape, Axes]]:
    """How an image, or row, of another of the model's shapes stands in ONNX as the image `x` does."""
    axes = (x.axes[0], (2,), (0,), (1,))
    return lambda shape: (shape, axes if len(x.axes) == 4 else (*axes[:2], axes[3]))


def _pads(op: Op, x: Value, window: Pair, stride: Pair, dilation: Pair) -> Pads:
    """((top, bottom), (left, right)) by auto_pad or pads."""
    count = len(x.axes) - 2
    mode = op.attrs.get("auto_pad", "NOTSET")
    if mode in ("SAME_UPPER", "SAME_LOWER"):
        found = []
        for given, size, step, spread in zip(x.shape[:2], window, stride, dilation, strict=True):
            total = max((-(-given // step) - 1) * step + (size - 1) * spread + 1 - given, 0)
            small, large = total // 2, total - total // 2
            found.append((small, large) if mode == "SAME_UPPER" else (large, small))
        return found[0], found[1]
    if mode == "VALID":
        return (0, 0), (0, 0)
    if mode != "NOTSET":
        raise Unsupported(f"auto_pad {mode!r}")
    pads = [int(v) for v in op.attrs.get("pads", [0] * 2 * count)]
    if len(pads) != 2 * count or min(pads, default=0) < 0:
        raise Unsupported(f"pads {pads}")
    return ((0, 0), (pads[0], pads[1])) if count == 1 else ((pads[0], pads[2]), (pads[1], pads[3]))


def _around(pads: Pads, more: Pads) -> Pads:
    """Two borders together."""
    (top, bottom), (left, right) = pads
    return (top + more[0][0], bottom + more[0][1]), (left + more[1][0], right + more[1][1])


def conv(b: Builder, op: Op) -> None:
    """Conv, of rows or images, grouped or not; zeros around its input are taken in."""
    x = b.image(op, data(b.take(op.inputs[0])))
    weights = constant(b.take(op.inputs[1]), "weights").floats("weights")
    if weights.ndim != len(x.axes):
        raise Unsupported(f"weights of shape {list(weights.shape)} for an input of {len(x.axes)} axes")
    count = len(x.axes) - 2
    hwio = weights.transpose(2, 3, 1, 0) if count == 2 else weights.transpose(2, 1, 0)[None]
    window = hwio.shape[0], hwio.shape[1]
    if pair(op.attrs.get("kernel_shape", list(weights.shape[2:])), count, 1) != window:
        raise Unsupported(f"kernel_shape {op.attrs['kernel_shape']} for weights of shape {list(weights.shape)}")
    stride, dilation = pair(op.attrs.get("strides"), count, 1), pair(op.attrs.get("dilations"), count, 1)
    pads = _pads(op, x, window, stride, dilation)
    x, more = b.unpadded(x)
    attrs = {"stride": stride, "dilation": dilation, "padding": _around(pads, more), "groups": op.attrs.get("group", 1)}
    tensors = {"kernel": np.ascontiguousarray(hwio)}
    if len(op.inputs) > 2 and op.inputs[2]:
        tensors["bias"] = constant(b.take(op.inputs[2]), "bias").floats("bias")
    b.emit(op, "conv2d", [x], attrs, tensors, seen=as_image(x))


def _ceiled(op: Op, x: Value, window: Pair, stride: Pair, dilation: Pair, pads: Pads) -> Pads:
    """The pads, more at the end where ceil_mode makes one more window that begins inside the padded input."""
    if not op.attrs.get("ceil_mode", 0):
        return pads
    found = []
    for given, size, step, spread, (low, high) in zip(x.shape[:2], window, stride, dilation, pads, strict=True):
        reach = (size - 1) * spread + 1
        count = math.ceil((given + low + high - reach) / step) + 1
        if (count - 1) * step >= given + low:
            count -= 1
        found.append((low, max(high, (count - 1) * step + reach - given - low)))
    return found[0], found[1]


def _pool_attrs(op: Op, x: Value) -> tuple[dict, Pads, Pads]:
    """Attributes of a pool's node, its pads, and its pads where ceil_mode adds to them."""
    count = len(x.axes) - 2
    window = pair(op.attrs["kernel_shape"], count, 1)
    stride, dilation = pair(op.attrs.get("strides"), count, 1), pair(op.attrs.get("dilations"), count, 1)
    pads = _pads(op, x, window, stride, dilation)
    ceiled = _ceiled(op, x, window, stride, dilation, pads)
    return {"size": window, "stride": stride, "dilation": dilation, "padding": ceiled}, pads, ceiled


def max_pool(b: Builder, op: Op) -> None:
    """MaxPool without indices; a dilated one is an ordinary one of the pixels between."""
    if len(op.outputs) > 1 and op.outputs[1]:
        raise Unsupported("indices as a second output")
    x = b.image(op, data(b.take(op.inputs[0])))
    attrs = _pool_attrs(op, x)[0]
    dilation = attrs.pop("dilation")
    if any(spread != 1 and size > 1 for size, spread in zip(attrs["size"], dilation, strict=True)):
        _dilated_max_pool(b, op, x, dilation, **attrs)
    else:
        b.emit(op, "max_pool", [x], attrs, seen=as_image(x))


def _dilated_max_pool(b: Builder, op: Op, x: Value, dilation: Pair, *, size: Pair, stride: Pair, padding: Pads) -> None:
    """Every `dilation`-th pixel becomes a channel of its own, in which windows have no gaps."""
    c, around, apart, spans = x.shape[2], [], [], []
    for n, k, step, spread, (low, high) in zip(x.shape[:2], size, stride, dilation, padding, strict=True):
        apart.append(-(-(n + low + high) // spread))
        around.append((low, apart[-1] * spread - n - low))
        spans.append(slice(0, n + low + high - (k - 1) * spread, step))
    (h, w), (dy, dx) = apart, dilation
    x = b.emit(op, "pad", [x], {"padding": tuple(around), "value": -LARGEST}, seen=as_image(x), last=False)
    attrs = {"split": (h, dy, w, dx, c), "order": (0, 2, 1, 3, 4), "shape": (h, w, dy * dx * c)}
    axes = (x.axes[0], (4,), (0, 2), (1, 3)) if len(x.axes) == 4 else (x.axes[0], (4,), (1, 3))
    x = b.emit(op, "rearrange", [x], attrs, seen=((h, w, dy, dx, c), axes), last=False)
    window = {"size": size, "stride": (1, 1), "padding": "valid"}
    x = b.emit(op, "max_pool", [x], window, seen=lambda made: ((*made[:2], dy, dx, c), axes), last=False)
    cut_axes(b, op, x, (slice(None), slice(None), *spans[-(len(x.axes) - 2) :]))


def average_pool(b: Builder, op: Op) -> None:
    """AveragePool: by real pixels as it is; where padding counts, or with dilation, a convolution with equal weights,
    its sums divided by how many pixels count.
    """
    x = b.image(op, data(b.take(op.inputs[0])))
    attrs, pads, ceiled = _pool_attrs(op, x)
    dilation, padded = attrs.pop("dilation"), pads != ((0, 0), (0, 0))
    counted = padded and op.attrs.get("count_include_pad", 0)
    spread = any(step != 1 and size > 1 for size, step in zip(attrs["size"], dilation, strict=True))
    if not counted and not spread:
        b.emit(op, "average_pool", [x], attrs, seen=as_image(x))
        return
    numbers = [
        _counted(n, k, step, d, pad, more, bool(counted))
        for n, k, step, d, pad, more in zip(
            x.shape[:2], attrs["size"], attrs["stride"], dilation, pads, ceiled, strict=True
        )
    ]
    divisors = np.outer(*numbers) if len(x.axes) == 4 else numbers[1]
    (kh, kw), c = attrs["size"], x.shape[2]
    x, more = b.unpadded(x)
    window = {"stride": attrs["stride"], "dilation": dilation, "padding": _around(ceiled, more), "groups": c}
    kernel = {"kernel": np.ones((kh, kw, 1, c), np.float32)}
    sums = b.emit(op, "conv2d", [x], window, kernel, seen=as_image(x), last=False)
    if np.all(divisors == divisors.flat[0]):
        divisors = divisors.flat[0]
    b.affine(op, sums, 1 / divisors, np.zeros(()))


def _counted(size: int, taps: int, stride: int, dilation: int, pad: Pair, ceiled: Pair, padding: bool) -> np.ndarray:
    """f64[outputs]: along one axis, how many pixels of each window count, padding among them or not."""
    outputs = (size + sum(ceiled) - (taps - 1) * dilation - 1) // stride + 1
    at = np.arange(outputs)[:, None] * stride - pad[0] + np.arange(taps) * dilation
    low, high = (-pad[0], size + pad[1]) if padding else (0, size)
    return ((at >= low) & (at < high)).sum(1).astype(np.float64)


def whole_pool(kind: str) -> Callable[[Builder, Op], None]:
    """GlobalAveragePool, GlobalMaxPool: a pool whose window is the image."""

    def handle(b: Builder, op: Op) -> None:
        x = b.image(op, data(b.take(op.inputs[0])))
        b.emit(op, kind, [x], {"size": x.shape[:2], "stride": (1, 1), "padding": "valid"}, seen=as_image(x))

    return handle


def reduce(b: Builder, op: Op) -> None:
    """ReduceMean, ReduceSum, ReduceMax, ReduceMin over any axes but the batch: a pool whose window they are. A sum is a
    mean times their size; a minimum is a maximum with both signs changed.
    """
    x = data(b.take(op.inputs[0]))
    given = optional(b, op, 1)
    axes = op.attrs.get("axes") if given is None else [int(axis) for axis in given.fixed]
    if not axes and not op.attrs.get("noop_with_empty_axes", 0):
        axes = list(range(len(x.axes)))
    over = {axis % len(x.axes) for axis in axes or []}
    if any(x.axes[axis] == (BATCH,) for axis in over):
        raise Unsupported("over the batch axis: images are independent of each other")
    left = [axis for axis in range(len(x.axes)) if op.attrs.get("keepdims", 1) or axis not in over]
    if not any(x.axes[axis] for axis in over):  # all of size 1
        b.alias(op, replace(x, axes=tuple(x.axes[axis] for axis in left)))
        return
    groups = x.groups()
    inside = {axis for group in groups[:2] for axis in group} if groups and len(groups) == 3 else set()
    if not {axis for axis in over if x.axes[axis]} <= inside:
        groups = sorted(over), (), [axis for axis in x.data_axes if axis not in over]
        x = b.form(op, x, groups)
    assert groups is not None, "it is made where it is missing"
    size = tuple(x.shape[i] if over & set(groups[i]) else 1 for i in (0, 1))
    dims = [1 if axis in over else n for axis, n in enumerate(b.dims(x))]
    split, seen = laid(dims, groups, batch_axis(x))
    kept = tuple(seen[axis] for axis in left)
    factor = {"ReduceSum": math.prod(size), "ReduceMin": -1}.get(op.kind, 1)
    if op.kind == "ReduceMin":
        x = b.emit(op, "scale", [x], tensors={"scale": np.full(x.shape[-1], -1, np.float32)}, last=False)
    kind = "max_pool" if op.kind in ("ReduceMax", "ReduceMin") else "average_pool"
    window = {"size": size, "stride": (1, 1), "padding": "valid"}
    pooled = b.emit(op, kind, [x], window, seen=(split, kept), last=factor == 1)
    if factor != 1:
        b.affine(op, pooled, np.full((), float(factor)), np.zeros(()))
