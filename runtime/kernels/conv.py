"""Convolution over lists of kept rows: behind sparse, dense, grouped and depthwise layers.

A *row* is one kept (tap, input channel) of a tile of output channels. The rows of an output tile lie in the order
(ky, kx, ci), so the taps of a rectangle of the window are a few contiguous segments: at the image's edge the taps that
fall in the padding are not executed. A tile at the left or right edge leaves a pixel out of the taps that this pixel
does not see. `starts` holds, for each output tile and tap, where its rows begin.

Weights that share no pattern have a kernel of their own, which reads a copy of its inputs: see `runtime.patches`.
"""

import numpy as np
from numba import literal_unroll

from runtime.kernels.multiply import fma_rows
from runtime.kernels.options import inlined_kernel, kernel
from runtime.kernels.part import part_of
from runtime.kernels.step import RUN_HEAD, RUN_SIGHT
from runtime.kernels.vector import (
    PATCH,
    add_tile,
    bias_tile,
    clamp_tile,
    expect_tile,
    load_tile,
    marker,
    max_tile,
    near_memory,
    store_tile,
)

NONE, ONE = marker(0), marker(1)


@inlined_kernel
def add_taps(kind, acc, pixels, outputs, lead, tail, step, arena, weights, index, x_at, starts, first_tap, last_tap):
    """Add the rows of taps that lie side by side to a tile, but for its first `lead` and last `tail` pixels."""
    first, last = index[starts + first_tap], index[starts + last_tap]
    rows_at, weights_at = step["rows_at"], step["weights_at"] + first * step["row_size"]
    x_stride = step["x_stride"]
    return fma_rows(
        kind,
        acc,
        arena,
        x_at,
        x_stride,
        index,
        rows_at + first,
        rows_at + last,
        weights,
        weights_at,
        pixels,
        outputs,
        lead,
        tail,
    )


@inlined_kernel
def add_window(
    kind, acc, pixels, columns, outputs, step, arena, weights, index, x_at, starts, row, sight, at_begin, at_end
):
    """Add the rows of every tap in sight of a tile's pixels, which lie in one row of the output.

    `sight` is where (kx_low, kx_high, lead, tail) of the run of columns stands; at_begin, at_end: whether the tile is
    there in the run. The taps of one row of the window lie side by side, and so do those of all rows where the
    window's whole width is in sight.
    """
    kw = step["kw"]
    ky_low, ky_high = index[step["row_taps_at"] + 2 * row], index[step["row_taps_at"] + 2 * row + 1]
    kx_low, kx_high = index[sight], index[sight + 1]
    lead, tail = at_begin and index[sight + 2] != 0, at_end and index[sight + 3] != 0
    segments, taps = ky_high - ky_low, kx_high - kx_low - lead - tail
    if taps == kw:
        segments, taps = 1, segments * kw
    for s in range(segments):
        tap = (ky_low + s) * kw + kx_low
        if lead:
            acc = add_taps(
                kind, acc, pixels, outputs, columns, NONE, step, arena, weights, index, x_at, starts, tap, tap + 1
            )
            tap += 1
        end = tap + taps
        acc = add_taps(kind, acc, pixels, outputs, NONE, NONE, step, arena, weights, index, x_at, starts, tap, end)
        if tail:
            acc = add_taps(
                kind, acc, pixels, outputs, NONE, columns, step, arena, weights, index, x_at, starts, end, end + 1
            )
    return acc


@kernel
def conv_tile(
    kind, pixels, columns, outputs, step, arena, weights, index, x_at, out_at, tile, oy, sights, at_begin, at_end
):
    """One register tile: bias, the rows of the taps in sight, residual, activation, store.

    Where pooling follows, the same for every pixel of the pooling's windows, of which the largest are kept; they wait
    in the output.
    """
    pool_h, pool_w = step["pool_h"], step["pool_w"]
    starts = step["starts_at"] + tile * (step["taps"] + 1)
    expect_tile(arena, out_at, step["out_stride"], step["apart"], pixels, outputs)
    for wy in range(pool_h):
        row = oy * pool_h + wy
        x_row = x_at + (row * step["stride_y"] - step["pad_top"]) * step["x_row"]
        for wx in range(pool_w):
            acc = bias_tile(kind, weights, step["bias_at"] + tile * step["tile_channels"], pixels, outputs)
            acc = add_window(
                kind,
                acc,
                pixels,
                columns,
                outputs,
                step,
                arena,
                weights,
                index,
                x_row + wx * step["x_column"],
                starts,
                row,
                sights + RUN_SIGHT * wx,
                at_begin,
                at_end,
            )
            if step["residual_at"] >= 0:
                residual_at = out_at + step["residual_at"] - step["out_at"]
                acc = add_tile(acc, load_tile(arena, residual_at, step["out_stride"], step["apart"], pixels, outputs))
            if wy + wx > 0:
                acc = max_tile(acc, load_tile(arena, out_at, step["out_stride"], step["apart"], pixels, outputs))
            acc = clamp_tile(acc, step["low"], step["high"])
            store_tile(acc, arena, out_at, step["out_stride"], step["apart"], pixels, outputs)


@kernel
def conv(kind, outputs, sizes, columns, step, task, base, arena, weights, index):
    """The part of one layer and image group that belongs to a task: some output rows of some output tiles.

    Each run of output columns is covered by register tiles of one size: `sizes` are the numbers of vectors along the
    columns, and `columns` how many vectors stand for a column. Output tiles whose rows are the same walk over the
    pixels together (`tiles_near` of them), so that activations are read from the nearest cache.
    """
    oh, ow = step["oh"], step["ow"]
    first_tile, last_tile, first_oy, last_oy = part_of(step, task)
    tiles_near, tile_size = step["tiles_near"], step["tile_channels"] * step["lanes"]
    x_step, out_pixel = step["pool_w"] * step["x_column"], step["out_pixel"]
    run_size = RUN_HEAD + RUN_SIGHT * step["pool_w"]
    x_row = base + step["x_at"] - step["pad_left"] * step["x_pixel"]
    for oy in range(first_oy, last_oy):
        for near in range(first_tile, last_tile, tiles_near):
            far = min(last_tile, near + tiles_near)
            channel = near * step["tile_channels"]
            block, inside = channel // step["out_block"], channel % step["out_block"]
            out_row = base + step["out_at"] + (block * oh + oy) * ow * out_pixel + inside * step["lanes"]
            for run in range(step["runs_at"], step["runs_at"] + run_size * step["runs"], run_size):
                begin, wide = index[run], index[run + 2]
                end = begin + index[run + 1]
                for size in literal_unroll(sizes):
                    if len(size) == wide * len(columns):
                        for ox in range(begin, end, wide):
                            x_at, out_at = x_row + ox * x_step, out_row + ox * out_pixel
                            for tile in range(near, far):
                                conv_tile(
                                    kind,
                                    size,
                                    columns,
                                    outputs,
                                    step,
                                    arena,
                                    weights,
                                    index,
                                    x_at + tile * step["x_tile"],
                                    out_at + (tile - near) * tile_size,
                                    tile,
                                    oy,
                                    run + RUN_HEAD,
                                    ox == begin,
                                    ox + wide == end,
                                )


@kernel
def copy_patch(step, near, arena, x_at, part, top, left):
    """What the windows of a tile of pixels see of one part of the input channels; the padding stays as it is."""
    h, w, block, lanes = step["h"], step["w"], step["x_block"], step["lanes"]
    first = part * step["part_channels"]
    last = min(step["c"], first + step["part_channels"])
    begin = first
    while begin < last:
        count = min(last - begin, block - begin % block)
        plane = x_at + begin // block * h * step["x_row"] + begin % block * lanes
        for y in range(max(0, -top), min(step["near_h"], h - top)):
            for x in range(max(0, -left), min(step["near_w"], w - left)):
                source = plane + (top + y) * step["x_row"] + (left + x) * step["x_pixel"]
                target = (begin - first) * step["near_channel"] + y * step["near_row"] + x * lanes
                for i in range(count):
                    line = load_tile(arena, source + i * lanes, 0, 0, ONE, ONE)
                    store_tile(line, near, target + i * step["near_channel"], 0, 0, ONE, ONE)
        begin += count


@kernel
def scattered_channels(
    rows, columns, step, near, arena, weights, index, first_part, last_part, place, starts, first, last, strides
):
    """Output channels first..last-1 of one block and a tile of pixels, over one part of the input channels."""
    out_pixel, lanes, bias_at = step["out_pixel"], step["lanes"], step["bias_at"]
    rows_at, weights_at, residual_at = step["rows_at"], step["weights_at"], step["residual_at"] - step["out_at"]
    low, high, joined = step["low"], step["high"], step["residual_at"] >= 0
    x_stride, out_stride = strides
    here, begin = place, index[starts + first]
    for channel in range(first, last):
        if first_part:
            acc = bias_tile(PATCH, weights, bias_at + channel, rows, columns)
        else:
            acc = load_tile(arena, here, out_stride, out_pixel, rows, columns)
        end = index[starts + channel + 1]
        acc = fma_rows(
            PATCH,
            acc,
            near,
            0,
            x_stride,
            index,
            rows_at + begin,
            rows_at + end,
            weights,
            weights_at + begin,
            rows,
            columns,
            NONE,
            NONE,
        )
        if last_part:
            if joined:
                acc = add_tile(acc, load_tile(arena, here + residual_at, out_stride, out_pixel, rows, columns))
            acc = clamp_tile(acc, low, high)
        store_tile(acc, arena, here, out_stride, out_pixel, rows, columns)
        here += lanes
        begin = end


@kernel
def scattered_tile(rows, sizes, wide, step, near, arena, weights, index, base, oy, ox, first, last):
    """Output channels first..last-1 of a tile of `wide` columns; sums wait in the output between parts of the input.

    Of a tile of which but one row is in the image, each row is this one.
    """
    block, one_row = step["out_block"], oy + len(rows) > step["oh"]
    plane = step["oh"] * step["ow"] * step["out_pixel"]
    x_stride = 0 if one_row else step["stride_y"] * step["near_row"]
    out_stride = 0 if one_row else step["ow"] * step["out_pixel"]
    top, left = oy * step["stride_y"] - step["pad_top"], ox - step["pad_left"]
    if min(top, left) < 0 or top + step["near_h"] > step["h"] or left + step["near_w"] > step["w"]:
        near[: step["near_size"]] = np.float32(0)
    place = base + step["out_at"] + (oy * step["ow"] + ox) * step["out_pixel"]
    for part in range(step["parts"]):
        copy_patch(step, near, arena, base + step["x_at"], part, top, left)
        starts = step["starts_at"] + part * step["tiles"]
        begin = first
        while begin < last:
            inside = begin % block
            end = min(last, begin - inside + block)
            for columns in literal_unroll(sizes):
                if len(columns) == wide:
                    scattered_channels(
                        rows,
                        columns,
                        step,
                        near,
                        arena,
                        weights,
                        index,
                        part == 0,
                        part == step["parts"] - 1,
                        place + begin // block * plane + inside * step["lanes"],
                        starts,
                        begin,
                        end,
                        (x_stride, out_stride),
                    )
            begin = end


@kernel
def conv_scattered(rows, sizes, step, task, base, arena, weights, index):
    """Some rows and channels of the output of a layer whose weights share no patterns: each output channel runs its
    own rows.

    What the windows of a few pixels see of some input channels is copied near the core, with its padding; then every
    output channel adds its rows, from one list, before the next part of the input channels. Needs a stride of one
    column.
    """
    near = near_memory()
    first, last, first_oy, last_oy = part_of(step, task)
    for oy in range(first_oy, last_oy, len(rows)):
        for run in range(step["runs_at"], step["runs_at"] + RUN_HEAD * step["runs"], RUN_HEAD):
            begin, wide = index[run], index[run + 2]
            end = begin + index[run + 1]
            for ox in range(begin, end, wide):
                scattered_tile(rows, sizes, wide, step, near, arena, weights, index, base, oy, ox, first, last)
