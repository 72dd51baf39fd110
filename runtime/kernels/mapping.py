"""Functions of single numbers, and moves of numbers: what nets have beside convolutions, sums and pools."""

from runtime.kernels.functions import (
    MUL,
    PRELU,
    SCALE,
    SINGLE,
    SUB,
    ZERO,
    fill_tile,
    function_tile,
    mul_tile,
    sub_tile,
)
from runtime.kernels.options import kernel
from runtime.kernels.vector import LANES, add_tile, clamp_tile, load_tile, store_tile


@kernel
def map_numbers(step, task, base, arena, weights):
    """Vectors of a tensor, each number by itself. Parameters of channels lie as one pixel does."""
    function, alpha, beta, low, high = step["function"], step["alpha"], step["beta"], step["low"], step["high"]
    pixel, plane = step["x_pixel"], step["h"] * step["w"] * step["x_pixel"]
    by_channel, of_two, one_pixel = function in (PRELU, SCALE), function in (MUL, SUB), step["one_pixel"] != 0
    x_at, other_at, out_at = base + step["x_at"], base + step["residual_at"], base + step["out_at"]
    for i in range(task * step["rows_per_task"], min(step["tiles"], (task + 1) * step["rows_per_task"])):
        at = i * LANES
        in_pixel = at // plane * pixel + at % pixel if by_channel or one_pixel else 0
        x = load_tile(arena, x_at + at, 0, 0, SINGLE, SINGLE)
        slope = fill_tile(ZERO, SINGLE, SINGLE)
        if by_channel:
            slope = load_tile(weights, step["slope_at"] + in_pixel, 0, 0, SINGLE, SINGLE)
        if of_two:
            other = load_tile(arena, other_at + (in_pixel if one_pixel else at), 0, 0, SINGLE, SINGLE)
            y = mul_tile(x, other) if function == MUL else sub_tile(x, other)
        elif function == SCALE:
            y = mul_tile(slope, x)
            y = add_tile(y, load_tile(weights, step["bias_at"] + in_pixel, 0, 0, SINGLE, SINGLE))
        else:
            y = function_tile(function, x, slope, alpha, beta)
        store_tile(clamp_tile(y, low, high), arena, out_at + at, 0, 0, SINGLE, SINGLE)


@kernel
def gather_part(step, p, begin, count, source, target, row, channels_at, arena, index):
    """Channels begin..begin+count-1 of output pixel p, each from its place beyond `source + row`, or the step's alpha
    where pixel or channel has none.
    """
    lanes, block, pixels = step["lanes"], step["out_block"], step["oh"] * step["ow"]
    for i in range(count):
        co = begin + i
        out_at = target + (co // block * pixels + p) * step["out_pixel"] + co % block * lanes
        column = index[channels_at + i]
        missing = row < 0 or column < 0
        for lane in range(lanes):
            arena[out_at + lane] = step["alpha"] if missing else arena[source + row + column + lane]


@kernel
def gather(step, task, base, arena, index):
    """Output pixels of a move: their places in x, and in another tensor whose channels follow those of x."""
    target = base + step["out_at"]
    for p in range(task * step["rows_per_task"], min(step["tiles"], (task + 1) * step["rows_per_task"])):
        row = index[step["pixels_at"] + p]
        columns = step["channels_at"] + p * step["channels_step"]
        gather_part(step, p, 0, step["channels"], base + step["x_at"], target, row, columns, arena, index)
        if step["other_channels"] > 0:
            other, row = base + step["residual_at"], index[step["other_pixels_at"] + p]
            begin, columns = step["channels"], step["other_channels_at"]
            gather_part(step, p, begin, step["other_channels"], other, target, row, columns, arena, index)
