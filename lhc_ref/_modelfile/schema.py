"""What a row of the table of operators says, and what shape functions share."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lhc_ref._modelfile.reasons import MAX_SPAN, refuse, show
from lhc_ref._modelfile.types import Node, Shape, is_int

Padding = tuple[tuple[int, int], tuple[int, int]]
REQUIRED = object()
ONES = (1, 1)
SPANS = f"two integers from 1 to {MAX_SPAN}"
PADS = f'"same", "valid" or [[top, bottom], [left, right]] up to {MAX_SPAN}'


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
    most: int = 0  # inputs, where there may be more than `arity`
    attrs: Mapping[str, Attribute] = field(default_factory=dict)
    tensors: Mapping[str, Role] = field(default_factory=dict)
    since: str = "1.0"  # of the format


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


def span(value: Any, low: int = 1) -> int | None:
    """An integer from `low` to MAX_SPAN, else None."""
    return int(value) if is_int(value) and low <= value <= MAX_SPAN else None


def pair(value: Any, low: int = 1) -> tuple[int, int] | None:
    """Two such integers, else None."""
    if not isinstance(value, list | tuple) or len(value) != 2:
        return None
    first, second = (span(entry, low) for entry in value)
    return None if first is None or second is None else (first, second)


def padding_of(value: Any) -> str | Padding | None:
    """A padding, else None."""
    if isinstance(value, str):
        return value if value in ("same", "valid") else None
    if not isinstance(value, list | tuple) or len(value) != 2:
        return None
    rows, columns = (pair(entry, 0) for entry in value)
    return None if rows is None or columns is None else (rows, columns)


def require_rank(node: Node, shape: Shape, rank: int, axes: str) -> None:
    """Refuse an input of another rank."""
    if len(shape) != rank:
        refuse("rank", f"input of node {show(node.name)} ({node.op})", axes, list(shape))


def windowed(node: Node, x: Shape, window: tuple[int, int], channels: int) -> Shape:
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
