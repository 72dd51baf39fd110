"""Convolution of a single image with its pixels in the lanes, whatever patterns the output channels have.

With output channels in the lanes a vector of them runs every row that any of them keeps. Here a *block* of pixels is
copied to the task's own memory and turned on the way, each channel becoming a plane of pixels with the padding as
zeros, and the register tiles are those of batches: vectors of pixels x a few output channels that share their rows.
What they make is turned back. Where a window jumps, pixels that lie a stride apart form a plane of their own, a
*phase*.

A plane is flat: row follows row, and a vector of pixels goes over a row's end. What it computes in the columns between
one row's outputs and the next belongs to no pixel, and is not kept.

In a task's memory lie, from its beginning: marks of the pixels that are in the image (one vector), the planes, and the
sums of some vectors of output channels ([vectors of pixels][output][lane], and turned [pixel][output]).
"""

from numba import literal_unroll

from runtime.kernels.machine import LANES
from runtime.kernels.multiply import fma_rows
from runtime.kernels.options import kernel
from runtime.kernels.part import part_of
from runtime.kernels.squares import keep_marked, load_places, turn
from runtime.kernels.vector import (
    IMAGES,
    add_tile,
    bias_tile,
    clamp_tile,
    load_tile,
    marker,
    max_tile,
    stack_memory,
    stack_places,
    store_tile,
)

NONE, ONE, SQUARE = marker(0), marker(1), marker(LANES)
SQUARE_SIZE = LANES * LANES
MEMORY_SIZE = 512 * 1024 // 4

pixels_memory = stack_memory(MEMORY_SIZE)


@kernel
def mark_pixels(step, near, places, x_at, top, left, q):
    """Where LANES positions of a plane from the q-th on lie in the image, and which of them do."""
    wide, h, w = step["near_w"], step["h"], step["w"]
    y, x = q // wide, q % wide
    for i in range(LANES):
        iy, ix = top + y * step["stride_y"], left + x * step["stride_x"]
        inside = 0 <= iy < h and 0 <= ix < w
        places[i] = x_at + iy * step["x_row"] + ix * step["x_pixel"] if inside else x_at
        near[i] = 1.0 if inside else 0.0
        x += 1
        if x == wide:
            x, y = 0, y + 1


@kernel
def copy_planes(step, near, places, arena, x_at, top, left, first, last):
    """The input channels first..last-1 of the block whose first window begins at (top, left), turned."""
    wide, channel, jump = step["near_w"], step["near_channel"], step["stride_x"]
    for phase in range(step["stride_y"] * jump):
        first_y, first_x = top + phase // jump, left + phase % jump
        target = LANES + phase * step["near_plane"]
        for q in range(0, step["near_plane"], LANES):
            y, x = first_y + q // wide * step["stride_y"], first_x + q % wide * jump
            in_row = q % wide + LANES <= wide and 0 <= y < step["h"]
            if in_row and x >= 0 and x + (LANES - 1) * jump < step["w"]:
                place = x_at + y * step["x_row"] + x * step["x_pixel"]
                for c in range(first, last, LANES):
                    square = turn(load_tile(arena, place + c, step["x_column"], 0, SQUARE, ONE))
                    store_tile(square, near, target + (c - first) * channel + q, channel, 0, SQUARE, ONE)
            else:
                mark_pixels(step, near, places, x_at, first_y, first_x, q)
                marks = load_tile(near, 0, 0, 0, ONE, ONE)
                for c in range(first, last, LANES):
                    square = keep_marked(turn(load_places(arena, c, places)), marks)
                    store_tile(square, near, target + (c - first) * channel + q, channel, 0, SQUARE, ONE)


@kernel
def multiply_pixels(size, outputs, step, near, weights, index, part, tile, v, sums):
    """One register tile: some vectors of pixels from the v-th on, and a tile of output channels; the rows of a part of
    the input channels are added to the bias, or to what waits of former parts.
    """
    start = step["starts_at"] + part * step["tiles"] + tile
    begin, end, here = index[start], index[start + 1], sums + v * SQUARE_SIZE
    if part:
        acc = load_tile(near, here, SQUARE_SIZE, LANES, size, outputs)
    else:
        acc = bias_tile(IMAGES, weights, step["bias_at"] + tile * len(outputs), size, outputs)
    acc = fma_rows(
        IMAGES,
        acc,
        near,
        LANES + v * LANES,
        LANES,
        index,
        step["rows_at"] + begin,
        step["rows_at"] + end,
        weights,
        step["weights_at"] + begin * len(outputs),
        size,
        outputs,
        NONE,
        NONE,
    )
    store_tile(acc, near, here, SQUARE_SIZE, LANES, size, outputs)


@kernel
def turn_sums(near, sums, vectors):
    """A vector of output channels at some vectors of pixels, turned where they lie."""
    for v in range(sums, sums + vectors * SQUARE_SIZE, SQUARE_SIZE):
        store_tile(turn(load_tile(near, v, LANES, 0, SQUARE, ONE)), near, v, LANES, 0, SQUARE, ONE)


@kernel
def store_block(step, near, arena, sums, apart, squares, out_at, rows, columns):
    """The sums of a block's pixels, turned: pooled, with the residual and the limits. Of several vectors of output
    channels, `apart` in memory, those of a pixel one after the other, for they lie side by side in the output.
    """
    wide, pool_h, pool_w = step["near_w"], step["pool_h"], step["pool_w"]
    residual, pixel, low, high = step["residual_at"] - step["out_at"], step["out_pixel"], step["low"], step["high"]
    pooled, joined = pool_h * pool_w > 1, step["residual_at"] >= 0
    for y in range(0, rows, pool_h):
        place = out_at + y // pool_h * step["ow"] * pixel
        for at in range(sums + y * wide * LANES, sums + (y * wide + columns) * LANES, pool_w * LANES):
            for square in range(squares):
                here, there = at + square * apart, place + square * LANES
                acc = load_tile(near, here, 0, 0, ONE, ONE)
                if pooled:
                    for wy in range(pool_h):
                        for wx in range(pool_w):
                            acc = max_tile(acc, load_tile(near, here + (wy * wide + wx) * LANES, 0, 0, ONE, ONE))
                if joined:
                    acc = add_tile(acc, load_tile(arena, there + residual, 0, 0, ONE, ONE))
                store_tile(clamp_tile(acc, low, high), arena, there, 0, 0, ONE, ONE)
            place += pixel


@kernel
def conv_pixels(outputs, sizes, step, task, base, arena, weights, index):
    """The part of one layer and image that belongs to a task: some rows of blocks, for some output tiles."""
    near, places = pixels_memory(), stack_places()
    first_tile, last_tile, first_oy, last_oy = part_of(step, task)
    pool_h, pool_w, wide = step["pool_h"], step["pool_w"], step["near_w"]
    sums, tiles = LANES + step["near_size"], LANES // len(outputs)
    last_y, last_x = last_oy * pool_h, step["ow"] * pool_w
    for oy in range(first_oy * pool_h, last_y, step["block_h"]):
        rows = min(step["block_h"], last_y - oy)
        for ox in range(0, last_x, step["block_w"]):
            columns = min(step["block_w"], last_x - ox)
            vectors = ((rows - 1) * wide + columns + LANES - 1) // LANES
            top, left = oy * step["stride_y"] - step["pad_top"], ox * step["stride_x"] - step["pad_left"]
            out_at = base + step["out_at"] + (oy // pool_h * step["ow"] + ox // pool_w) * step["out_pixel"]
            for part in range(step["parts"]):
                first_c = part * step["part_channels"]
                last_c = min(step["c"], first_c + step["part_channels"])
                copy_planes(step, near, places, arena, base + step["x_at"], top, left, first_c, last_c)
                for tile in range(first_tile, last_tile):
                    square, inside = (tile - first_tile) // tiles % step["waiting"], (tile - first_tile) % tiles
                    here, v = sums + square * vectors * SQUARE_SIZE + inside * len(outputs) * LANES, 0
                    for size in literal_unroll(sizes):
                        while vectors - v >= len(size):
                            multiply_pixels(size, outputs, step, near, weights, index, part, tile, v, here)
                            v += len(size)
                    if part == step["parts"] - 1 and inside == tiles - 1:
                        apart, channel = vectors * SQUARE_SIZE, (tile + 1) * len(outputs) - (square + 1) * LANES
                        turn_sums(near, sums + square * apart, vectors)
                        if square == step["waiting"] - 1 or tile == last_tile - 1:
                            store_block(step, near, arena, sums, apart, square + 1, out_at + channel, rows, columns)
