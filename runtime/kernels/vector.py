"""Explicit vectors for Numba: a small set of primitives over tiles of vector registers, each with a NumPy twin.

A *vector* holds ``LANES`` float32 values in one register. A *tile* is a tuple of vectors, ``pixels * outputs`` of them,
kept in registers by the compiler. Memory is named by (array, offset) with offsets in elements; addresses are formed by
GEP alone. Tile sizes travel as *markers*: a tuple of n zeros stands for the compile-time number n, so that one function
in plain Python serves every tile shape.

Without compilation (``NUMBA_DISABLE_JIT=1``) each primitive is its twin: vectors are arrays, tiles are tuples of
arrays. No primitive checks a range: what is passed in was proven when the weights were packed.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils, config
from numba.extending import intrinsic, models, register_model
from numba.np.arrayobj import populate_array

from runtime.kernels.machine import LANES

I32, I64, F32 = ir.IntType(32), ir.IntType(64), ir.FloatType()
VEC = ir.VectorType(F32, LANES)
COMPILED = not config.DISABLE_JIT


def marker(n: int) -> tuple[int, ...]:
    """The number n as a type: a tuple of n zeros."""
    return (0,) * n


# What the lanes of a tile are. PATCH: images, and the tile is rows x columns of pixels of one output channel, where
# others are pixels x outputs.
IMAGES, CHANNELS, DEPTHWISE, PATCH = marker(1), marker(2), marker(3), marker(4)
BLOCK = 32  # channels of a pixel that lie together, with images in the lanes
NEAR_SIZE = 64 * 1024 // 4  # elements of a thread's own memory for what it reads again and again


def of_kind(kind: Any, *kinds: tuple[int, ...]) -> bool:
    """Whether a marker, or its Numba type, is one of some kinds."""
    return len(kind) in map(len, kinds)


def row_weights(kind: Any, outputs: int) -> int:
    """Weights of a row: one for each output, a vector for each, or one for all pixels."""
    if of_kind(kind, PATCH):
        return 1
    return outputs if of_kind(kind, IMAGES) else outputs * LANES


class Vector(types.Type):
    """Numba type of one vector register of float32."""

    def __init__(self) -> None:
        super().__init__(name=f"float32x{LANES}")


VECTOR = Vector()


@register_model(Vector)
class VectorModel(models.PrimitiveModel):
    """A vector is a first-class LLVM value."""

    def __init__(self, manager: Any, fe_type: Vector) -> None:
        super().__init__(manager, fe_type, VEC)


def primitive(twin: Callable) -> Callable[[Callable], Callable]:
    """Decorator: the Numba intrinsic where code is compiled, the NumPy twin where it is not."""

    def choose(typing_function: Callable) -> Callable:
        return intrinsic(typing_function) if COMPILED else twin

    return choose


def tile_type(pixels: types.BaseTuple, outputs: types.BaseTuple) -> types.UniTuple:
    """Numba type of a tile of pixels x outputs vectors."""
    return types.UniTuple(VECTOR, len(pixels) * len(outputs))


def at(context: Any, b: Any, array_type: types.Array, array: Any, offset: Any) -> Any:
    """Pointer to element `offset` of an array."""
    return b.gep(context.make_array(array_type)(context, b, array).data, [offset])


def step(b: Any, pointer: Any, stride: Any, times: int) -> Any:
    """Pointer moved by `times` strides."""
    if isinstance(stride, ir.Constant):
        return ahead(b, pointer, stride.constant * times)
    return b.gep(pointer, [b.mul(stride, ir.Constant(I64, times))]) if times else pointer


def strided(b: Any, pointer: Any, stride: Any, count: int) -> list:
    """Pointers 0, 1, ... `count`-1 strides ahead.

    Where the stride is known only at run time, each third is computed anew, hidden from the optimizer: it would keep a
    register for every multiple of the stride, and run out of them.
    """
    if isinstance(stride, ir.Constant):
        return [step(b, pointer, stride, i) for i in range(count)]
    hide = ir.InlineAsm(ir.FunctionType(pointer.type, [pointer.type]), "", "=r,0")
    out = []
    for i in range(count):
        if i and i % 3 == 0:
            pointer = b.call(hide, [step(b, pointer, stride, 3)])
        out.append(step(b, pointer, stride, i % 3))
    return out


def ahead(b: Any, pointer: Any, elements: int) -> Any:
    """Pointer moved by a constant number of elements."""
    return b.gep(pointer, [ir.Constant(I64, elements)]) if elements else pointer


def load_vector(b: Any, pointer: Any) -> Any:
    """Unaligned load of one vector."""
    value = b.load(b.bitcast(pointer, VEC.as_pointer()))
    value.align = 4
    return value


def store_vector(b: Any, value: Any, pointer: Any) -> None:
    """Unaligned store of one vector."""
    b.store(value, b.bitcast(pointer, VEC.as_pointer())).align = 4


def splat(b: Any, scalar: Any) -> Any:
    """One scalar in every lane."""
    undefined = ir.Constant(VEC, ir.Undefined)
    one = b.insert_element(undefined, scalar, ir.Constant(I32, 0))
    return b.shuffle_vector(one, undefined, ir.Constant(ir.VectorType(I32, LANES), [0] * LANES))


def fma_function(b: Any) -> Any:
    """The fused multiply-add of vectors, declared by name (declare_intrinsic refuses vector types)."""
    return cgutils.get_or_insert_function(b.module, ir.FunctionType(VEC, [VEC] * 3), f"llvm.fma.v{LANES}f32")


def prefetch(b: Any, pointer: Any, write: bool = False) -> None:
    """Ask for a line of memory: to read, into the second-level cache, or to write, into the first; any address will
    do.
    """
    of_bytes = ir.IntType(8).as_pointer()
    function = ir.FunctionType(ir.VoidType(), [of_bytes, I32, I32, I32])
    what, nearness, data = ir.Constant(I32, int(write)), ir.Constant(I32, 3 if write else 2), ir.Constant(I32, 1)
    declared = cgutils.get_or_insert_function(b.module, function, "llvm.prefetch.p0")
    b.call(declared, [b.bitcast(pointer, of_bytes), what, nearness, data])


def unpack(b: Any, tile: Any, count: int) -> list:
    """The vectors of a tile value."""
    return [b.extract_value(tile, i) for i in range(count)]


# --- twins -----------------------------------------------------------------------------------------------------------


def _lanes(array: np.ndarray, offset: int) -> np.ndarray:
    vector = array[offset : offset + LANES]
    if offset < 0 or vector.size != LANES:
        raise IndexError(f"vector: expected {LANES} elements at offset {offset}, got an array of {array.size}")
    return vector


def _scalar(array: np.ndarray, offset: int) -> np.float32:
    if offset < 0:
        raise IndexError(f"vector: expected an offset of at least 0, got {offset}")
    return array[offset]


def _bias_tile(kind, array, offset, pixels, outputs):
    if of_kind(kind, IMAGES, PATCH):
        apart = int(of_kind(kind, IMAGES))
        return tuple(np.full(LANES, _scalar(array, offset + o * apart)) for _ in pixels for o in range(len(outputs)))
    return tuple(_lanes(array, offset + o * LANES).copy() for _ in pixels for o in range(len(outputs)))


def _load_tile(array, offset, stride, apart, pixels, outputs):
    return tuple(
        _lanes(array, offset + p * stride + o * apart).copy() for p in range(len(pixels)) for o in range(len(outputs))
    )


def _store_tile(tile, array, offset, stride, apart, pixels, outputs):
    for p in range(len(pixels)):
        for o in range(len(outputs)):
            _lanes(array, offset + p * stride + o * apart)[:] = tile[p * len(outputs) + o]


def _expect_tile(array, offset, stride, apart, pixels, outputs):
    pass


def _clamp_tile(tile, low, high):
    return tuple(np.where(v < low, np.float32(low), np.where(v > high, np.float32(high), v)) for v in tile)


def _max_tile(tile, other):
    return tuple(
        np.where(a > b, a, np.where(b == b, np.where(a == a, b, a), b)) for a, b in zip(tile, other, strict=True)
    )


def _add_tile(tile, other):
    return tuple(a + b for a, b in zip(tile, other, strict=True))


def _fill_tile(value, pixels, outputs):
    return tuple(np.full(LANES, value, np.float32) for _ in range(len(pixels) * len(outputs)))


def _mul_tile(tile, other):
    return tuple(a * b for a, b in zip(tile, other, strict=True))


def _sub_tile(tile, other):
    return tuple(a - b for a, b in zip(tile, other, strict=True))


def _div_tile(tile, other):
    with np.errstate(all="ignore"):  # the compiled one does not warn either, and lanes that fill up may hold anything
        return tuple(a / b for a, b in zip(tile, other, strict=True))


def _scale_tile(tile, factor):
    return tuple(a * np.float32(factor) for a in tile)


# --- tiles from and to memory ----------------------------------------------------------------------------------------


@primitive(_bias_tile)
def bias_tile(typing, kind, array, offset, pixels, outputs):
    """A tile that starts at the bias: one scalar for each output (IMAGES), one for all (PATCH), or one vector for each
    output (other kinds).
    """

    def codegen(context, b, sig, args):
        base = at(context, b, sig.args[1], args[1], args[2])
        if of_kind(kind, PATCH):
            row = [splat(b, b.load(base))] * len(outputs)
        elif of_kind(kind, IMAGES):
            row = [splat(b, b.load(ahead(b, base, o))) for o in range(len(outputs))]
        else:
            row = [load_vector(b, ahead(b, base, o * LANES)) for o in range(len(outputs))]
        return cgutils.pack_array(b, row * len(pixels), VEC)

    return tile_type(pixels, outputs)(kind, array, types.int64, pixels, outputs), codegen


@primitive(_load_tile)
def load_tile(typing, array, offset, stride, apart, pixels, outputs):
    """Vector o of pixel p is array[offset + p*stride + o*apart : +LANES]."""
    tile = tile_type(pixels, outputs)

    def codegen(context, b, sig, args):
        places = tile_places(
            b, at(context, b, sig.args[0], args[0], args[1]), args[2], args[3], len(pixels), len(outputs)
        )
        return cgutils.pack_array(b, [load_vector(b, place) for place in places], VEC)

    return tile(array, types.int64, types.int64, types.int64, pixels, outputs), codegen


@primitive(_store_tile)
def store_tile(typing, tile, array, offset, stride, apart, pixels, outputs):
    """array[offset + p*stride + o*apart : +LANES] = vector o of pixel p."""

    def codegen(context, b, sig, args):
        places = tile_places(
            b, at(context, b, sig.args[1], args[1], args[2]), args[3], args[4], len(pixels), len(outputs)
        )
        for value, place in zip(unpack(b, args[0], len(places)), places, strict=True):
            store_vector(b, value, place)
        return context.get_dummy_value()

    return types.void(tile, array, types.int64, types.int64, types.int64, pixels, outputs), codegen


@primitive(_expect_tile)
def expect_tile(typing, array, offset, stride, apart, pixels, outputs):
    """Ask for the memory that store_tile will write: a store waits for a line that another cache holds, a multiply-add
    does not wait for the asking.
    """

    def codegen(context, b, sig, args):
        for place in tile_places(
            b, at(context, b, sig.args[0], args[0], args[1]), args[2], args[3], len(pixels), len(outputs)
        ):
            prefetch(b, place, write=True)
        return context.get_dummy_value()

    return types.void(array, types.int64, types.int64, types.int64, pixels, outputs), codegen


def tile_places(b: Any, base: Any, stride: Any, apart: Any, pixels: int, outputs: int) -> list:
    """Pointers to the vectors of a tile, pixel by pixel."""
    return [step(b, step(b, base, stride, p), apart, o) for p in range(pixels) for o in range(outputs)]


NAN = np.float32(np.nan)


def _stack(size: int, anything: np.generic = NAN) -> Callable:
    return lambda: np.full(size, anything)


def _stack_array(twin: Callable, size: int, dtype: types.Number, element: Any) -> Callable:
    @primitive(twin)
    def memory(typing):
        array, width = types.Array(dtype, 1, "C"), ir.Constant(I64, dtype.bitwidth // 8)

        def codegen(context, b, sig, args):
            with b.goto_entry_block():  # not by cgutils.alloca_once: it fills with zeros, in seconds of compiling
                place = b.alloca(ir.ArrayType(element, size))
            place.align = 64
            made = context.make_array(array)(context, b)
            data = b.bitcast(place, element.as_pointer())
            populate_array(made, data, [ir.Constant(I64, size)], [width], width, None)
            return made._getvalue()

        return array(), codegen

    return memory


def stack_memory(size: int) -> Callable:
    """A primitive that gives `size` elements of the calling thread's stack, from the beginning of a line; what stands
    there is anything.
    """
    return _stack_array(_stack(size), size, types.float32, F32)


near_memory = stack_memory(NEAR_SIZE)
stack_places = _stack_array(_stack(LANES, np.int64(-1)), LANES, types.int64, I64)  # one for each lane


# --- element by element ----------------------------------------------------------------------------------------------


def map_tiles(count: int, function: Callable) -> Callable:
    """Codegen that applies function(b, *vectors) at each place of equally long tiles."""

    def codegen(context, b, sig, args):
        tiles = [
            unpack(b, arg, count) for arg, kind in zip(args, sig.args, strict=True) if isinstance(kind, types.UniTuple)
        ]
        scalars = [
            splat(b, arg) for arg, kind in zip(args, sig.args, strict=True) if not isinstance(kind, types.UniTuple)
        ]
        return cgutils.pack_array(b, [function(b, *(t[i] for t in tiles), *scalars) for i in range(count)], VEC)

    return codegen


@primitive(_clamp_tile)
def clamp_tile(typing, tile, low, high):
    """Each value limited to [low, high]; NaN stays NaN."""

    def clamp(b, value, lo, hi):
        value = b.select(b.fcmp_ordered("<", value, lo), lo, value)
        return b.select(b.fcmp_ordered(">", value, hi), hi, value)

    return tile(tile, types.float32, types.float32), map_tiles(len(tile), clamp)


@primitive(_max_tile)
def max_tile(typing, tile, other):
    """The larger of two tiles, value by value; NaN in either gives NaN."""

    def larger(b, x, y):
        chosen = b.select(b.fcmp_unordered(">", x, y), x, y)  # x when larger, or when either is NaN
        return b.select(b.fcmp_unordered("uno", y, y), y, chosen)

    return tile(tile, tile), map_tiles(len(tile), larger)


@primitive(_add_tile)
def add_tile(typing, tile, other):
    """Sum of two tiles."""
    return tile(tile, tile), map_tiles(len(tile), lambda b, x, y: b.fadd(x, y))


@primitive(_scale_tile)
def scale_tile(typing, tile, factor):
    """Each value times one factor."""
    return tile(tile, types.float32), map_tiles(len(tile), lambda b, x, f: b.fmul(x, f))


@primitive(_fill_tile)
def fill_tile(typing, value, pixels, outputs):
    """A tile of one number."""
    tile = tile_type(pixels, outputs)

    def codegen(context, b, sig, args):
        return cgutils.pack_array(b, [splat(b, args[0])] * tile.count, VEC)

    return tile(types.float32, pixels, outputs), codegen


@primitive(_mul_tile)
def mul_tile(typing, tile, other):
    """Product of two tiles."""
    return tile(tile, tile), map_tiles(len(tile), lambda b, x, y: b.fmul(x, y))


@primitive(_sub_tile)
def sub_tile(typing, tile, other):
    """Difference of two tiles."""
    return tile(tile, tile), map_tiles(len(tile), lambda b, x, y: b.fsub(x, y))


@primitive(_div_tile)
def div_tile(typing, tile, other):
    """Quotient of two tiles; by 0 infinity, or NaN."""
    return tile(tile, tile), map_tiles(len(tile), lambda b, x, y: b.fdiv(x, y))
