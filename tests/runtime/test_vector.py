"""The vector primitives, compiled and as NumPy twins, against loops over single numbers; and their generated code."""

import re
from types import FunctionType

import numba
import numpy as np
import pytest
from numba import types

from runtime.kernels import atomic, conv, functions, multiply, squares, vector, whole, winograd
from runtime.kernels import pixels as pixels_kernel
from runtime.kernels.functions import leaky_tile, sigmoid_tile, tanh_tile
from runtime.kernels.machine import AVX2, AVX512, LANES, MACHINE
from runtime.kernels.multiply import fma_rect, fma_rows
from runtime.kernels.options import OPTIONS
from runtime.kernels.registry import REGISTRY
from runtime.kernels.squares import keep_marked, load_places, load_square, store_square, turn
from runtime.kernels.step import STEP, Kernel
from runtime.kernels.vector import (
    CHANNELS,
    COMPILED,
    DEPTHWISE,
    IMAGES,
    NEAR_SIZE,
    PATCH,
    add_tile,
    bias_tile,
    clamp_tile,
    div_tile,
    fill_tile,
    load_tile,
    marker,
    max_tile,
    mul_tile,
    near_memory,
    scale_tile,
    stack_places,
    store_tile,
    sub_tile,
)
from tests.runtime.nets import needs_compiled
from tests.tolerances import assert_exact, assert_identical

APART = LANES + 2  # from output to output of a pixel
OUT_AT, OUT_STRIDE = 3, 7 * APART + 1  # odd, so that nothing is aligned
SHAPES = [(1, 1), (2, 1), (3, 2), (4, 3)]  # pixels, outputs: the smaller ones run in several chains
KINDS = {"images": IMAGES, "channels": CHANNELS, "depthwise": DEPTHWISE, "patch": PATCH}
TWINS = {
    f"{name}_tile": getattr(vector, f"_{name}_tile")
    for name in ("bias", "load", "store", "clamp", "max", "add", "fill", "mul", "sub", "div")
}
TWINS |= {
    "scale_tile": vector._scale_tile,
    "fma_rows": multiply._fma_rows,
    "fma_rect": multiply._fma_rect,
    "turn": squares._turn,
}
TWINS |= {"load_square": squares._load_square, "store_square": squares._store_square}
TWINS |= {"load_places": squares._load_places, "keep_marked": squares._keep_marked}
TWINS |= {"near_memory": vector._stack(NEAR_SIZE), "stack_places": vector._stack(LANES, np.int64(-1))}
TWINS |= {f"{name}_tile": getattr(functions, f"_{name}_tile") for name in ("leaky", "sigmoid", "tanh")}


# Programs of the primitives: each ends in a store, so the result can be seen.


def copy(array, at, stride, pixels, outputs, out):
    store_tile(load_tile(array, at, stride, LANES, pixels, outputs), out, OUT_AT, OUT_STRIDE, APART, pixels, outputs)


def bias(kind, array, at, pixels, outputs, out):
    store_tile(bias_tile(kind, array, at, pixels, outputs), out, OUT_AT, OUT_STRIDE, APART, pixels, outputs)


def products(kind, x, x_at, x_stride, rows, first, last, w, w_at, pixels, outputs, lead, tail, out):
    acc = load_tile(out, OUT_AT, OUT_STRIDE, APART, pixels, outputs)
    acc = fma_rows(kind, acc, x, x_at, x_stride, rows, first, last, w, w_at, pixels, outputs, lead, tail)
    store_tile(acc, out, OUT_AT, OUT_STRIDE, APART, pixels, outputs)


def products_in_rect(
    x, x_at, x_row, x_stride, rows, first, last, w, w_at, high, wide, top, bottom, left, right, pixels, out
):
    acc = load_tile(out, OUT_AT, OUT_STRIDE, 0, pixels, (0,))
    acc = fma_rect(acc, x, x_at, x_row, x_stride, rows, first, last, w, w_at, high, wide, top, bottom, left, right)
    store_tile(acc, out, OUT_AT, OUT_STRIDE, 0, pixels, (0,))


def clamp(array, low, high, pixels, outputs, out):
    acc = clamp_tile(load_tile(array, 0, OUT_STRIDE, APART, pixels, outputs), low, high)
    store_tile(acc, out, OUT_AT, OUT_STRIDE, APART, pixels, outputs)


def scale(array, factor, pixels, outputs, out):
    acc = scale_tile(load_tile(array, 0, OUT_STRIDE, APART, pixels, outputs), factor)
    store_tile(acc, out, OUT_AT, OUT_STRIDE, APART, pixels, outputs)


def larger(array, other, pixels, outputs, out):
    acc = max_tile(
        load_tile(array, 0, OUT_STRIDE, APART, pixels, outputs), load_tile(other, 0, OUT_STRIDE, APART, pixels, outputs)
    )
    store_tile(acc, out, OUT_AT, OUT_STRIDE, APART, pixels, outputs)


def total(array, other, pixels, outputs, out):
    acc = add_tile(
        load_tile(array, 0, OUT_STRIDE, APART, pixels, outputs), load_tile(other, 0, OUT_STRIDE, APART, pixels, outputs)
    )
    store_tile(acc, out, OUT_AT, OUT_STRIDE, APART, pixels, outputs)


def combined(which, array, other, pixels, outputs, out):
    x = load_tile(array, 0, OUT_STRIDE, APART, pixels, outputs)
    y = load_tile(other, 0, OUT_STRIDE, APART, pixels, outputs)
    if which == 0:
        acc = mul_tile(x, y)
    elif which == 1:
        acc = sub_tile(x, y)
    elif which == 2:
        acc = leaky_tile(x, y)
    elif which == 3:
        acc = div_tile(x, y)
    else:
        acc = fill_tile(other[0], pixels, outputs)
    store_tile(acc, out, OUT_AT, OUT_STRIDE, APART, pixels, outputs)


def curved(hyperbolic, array, out):
    for i in range(0, len(array), LANES):
        x = load_tile(array, i, 0, 0, (0,), (0,))
        store_tile(tanh_tile(x) if hyperbolic else sigmoid_tile(x), out, i, 0, 0, (0,), (0,))


def turned(array, at, first, last, run, inner, outer, out):
    store_square(turn(load_square(array, at, first, last, run, inner, outer)), out, OUT_AT, 0, LANES, LANES, APART, 0)


def placed(array, at, out, first, last, run, inner, outer):
    store_square(load_square(array, at, 0, LANES, LANES, LANES, 0), out, OUT_AT, first, last, run, inner, outer)


def gathered(array, at, wanted, marks, out):
    where = stack_places()
    for n in range(len(wanted)):
        where[n] = wanted[n]
    square = keep_marked(load_places(array, at, where), load_tile(marks, 0, 0, 0, (0,), (0,)))
    store_square(square, out, OUT_AT, 0, LANES, LANES, APART, 0)


def stack(places, values, out):
    near = near_memory()
    for n in range(len(places)):
        near[places[n]] = values[n]
    for n in range(len(places)):
        out[n] = near[places[n]]
    out[len(places)] = len(near)


compiled_programs = {}


@pytest.fixture(params=["twin", pytest.param("compiled", marks=needs_compiled)])
def program(request):
    """Makes a program runnable: with the twins in the primitives' places, or compiled."""

    def twin(function):
        return FunctionType(function.__code__, {**globals(), **TWINS})

    def compiled(function):
        if function not in compiled_programs:
            compiled_programs[function] = numba.njit(**OPTIONS)(function)
        return compiled_programs[function]

    return twin if request.param == "twin" else compiled


def integers(seed, size):
    return np.random.default_rng(seed).integers(-4, 5, size).astype(np.float32)


def places(pixels, outputs):
    """(pixel, output, lane, where in `out`) of each number of a tile."""
    for p in range(pixels):
        for o in range(outputs):
            for lane in range(LANES):
                yield p, o, lane, OUT_AT + p * OUT_STRIDE + o * APART + lane


def out_array(pixels, fill=np.nan):
    return np.full(OUT_AT + pixels * OUT_STRIDE + 5, fill, np.float32)


@pytest.mark.parametrize("shape", SHAPES)
def test_loads_and_stores(program, shape):
    pixels, outputs = shape
    array, stride, at = integers(0, 2000), 61, 5
    out = out_array(pixels)
    want = out.copy()
    for p, o, lane, place in places(*shape):
        want[place] = array[at + p * stride + o * LANES + lane]
    program(copy)(array, at, stride, marker(pixels), marker(outputs), out)
    assert_identical(out, want)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", SHAPES)
def test_bias(program, shape, kind):
    array, at = integers(1, 500), 9
    out = out_array(shape[0])
    want = out.copy()
    for _, o, lane, place in places(*shape):
        want[place] = array[at + {"images": o, "patch": 0}.get(kind, o * LANES + lane)]
    program(bias)(KINDS[kind], array, at, marker(shape[0]), marker(shape[1]), out)
    assert_identical(out, want)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", SHAPES)
def test_multiplies_and_adds_rows_but_for_the_first_and_last_pixels(program, shape, kind):
    for left_out in ((0, 0), (1, 0), (0, 1), (1, 1), (shape[0], 0)):
        for count in (0, 1, 7, 8, 9, 17) if left_out == (0, 0) else (9,):
            check_products(program, shape, kind, count, left_out)


def check_products(program, shape, kind, count, left_out):
    (pixels, outputs), (lead, tail) = shape, left_out
    stride, x_at, w_at, first = 3 * LANES + 1, 11, 13, 2
    x, w = integers(2, 300 + pixels * stride), integers(3, 17 * 3 * LANES + 50)
    rows = np.random.default_rng(4).integers(-x_at, 150, first + count + 1).astype(np.int32)
    out = out_array(pixels, fill=2)
    want = out.astype(np.float64)
    row_size = {"images": outputs, "patch": 1}.get(kind, outputs * LANES)
    for p, o, lane, place in places(*shape):
        for r in range(first, first + count) if lead <= p < pixels - tail else ():
            here, row = x_at + int(rows[r]) + p * stride, w_at + (r - first) * row_size
            x_value = x[here + {"channels": 0, "images": lane}.get(kind, o * LANES + lane)]
            want[place] += x_value * w[row + {"images": o, "patch": 0}.get(kind, o * LANES + lane)]
    markers = map(marker, (pixels, outputs, lead, tail))
    program(products)(KINDS[kind], x, x_at, stride, rows, first, first + count, w, w_at, *markers, out)
    assert_exact(out, want, np.float32)


SPECIAL = np.array([-np.inf, -2, -1, -0.0, 0.0, 0.5, 1, 2, np.inf, np.nan], np.float32)


def tiles_of(values, other):
    """Two arrays in which each of `values` meets each of `other`, laid out for one tile of 4 pixels and 7 outputs."""
    a, b = (part.reshape(-1) for part in np.meshgrid(values, other))
    arrays = np.zeros((2, 4 * OUT_STRIDE + LANES), np.float32)
    for n, (_, _, _, place) in enumerate(places(4, 7)):
        arrays[:, place - OUT_AT] = a[n % a.size], b[n % b.size]
    return arrays


def seen(out):
    return np.array([out[place] for *_, place in places(4, 7)])


@pytest.mark.parametrize("limits", [(0.0, np.inf), (-np.inf, np.inf), (-1.0, 1.0), (0.0, 6.0)])
def test_clamps_and_keeps_nan(program, limits):
    array = tiles_of(SPECIAL, SPECIAL)[0]
    out = out_array(4)
    program(clamp)(array, np.float32(limits[0]), np.float32(limits[1]), marker(4), marker(7), out)
    given = seen(np.r_[np.zeros(OUT_AT, np.float32), array])
    want = np.array([v if np.isnan(v) else min(max(v, limits[0]), limits[1]) for v in given], np.float32)
    np.testing.assert_array_equal(seen(out), want)


def test_the_larger_of_two_is_nan_if_either_is(program):
    array, other = tiles_of(SPECIAL, SPECIAL)
    out = out_array(4)
    program(larger)(array, other, marker(4), marker(7), out)
    given, against = (seen(np.r_[np.zeros(OUT_AT, np.float32), part]) for part in (array, other))
    assert (np.isnan(given) & ~np.isnan(against)).any()
    assert (~np.isnan(given) & np.isnan(against)).any()
    np.testing.assert_array_equal(seen(out), np.maximum(given, against))


def test_adds_and_scales(program):
    array, other = tiles_of(SPECIAL[1:8], SPECIAL[1:8])
    out = out_array(4)
    given, against = (seen(np.r_[np.zeros(OUT_AT, np.float32), part]) for part in (array, other))
    program(total)(array, other, marker(4), marker(7), out)
    assert_exact(seen(out), given + against)
    program(scale)(array, np.float32(0.25), marker(4), marker(7), out)
    assert_exact(seen(out), given * np.float32(0.25))


def test_gathers_vectors_and_keeps_the_marked_lanes(program):
    array, at, rng = integers(7, 400), 9, np.random.default_rng(8)
    wanted, marks = rng.integers(-at, 400 - at - LANES, LANES), rng.integers(0, 2, LANES).astype(np.float32)
    array[at + wanted[0] + int(np.argmin(marks))] = np.nan  # not even times zero
    out = np.full(OUT_AT + LANES * APART, np.nan, np.float32)
    program(gathered)(array, at, wanted, marks, out)
    for n in range(LANES):
        here, whole = OUT_AT + n * APART, array[at + wanted[n] :][:LANES]
        assert_identical(out[here : here + LANES], np.where(marks != 0, whole, np.float32(0)))


def test_near_memory_keeps_what_is_written(program):
    places = np.array([0, 1, LANES, NEAR_SIZE - 1])
    values, out = integers(6, 4), np.zeros(5, np.float32)
    program(stack)(places, values, out)
    assert_identical(out, np.r_[values, np.float32(NEAR_SIZE)])


@pytest.mark.parametrize("at", [-1, 200 - LANES + 1, 10**6])
def test_a_twin_refuses_what_lies_outside(at):
    array, one = np.zeros(200, np.float32), marker(1)
    tile = (np.zeros(LANES, np.float32),)
    with pytest.raises(IndexError):
        vector._load_tile(array, at, 0, 0, one, one)
    with pytest.raises(IndexError):
        vector._store_tile(tile, array, at, 0, 0, one, one)
    with pytest.raises(IndexError):
        vector._bias_tile(CHANNELS, array, at, one, one)
    with pytest.raises(IndexError):
        squares._load_places(array, at, np.zeros(LANES, np.int64))
    rows = np.zeros(1, np.int32)
    with pytest.raises(IndexError):
        multiply._fma_rows(IMAGES, tile, array, at, 0, rows, 0, 1, array, 0, one, one, (), ())
    with pytest.raises(IndexError):
        multiply._fma_rows(DEPTHWISE, tile, array, 0, 0, rows, 0, 1, array, at, one, one, (), ())


@pytest.mark.parametrize(
    "names", [("_fetch_add", "_load_acquire"), pytest.param(("fetch_add", "load_acquire"), marks=needs_compiled)]
)
def test_atomic_counters(names):
    fetch_add, load_acquire = (getattr(atomic, name) for name in names)

    def count(counters):
        before = fetch_add(counters, 1, 5)
        return before, load_acquire(counters, 1)

    counters = np.array([1, 10, 3], np.int64)
    assert (numba.njit(count) if "fetch_add" in names else count)(counters) == (10, 15)
    assert counters.tolist() == [1, 15, 3]


COMBINED = [
    lambda x, y: x * y,
    lambda x, y: x - y,
    lambda x, y: np.where(x > 0, x, x * y),
    lambda x, y: x / y,
    lambda x, y: y,
]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("which", range(len(COMBINED)))
def test_products_differences_slopes_quotients_and_fills(program, shape, which):
    array, other = (integers(seed, 2000) for seed in (1, 2))
    array[:4] = -np.inf, np.nan, -0.0, np.inf
    out = out_array(shape[0])
    want = out.copy()
    for p, o, lane, place in places(*shape):
        at = p * OUT_STRIDE + o * APART + lane
        with np.errstate(divide="ignore", invalid="ignore"):
            want[place] = COMBINED[which](array[at], other[0] if which == 4 else other[at])
    program(combined)(which, array, other, *map(marker, shape), out)
    assert_identical(out, want)


# Numbers of every size and sign, those at which results are denormal or 0, and those around 0.
STEEP = np.concatenate(
    [scale * np.random.default_rng(9).standard_normal(64 * LANES) for scale in 10.0 ** np.arange(-40, 3)]
    + [np.linspace(-110, 110, 512 * LANES)]
).astype(np.float32)
ULPS = 3
NOTHING = 5e-39  # below which a sigmoid may be 0


@pytest.mark.parametrize("hyperbolic", [False, True])
def test_curves_are_within_three_units_in_the_last_place(program, hyperbolic):
    out = np.full_like(STEEP, np.nan)
    program(curved)(hyperbolic, STEEP, out)
    x = STEEP.astype(np.float64)
    want = np.tanh(x) if hyperbolic else np.where(x < 0, np.exp(np.minimum(x, 0)), 1) / (1 + np.exp(-abs(x)))
    close = abs(out - want) <= ULPS * np.spacing(abs(want).astype(np.float32))
    assert np.all(close if hyperbolic else close | (out == 0) & (want < NOTHING))


@pytest.mark.parametrize(("hyperbolic", "want"), [(False, [0.5, 0.5, 1, 0, 1, 0]), (True, [0, -0.0, 1, -1, 1, -1])])
def test_curves_at_zero_infinity_nan_and_beyond(program, hyperbolic, want):
    x = np.zeros(2 * LANES, np.float32)
    x[:7] = 0, -0.0, np.inf, -np.inf, 1e30, -1e30, np.nan
    out = np.full_like(x, 7)
    program(curved)(hyperbolic, x, out)
    assert_identical(out[:6], np.array(want, np.float32))
    assert np.isnan(out[6])


@pytest.mark.parametrize("cut", [(0, 0, 0, 0), (1, 0, 0, 1), (0, 1, 1, 0), (0, 0, 1, 1), (2, 0, 0, 0)])
@pytest.mark.parametrize("count", [0, 1, 7, 8, 21])
@pytest.mark.parametrize("shape", [(2, 2), (2, 3)])
def test_rows_are_multiplied_into_a_rectangle(program, shape, count, cut):
    high, wide = shape
    x, w, rows = integers(1, 900), integers(2, 2000), np.arange(40, dtype=np.int32)[::-1] * 5 + 3
    x_at, x_row, x_stride, first, w_at = 11, 130, 17, 4, 9
    out = out_array(high * wide, 2)
    want = out.copy()
    for y in range(cut[0], high - cut[1]):
        for p in range(cut[2], wide - cut[3]):
            for r in range(count):
                value = x[x_at + rows[first + r] + y * x_row + p * x_stride]
                place = OUT_AT + (y * wide + p) * OUT_STRIDE
                want[place : place + LANES] += value * w[w_at + r * LANES : w_at + (r + 1) * LANES]
    sizes = map(marker, (*shape, *cut, high * wide))
    program(products_in_rect)(x, x_at, x_row, x_stride, rows, first, first + count, w, w_at, *sizes, out)
    assert_exact(out, want)


# --- The generated code ----------------------------------------------------------------------------------------------

REGISTERS = {AVX512.name: "zmm", AVX2.name: "ymm"}
vector_machine = pytest.mark.skipif(
    not COMPILED or MACHINE.name not in REGISTERS, reason=f"no code for AVX-512 or AVX2 is made here ({MACHINE.name})"
)
CONVS = [entry for entry in REGISTRY.values() if entry.tile is not None]
TILES = [(e.name, n) for e in CONVS for n in e.tile.pixels[: 1 if e.kernel == Kernel.CONV_WHOLE else None]]
WIDE_TILES = [(entry.name, entry.tile.pixels[0]) for entry in CONVS]
TILE_KINDS = {Kernel.CONV_IMAGES: IMAGES, Kernel.CONV_CHANNELS: CHANNELS, Kernel.DEPTHWISE: DEPTHWISE}


def tile_code(entry, pixels):
    """Assembly of one register tile of a registered convolution kernel, compiled anew."""
    record, f32, i32 = numba.typeof(np.zeros(1, STEP)[0]), types.float32[::1], types.int32[::1]
    if entry.kernel == Kernel.CONV_SCATTERED:
        sizes = (numba.typeof(marker(n)) for n in (entry.tile.rows, pixels))
        flags, numbers = [types.boolean] * 2, [types.int64] * 4
        tile = conv.scattered_channels
        signature = (*sizes, record, f32, f32, f32, i32, *flags, *numbers, types.UniTuple(types.int64, 2))
    elif entry.kernel == Kernel.CONV_WHOLE:
        markers = (numba.typeof(marker(n)) for n in (entry.tile.rows * pixels, entry.tile.rows, pixels))
        tile, signature = whole.conv_whole, (*markers, record, types.int64, types.int64, f32, f32, i32)
    elif entry.kernel == Kernel.CONV_WINOGRAD:
        kind = IMAGES if entry.layouts == ("images",) else CHANNELS
        markers = map(numba.typeof, (kind, marker(entry.tile.outputs), marker(pixels)))
        tile, i64 = winograd.multiply_windows, types.int64
        signature = (*markers, i64, record, f32, i64, f32, i32, *[i64] * 3)
    elif entry.kernel == Kernel.CONV_PIXELS:
        markers = map(numba.typeof, (marker(pixels), marker(entry.tile.outputs)))
        tile, signature = pixels_kernel.multiply_pixels, (*markers, record, f32, f32, i32, *[types.int64] * 4)
    else:
        sizes = (marker(n) for n in (pixels * entry.tile.vectors, entry.tile.vectors, entry.tile.outputs))
        markers = map(numba.typeof, (TILE_KINDS[entry.kernel], *sizes))
        tile = conv.conv_tile
        signature = (*markers, record, f32, f32, i32, *[types.int64] * 5, types.boolean, types.boolean)
    fresh = numba.njit(**OPTIONS)(tile.py_func)
    fresh.compile(signature)
    return fresh.inspect_asm(signature)


def inner_loops(assembly):
    """The bodies of the innermost loops that multiply and add: from a label to the jump back to it."""
    lines = [line.split("#")[0].strip() for line in assembly.splitlines()]
    labels = {line[:-1]: i for i, line in enumerate(lines) if re.fullmatch(r"[.\w$]+:", line)}
    loops = []
    for i, line in enumerate(lines):
        jump = re.fullmatch(r"j\w+\s+([.\w$]+)", line)
        if jump and labels.get(jump[1], i) < i:
            loops.append((labels[jump[1]], i))
    inner = [(a, b) for a, b in loops if not any(a <= c and d <= b and (a, b) != (c, d) for c, d in loops)]
    bodies = [lines[a : b + 1] for a, b in inner]
    return [body for body in bodies if any(line.startswith("vfmadd") for line in body)]


def check_code(name, pixels):
    entry, register = REGISTRY[name], REGISTERS[MACHINE.name]
    loops = inner_loops(tile_code(entry, pixels))
    column = entry.tile.vectors * entry.tile.outputs * entry.tile.rows
    counts = []
    for body in loops:
        products = [line for line in body if line.startswith("vfmadd")]
        assert all(f"%{register}" in line for line in products), products
        spills = [line for line in body if line.startswith("v") and "(%rsp" in line]
        assert not spills, spills
        counts.append(len(products))
    want = []
    uncut = entry.kernel in (Kernel.CONV_SCATTERED, Kernel.CONV_WINOGRAD, Kernel.CONV_PIXELS)
    cuts = (0,) if uncut else (0, 1, 1)  # all pixels, but the first, but the last
    tiles = [(pixels - cut) * column for cut in cuts]
    if entry.kernel == Kernel.CONV_WHOLE:
        tiles = [(pixels - cut) * (entry.tile.rows - line) for cut in cuts for line in cuts]
    for tile in tiles:
        if tile:
            want += {tile, tile * max(1, multiply.MIN_CHAINS // tile)}
    assert sorted(counts) == sorted(want)


@vector_machine
@pytest.mark.parametrize(("name", "pixels"), WIDE_TILES)
def test_the_wide_tile_multiplies_in_registers(name, pixels):
    check_code(name, pixels)


@vector_machine
@pytest.mark.long
@pytest.mark.parametrize(("name", "pixels"), sorted(set(TILES) - set(WIDE_TILES)))
def test_every_other_tile_multiplies_in_registers(name, pixels):
    check_code(name, pixels)


@needs_compiled
def test_a_product_and_a_sum_are_rounded_once():
    """(1 + 2^-12)^2 - 1 - 2^-11 is 2^-24 if the square is not rounded, and 0 if it is."""
    one = marker(1)
    x = np.full(LANES, 1 + 2.0**-12, np.float32)
    out = np.full(OUT_AT + LANES, -1 - 2.0**-11, np.float32)
    numba.njit(**OPTIONS)(products)(IMAGES, x, 0, 0, np.zeros(1, np.int32), 0, 1, x, 0, one, one, (), (), out)
    assert_identical(out[OUT_AT:], np.full(LANES, 2.0**-24, np.float32))


@vector_machine
@pytest.mark.long
def test_a_tile_too_large_for_the_registers_is_seen_to_spill(monkeypatch):
    entry = REGISTRY[WIDE_TILES[0][0]]
    with pytest.raises(AssertionError, match="rsp"):
        check_code(entry.name, MACHINE.registers // (entry.tile.outputs * entry.tile.vectors) + 1)


WALKS = {  # first, last, run, inner, outer
    "even steps": (0, 99, 1000, LANES + 1, 0),
    "runs of three": (2, 99, 3, LANES, 5 * LANES),
    "fewer than a square": (0, LANES // 2, 1000, LANES + 3, 0),
    "one vector": (7, 3, 2, LANES, 3 * LANES),
    "back and forth": (1, 99, 4, LANES, -2 * LANES),
}


@pytest.mark.parametrize("name", WALKS)
def test_squares_are_read_along_a_walk_and_turned(program, name):
    first, last, run, inner, outer = WALKS[name]
    array, at = np.arange(9000, dtype=np.float32), 3000
    out = out_array(LANES)
    want = out.copy()
    for row in range(LANES):
        q = min(first + row, last)
        for lane in range(LANES):
            want[OUT_AT + lane * APART + row] = array[at + q // run * outer + q % run * inner + lane]
    program(turned)(array, at, first, last, run, inner, outer, out)
    assert_identical(out, want)


@pytest.mark.parametrize("name", [name for name in WALKS if name != "back and forth"])
def test_squares_are_written_along_a_walk(program, name):
    first, last, run, inner, outer = WALKS[name]
    array, at = np.arange(9000, dtype=np.float32), 5
    out = out_array(9000 // OUT_STRIDE)
    want = out.copy()
    for row in reversed(range(LANES)):
        q = min(first + row, last)
        here = OUT_AT + q // run * outer + q % run * inner
        want[here : here + LANES] = array[at + row * LANES :][:LANES]
    program(placed)(array, at, out, first, last, run, inner, outer)
    assert_identical(out, want)
