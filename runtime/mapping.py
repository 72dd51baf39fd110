"""Fills the steps of functions and moves: parameters and places laid out as the layout has them."""

from typing import Protocol

import numpy as np

from runtime.kernels.step import Function
from runtime.layer import Layer
from runtime.layout import Layout
from runtime.moves import Move
from runtime.pack import PlanError


class Builder(Protocol):
    """What collects weights and index of a plan."""

    layout: Layout

    def add_weights(self, values: np.ndarray) -> int:
        """Append float32 values; gives their place."""

    def add_index(self, values: np.ndarray) -> int:
        """Append int32 values; gives their place."""


def fill_function(step: np.void, builder: Builder, layer: Layer) -> int:
    """Function, numbers and vectors of a MAP step, or of a convolution that ends in one; gives the bytes of the
    vectors.
    """
    if layer.function is None:
        return 0
    step["function"], step["alpha"], step["beta"] = Function[layer.function.upper()], layer.alpha, layer.beta
    step["one_pixel"] = layer.one_pixel
    placed = [one_pixel(vector, builder.layout) for vector in layer.vectors]
    for field, values in zip(("slope_at", "bias_at"), placed, strict=False):
        step[field] = builder.add_weights(values)
    return sum(values.nbytes for values in placed)


def one_pixel(vector: np.ndarray, layout: Layout) -> np.ndarray:
    """f32: one number a channel as one pixel lies in a layout, for every lane."""
    values = np.zeros(layout.size((1, 1, len(vector))), np.float32)
    values[channel_offsets(np.arange(len(vector)), (1, 1, len(vector)), layout)[:, None] + np.arange(layout.lanes)] = (
        vector[:, None]
    )
    return values


def channel_offsets(channels: np.ndarray, shape: tuple[int, int, int], layout: Layout) -> np.ndarray:
    """How far channels lie from channel 0 of their pixel."""
    h, w, c = shape
    block = layout.block(c)
    return channels // block * h * w * layout.pixel(c) + channels % block * layout.lanes


def fill_gather(step: np.void, builder: Builder, layer: Layer) -> int:
    """Places of a GATHER step's numbers; gives the bytes of the index. Proves that no place is outside its tensor.

    Runs of one move are for all output pixels, or those of pixel p are numbers starts[p]..starts[p+1]-1.
    """
    size = builder.layout.size(layer.out_shape)
    if size > 2**31:
        raise PlanError(f"plan: expected a tensor of at most {2**31} numbers, got {size}. Use smaller images.")
    step["alpha"], step["moved_of"] = layer.alpha, -1
    found, first, placed, index = [], 0, 0, builder.add_index
    for prefix, move in zip(("", "other_"), layer.moves, strict=False):
        rows, columns = offsets(move, builder.layout)
        channels = np.arange(first, first := first + columns.shape[-1])
        runs, starts = runs_of(columns, channel_offsets(channels, layer.out_shape, builder.layout), builder.layout)
        step[f"{prefix}pixels_at"] = index(rows)
        if columns.ndim == 2:
            step["moved_of"] = index(starts)
            placed += starts.nbytes
        found.append(runs)
        step[f"{prefix}moved"] = sum(map(len, found))
        placed += rows.nbytes + runs.nbytes
    step["moved_at"] = index(np.concatenate(found))
    return placed


def runs_of(columns: np.ndarray, targets: np.ndarray, layout: Layout) -> tuple[np.ndarray, np.ndarray]:
    """Numbers that lie side by side both where they are and where they go.

    Parameters
    ----------
    columns : i64[channels] or i64[pixels, channels], places of channels
    targets : i64[channels], their places in an output pixel

    Returns
    -------
    runs : i32[runs, 3], place, target, and how many numbers
    starts : i32[pixels + 1], where the runs of each pixel begin; of one pixel that stands for all
    """
    columns = np.atleast_2d(columns)
    begins = np.ones(columns.shape, bool)
    begins[:, 1:] = (np.diff(columns) != layout.lanes) | (np.diff(targets) != layout.lanes)
    starts = np.flatnonzero(begins)
    counts = np.diff(starts, append=columns.size) * layout.lanes
    runs = np.stack([columns.ravel()[starts], targets[starts % columns.shape[1]], counts], 1)
    return runs.astype(np.int32), np.append(0, np.cumsum(begins.sum(1))).astype(np.int32)


def offsets(move: Move, layout: Layout) -> tuple[np.ndarray, np.ndarray]:
    """i32[pixels], -1 for none, and i64 like the move's channels: places in a layout; PlanError beyond the tensor."""
    c = move.shape[2]
    rows = np.where(move.pixels < 0, -1, move.pixels * layout.pixel(c))
    if move.channels.ndim == 1:
        columns = channel_offsets(move.channels, move.shape, layout)
    else:
        columns = move.channels // c * layout.pixel(c) + channel_offsets(move.channels % c, move.shape, layout)
    last = int(rows.max(initial=0)) + int(columns.max(initial=0)) + layout.lanes
    if last > min(layout.size(move.shape), 2**31) or rows.min(initial=-1) < -1 or columns.min(initial=0) < 0:
        raise PlanError(f"plan: expected places within 0..{layout.size(move.shape)} and 32 bits, got up to {last}.")
    return rows.astype(np.int32), columns
