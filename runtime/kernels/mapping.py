"""Functions of single numbers, and moves of numbers: what nets have beside convolutions, sums and pools."""

import numpy as np

from runtime.kernels.options import kernel
from runtime.kernels.step import Function
from runtime.kernels.vector import LANES

LEAKY_RELU, PRELU, SIGMOID, HARD_SIGMOID, HARD_SWISH, TANH, SCALE, MUL, SUB = (int(function) for function in Function)
ZERO, HALF, ONE, SIXTH = (np.float32(value) for value in (0, 0.5, 1, 1 / 6))


@kernel
def limit(value, low, high):
    """The value between two limits; NaN stays."""
    if value < low:
        return low
    if value > high:
        return high
    return value


@kernel
def function_of(function, x, y, first, second, alpha, beta):
    """One number; `y` is of another tensor, `first` and `second` are the channel's, `alpha` and `beta` the step's."""
    if function == LEAKY_RELU:
        return x if x > ZERO else alpha * x
    if function == PRELU:
        return x if x > ZERO else first * x
    if function == SIGMOID:
        small = np.float32(np.exp(-abs(x)))
        return (small if x < ZERO else ONE) / (ONE + small)
    if function == HARD_SIGMOID:
        return limit(alpha * x + beta, ZERO, ONE)
    if function == HARD_SWISH:
        return x * limit(SIXTH * x + HALF, ZERO, ONE)
    if function == TANH:
        return np.float32(np.tanh(x))
    if function == SCALE:
        return first * x + second
    if function == MUL:
        return x * y
    return x - y


@kernel
def map_numbers(step, task, base, arena, weights):
    """Vectors of a tensor, each number by itself. Parameters of channels lie as one pixel does."""
    function, alpha, beta = step["function"], step["alpha"], step["beta"]
    pixel, plane = step["x_pixel"], step["h"] * step["w"] * step["x_pixel"]
    by_channel = function in (PRELU, SCALE)
    of_two = function in (MUL, SUB)
    y, first, second = ZERO, ZERO, ZERO
    for i in range(task * step["rows_per_task"], min(step["tiles"], (task + 1) * step["rows_per_task"])):
        at = i * LANES
        in_pixel = at // plane * pixel + at % pixel
        for lane in range(LANES):
            x = arena[base + step["x_at"] + at + lane]
            if by_channel:
                first = weights[step["weights_at"] + in_pixel + lane]
                second = weights[step["bias_at"] + in_pixel + lane]
            if of_two:
                y = arena[base + step["residual_at"] + (in_pixel if step["one_pixel"] else at) + lane]
            value = function_of(function, x, y, first, second, alpha, beta)
            arena[base + step["out_at"] + at + lane] = limit(value, step["low"], step["high"])


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
