"""The operators, one row each: what a node of that kind takes and the shape it makes. Format 1.0 stands here."""

from collections.abc import Mapping, Sequence
from math import prod

from lhc_ref._modelfile.ops_1_1 import OPS_1_1
from lhc_ref._modelfile.ops_1_2 import OPS_1_2
from lhc_ref._modelfile.reasons import MAX_ELEMENTS, MAX_SPAN, refuse, show
from lhc_ref._modelfile.schema import (
    ONES,
    PADS,
    SPANS,
    Attribute,
    OpSchema,
    Role,
    padding_of,
    pair,
    require_rank,
    resolve_padding,
    span,
    windowed,
)
from lhc_ref._modelfile.types import Node, Shape


def _check_bias(node: Node, channels: int) -> None:
    bias = node.tensors.get("bias")
    if bias is not None and bias.shape != (channels,):
        refuse("bias-shape", f"bias of node {show(node.name)}", f"[{channels}]", list(bias.shape))


def _conv2d(node: Node, xs: Sequence[Shape]) -> Shape:
    x, kernel, groups = xs[0], node.tensors["kernel"].shape, node.attrs["groups"]
    require_rank(node, x, 3, "(h, w, c)")
    fits = len(kernel) == 4 and min(kernel) >= 1 and max(kernel[:2]) <= MAX_SPAN
    if not fits or kernel[2] * groups != x[2] or kernel[3] % groups:
        refuse(
            "kernel-shape",
            f"kernel of node {show(node.name)}",
            f"(kh, kw, c_in/groups, c_out) for {x[2]} input channels in {groups} groups",
            list(kernel),
        )
    _check_bias(node, kernel[3])
    return windowed(node, x, (kernel[0], kernel[1]), kernel[3])


def _dense(node: Node, xs: Sequence[Shape]) -> Shape:
    x, kernel = xs[0], node.tensors["kernel"].shape
    require_rank(node, x, 1, "(features,)")
    if len(kernel) != 2 or kernel[0] != x[0] or kernel[1] < 1:
        refuse("dense-shape", f"kernel of node {show(node.name)}", f"({x[0]}, units)", list(kernel))
    _check_bias(node, kernel[1])
    return (kernel[1],)


def _pool(node: Node, xs: Sequence[Shape]) -> Shape:
    x, size = xs[0], node.attrs["size"]
    require_rank(node, x, 3, "(h, w, c)")
    pads = resolve_padding(node.attrs["padding"], (x[0], x[1]), size, node.attrs["stride"])
    if any(max(pad) >= window for pad, window in zip(pads, size, strict=True)):
        refuse("pool-padding", f"padding of node {show(node.name)}", f"less than the window {list(size)}", show(pads))
    return windowed(node, x, size, x[2])


def _global_pool(node: Node, xs: Sequence[Shape]) -> Shape:
    require_rank(node, xs[0], 3, "(h, w, c)")
    return (xs[0][2],)


def _add(node: Node, xs: Sequence[Shape]) -> Shape:
    if xs[0] != xs[1]:
        refuse("add-shapes", f"inputs of node {show(node.name)}", "equal shapes", f"{list(xs[0])} and {list(xs[1])}")
    return xs[0]


def _same(node: Node, xs: Sequence[Shape]) -> Shape:
    return xs[0]


def _flat(node: Node, xs: Sequence[Shape]) -> Shape:
    return (prod(xs[0]),)


_POOL = {
    "size": Attribute(SPANS, pair),
    "stride": Attribute(SPANS, pair),
    "padding": Attribute(PADS, padding_of, "valid"),
}

_OPS_1_0: Mapping[str, OpSchema] = {
    "conv2d": OpSchema(
        _conv2d,
        attrs={
            "stride": Attribute(SPANS, pair, ONES),
            "padding": Attribute(PADS, padding_of, "same"),
            "dilation": Attribute(SPANS, pair, ONES),
            "groups": Attribute(f"an integer from 1 to {MAX_SPAN}", span, 1),
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


OPS: Mapping[str, OpSchema] = {**_OPS_1_0, **OPS_1_1, **OPS_1_2}


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
