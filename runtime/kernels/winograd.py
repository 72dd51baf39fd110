"""3x3 convolution by Winograd's minimal filtering F(2x2, 3x3): 16 multiply-adds for 2x2 outputs in place of 36.

Four by four inputs of a channel, a *window*, are transformed by sums alone into 16 numbers, and so were the weights
when they were packed. For each of these 16 *frequencies* the channels are multiplied and added as in a matrix product;
a transform by sums gives 2x2 outputs. Each output is made of the inputs that it sees by the definition, and of no
other. An input channel is left out for a tile of output channels none of which keeps any of its nine weights; any other
weight that is missing is a zero here.

Source: Lavin, Gray, *Fast Algorithms for Convolutional Neural Networks* (arXiv 1509.09308), section 4.1.

In a task's own memory lie, from its beginning: products of one register tile ([16][window][output] vectors), what the
padding at an edge is put beside ([4][4] vectors), transformed inputs ([16][...], of `part_channels` channels of some
windows), and the sums that wait for the next part of the input channels ([output tile][window][output][4] vectors).
"""

from numba import literal_unroll

from runtime.kernels.machine import LANES
from runtime.kernels.multiply import fma_rows
from runtime.kernels.options import inlined_kernel, kernel
from runtime.kernels.part import part_of
from runtime.kernels.vector import (
    add_tile,
    bias_tile,
    clamp_tile,
    load_tile,
    marker,
    max_tile,
    stack_memory,
    store_tile,
    sub_tile,
)

NONE, ONE, FOUR = marker(0), marker(1), marker(4)
FREQUENCIES = 16
EVERYWHERE = 5  # the frequency whose product is added once to each of the four outputs: a bias is put there
EDGE = 16 * LANES  # elements
MEMORY_SIZE = 512 * 1024 // 4

winograd_memory = stack_memory(MEMORY_SIZE)


@inlined_kernel
def across(row):
    """B^T of one row of four inputs."""
    first, last = sub_tile(row[0:1], row[2:3]), sub_tile(row[1:2], row[3:4])
    return first + add_tile(row[1:2], row[2:3]) + sub_tile(row[2:3], row[1:2]) + last


@inlined_kernel
def transform_input(d):
    """B^T d B of 4x4 inputs, row by row."""
    top, upper, lower, bottom = d[0:4], d[4:8], d[8:12], d[12:16]
    begin = across(sub_tile(top, lower)) + across(add_tile(upper, lower))
    return begin + across(sub_tile(lower, upper)) + across(sub_tile(upper, bottom))


@inlined_kernel
def pair(row):
    """A^T of one row of four products."""
    left = add_tile(add_tile(row[0:1], row[1:2]), row[2:3])
    return left + sub_tile(sub_tile(row[1:2], row[2:3]), row[3:4])


@inlined_kernel
def transform_output(m):
    """A^T m A of 4x4 products: 2x2 outputs, row by row."""
    upper = add_tile(add_tile(m[0:4], m[4:8]), m[8:12])
    return pair(upper) + pair(sub_tile(sub_tile(m[4:8], m[8:12]), m[12:16]))


@kernel
def copy_edge(step, near, edge, arena, place, y, x):
    """The part of a window that lies in the image; the rest of its place stays zero."""
    for i in range(max(0, -y), min(4, step["h"] - y)):
        for j in range(max(0, -x), min(4, step["w"] - x)):
            line = load_tile(arena, place + i * step["x_row"] + j * step["x_pixel"], 0, 0, ONE, ONE)
            store_tile(line, near, edge + (4 * i + j) * LANES, 0, 0, ONE, ONE)


@kernel
def transform_window(step, near, edge, target, arena, x_at, y, x, first, last):
    """The input channels first..last-1 of the window whose first pixel is (y, x)."""
    h, w, x_row, x_pixel, lanes, block = (
        step["h"],
        step["w"],
        step["x_row"],
        step["x_pixel"],
        step["lanes"],
        step["x_block"],
    )
    size, channel = step["near_size"], step["near_channel"]
    inside = min(y, x) >= 0 and y + 4 <= h and x + 4 <= w
    if not inside:
        near[edge : edge + EDGE] = 0
    for c in range(first, last, LANES // lanes):
        place = x_at + c // block * h * x_row + c % block * lanes + y * x_row + x * x_pixel
        if inside:
            d = load_tile(arena, place, x_row, x_pixel, FOUR, FOUR)
        else:
            copy_edge(step, near, edge, arena, place, y, x)
            d = load_tile(near, edge, 4 * LANES, LANES, FOUR, FOUR)
        store_tile(transform_input(d), near, target + (c - first) * channel, 4 * size, size, FOUR, FOUR)


@kernel
def store_pixel(y, step, arena, out_at):
    """One vector of an output pixel: residual, activation, store."""
    if step["residual_at"] >= 0:
        y = add_tile(y, load_tile(arena, out_at + step["residual_at"] - step["out_at"], 0, 0, ONE, ONE))
    store_tile(clamp_tile(y, step["low"], step["high"]), arena, out_at, 0, 0, ONE, ONE)


@kernel
def store_window(y, step, arena, plane, window, across):
    """The 2x2 outputs of a window that are in the image, or where pooling follows the largest of them."""
    row, column = window // across, window % across
    oh, ow, pixel = step["oh"], step["ow"], step["out_pixel"]
    if step["pool_h"] == 2:
        most = max_tile(max_tile(y[0:1], y[1:2]), max_tile(y[2:3], y[3:4]))
        store_pixel(most, step, arena, plane + (row * ow + column) * pixel)
        return
    here = plane + (2 * row * ow + 2 * column) * pixel
    right, below = 2 * column + 1 < ow, 2 * row + 1 < oh
    store_pixel(y[0:1], step, arena, here)
    if right:
        store_pixel(y[1:2], step, arena, here + pixel)
    if below:
        store_pixel(y[2:3], step, arena, here + ow * pixel)
    if right and below:
        store_pixel(y[3:4], step, arena, here + (ow + 1) * pixel)


@kernel
def multiply_windows(kind, outputs, windows, products, step, near, x_at, weights, index, bias_at, first, last):
    """The 16 products of a register tile of windows x outputs, over the rows first..last-1: input channels."""
    rows_at, stride, row_size = step["rows_at"], step["x_stride"], step["row_size"]
    size, w_at = step["near_size"], step["weights_at"] + FREQUENCIES * first * row_size
    for f in range(FREQUENCIES):
        begin = bias_at if f == EVERYWHERE else step["zeros_at"]
        acc = bias_tile(kind, weights, begin, windows, outputs)
        acc = fma_rows(
            kind,
            acc,
            near,
            x_at + f * size,
            stride,
            index,
            rows_at + first,
            rows_at + last,
            weights,
            w_at + f * (last - first) * row_size,
            windows,
            outputs,
            NONE,
            NONE,
        )
        store_tile(acc, near, f * products, len(outputs) * LANES, LANES, windows, outputs)


@kernel
def collect_windows(outputs, count, products, step, near, sums, arena, out_at, begin, channel, wide, part):
    """Outputs of `count` windows' products: added to what waits of former parts of the input, and kept for the next
    part, or stored.
    """
    apart = LANES // step["lanes"]
    for o in range(len(outputs)):
        block, inside = channel // step["out_block"], channel % step["out_block"]
        plane = out_at + block * step["oh"] * step["ow"] * step["out_pixel"] + inside * step["lanes"]
        for t in range(count):
            m = load_tile(near, (t * len(outputs) + o) * LANES, 4 * products, products, FOUR, FOUR)
            made = transform_output(m)
            here = sums + (t * len(outputs) + o) * 4 * LANES
            if part > 0:
                made = add_tile(made, load_tile(near, here, LANES, 0, FOUR, ONE))
            if part < step["parts"] - 1:
                store_tile(made, near, here, LANES, 0, FOUR, ONE)
            else:
                store_window(made, step, arena, plane, begin + t, wide)
        channel += apart


@kernel
def conv_winograd(kind, outputs, sizes, largest, step, task, base, arena, weights, index):
    """The part of one layer and image group that belongs to a task: some rows of windows, for some output tiles."""
    near = winograd_memory()
    first_tile, last_tile, first_oy, last_oy = part_of(step, task)
    lines, wide = 2 // step["pool_h"], (step["ow"] * step["pool_w"] + 1) // 2
    first, last = first_oy // lines * wide, (last_oy + lines - 1) // lines * wide
    products = len(largest) * len(outputs) * LANES
    edge = FREQUENCIES * products
    inputs = edge + EDGE
    waiting = inputs + FREQUENCIES * step["near_size"]
    for begin in range(first, last, step["windows"]):
        count = min(step["windows"], last - begin)
        for part in range(step["parts"]):
            first_c = part * step["part_channels"]
            last_c = min(step["c"], first_c + step["part_channels"])
            starts = step["starts_at"] + part * step["tiles"]
            for t in range(count):
                row, column = (begin + t) // wide * 2 - step["pad_top"], (begin + t) % wide * 2 - step["pad_left"]
                target = inputs + t * step["x_stride"]
                transform_window(step, near, edge, target, arena, base + step["x_at"], row, column, first_c, last_c)
            for tile in range(first_tile, last_tile):
                channel = tile * step["tile_channels"]
                bias_at = step["zeros_at"] if part else step["bias_at"] + channel
                at = 0
                for size in literal_unroll(sizes):
                    while count - at >= len(size):
                        multiply_windows(
                            kind,
                            outputs,
                            size,
                            products,
                            step,
                            near,
                            inputs + at * step["x_stride"],
                            weights,
                            index,
                            bias_at,
                            index[starts + tile],
                            index[starts + tile + 1],
                        )
                        sums = waiting + ((tile - first_tile) * step["windows"] + at) * len(outputs) * 4 * LANES
                        collect_windows(
                            outputs,
                            len(size),
                            products,
                            step,
                            near,
                            sums,
                            arena,
                            base + step["out_at"],
                            begin + at,
                            channel,
                            wide,
                            part,
                        )
                        at += len(size)
