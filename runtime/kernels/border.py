"""Copies between the users' arrays, whatever their strides, and a layout.

Images in the lanes of a layout lie far apart in a user's array, and so do the channels of one image in an NCHW array:
there squares of numbers are turned, LANES of them side by side in the user's array by LANES images or channels.
"""

from collections.abc import Callable

from numba import carray

from runtime.kernels.address import floats_at
from runtime.kernels.machine import LANES
from runtime.kernels.options import kernel
from runtime.kernels.squares import load_square, store_square, turn
from runtime.kernels.vector import load_tile, marker, store_tile

ENDLESS = 1 << 40  # longer than any walk
ONE = marker(1)


@kernel
def copy_vectors(read, source, written, target, count):
    """At least LANES numbers that lie side by side on both sides."""
    for i in range(0, count, LANES):
        here = min(i, count - LANES)
        store_tile(load_tile(read, source + here, 0, 0, ONE, ONE), written, target + here, 0, 0, ONE, ONE)


@kernel
def read_line(user, user_at, along, apart, rows, width, arena, at, run, inner, outer, length):
    """Number q of the line and row r, user[user_at + q*along + r*apart], goes to lane r of place q: a walk from `at`.

    There are so many `rows`; lanes beyond them, up to `width`, get the last row again.
    """
    if along == 1 and width == LANES and length >= LANES:
        for q in range(0, length, LANES):
            here = min(q, length - LANES)
            square = load_square(user, user_at + here, 0, rows - 1, ENDLESS, apart, 0)
            store_square(turn(square), arena, at, here, ENDLESS, run, inner, outer)
        return
    for begin in range(0, length, run):
        source, target, count = user_at + begin * along, at + begin // run * outer, min(run, length - begin)
        if width == 1 and along == 1 and count >= LANES:
            copy_vectors(user, source, arena, target, count)
        else:
            for r in range(width):
                for i in range(count):
                    arena[target + i * inner + r] = user[source + i * along + min(r, rows - 1) * apart]


@kernel
def write_line(user, user_at, along, apart, rows, width, arena, at, run, inner, outer, length):
    """As `read_line`, from the layout to the user; lanes beyond the rows are left out."""
    if along == 1 and width == LANES and length >= LANES:
        for q in range(0, length, LANES):
            here = min(q, length - LANES)
            square = load_square(arena, at, here, ENDLESS, run, inner, outer)
            store_square(turn(square), user, user_at + here, 0, rows - 1, ENDLESS, apart, 0)
        return
    for begin in range(0, length, run):
        source, target, count = at + begin // run * outer, user_at + begin * along, min(run, length - begin)
        if width == 1 and along == 1 and count >= LANES:
            copy_vectors(arena, source, user, target, count)
        else:
            for r in range(rows):
                for i in range(count):
                    user[target + i * along + r * apart] = arena[source + i * inner + r]


def _border(copy_line: Callable, place: str) -> Callable:
    """A kernel that takes a task's rows through `copy_line`, the layout's numbers being at the step's `place`."""

    @kernel
    def copy_images(step, task, base, first, count, arena):
        user = carray(floats_at(step["user_address"]), step["user_size"])
        h, w, c, lanes, block, pixel = step["h"], step["w"], step["c"], step["lanes"], step["x_block"], step["x_pixel"]
        image, user_pixel, channel = step["user_image"], step["user_pixel"], step["user_channel"]
        first_row, plane = task * step["rows_per_task"], h * w * pixel
        last_row = min(h, first_row + step["rows_per_task"])
        together = last_row - first_row if step["user_row"] == w * user_pixel else 1  # rows that the user has as one
        pixels = together * w
        one_image, apart, width = lanes == 1, image, min(lanes, LANES)
        by_channel = user_pixel == 1 and channel != 1
        if by_channel:  # a line of pixels for each channel, or for LANES channels of one image
            lines, user_line, group, near, far = c, channel, block, lanes, plane
            along, run, inner, outer, length = 1, pixels, pixel, 0, pixels
            if one_image:
                apart, width = channel, min(LANES, pixel)
        elif c <= block and user_pixel == c * channel:  # all pixels are one line
            lines, user_line, group, near, far = 1, 0, 1, 0, 0
            along, run, inner, outer, length = channel, c, lanes, pixel, pixels * c
            if one_image and pixel == c:
                run = length
        else:  # a line of channels for each pixel
            lines, user_line, group, near, far = pixels, user_pixel, pixels, pixel, 0
            along, run, inner, outer, length = channel, block, lanes, plane, c
        for y in range(first_row, last_row, together):
            for some in range(0, count, LANES):
                user_at = step["user_at"] + (first + some) * image + y * step["user_row"]
                at = base + step[place] + y * w * pixel + some
                for n in range(0, lines, LANES if by_channel and one_image else 1):
                    rows = min(LANES, c - n if by_channel and one_image else count - some)
                    here = at + n // group * far + n % group * near
                    copy_line(
                        user, user_at + n * user_line, along, apart, rows, width, arena, here, run, inner, outer, length
                    )

    return copy_images


import_images = _border(read_line, "out_at")
export_images = _border(write_line, "x_at")
