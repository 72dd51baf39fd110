"""Multiply-add over kept rows: the inner loops of every convolution, each with a NumPy twin.

A *row* is one kept (tap, input channel): a place of activations, and a weight or a vector of them. The generated loops
hold a register tile and add the products of one row after the other.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils

from runtime.kernels.machine import LANES
from runtime.kernels.vector import (
    CHANNELS,
    DEPTHWISE,
    I64,
    IMAGES,
    PATCH,
    VEC,
    ahead,
    at,
    fma_function,
    load_vector,
    marker,
    prefetch,
    primitive,
    row_weights,
    splat,
    step,
    strided,
    tile_places,
    unpack,
)

# --- twins -----------------------------------------------------------------------------------------------------------


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


# --- generated code --------------------------------------------------------------------------------------------------

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
    places = tile_places(b, x_row, x_stride, ir.Constant(I64, LANES), pixels, outputs)
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
