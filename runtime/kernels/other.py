"""Everything but convolution and the borders: pooling, sums, activations, softmax.

In a layout, channel c of pixel p of image lane l lies at ``((c // block) * pixels + p) * pixel + (c % block) * lanes +
l``. Pooling, sums and activations work on whole vectors and don't care what the lanes are.
"""

import numpy as np

from runtime.kernels.options import kernel
from runtime.kernels.vector import LANES, add_tile, clamp_tile, load_tile, marker, max_tile, scale_tile, store_tile

ONE, EIGHT = marker(1), marker(8)


@kernel
def pool_tile(vectors, maximum, step, arena, x_at, out_at, rows, columns, scale):
    """One pixel of some channels: the maximum, or the sum times a factor, over a window that lies inside the image."""
    acc = load_tile(arena, x_at, 0, LANES, ONE, vectors)
    for ky in range(rows):
        for kx in range(columns):
            if ky + kx > 0:
                at = x_at + ky * step["dilation_y"] * step["x_row"] + kx * step["dilation_x"] * step["x_pixel"]
                other = load_tile(arena, at, 0, LANES, ONE, vectors)
                acc = max_tile(acc, other) if maximum else add_tile(acc, other)
    if not maximum:
        acc = scale_tile(acc, scale)
    store_tile(clamp_tile(acc, step["low"], step["high"]), arena, out_at, 0, LANES, ONE, vectors)


@kernel
def pool(maximum, step, task, base, arena):
    """Output rows of a pooling layer, one block of channels after the other; the average divides by the real pixels."""
    oh, ow, h, w = step["oh"], step["ow"], step["h"], step["w"]
    size = step["out_pixel"]
    for row in range(task * step["rows_per_task"], min(step["tiles"] * oh, (task + 1) * step["rows_per_task"])):
        block, oy = row // oh, row % oh
        iy = oy * step["stride_y"] - step["pad_top"]
        top, bottom = max(0, iy), min(h, iy + step["kh"])
        for ox in range(ow):
            ix = ox * step["stride_x"] - step["pad_left"]
            left, right = max(0, ix), min(w, ix + step["kw"])
            x_at = base + step["x_at"] + ((block * h + top) * w + left) * size
            out_at = base + step["out_at"] + ((block * oh + oy) * ow + ox) * size
            scale = np.float32(1.0 / ((bottom - top) * (right - left)))
            done = 0
            while done < size:
                if size - done >= 8 * LANES:
                    pool_tile(
                        EIGHT, maximum, step, arena, x_at + done, out_at + done, bottom - top, right - left, scale
                    )
                    done += 8 * LANES
                else:
                    pool_tile(ONE, maximum, step, arena, x_at + done, out_at + done, bottom - top, right - left, scale)
                    done += LANES


@kernel
def elementwise(two, step, task, base, arena):
    """Part of ``out = clamp(x + residual)``, or of ``out = clamp(x)``."""
    chunk = step["rows_per_task"]
    for i in range(task * chunk, min(step["tiles"], (task + 1) * chunk)):
        acc = load_tile(arena, base + step["x_at"] + i * LANES, 0, LANES, ONE, ONE)
        if two:
            acc = add_tile(acc, load_tile(arena, base + step["residual_at"] + i * LANES, 0, LANES, ONE, ONE))
        store_tile(
            clamp_tile(acc, step["low"], step["high"]), arena, base + step["out_at"] + i * LANES, 0, LANES, ONE, ONE
        )


@kernel
def softmax(step, task, base, arena):
    """Softmax over the channels of each pixel and lane; subtracts the largest first."""
    pixels, lanes, block = step["h"] * step["w"], step["lanes"], step["x_block"]
    for i in range(task * step["rows_per_task"], min(pixels * lanes, (task + 1) * step["rows_per_task"])):
        at = (i // lanes) * step["x_pixel"] + i % lanes
        x_at, out_at, plane = base + step["x_at"] + at, base + step["out_at"] + at, pixels * step["x_pixel"]
        largest = arena[x_at]
        for ci in range(1, step["c"]):
            largest = max(largest, arena[x_at + (ci // block) * plane + (ci % block) * lanes])
        total = np.float32(0)
        for ci in range(step["c"]):
            here = (ci // block) * plane + (ci % block) * lanes
            value = np.float32(np.exp(arena[x_at + here] - largest))
            arena[out_at + here] = value
            total += value
        for ci in range(step["c"]):
            arena[out_at + (ci // block) * plane + (ci % block) * lanes] /= total


@kernel
def flatten(step, task, base, arena):
    """Pixels and channels into channels of one pixel, in the order (h, w, c)."""
    pixels, lanes, c = step["h"] * step["w"], step["lanes"], step["c"]
    x_block, out_block = step["x_block"], step["out_block"]
    for p in range(task * step["rows_per_task"], min(pixels, (task + 1) * step["rows_per_task"])):
        for ci in range(c):
            co = p * c + ci
            x_at = base + step["x_at"] + ((ci // x_block) * pixels + p) * step["x_pixel"] + (ci % x_block) * lanes
            out_at = base + step["out_at"] + (co // out_block) * step["out_pixel"] + (co % out_block) * lanes
            for lane in range(lanes):
                arena[out_at + lane] = arena[x_at + lane]
