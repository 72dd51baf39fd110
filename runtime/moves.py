"""Where each number of a moved tensor comes from."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

Shape = tuple[int, int, int]


@dataclass(frozen=True, eq=False)
class Move:
    """Where the numbers of an output come from, pixel by pixel.

    Parameters
    ----------
    shape : (h, w, c) of what they come from
    pixels : i64[output pixels], the number of the pixel, or -1 for one that has none
    channels : i64[channels], the same for all pixels; or i64[output pixels, channels] where each number comes from a
        pixel of its own: then its place in C order, and `pixels` are zero
    """

    shape: Shape
    pixels: np.ndarray
    channels: np.ndarray

    @classmethod
    def all_of(cls, shape: Shape) -> "Move":
        """Everything where it is."""
        return cls(shape, np.arange(shape[0] * shape[1]), np.arange(shape[2]))

    @classmethod
    def grid(cls, shape: Shape, rows: np.ndarray, columns: np.ndarray, channels: np.ndarray) -> "Move":
        """Rows and columns by their numbers, -1 for one that is none."""
        pixels = rows[:, None] * shape[1] + columns
        pixels[rows < 0] = -1
        pixels[:, columns < 0] = -1
        return cls(shape, pixels.ravel(), channels)


def _pad(shape: Shape, out: Shape, attrs: Mapping[str, Any]) -> Move:
    lines: list[np.ndarray] = []
    for size, (low, _), length in zip(shape, attrs["padding"], out, strict=False):
        line = np.arange(length) - low
        lines.append(np.where((line >= 0) & (line < size), line, -1))
    return Move.grid(shape, lines[0], lines[1], np.arange(shape[2]))


def _upsample(shape: Shape, out: Shape, attrs: Mapping[str, Any]) -> Move:
    rows, columns = (np.arange(out[axis]) // attrs["factor"][axis] for axis in (0, 1))
    return Move.grid(shape, rows, columns, np.arange(shape[2]))


def _slice(shape: Shape, out: Shape, attrs: Mapping[str, Any]) -> Move:
    cuts = [np.arange(*cut) for cut in zip(attrs["start"], attrs["stop"], attrs["step"], strict=True)]
    rows, columns, channels = cuts if len(cuts) == 3 else (np.zeros(1, np.int64), np.zeros(1, np.int64), cuts[0])
    return Move.grid(shape, rows, columns, channels)


def _rearrange(shape: Shape, out: Shape, attrs: Mapping[str, Any]) -> Move:
    places = np.arange(prod(shape)).reshape(attrs["split"]).transpose(attrs["order"]).reshape(-1, out[2])
    if (
        out[2] == shape[2]
        and np.array_equal(places, places[:, :1] + np.arange(out[2]))
        and not (places[:, 0] % out[2]).any()
    ):
        return Move(shape, places[:, 0] // out[2], np.arange(out[2]))
    return Move(shape, np.zeros(len(places), np.int64), places)


_MAKERS: Mapping[str, Callable[[Shape, Shape, Mapping[str, Any]], Move]] = {
    "pad": _pad,
    "upsample": _upsample,
    "slice": _slice,
    "rearrange": _rearrange,
}


def moves_of(op: str, shape: Shape, out: Shape, attrs: Mapping[str, Any]) -> Move:
    """What an operator moves; a list of features is one pixel. O(output pixels + channels), or O(output)."""
    return _MAKERS[op](shape, out, attrs)
