"""The operators that format 1.1 adds."""

from collections.abc import Mapping, Sequence
from math import isfinite, prod
from typing import Any

import numpy as np

from lhc_ref._modelfile.reasons import MAX_ELEMENTS, MAX_INPUTS, refuse, show
from lhc_ref._modelfile.schema import PADS, SPANS, Attribute, OpSchema, Role, padding_of, pair, require_rank
from lhc_ref._modelfile.types import Node, Shape, is_int

LARGEST = float(np.finfo(np.float32).max)
MAX_AXES = 8  # of an array between its rearrangements


def _number(value: Any) -> float | None:
    """A finite float32 as Python's float: what engines compute with is what the file says."""
    if not (isinstance(value, float | np.floating) or is_int(value)) or not abs(value) <= LARGEST:
        return None
    rounded = float(np.float32(value))
    return rounded if isfinite(rounded) else None


def _ints(value: Any) -> tuple[int, ...] | None:
    """Up to MAX_AXES integers from 0."""
    if not isinstance(value, list | tuple) or not 1 <= len(value) <= MAX_AXES:
        return None
    fits = all(is_int(entry) and 0 <= entry <= MAX_ELEMENTS for entry in value)
    return tuple(int(entry) for entry in value) if fits else None


def _explicit(value: Any) -> Any:
    return None if isinstance(value, str) else padding_of(value)


def _same(node: Node, xs: Sequence[Shape]) -> Shape:
    return xs[0]


def _clip(node: Node, xs: Sequence[Shape]) -> Shape:
    low, high = node.attrs["low"], node.attrs["high"]
    if low > high:
        refuse("clip-limits", f"limits of node {show(node.name)}", "low <= high", f"{low} and {high}")
    return xs[0]


def _with_vectors(node: Node, xs: Sequence[Shape]) -> Shape:
    """One number a channel, or a feature, in each tensor."""
    for role, tensor in node.tensors.items():
        if tensor.shape != xs[0][-1:]:
            refuse("channel-vector", f"{role} of node {show(node.name)}", f"[{xs[0][-1]}]", list(tensor.shape))
    return xs[0]


def shape_of_two(node: Node, xs: Sequence[Shape]) -> Shape:
    """The first input's shape; refuses a second of another that is no pixel."""
    first, second = xs
    if second != first and not (len(first) == 3 and second == (1, 1, first[2])):
        refuse(
            "mul-shapes",
            f"inputs of node {show(node.name)}",
            "equal shapes, or one pixel second",
            f"{list(first)} and {list(second)}",
        )
    return first


def _concat(node: Node, xs: Sequence[Shape]) -> Shape:
    if any(len(x) != len(xs[0]) or x[:-1] != xs[0][:-1] for x in xs):
        refuse(
            "concat-shapes",
            f"inputs of node {show(node.name)}",
            "shapes equal but for channels",
            show([list(x) for x in xs]),
        )
    return *xs[0][:-1], sum(x[-1] for x in xs)


def _pad(node: Node, xs: Sequence[Shape]) -> Shape:
    require_rank(node, xs[0], 3, "(h, w, c)")
    (top, bottom), (left, right) = node.attrs["padding"]
    h, w, c = xs[0]
    return h + top + bottom, w + left + right, c


def _upsample(node: Node, xs: Sequence[Shape]) -> Shape:
    require_rank(node, xs[0], 3, "(h, w, c)")
    h, w, c = xs[0]
    return h * node.attrs["factor"][0], w * node.attrs["factor"][1], c


def _slice(node: Node, xs: Sequence[Shape]) -> Shape:
    spans = [node.attrs[key] for key in ("start", "stop", "step")]
    fits = all(len(span) == len(xs[0]) for span in spans) and all(
        start < stop <= size and step >= 1 for start, stop, step, size in zip(*spans, xs[0], strict=True)
    )
    if not fits:
        refuse("slice", f"start, stop, step of node {show(node.name)}", f"a part of {list(xs[0])}", show(spans))
    return tuple(-(-(stop - start) // step) for start, stop, step in zip(*spans, strict=True))


def _rearrange(node: Node, xs: Sequence[Shape]) -> Shape:
    split, order, shape = (node.attrs[key] for key in ("split", "order", "shape"))
    fits = prod(split) == prod(shape) == prod(xs[0]) and len(shape) in (1, 3)
    if not fits or sorted(order) != list(range(len(split))):
        refuse(
            "rearrange",
            f"split, order, shape of node {show(node.name)}",
            f"arrangements of {prod(xs[0])} numbers, the last of 1 or 3 axes",
            show([split, order, shape]),
        )
    return tuple(shape)


_NUMBER = "a finite float32 number"
_INTS = f"1 to {MAX_AXES} integers from 0"
_VECTOR = Role()


def _row(shape: Any, **parts: Any) -> OpSchema:
    return OpSchema(shape, since="1.1", **parts)


OPS_1_1: Mapping[str, OpSchema] = {
    "clip": _row(
        _clip, attrs={"low": Attribute(_NUMBER, _number, -LARGEST), "high": Attribute(_NUMBER, _number, LARGEST)}
    ),
    "leaky_relu": _row(_same, attrs={"slope": Attribute(_NUMBER, _number)}),
    "prelu": _row(_with_vectors, tensors={"slope": _VECTOR}),
    "sigmoid": _row(_same),
    "hard_sigmoid": _row(_same, attrs={"alpha": Attribute(_NUMBER, _number), "beta": Attribute(_NUMBER, _number)}),
    "hard_swish": _row(_same),
    "tanh": _row(_same),
    "scale": _row(_with_vectors, tensors={"scale": _VECTOR, "bias": Role(required=False)}),
    "mul": _row(shape_of_two, arity=2),
    "sub": _row(shape_of_two, arity=2),
    "concat": _row(_concat, arity=2, most=MAX_INPUTS),
    "pad": _row(_pad, attrs={"padding": Attribute(PADS, _explicit), "value": Attribute(_NUMBER, _number, 0.0)}),
    "upsample": _row(_upsample, attrs={"factor": Attribute(SPANS, pair)}),
    "slice": _row(
        _slice,
        attrs={"start": Attribute(_INTS, _ints), "stop": Attribute(_INTS, _ints), "step": Attribute(_INTS, _ints)},
    ),
    "rearrange": _row(
        _rearrange,
        attrs={"split": Attribute(_INTS, _ints), "order": Attribute(_INTS, _ints), "shape": Attribute(_INTS, _ints)},
    ),
}
