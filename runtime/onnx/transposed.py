"""ConvTranspose as a convolution that makes all pixels between two of the input's at once, as channels."""

from dataclasses import dataclass
from itertools import product

import numpy as np

from runtime.onnx.builder import Builder
from runtime.onnx.cuts import cut_axes
from runtime.onnx.graph import Op, Unsupported
from runtime.onnx.inputs import constant, data, optional
from runtime.onnx.values import Value
from runtime.onnx.windows import Pair, pair


@dataclass(frozen=True)
class _Axis:
    """Along one axis: how many pixels come out, zeros around the input, places in the window, and which tap makes what:
    (phase, tap, place).
    """

    outputs: int
    pads: Pair
    window: int
    taps: tuple[tuple[int, int, int], ...]


def conv_transpose(b: Builder, op: Op) -> None:
    """ConvTranspose of rows or images. No multiplication is added: weights that a phase lacks are under the mask."""
    x = b.image(op, data(b.take(op.inputs[0])))
    weights = constant(b.take(op.inputs[1]), "weights").floats("weights")
    rank, groups, c_in = len(x.axes) - 2, op.attrs.get("group", 1), x.shape[2]
    if weights.ndim != rank + 2 or weights.shape[0] != c_in or c_in % groups:
        raise Unsupported(f"weights of shape {list(weights.shape)} for {c_in} channels in {groups} groups")
    weights = weights if rank == 2 else weights[:, :, None]
    each, stride = weights.shape[1], pair(op.attrs.get("strides"), rank, 1)
    rows, columns = _axes(op, x, (weights.shape[2], weights.shape[3]), stride)
    kernel = np.zeros((rows.window, columns.window, c_in // groups, groups, *stride, each), np.float32)
    by_group = weights.reshape(groups, c_in // groups, each, *weights.shape[2:]).transpose(1, 0, 2, 3, 4)
    for (py, ky, ty), (px, kx, tx) in product(rows.taps, columns.taps):
        kernel[ty, tx, :, :, py, px] = by_group[..., ky, kx]
    tensors = {"kernel": kernel.reshape(*kernel.shape[:3], -1)}
    bias = optional(b, op, 2)
    if bias is not None:
        spread = np.broadcast_to(bias.floats("bias").reshape(groups, 1, 1, each), (groups, *stride, each))
        tensors["bias"] = np.ascontiguousarray(spread).ravel()
    axes = (x.axes[0], (2, 5), (0, 3), (1, 4)) if rank == 2 else (x.axes[0], (2, 5), (1, 4))
    attrs = {"padding": (rows.pads, columns.pads), "groups": groups}
    y = b.emit(
        op,
        "conv2d",
        [x],
        attrs,
        tensors,
        seen=lambda made: ((*made[:2], groups, *stride, each), axes),
        last=False,
    )
    cuts = (slice(0, rows.outputs), slice(0, columns.outputs))
    cut_axes(b, op, y, (slice(None), slice(None), *cuts[2 - rank :]))


def _axes(op: Op, x: Value, taps: Pair, stride: Pair) -> list[_Axis]:
    """Rows and columns of the operator, by its pads, its auto_pad or the sizes it shall make."""
    rank, sizes = len(x.axes) - 2, x.shape[:2]
    dilation, extra = pair(op.attrs.get("dilations"), rank, 1), pair(op.attrs.get("output_padding"), rank, 0)
    mode, wanted = op.attrs.get("auto_pad", "NOTSET"), op.attrs.get("output_shape")
    if mode not in ("NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER"):
        raise Unsupported(f"auto_pad {mode!r}")
    pads = list(op.attrs.get("pads", [0] * 2 * rank)) if mode == "NOTSET" else [0] * 2 * rank
    found = []
    for i in range(2):
        at = i + rank - 2  # of the operator's axes; a row has no axis y
        if at < 0:
            found.append(_axis(1, 1, 1, 1, 0, 1))
            continue
        most = (sizes[i] - 1) * stride[i] + (taps[i] - 1) * dilation[i] + 1 + extra[i]
        before, outputs = pads[at], most - pads[at] - pads[at + rank]
        if wanted or mode.startswith("SAME"):
            outputs = wanted[-rank:][at] if wanted else sizes[i] * stride[i]
            total = max(most - outputs, 0)
            before = total // 2 if mode == "SAME_UPPER" else total - total // 2
        found.append(_axis(sizes[i], taps[i], stride[i], dilation[i], before, outputs))
    return found


def _axis(size: int, taps: int, stride: int, dilation: int, pad: int, outputs: int) -> _Axis:
    """Output o gets input i by tap k where `o + pad = i * stride + k * dilation`. For `o = q * stride + phase` that is
    `i = q - t`, `t = (k * dilation - pad - phase) / stride` where it is whole: a convolution for each phase.
    """
    if outputs < 1:
        raise Unsupported(f"pads that leave {outputs} pixels")
    shifts = [
        (phase, k, (k * dilation - pad - phase) // stride)
        for phase in range(stride)
        for k in range(taps)
        if (k * dilation - pad - phase) % stride == 0
    ]
    first, last = max(0, *(t for *_, t in shifts)), min(t for *_, t in shifts)
    after = max(0, -(-outputs // stride) - last - size)
    places = tuple((phase, k, first - t) for phase, k, t in shifts)
    return _Axis(outputs, (first, after), first - last + 1, places)
