"""Functions of single numbers as layers of their own."""

from runtime.kernels.functions import DIV, MUL, PRELU, SCALE, SINGLE, SUB, ZERO, function_tile
from runtime.kernels.options import kernel
from runtime.kernels.vector import (
    LANES,
    add_tile,
    clamp_tile,
    div_tile,
    fill_tile,
    load_tile,
    mul_tile,
    store_tile,
    sub_tile,
)


@kernel
def map_numbers(step, task, base, arena, weights):
    """Vectors of a tensor, each number by itself. Parameters of channels lie as one pixel does."""
    function, alpha, beta, low, high = step["function"], step["alpha"], step["beta"], step["low"], step["high"]
    pixel, plane = step["x_pixel"], step["h"] * step["w"] * step["x_pixel"]
    by_channel, of_two, one_pixel = function in (PRELU, SCALE), function in (MUL, SUB, DIV), step["one_pixel"] != 0
    x_at, other_at, out_at = base + step["x_at"], base + step["residual_at"], base + step["out_at"]
    first = task * step["rows_per_task"] * LANES
    last = min(step["tiles"] * LANES, first + step["rows_per_task"] * LANES)
    block, inside, end = first // plane * pixel, first % pixel, (first // plane + 1) * plane
    slope = fill_tile(ZERO, SINGLE, SINGLE)
    for at in range(first, last, LANES):
        if inside == pixel:
            inside = 0
            if at == end:
                block += pixel
                end += plane
        x = load_tile(arena, x_at + at, 0, 0, SINGLE, SINGLE)
        if by_channel:
            slope = load_tile(weights, step["slope_at"] + block + inside, 0, 0, SINGLE, SINGLE)
        if of_two:
            other = load_tile(arena, other_at + (block + inside if one_pixel else at), 0, 0, SINGLE, SINGLE)
            if function == MUL:
                y = mul_tile(x, other)
            elif function == SUB:
                y = sub_tile(x, other)
            else:
                y = div_tile(x, other)
        elif function == SCALE:
            y = mul_tile(slope, x)
            y = add_tile(y, load_tile(weights, step["bias_at"] + block + inside, 0, 0, SINGLE, SINGLE))
        else:
            y = function_tile(function, x, slope, alpha, beta)
        store_tile(clamp_tile(y, low, high), arena, out_at + at, 0, 0, SINGLE, SINGLE)
        inside += LANES
