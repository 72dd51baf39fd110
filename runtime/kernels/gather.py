"""Moves of numbers: runs of them, each from its place to its place."""

import numpy as np

from runtime.kernels.options import kernel
from runtime.kernels.step import RUN_FIELDS
from runtime.kernels.vector import LANES, load_tile, marker, store_tile

SINGLE = marker(1)


@kernel
def copy_run(arena, source, target, count):
    """`count` numbers that lie side by side, by vectors; the last of these begins early enough to end with the run."""
    if count < LANES:
        for i in range(count):
            arena[target + i] = arena[source + i]
        return
    for i in range(0, count - LANES + 1, LANES):
        store_tile(load_tile(arena, source + i, 0, 0, SINGLE, SINGLE), arena, target + i, 0, 0, SINGLE, SINGLE)
    rest = count - LANES
    store_tile(load_tile(arena, source + rest, 0, 0, SINGLE, SINGLE), arena, target + rest, 0, 0, SINGLE, SINGLE)


@kernel
def fill_run(arena, target, count, value):
    """The same number `count` times."""
    for i in range(count):
        arena[target + i] = value


@kernel
def gather_part(step, first, last, source, target, row, arena, index):
    """Runs first..last-1 of one output pixel: from beyond `source + row`, or the step's alpha where the pixel has
    none.
    """
    for run in range(first, last):
        at = step["moved_at"] + RUN_FIELDS * run
        out_at, count = target + index[at + 1], np.int64(index[at + 2])
        if row < 0:
            fill_run(arena, out_at, count, step["alpha"])
        else:
            copy_run(arena, source + row + index[at], out_at, count)


@kernel
def gather(step, task, base, arena, index):
    """Output pixels of a move: runs from x, and from another tensor whose channels follow those of x."""
    x_at, other_at = base + step["x_at"], base + step["residual_at"]
    first, last = 0, step["moved"]
    for p in range(task * step["rows_per_task"], min(step["tiles"], (task + 1) * step["rows_per_task"])):
        target = base + step["out_at"] + p * step["out_pixel"]
        if step["moved_of"] >= 0:
            first, last = index[step["moved_of"] + p], index[step["moved_of"] + p + 1]
        gather_part(step, first, last, x_at, target, index[step["pixels_at"] + p], arena, index)
        if step["other_moved"] > last:
            gather_part(
                step, last, step["other_moved"], other_at, target, index[step["other_pixels_at"] + p], arena, index
            )
