"""How many weights a net has and how many multiplications an image costs, by layer, from shapes alone."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from lhc_ref import ops
from lhc_ref.arrays import pair
from lhc_ref.blocks import Concat, Residual, Sequential, SubsampleAndPad
from lhc_ref.conv import output_size, resolve_padding
from lhc_ref.errors import InputError
from lhc_ref.inspect import tables
from lhc_ref.layers import BatchNorm, Conv2d, Dense, Layer, LhcConv2d, Operator
from lhc_ref.nets import Net
from lhc_ref.related.layers import CsgConv2d, Generator, HetConv2d, LeanConv2d, NmConv2d

Shape = tuple[int, ...]
POOLS = (ops.max_pool, ops.average_pool)


@dataclass(frozen=True)
class LayerCount:
    """One layer of a net; multiply-accumulates (MACs) are those of one image.

    Attributes
    ----------
    layer, kind : name, and "conv", "lhc-free", "lhc-rigid", "hetconv", "nm", "csg", "generator", "lean", "dense" ,
        "norm"
    shape : what a kernel's weights are laid out as, (kh, kw, c_in/groups, c_out) or (features, units)
    output : (h, w, c) or (features,)
    weights : of the kernel that have to be stored; for CSG the codes. Which of an LHC layer's exist is only learned, so
        all count.
    other : biases, scales and shifts
    scores : numbers that masks are learned from, not needed after training
    macs : nominal, as if no weight of the kernel were missing
    executed : of weights that exist, without taps that fall in the padding
    """

    layer: str
    kind: str
    shape: Shape
    output: Shape
    weights: int
    other: int
    scores: int
    macs: int
    executed: int


def count(net: Net) -> list[LayerCount]:
    """The layers with weights, in order; a net made without weights (`make_net(seed=None)`) is counted as well.

    Cost: that of shapes; nothing is computed of images or weights.
    """
    found = []
    for layer, shape, output in walk(net.body, net.image_shape):
        if layer.weights or layer.state:
            found.append(_count(layer, shape, output))
    return found


def total(counts: list[LayerCount], name: str, kinds: tuple[str, ...] = ()) -> LayerCount:
    """The sum of some kinds of layers, or of all."""
    chosen = [c for c in counts if not kinds or c.kind in kinds]
    sums = {key: sum(getattr(c, key) for c in chosen) for key in ("weights", "other", "scores", "macs", "executed")}
    return LayerCount(name, "", (), (), **sums)


def walk(layer: Layer, shape: Shape) -> Iterator[tuple[Layer, Shape, Shape]]:
    """Each layer without parts, with the shape of what it reads and of what it makes, without the batch."""
    if isinstance(layer, Sequential):
        for part in layer.layers:
            yield from walk(part, shape)
            shape = output_shape(part, shape)
    elif isinstance(layer, Residual):
        yield from walk(layer.body, shape)
        if layer.shortcut is not None:
            yield from walk(layer.shortcut, shape)
    elif isinstance(layer, Concat):
        yield from walk(layer.body, shape)
    else:
        yield layer, shape, output_shape(layer, shape)


def output_shape(layer: Layer, shape: Shape) -> Shape:
    """What a layer makes of images or features of this shape, both without the batch."""
    match layer:
        case Sequential():
            for part in layer.layers:
                shape = output_shape(part, shape)
            return shape
        case Residual():
            return output_shape(layer.body, shape)
        case Concat():
            return (*shape[:2], shape[2] + output_shape(layer.body, shape)[2])
        case Conv2d() | LeanConv2d() | SubsampleAndPad():
            size, options = _window(layer)
            return (*output_size((shape[0], shape[1]), size, **options), layer.c_out)
        case Dense():
            return (layer.weights["kernel"].shape[1],)
        case Operator(primal=ops.global_average_pool):
            return (shape[-1],)
        case Operator(primal=ops.flatten):
            return (int(np.prod(shape)),)
        case Operator() if layer.primal in POOLS:
            size, stride = layer.options["size"], layer.options.get("stride")
            padding = layer.options.get("padding", "valid")
            return (*output_size((shape[0], shape[1]), size, stride=stride or size, padding=padding), shape[2])
        case Operator() | BatchNorm() | Generator():
            return shape
    raise InputError(f"{layer.name}: expected a layer of known shape, got {type(layer).__name__}. Add it to counts.")


def _window(layer: Conv2d | LeanConv2d | SubsampleAndPad) -> tuple[tuple[int, int], dict[str, Any]]:
    """A convolution's (kh, kw) and the options of `output_size`."""
    if isinstance(layer, Conv2d):
        return layer.size, layer.options
    size = (1, 1)  # Why: with a lean layer's padding its 3x3 makes what its 1x1 does.
    return size, {"stride": layer.stride, "padding": "valid"}


def executed_macs(taps: np.ndarray, image_hw: tuple[int, int], **options: Any) -> int:
    """MACs of a convolution without those in the padding.

    Parameters
    ----------
    taps : how many weights each tap has, i64[kh, kw]
    image_hw : (h, w) of what it reads
    options : stride, padding and, if any, dilation, as for `conv2d`
    """
    size = taps.shape[0], taps.shape[1]
    stride, dilation = pair(options.get("stride", 1), "stride"), pair(options.get("dilation", 1), "dilation")
    pads = resolve_padding(options["padding"], image_hw, size, stride, dilation)
    out = output_size(image_hw, size, stride=stride, padding=pads, dilation=dilation)
    inside = []
    for axis in (0, 1):
        at = np.arange(out[axis]) * stride[axis] + np.arange(size[axis])[:, None] * dilation[axis] - pads[axis][0]
        inside.append(((at >= 0) & (at < image_hw[axis])).sum(axis=1))
    return int(inside[0] @ taps @ inside[1])


def kind_of(layer: Layer) -> str:
    """What a layer is called in tables."""
    if isinstance(layer, LhcConv2d):
        return f"lhc-{layer.mask_options['kind']}"
    names = {HetConv2d: "hetconv", NmConv2d: "nm", CsgConv2d: "csg", LeanConv2d: "lean", Conv2d: "conv"}
    return {**names, Generator: "generator", Dense: "dense", BatchNorm: "norm"}[type(layer)]


def _count(layer: Layer, shape: Shape, output: Shape) -> LayerCount:
    sizes = {role: weight.size for role, weight in layer.weights.items()}
    scores, bias = sizes.pop("scores", 0), sizes.pop("bias", 0)
    layout: Shape = ()
    weights, other, macs, executed = sum(sizes.values()), bias, 0, 0
    if isinstance(layer, BatchNorm):
        weights, other = 0, weights
    elif isinstance(layer, Dense):
        layout, macs, executed = layer.weights["kernel"].shape, weights, weights
    elif isinstance(layer, Conv2d | LeanConv2d):
        pixels, image_hw = output[0] * output[1], (shape[0], shape[1])
        options = {key: value for key, value in _window(layer)[1].items() if key != "padding"}
        parts = layer.taps()
        executed = sum(executed_macs(taps, image_hw, padding=padding, **options) for taps, padding in parts)
        layout = (*_window(layer)[0], layer.c_in // layer.groups, layer.c_out)
        if isinstance(layer, LeanConv2d):
            layout, macs = (3, 3, *layout[2:]), weights * pixels
        else:
            macs = int(np.prod(layout)) * pixels
        if isinstance(layer, HetConv2d | NmConv2d):
            weights = sum(int(taps.sum()) for taps, _ in parts)
    return LayerCount(layer.name, kind_of(layer), layout, output, weights, other, scores, macs, executed)


def table(counts: list[LayerCount]) -> str:
    """Counts as lines of text: layers but for batch norms, then sums of the learned masks' layers and of all."""
    rows = [c for c in counts if c.kind != "norm"]
    learned = tuple({c.kind for c in counts if c.kind.startswith("lhc-")})
    sums = [total(counts, "LHC layers", learned)] if learned else []
    norms = total(counts, "batch norms", ("norm",))
    sums = [*([norms] if norms.other else []), *sums, total(counts, "all")]
    head = ("layer", "kind", "kernel", "output", "weights", "other", "scores", "MACs", "executed")
    lines = []
    for c in (*rows, *sums):
        shapes = ["x".join(map(str, shape)) for shape in (c.shape, c.output)]
        numbers = [f"{n:,}" if n else "" for n in (c.weights, c.other, c.scores, c.macs, c.executed)]
        lines.append((c.layer, c.kind, *shapes, *numbers))
    aligned = tables.table(head, lines, 4).split("\n")
    return "\n".join([*aligned[: len(rows) + 1], "", *aligned[len(rows) + 1 :]])


def to_json(counts: list[LayerCount]) -> dict[str, Any]:
    """Layers and their sum as values for JSON."""
    learned = tuple({c.kind for c in counts if c.kind.startswith("lhc-")})
    sums = {"total": total(counts, "all")} | ({"lhc": total(counts, "LHC layers", learned)} if learned else {})
    keys = ("weights", "other", "scores", "macs", "executed")
    whole = {name: {key: getattr(c, key) for key in keys} for name, c in sums.items()}
    for value in whole.values():
        value["parameters"] = value["weights"] + value["other"]
    return {"layers": [asdict(c) for c in counts], **whole}
