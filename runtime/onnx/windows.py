"""Convolutions and pools of ONNX."""

import math
from collections.abc import Callable

import numpy as np

from runtime.onnx.builder import Builder
from runtime.onnx.fold import Constant
from runtime.onnx.graph import Op, Unsupported
from runtime.onnx.values import NO_PADS, Value

Pair = tuple[int, int]
Pads = tuple[Pair, Pair]


def data(x: object) -> Value:
    """An input that is a value, not a constant."""
    if not isinstance(x, Value):
        raise Unsupported("a constant where the graph's data are needed")
    return x


def constant(x: object, what: str) -> Constant:
    """An input that is a constant."""
    if not isinstance(x, Constant):
        raise Unsupported(f"{what} that the graph computes, where a constant is needed")
    return x


def optional(b: Builder, op: Op, at: int) -> Constant | None:
    """An input that may be left out, and is constant otherwise."""
    given = b.take(op.inputs[at]) if len(op.inputs) > at else None
    return None if given is None else constant(given, f"input {at}")


def _pair(values: object, count: int, default: int) -> Pair:
    """(y, x) of a list for `count` axes; a row's axis y is 1 long."""
    numbers = [int(v) for v in values] if isinstance(values, list) else [default] * count
    if len(numbers) != count:
        raise Unsupported(f"{numbers} for {count} axes")
    return (1, numbers[0]) if count == 1 else (numbers[0], numbers[1])


def _pads(op: Op, x: Value, window: Pair, stride: Pair, dilation: Pair) -> Pads:
    """((top, bottom), (left, right)) by auto_pad or pads, without those that are pending at `x`."""
    count = len(x.axes) - 2
    mode = op.attrs.get("auto_pad", "NOTSET")
    if mode in ("SAME_UPPER", "SAME_LOWER"):
        found = []
        for label, size, step, spread in zip("hw", window, stride, dilation, strict=True):
            given = x.size(label)
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


def _around(x: Value, pads: Pads) -> Pads:
    """The pads together with those pending at `x`."""
    top, left, bottom, right = x.pads
    return (pads[0][0] + top, pads[0][1] + bottom), (pads[1][0] + left, pads[1][1] + right)


def conv(b: Builder, op: Op) -> None:
    """Conv, of rows or images, grouped or not; zeros around its input are taken in."""
    x = b.image(op, data(b.take(op.inputs[0])))
    weights = constant(b.take(op.inputs[1]), "weights").floats("weights")
    if weights.ndim != len(x.axes):
        raise Unsupported(f"weights of shape {list(weights.shape)} for an input of {len(x.axes)} axes")
    count = len(x.axes) - 2
    hwio = weights.transpose(2, 3, 1, 0) if count == 2 else weights.transpose(2, 1, 0)[None]
    window = hwio.shape[0], hwio.shape[1]
    if _pair(op.attrs.get("kernel_shape", list(weights.shape[2:])), count, 1) != window:
        raise Unsupported(f"kernel_shape {op.attrs['kernel_shape']} for weights of shape {list(weights.shape)}")
    stride, dilation = _pair(op.attrs.get("strides"), count, 1), _pair(op.attrs.get("dilations"), count, 1)
    padding = _around(x, _pads(op, x, window, stride, dilation))
    attrs = {"stride": stride, "dilation": dilation, "padding": padding, "groups": op.attrs.get("group", 1)}
    tensors = {"kernel": np.ascontiguousarray(hwio)}
    if len(op.inputs) > 2 and op.inputs[2]:
        tensors["bias"] = constant(b.take(op.inputs[2]), "bias").floats("bias")
    b.emit(op, "conv2d", [x], attrs, tensors)


def _ceiled(op: Op, x: Value, window: Pair, stride: Pair, dilation: Pair, pads: Pads) -> Pads:
    """The pads, more at the end where ceil_mode makes one more window that begins inside the padded input."""
    if not op.attrs.get("ceil_mode", 0):
        return pads
    found = []
    for label, size, step, spread, (low, high) in zip("hw", window, stride, dilation, pads, strict=True):
        given, reach = x.size(label), (size - 1) * spread + 1
        count = math.ceil((given + low + high - reach) / step) + 1
        if (count - 1) * step >= given + low:
            count -= 1
        found.append((low, max(high, (count - 1) * step + reach - given - low)))
    return found[0], found[1]


def _pool_attrs(op: Op, x: Value) -> tuple[dict, Pads, Pads]:
    """Attributes of a pool's node, its pads, and its pads where ceil_mode adds to them."""
    count = len(x.axes) - 2
    window = _pair(op.attrs["kernel_shape"], count, 1)
    stride, dilation = _pair(op.attrs.get("strides"), count, 1), _pair(op.attrs.get("dilations"), count, 1)
    pads = _pads(op, x, window, stride, dilation)
    ceiled = _ceiled(op, x, window, stride, dilation, pads)
    return {"size": window, "stride": stride, "dilation": dilation, "padding": ceiled}, pads, ceiled


def _emit_pool(b: Builder, op: Op, kind: str, x: Value, attrs: dict) -> None:
    """A pool's node, which has no dilation."""
    if any(spread != 1 and size > 1 for size, spread in zip(attrs["size"], attrs["dilation"], strict=True)):
        raise Unsupported(f"dilations {op.attrs['dilations']}: a pool here has none")
    b.emit(op, kind, [x], attrs)


def max_pool(b: Builder, op: Op) -> None:
    """MaxPool without indices."""
    if len(op.outputs) > 1 and op.outputs[1]:
        raise Unsupported("indices as a second output")
    x = b.image(op, b.plain(op, data(b.take(op.inputs[0]))))
    _emit_pool(b, op, "max_pool", x, _pool_attrs(op, x)[0])


def average_pool(b: Builder, op: Op) -> None:
    """AveragePool: by real pixels as it is; with padding counted, or dilated, as a convolution with equal weights."""
    x = b.image(op, data(b.take(op.inputs[0])))
    attrs, pads, ceiled = _pool_attrs(op, x)
    padded = pads != ((0, 0), (0, 0))
    counted = padded and op.attrs.get("count_include_pad", 0)
    spread = attrs["dilation"] != (1, 1) and not padded
    if not counted and not spread and x.pads == NO_PADS:
        _emit_pool(b, op, "average_pool", x, attrs)
        return
    if ceiled != pads or (padded and not counted):
        raise Unsupported("ceil_mode, or padding that does not count, together with padding that counts")
    kh, kw = attrs["size"]
    kernel = np.full((kh, kw, 1, x.shape[2]), 1 / (kh * kw), np.float32)
    window = {"stride": attrs["stride"], "dilation": attrs["dilation"], "padding": _around(x, pads)}
    convolution = {**window, "groups": x.shape[2]}
    b.emit(op, "conv2d", [x], convolution, {"kernel": kernel})


def whole_pool(kind: str) -> Callable[[Builder, Op], None]:
    """GlobalAveragePool, GlobalMaxPool: a pool whose window is the image."""

    def handle(b: Builder, op: Op) -> None:
        x = b.image(op, b.plain(op, data(b.take(op.inputs[0]))))
        b.emit(op, kind, [x], {"size": x.shape[:2], "stride": (1, 1), "padding": "valid"})

    return handle


def reduce_mean(b: Builder, op: Op) -> None:
    """ReduceMean over rows, columns or both."""
    x = b.plain(op, data(b.take(op.inputs[0])))
    given = constant(b.take(op.inputs[1]), "axes").fixed if len(op.inputs) > 1 and op.inputs[1] else None
    axes = op.attrs.get("axes") if given is None else [int(axis) for axis in given]
    if not axes and not op.attrs.get("noop_with_empty_axes", 0):
        axes = list(range(len(x.axes)))
    over = sorted(axis % len(x.axes) for axis in axes or [])
    labels = {x.axes[axis] for axis in over}
    if not labels <= {"h", "w", "1"} or len(x.shape) != 3:
        raise Unsupported(f"a mean over axes {over} of {x.axes!r}, where only h and w are possible")
    size = tuple(x.shape["hw".index(label)] if label in labels else 1 for label in "hw")
    keep = op.attrs.get("keepdims", 1)
    axes_left = "".join(label for i, label in enumerate(x.axes) if keep or i not in over)
    b.emit(op, "average_pool", [x], {"size": size, "stride": (1, 1), "padding": "valid"}, axes=axes_left)
