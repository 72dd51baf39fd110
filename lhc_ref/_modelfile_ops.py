"""The operators of format 1.0, one row each: what a node of that kind takes and the shape it makes."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

from lhc_ref._modelfile_reasons import MAX_ELEMENTS, MAX_SPAN, refuse, show
from lhc_ref._modelfile_types import Node, Shape, is_int

Padding = tuple[tuple[int, int], tuple[int, int]]
REQUIRED = object()


@dataclass(frozen=True)
class Attribute:
    """An attribute of an operator: its default (REQUIRED: none), and `parse`, which returns None for a bad value."""

    expected: str
    parse: Callable[[Any], Any]
    default: Any = REQUIRED


@dataclass(frozen=True)
class Role:
    """A tensor of an operator."""

    required: bool = True
    masked: bool = False


@dataclass(frozen=True)
class OpSchema:
    """What a node of one operator takes, and the shape it makes of the shapes it reads (without the batch)."""

    shape: Callable[[Node, Sequence[Shape]], Shape]
    arity: int = 1
    attrs: Mapping[str, Attribute] = field(default_factory=dict)
    tensors: Mapping[str, Role] = field(default_factory=dict)


def resolve_padding(
    padding: str | Padding,
    size_hw: tuple[int, int],
    window_hw: tuple[int, int],
    stride: tuple[int, int] = (1, 1),
    dilation: tuple[int, int] = (1, 1),
) -> Padding:
    """Pixels added at ((top, bottom), (left, right)); "same" is TensorFlow's, with the odd pixel at the end."""
    if padding == "valid":
        return (0, 0), (0, 0)
    if padding != "same":
        return padding  # type: ignore[return-value]
    pads = []
    for size, window, step, spread in zip(size_hw, window_hw, stride, dilation, strict=True):
        reach = (window - 1) * spread + 1
        total = max((-(-size // step) - 1) * step + reach - size, 0)
        pads.append((total // 2, total - total // 2))
    return pads[0], pads[1]


def output_size(
    padding: str | Padding,
    size_hw: tuple[int, int],
    window_hw: tuple[int, int],
    stride: tuple[int, int] = (1, 1),
    dilation: tuple[int, int] = (1, 1),
) -> tuple[int, int]:
    """Rows and columns that a window makes; below 1 where it does not fit."""
    pads = resolve_padding(padding, size_hw, window_hw, stride, dilation)
    oh, ow = (
        (size + sum(pad) - (window - 1) * spread - 1) // step + 1
        for size, pad, window, step, spread in zip(size_hw, pads, window_hw, stride, dilation, strict=True)
    )
    return oh, ow


def _span(value: Any, low: int = 1) -> int | None:
    return int(value) if is_int(value) and low <= value <= MAX_SPAN else None


def _pair(value: Any, low: int = 1) -> tuple[int, int] | None:
    if not isinstance(value, list | tuple) or len(value) != 2:
        return None
    first, second = (_span(entry, low) for entry in value)
    return None if first is None or second is None else (first, second)


def _padding(value: Any) -> str | Padding | None:
    if isinstance(value, str):
        return value if value in ("same", "valid") else None
    if not isinstance(value, list | tuple) or len(value) != 2:
        return None
    rows, columns = (_pair(entry, 0) for entry in value)
    return None if rows is None or columns is None else (rows, columns)


def _require_rank(node: Node, shape: Shape, rank: int, axes: str) -> None:
    if len(shape) != rank:
        refuse("rank", f"input of node {show(node.name)} ({node.op})", axes, list(shape))


def _windowed(node: Node, x: Shape, window: tuple[int, int], channels: int) -> Shape:
    """(oh, ow, channels) of a window that slides over `x`."""
    dilation = node.attrs.get("dilation", (1, 1))
    oh, ow = output_size(node.attrs["padding"], (x[0], x[1]), window, node.attrs["stride"], dilation)
    if oh < 1 or ow < 1:
        refuse(
            "window",
            f"window of node {show(node.name)}",
            "one that fits in the padded input",
            f"window {list(window)}, dilation {list(dilation)} on input {list(x)}",
        )
    return oh, ow, channels


def _check_bias(node: Node, channels: int) -> None:
    bias = node.tensors.get("bias")
    if bias is not None and bias.shape != (channels,):
        refuse("bias-shape", f"bias of node {show(node.name)}", f"[{channels}]", list(bias.shape))


def _conv2d(node: Node, xs: Sequence[Shape]) -> Shape:
    x, kernel, groups = xs[0], node.tensors["kernel"].shape, node.attrs["groups"]
    _require_rank(node, x, 3, "(h, w, c)")
    fits = len(kernel) == 4 and min(kernel) >= 1 and max(kernel[:2]) <= MAX_SPAN
    if not fits or kernel[2] * groups != x[2] or kernel[3] % groups:
        refuse(
            "kernel-shape",
            f"kernel of node {show(node.name)}",
            f"(kh, kw, c_in/groups, c_out) for {x[2]} input channels in {groups} groups",
            list(kernel),
        )
    _check_bias(node, kernel[3])
    return _windowed(node, x, (kernel[0], kernel[1]), kernel[3])


def _dense(node: Node, xs: Sequence[Shape]) -> Shape:
    x, kernel = xs[0], node.tensors["kernel"].shape
    _require_rank(node, x, 1, "(features,)")
    if len(kernel) != 2 or kernel[0] != x[0] or kernel[1] < 1:
        refuse("dense-shape", f"kernel of node {show(node.name)}", f"({x[0]}, units)", list(kernel))
    _check_bias(node, kernel[1])
    return (kernel[1],)


def _pool(node: Node, xs: Sequence[Shape]) -> Shape:
    x, size = xs[0], node.attrs["size"]
    _require_rank(node, x, 3, "(h, w, c)")
    pads = resolve_padding(node.attrs["padding"], (x[0], x[1]), size, node.attrs["stride"])
    if any(max(pad) >= window for pad, window in zip(pads, size, strict=True)):
        refuse("pool-padding", f"padding of node {show(node.name)}", f"less than the window {list(size)}", show(pads))
    return _windowed(node, x, size, x[2])


def _global_pool(node: Node, xs: Sequence[Shape]) -> Shape:
    _require_rank(node, xs[0], 3, "(h, w, c)")
    return (xs[0][2],)


def _add(node: Node, xs: Sequence[Shape]) -> Shape:
    if xs[0] != xs[1]:
        refuse("add-shapes", f"inputs of node {show(node.name)}", "equal shapes", f"{list(xs[0])} and {list(xs[1])}")
    return xs[0]


def _same(node: Node, xs: Sequence[Shape]) -> Shape:
    return xs[0]


def _flat(node: Node, xs: Sequence[Shape]) -> Shape:
    return (prod(xs[0]),)


_ONES = (1, 1)
_SPANS = f"two integers from 1 to {MAX_SPAN}"
_PADS = f'"same", "valid" or [[top, bottom], [left, right]] up to {MAX_SPAN}'
_POOL = {
    "size": Attribute(_SPANS, _pair),
    "stride": Attribute(_SPANS, _pair),
    "padding": Attribute(_PADS, _padding, "valid"),
}

OPS: Mapping[str, OpSchema] = {
    "conv2d": OpSchema(
        _conv2d,
        attrs={
            "stride": Attribute(_SPANS, _pair, _ONES),
            "padding": Attribute(_PADS, _padding, "same"),
            "dilation": Attribute(_SPANS, _pair, _ONES),
            "groups": Attribute(f"an integer from 1 to {MAX_SPAN}", _span, 1),
        },
        tensors={"kernel": Role(masked=True), "bias": Role(required=False)},
    ),
    "dense": OpSchema(_dense, tensors={"kernel": Role(), "bias": Role(required=False)}),
    "relu": OpSchema(_same),
    "add": OpSchema(_add, arity=2),
    "max_pool": OpSchema(_pool, attrs=_POOL),
    "average_pool": OpSchema(_pool, attrs=_POOL),
    "global_average_pool": OpSchema(_global_pool),
    "flatten": OpSchema(_flat),
    "softmax": OpSchema(_same),
}


def node_shape(node: Node, xs: Sequence[Shape]) -> Shape:
    """Shape without the batch that a node with checked attributes and tensors makes of `xs`."""
    shape = OPS[node.op].shape(node, xs)
    if prod(shape) > MAX_ELEMENTS:
        refuse(
            "activation-limit",
            f"output of node {show(node.name)}",
            f"at most {MAX_ELEMENTS} numbers an image",
            list(shape),
        )
    return shape
