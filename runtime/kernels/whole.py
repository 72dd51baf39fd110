"""Convolution of narrow images: whole lines of the output in registers; each weight is loaded once for all of them.

Each tap of the window is seen by a rectangle of the pixels: by all, or by all but the first or last line or column.
"""

from runtime.kernels.multiply import fma_rect
from runtime.kernels.options import inlined_kernel, kernel
from runtime.kernels.vector import (
    CHANNELS,
    LANES,
    add_tile,
    bias_tile,
    clamp_tile,
    load_tile,
    marker,
    max_tile,
    near_memory,
    store_tile,
)

NONE, ONE = marker(0), marker(1)
ALL, BUT_FIRST, BUT_LAST = range(3)  # lines, or columns, that see a tap; a sight is 3 * that of lines + that of columns


@inlined_kernel
def add_columns(columns, acc, x, x_at, x_row, x_stride, rows, first, last, w, w_at, high, wide, top, bottom):
    """Add the rows of one tap to the columns that see it, of lines without the first `top` and the last `bottom`."""
    if columns == ALL:
        return fma_rect(acc, x, x_at, x_row, x_stride, rows, first, last, w, w_at, high, wide, top, bottom, NONE, NONE)
    if columns == BUT_FIRST:
        return fma_rect(acc, x, x_at, x_row, x_stride, rows, first, last, w, w_at, high, wide, top, bottom, ONE, NONE)
    return fma_rect(acc, x, x_at, x_row, x_stride, rows, first, last, w, w_at, high, wide, top, bottom, NONE, ONE)


@inlined_kernel
def add_tap(sight, acc, x, x_at, x_row, x_stride, rows, first, last, w, w_at, high, wide):
    """Add the rows of one tap to the pixels that see it."""
    lines, columns = sight // 3, sight % 3
    if lines == ALL:
        return add_columns(columns, acc, x, x_at, x_row, x_stride, rows, first, last, w, w_at, high, wide, NONE, NONE)
    if lines == BUT_FIRST:
        return add_columns(columns, acc, x, x_at, x_row, x_stride, rows, first, last, w, w_at, high, wide, ONE, NONE)
    return add_columns(columns, acc, x, x_at, x_row, x_stride, rows, first, last, w, w_at, high, wide, NONE, ONE)


@inlined_kernel
def whole_tile(pixels, high, wide, step, arena, weights, index, base, tile, band):
    """A vector of output channels of some lines, before activation and pooling."""
    starts, rows_at = step["starts_at"] + tile * (step["taps"] + 1), step["rows_at"]
    sights = step["sights_at"] + band * step["taps"]
    x_row, x_stride = step["stride_y"] * step["x_row"], step["x_stride"]
    x_at = base + step["x_at"] - step["pad_top"] * step["x_row"] - step["pad_left"] * step["x_pixel"]
    x_at += band * len(high) * x_row
    acc = bias_tile(CHANNELS, weights, step["bias_at"] + tile * LANES, pixels, ONE)
    for tap in range(step["taps"]):
        first, last = index[starts + tap], index[starts + tap + 1]
        w_at = step["weights_at"] + first * LANES
        sight, begin, end = index[sights + tap], rows_at + first, rows_at + last
        acc = add_tap(sight, acc, arena, x_at, x_row, x_stride, index, begin, end, weights, w_at, high, wide)
    return acc


@kernel
def largest(step, near, arena, out_at, high, wide):
    """The largest of each of a pooling's windows, of pixels that lie side by side in `near`."""
    for oy in range(len(high) // step["pool_h"]):
        for ox in range(step["ow"]):
            corner = (oy * step["pool_h"] * len(wide) + ox * step["pool_w"]) * LANES
            acc = load_tile(near, corner, 0, 0, ONE, ONE)
            for wy in range(step["pool_h"]):
                for wx in range(step["pool_w"]):
                    acc = max_tile(acc, load_tile(near, corner + (wy * len(wide) + wx) * LANES, 0, 0, ONE, ONE))
            here = out_at + (oy * step["ow"] + ox) * step["out_pixel"]
            store_tile(clamp_tile(acc, step["low"], step["high"]), arena, here, 0, 0, ONE, ONE)


@kernel
def conv_whole(pixels, high, wide, step, task, base, arena, weights, index):
    """The output channels of one layer and image that belong to a task."""
    near, out_pixel, pooled = near_memory(), step["out_pixel"], step["pool_h"] * step["pool_w"] > 1
    out_band = len(high) // step["pool_h"] * step["ow"] * out_pixel
    first = task * step["tiles_per_task"]
    for tile in range(first, min(step["tiles"], first + step["tiles_per_task"])):
        for band in range(step["oh"] * step["pool_h"] // len(high)):
            acc = whole_tile(pixels, high, wide, step, arena, weights, index, base, tile, band)
            out_at = base + step["out_at"] + tile * LANES + band * out_band
            if pooled:
                store_tile(acc, near, 0, LANES, 0, pixels, ONE)
                largest(step, near, arena, out_at, high, wide)
            else:
                if step["residual_at"] >= 0:
                    residual_at = out_at + step["residual_at"] - step["out_at"]
                    acc = add_tile(acc, load_tile(arena, residual_at, out_pixel, 0, pixels, ONE))
                store_tile(clamp_tile(acc, step["low"], step["high"]), arena, out_at, out_pixel, 0, pixels, ONE)
