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


def _gather(array: np.ndarray, offsets: np.ndarray, count: int) -> np.ndarray:
    if offsets.min() < 0 or offsets.max() + count > array.size:
        raise IndexError(f"vector: expected offsets in an array of {array.size}, got {offsets.min()}..{offsets.max()}")
    return array[offsets[:, None] + np.arange(count)]


def _fma_rows(kind, tile, x, x_at, x_stride, rows, first, last, w, w_at, pixels, outputs, lead, tail):
    if first >= last:
        return tile
    row_size = row_weights(kind, len(outputs))
    w_rows = _gather(w, w_at + row_size * np.arange(last - first), row_size)
    out = list(tile)
    for p in range(len(lead), len(pixels) - len(tail)):
        x_at_rows = x_at + p * x_stride + rows[first:last].astype(np.int64)
        if kind == PATCH:
            sums = w_rows.T @ _gather(x, x_at_rows, len(outputs) * LANES)
        elif kind == IMAGES:
            sums = w_rows.T @ _gather(x, x_at_rows, LANES)
        elif kind == CHANNELS:
            sums = _gather(x, x_at_rows, 1).T @ w_rows
        else:
            sums = (_gather(x, x_at_rows, row_size) * w_rows).sum(0)
        for o, more in enumerate(sums.reshape(-1, LANES), start=p * len(outputs)):
            out[o] = tile[o] + more
    return tuple(out)


def _fma_rect(tile, x, x_at, x_row, x_stride, rows, first, last, w, w_at, high, wide, top, bottom, left, right):
    out = list(tile)
    if first < last:
        w_rows = _gather(w, w_at + LANES * np.arange(last - first), LANES)
        for y in range(len(top), len(high) - len(bottom)):
            for p in range(len(left), len(wide) - len(right)):
                places = x_at + y * x_row + p * x_stride + rows[first:last].astype(np.int64)
                at = y * len(wide) + p
                out[at] = tile[at] + (_gather(x, places, 1).T @ w_rows).reshape(LANES)
    return tuple(out)


def _clamp_tile(tile, low, high):
    return tuple(np.where(v < low, np.float32(low), np.where(v > high, np.float32(high), v)) for v in tile)


def _max_tile(tile, other):
    return tuple(
        np.where(a > b, a, np.where(b == b, np.where(a == a, b, a), b)) for a, b in zip(tile, other, strict=True)
    )


def _add_tile(tile, other):
    return tuple(a + b for a, b in zip(tile, other, strict=True))


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
        places = _tile_places(
            b, at(context, b, sig.args[0], args[0], args[1]), args[2], args[3], len(pixels), len(outputs)
        )
        return cgutils.pack_array(b, [load_vector(b, place) for place in places], VEC)

    return tile(array, types.int64, types.int64, types.int64, pixels, outputs), codegen


@primitive(_store_tile)
def store_tile(typing, tile, array, offset, stride, apart, pixels, outputs):
    """array[offset + p*stride + o*apart : +LANES] = vector o of pixel p."""

    def codegen(context, b, sig, args):
        places = _tile_places(
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
        for place in _tile_places(
            b, at(context, b, sig.args[0], args[0], args[1]), args[2], args[3], len(pixels), len(outputs)
        ):
            prefetch(b, place, write=True)
        return context.get_dummy_value()

    return types.void(array, types.int64, types.int64, types.int64, pixels, outputs), codegen


def _tile_places(b: Any, base: Any, stride: Any, apart: Any, pixels: int, outputs: int) -> list:
    """Pointers to the vectors of a tile, pixel by pixel."""
    return [step(b, step(b, base, stride, p), apart, o) for p in range(pixels) for o in range(outputs)]


def _stack(size: int) -> Callable:
    return lambda: np.full(size, np.nan, np.float32)


def stack_memory(size: int) -> Callable:
    """A primitive that gives `size` elements of the calling thread's stack, from the beginning of a line; what stands
    there is anything.
    """

    @primitive(_stack(size))
    def memory(typing):
        array = types.Array(types.float32, 1, "C")

        def codegen(context, b, sig, args):
            with b.goto_entry_block():  # not by cgutils.alloca_once: it fills with zeros, in seconds of compiling
                place = b.alloca(ir.ArrayType(F32, size))
            place.align = 64
            made = context.make_array(array)(context, b)
            data = b.bitcast(place, F32.as_pointer())
            populate_array(made, data, [ir.Constant(I64, size)], [ir.Constant(I64, 4)], ir.Constant(I64, 4), None)
            return made._getvalue()

        return array(), codegen

    return memory


near_memory = stack_memory(NEAR_SIZE)


# --- multiply-add over kept rows -------------------------------------------------------------------------------------

MIN_CHAINS = 8  # independent multiply-adds in flight: two a cycle, four cycles each


def _rows_loop(body: Callable, kind: Any) -> Callable:
    """Codegen of ``for r in range(first, last): tile = body(tile, x_row, x_stride, w_row)``, the tile held in
    registers.

    A small tile would wait for its own results: it runs several rows at once into tiles of their own, summed at the
    end.
    """

    def codegen(context, b, sig, args):
        _, tile, x, x_at, x_stride, rows, first, last, w, w_at, *_ = args
        whole, outputs, begin, tail = (len(size) for size in sig.args[10:])
        vectors, end = unpack(b, tile, whole * outputs), whole - tail
        if begin >= end:
            return tile
        row_size = ir.Constant(I64, row_weights(kind, outputs))
        x_base = step(b, at(context, b, sig.args[2], x, x_at), x_stride, begin)
        w_base = at(context, b, sig.args[8], w, w_at)
        rows_base = at(context, b, sig.args[5], rows, ir.Constant(I64, 0))

        def one_row(r, acc):
            x_row = b.gep(x_base, [b.sext(b.load(b.gep(rows_base, [r])), I64)])
            w_row = b.gep(w_base, [b.mul(b.sub(r, first), row_size)])
            return body(b, acc, x_row, x_stride, w_row, end - begin, outputs)

        sums = _add_rows(b, vectors[begin * outputs : end * outputs], first, last, one_row)
        return cgutils.pack_array(b, [*vectors[: begin * outputs], *sums, *vectors[end * outputs :]], VEC)

    return codegen


def _add_rows(b: Any, vectors: list, first: Any, last: Any, one_row: Callable) -> list:
    """``for r in range(first, last): vectors = one_row(r, vectors)``, few of them in several chains."""
    count = len(vectors)
    chains = max(1, MIN_CHAINS // count)
    zero = ir.Constant(VEC, [0.0] * LANES)
    sets = [vectors] + [[zero] * count for _ in range(chains - 1)]
    flat, r = [v for acc in sets for v in acc], first
    if chains > 1:
        r, flat = _counted_loop(
            b,
            r,
            last,
            chains,
            flat,
            lambda r, now: [
                v
                for c in range(chains)
                for v in one_row(b.add(r, ir.Constant(I64, c)), now[c * count : (c + 1) * count])
            ],
        )
    _, sums = _counted_loop(b, r, last, 1, flat[:count], one_row)
    for c in range(1, chains):
        sums = [b.fadd(v, more) for v, more in zip(sums, flat[c * count : (c + 1) * count], strict=True)]
    return sums


def _counted_loop(b: Any, r0: Any, last: Any, stride: int, values: list, body: Callable) -> tuple[Any, list]:
    """``while r + stride <= last: values = body(r, values); r += stride``; gives the final r and values.

    LLVM would unroll such a loop and then run out of registers; an empty convergent instruction keeps it as it stands.
    """
    entry, one_step = b.basic_block, ir.Constant(I64, stride)
    loop, done = b.append_basic_block("rows"), b.append_basic_block("rows.done")
    b.cbranch(b.icmp_signed("<=", b.add(r0, one_step), last), loop, done)
    b.position_at_end(loop)
    r, now = b.phi(I64), [b.phi(VEC) for _ in values]
    keep_as_is = ir.InlineAsm(ir.FunctionType(ir.VoidType(), []), "", "", side_effect=True)
    b.call(keep_as_is, [], attrs=("convergent", "nounwind"))
    after = body(r, now)
    r_after = b.add(r, one_step)
    b.cbranch(b.icmp_signed("<=", b.add(r_after, one_step), last), loop, done)
    for phi, before, again in zip([r, *now], [r0, *values], [r_after, *after], strict=True):
        phi.add_incoming(before, entry)
        phi.add_incoming(again, loop)
    b.position_at_end(done)
    out = [b.phi(I64), *(b.phi(VEC) for _ in values)]
    for phi, before, again in zip(out, [r0, *values], [r_after, *after], strict=True):
        phi.add_incoming(before, entry)
        phi.add_incoming(again, loop)
    return out[0], out[1:]


WEIGHTS_AHEAD = 2048  # elements: weights come once, from memory or the third-level cache, sooner than their layer ends


def _images_body(b, acc, x_row, x_stride, w_row, pixels, outputs):
    fma = fma_function(b)
    if outputs > 1:  # else a row's weight is one number, and its line has been asked for by the rows before
        prefetch(b, ahead(b, w_row, WEIGHTS_AHEAD))
    xs = [load_vector(b, step(b, x_row, x_stride, p)) for p in range(pixels)]
    out = list(acc)
    for o in range(outputs):
        w = splat(b, b.load(ahead(b, w_row, o)))
        for p in range(pixels):
            out[p * outputs + o] = b.call(fma, [xs[p], w, acc[p * outputs + o]])
    return out


def _channels_body(b, acc, x_row, x_stride, w_row, pixels, outputs):
    fma = fma_function(b)
    if pixels > 4:  # smaller tiles wait for loads, of which this would be one more
        for o in range(outputs):
            prefetch(b, ahead(b, w_row, WEIGHTS_AHEAD + o * LANES))
    ws = [load_vector(b, ahead(b, w_row, o * LANES)) for o in range(outputs)]
    out = list(acc)
    for p, place in enumerate(strided(b, x_row, x_stride, pixels)):
        x = splat(b, b.load(place))
        for o in range(outputs):
            out[p * outputs + o] = b.call(fma, [x, ws[o], acc[p * outputs + o]])
    return out


def _depthwise_body(b, acc, x_row, x_stride, w_row, pixels, outputs):
    fma = fma_function(b)
    out = list(acc)
    for o in range(outputs):
        w = load_vector(b, ahead(b, w_row, o * LANES))
        for p in range(pixels):
            x = load_vector(b, ahead(b, step(b, x_row, x_stride, p), o * LANES))
            out[p * outputs + o] = b.call(fma, [x, w, acc[p * outputs + o]])
    return out


def _patch_body(b, acc, x_row, x_stride, w_row, pixels, outputs):
    fma, w = fma_function(b), splat(b, b.load(w_row))
    places = _tile_places(b, x_row, x_stride, ir.Constant(I64, LANES), pixels, outputs)
    return [b.call(fma, [load_vector(b, place), w, before]) for place, before in zip(places, acc, strict=True)]


BODIES = {IMAGES: _images_body, CHANNELS: _channels_body, DEPTHWISE: _depthwise_body, PATCH: _patch_body}


@primitive(_fma_rows)
def fma_rows(typing, kind, tile, x, x_at, x_stride, rows, first, last, w, w_at, pixels, outputs, lead, tail):
    """Add the products of the kept rows first..last-1 to a tile, but for its first `lead` and last `tail` pixels.

    IMAGES: tile[p, o] += x[x_at + rows[r] + p*x_stride : +LANES] * w[w_at + (r-first)*outputs + o]; lanes are images.
    CHANNELS: tile[p, o] += x[x_at + rows[r] + p*x_stride] * w[w_at + ((r-first)*outputs + o)*LANES : +LANES]; lanes are
    output channels.
    DEPTHWISE: as CHANNELS, with x[x_at + rows[r] + p*x_stride + o*LANES : +LANES] in place of the scalar.
    PATCH: tile[p, o] += x[x_at + rows[r] + p*x_stride + o*LANES : +LANES] * w[w_at + r-first]; lanes are images.
    """
    i64 = types.int64
    return (
        tile(kind, tile, x, i64, i64, rows, i64, i64, w, i64, pixels, outputs, lead, tail),
        _rows_loop(BODIES[marker(len(kind))], kind),
    )


@primitive(_fma_rect)
def fma_rect(typing, tile, x, x_at, x_row, x_stride, rows, first, last, w, w_at, high, wide, top, bottom, left, right):
    """Add the products of the kept rows first..last-1 to a rectangle of a tile of high x wide pixels: without the `top`
    and `bottom` lines of it, and the `left` and `right` columns. Lanes are output channels.

    tile[y, p] += x[x_at + rows[r] + y*x_row + p*x_stride] * w[w_at + (r-first)*LANES : +LANES]
    """

    def codegen(context, b, sig, args):
        tile, x, x_at, x_row, x_stride, rows, first, last, w, w_at, *_ = args
        height, width, *cut = (len(size) for size in sig.args[10:])
        lines, columns = range(cut[0], height - cut[1]), range(cut[2], width - cut[3])
        vectors = unpack(b, tile, height * width)
        chosen = [y * width + p for y in lines for p in columns]
        if not chosen:
            return tile
        corner = step(b, at(context, b, sig.args[1], x, x_at), x_row, cut[0])
        x_base, w_base = step(b, corner, x_stride, cut[2]), at(context, b, sig.args[8], w, w_at)
        rows_base = at(context, b, sig.args[5], rows, ir.Constant(I64, 0))
        fma = fma_function(b)

        def one_row(r, acc):
            line = b.gep(x_base, [b.sext(b.load(b.gep(rows_base, [r])), I64)])
            w_row = b.gep(w_base, [b.mul(b.sub(r, first), ir.Constant(I64, LANES))])
            prefetch(b, ahead(b, w_row, WEIGHTS_AHEAD))
            out: list[Any] = []
            weight = load_vector(b, w_row)
            for n in range(len(lines)):
                line = step(b, line, x_row, 1) if n else line
                for p in range(len(columns)):
                    out.append(b.call(fma, [splat(b, b.load(step(b, line, x_stride, p))), weight, acc[len(out)]]))
            return out

        sums = _add_rows(b, [vectors[at] for at in chosen], first, last, one_row)
        for where, value in zip(chosen, sums, strict=True):
            vectors[where] = value
        return cgutils.pack_array(b, vectors, VEC)

    i64 = types.int64
    sizes = high, wide, top, bottom, left, right
    return tile(tile, x, i64, i64, i64, rows, i64, i64, w, i64, *sizes), codegen


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
