"""Functions of single numbers, on tiles: by themselves, or of what a convolution has just stored.

Exponentials are Taylor's series after a division by powers of two, without a table and without a branch.
"""

import math
from typing import Any

import numpy as np
from llvmlite import ir

from runtime.kernels.options import inlined_kernel, kernel
from runtime.kernels.part import part_of
from runtime.kernels.step import NO_FUNCTION, Function
from runtime.kernels.vector import (
    F32,
    I32,
    LANES,
    VEC,
    add_tile,
    clamp_tile,
    fill_tile,
    fma_function,
    load_tile,
    map_tiles,
    marker,
    mul_tile,
    primitive,
    scale_tile,
    store_tile,
)

LEAKY_RELU, PRELU, SIGMOID, HARD_SIGMOID, HARD_SWISH, TANH, SCALE, MUL, SUB, DIV, SWISH = (int(f) for f in Function)
ZERO, HALF, ONE, SIXTH = (np.float32(value) for value in (0, 0.5, 1, 1 / 6))
SINGLE = marker(1)

INTEGERS = ir.VectorType(I32, LANES)
LOG2_E = 1 / math.log(2)
LN2_HIGH = 0.693359375  # 9 bits: its products with integers up to 2**14 are exact
LN2_LOW = math.log(2) - LN2_HIGH
ROUNDER = 1.5 * 2.0**23  # a number plus this has its nearest integer in the last bits
ROUNDER_BITS = int(np.float32(ROUNDER).view(np.int32))
EXPONENT_BIAS, MANTISSA_BITS = 127, 23
TERMS = 7  # of the series: what is left out is 5e-9 of the result, for |r| <= ln(2) / 2
LEAST_EXPONENT = -87.0  # of e, for the last normal float32; beyond, 1 plus the power is 1
LARGEST_EXPONENT = 88.3  # of e, by a power of two that float32 holds
TANH_EXPONENT = -40.0  # of e, twice the number; beyond, tanh is 1 to the last bit


# --- twins -----------------------------------------------------------------------------------------------------------


def _leaky_tile(tile, slope):
    return tuple(np.where(a > 0, a, s * a) for a, s in zip(tile, slope, strict=True))


def _sigmoid(x):
    small = np.exp(-abs(x))
    return np.where(x < 0, small, np.float32(1)) / (1 + small)


def _sigmoid_tile(tile):
    return tuple(_sigmoid(v) for v in tile)


def _tanh_tile(tile):
    return tuple(np.tanh(v) for v in tile)


# --- generated code --------------------------------------------------------------------------------------------------


def constant(value: float) -> Any:
    """A float32 in every lane."""
    return ir.Constant(VEC, [ir.Constant(F32, float(np.float32(value)))] * LANES)


def integer(value: int) -> Any:
    """An int32 in every lane."""
    return ir.Constant(INTEGERS, [value] * LANES)


def absolute(b: Any, x: Any) -> Any:
    """|x|, of NaN with its sign cleared."""
    return b.bitcast(b.and_(b.bitcast(x, INTEGERS), integer(0x7FFFFFFF)), VEC)


def exponential(b: Any, t: Any) -> tuple[Any, Any]:
    """(q, n) with e**t = (1 + q) * 2**n and |q| < .42; q is right to its own last bits; NaN stays in q.

    t : between LEAST_EXPONENT and LARGEST_EXPONENT, or NaN; n is anything beyond
    """
    fma = fma_function(b)
    rounded = b.call(fma, [t, constant(LOG2_E), constant(ROUNDER)])
    n = b.sub(b.bitcast(rounded, INTEGERS), integer(ROUNDER_BITS))
    n_float = b.fsub(rounded, constant(ROUNDER))
    r = b.call(fma, [n_float, constant(-LN2_HIGH), t])
    r = b.call(fma, [n_float, constant(-LN2_LOW), r])
    series = constant(1 / math.factorial(TERMS))
    for k in range(TERMS - 1, 1, -1):
        series = b.call(fma, [series, r, constant(1 / math.factorial(k))])
    return b.call(fma, [b.fmul(series, r), r, r]), n


def power_of_two(b: Any, n: Any) -> Any:
    """2**n, -126 <= n <= 127."""
    return b.bitcast(b.shl(b.add(n, integer(EXPONENT_BIAS)), integer(MANTISSA_BITS)), VEC)


def at_least(b: Any, x: Any, low: float) -> Any:
    """The larger of the two; NaN stays."""
    return b.select(b.fcmp_ordered("<", x, constant(low)), constant(low), x)


def sigmoid_code(b: Any, x: Any) -> Any:
    """1 / (1 + e**-x); 0 where it is below 5e-39."""
    one = constant(1)
    q, n = exponential(b, at_least(b, b.fneg(x), LEAST_EXPONENT))
    power = power_of_two(b, n)
    power = b.call(fma_function(b), [q, power, power])
    beyond = b.fcmp_ordered("<", x, constant(-LARGEST_EXPONENT))
    return b.fdiv(one, b.fadd(one, b.select(beyond, constant(math.inf), power)))


def tanh_code(b: Any, x: Any) -> Any:
    """tanh |x| = -m / (2 + m) with m = e**(-2 |x|) - 1, which keeps the last bits of a small x; then the sign of x."""
    t = at_least(b, b.fmul(constant(-2), absolute(b, x)), TANH_EXPONENT)
    q, n = exponential(b, t)
    power = power_of_two(b, n)
    m = b.call(fma_function(b), [q, power, b.fsub(power, constant(1))])
    size = b.fdiv(b.fneg(m), b.fadd(constant(2), m))
    sign = b.and_(b.bitcast(x, INTEGERS), integer(-(2**31)))
    return b.bitcast(b.or_(b.bitcast(absolute(b, size), INTEGERS), sign), VEC)


@primitive(_leaky_tile)
def leaky_tile(typing, tile, slope):
    """Each value, times its slope where it is not above zero; NaN stays."""

    def leaky(b, x, s):
        return b.select(b.fcmp_ordered(">", x, constant(0)), x, b.fmul(s, x))

    return tile(tile, tile), map_tiles(len(tile), leaky)


@primitive(_sigmoid_tile)
def sigmoid_tile(typing, tile):
    """1 / (1 + e**-x) of each value, within 3 units in the last place; 0 where it is below 5e-39; NaN stays."""
    return tile(tile), map_tiles(len(tile), sigmoid_code)


@primitive(_tanh_tile)
def tanh_tile(typing, tile):
    """The hyperbolic tangent of each value, within 3 units in the last place; NaN stays."""
    return tile(tile), map_tiles(len(tile), tanh_code)


# --- kernels ---------------------------------------------------------------------------------------------------------


@inlined_kernel
def function_tile(function, x, slope, alpha, beta):
    """A function of one number each; `slope` is a tile of the channels' own, read by PRELU alone."""
    if function == LEAKY_RELU:
        return leaky_tile(x, fill_tile(alpha, SINGLE, SINGLE))
    if function == PRELU:
        return leaky_tile(x, slope)
    if function == SIGMOID:
        return sigmoid_tile(x)
    if function == SWISH:
        return mul_tile(x, sigmoid_tile(x))
    if function == TANH:
        return tanh_tile(x)
    if function == HARD_SIGMOID:
        line = add_tile(scale_tile(x, alpha), fill_tile(beta, SINGLE, SINGLE))
        return clamp_tile(line, ZERO, ONE)
    line = add_tile(scale_tile(x, SIXTH), fill_tile(HALF, SINGLE, SINGLE))
    return mul_tile(x, clamp_tile(line, ZERO, ONE))


@kernel
def finish(step, task, base, arena, weights):
    """The function that ends a convolution, if one does, and its limits, of the numbers that a task has stored.

    Not of a register tile's sums: that would be a copy of every function for tiles of every size, and tiles slower by a
    tenth in nets that have none.
    """
    if step["function"] == NO_FUNCTION:
        return
    function, alpha, beta, low, high = (
        step["function"],
        step["alpha"],
        step["beta"],
        step["last_low"],
        step["last_high"],
    )
    first, last_tile, first_oy, last_oy = part_of(step, task)
    last = last_tile * step["tile_channels"]
    block, lanes, ow, out_pixel = step["out_block"], step["lanes"], step["ow"], step["out_pixel"]
    channel, slope = first * step["tile_channels"], fill_tile(ZERO, SINGLE, SINGLE)
    while channel < last:
        number, inside = channel // block, channel % block
        numbers = (min(last - channel, block - inside)) * lanes
        slopes_at = step["slope_at"] + number * out_pixel + inside * lanes
        plane = base + step["out_at"] + number * step["oh"] * ow * out_pixel + inside * lanes
        for pixel in range(first_oy * ow, last_oy * ow):
            out_at = plane + pixel * out_pixel
            for i in range(0, numbers, LANES):
                if function == PRELU:
                    slope = load_tile(weights, slopes_at + i, 0, 0, SINGLE, SINGLE)
                x = load_tile(arena, out_at + i, 0, 0, SINGLE, SINGLE)
                y = clamp_tile(function_tile(function, x, slope, alpha, beta), low, high)
                store_tile(y, arena, out_at + i, 0, 0, SINGLE, SINGLE)
        channel += block - inside
