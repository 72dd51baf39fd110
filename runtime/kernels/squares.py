"""Squares of LANES x LANES numbers: read and written by vectors that lie anywhere, and turned, so that what was side by
side in memory comes to lie in the lanes.

A *walk* tells where vectors lie: number q at ``offset + q // run * outer + q % run * inner``, for q up to `last`; those
beyond are the last again.
"""

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils

from runtime.kernels.machine import LANES
from runtime.kernels.vector import I32, I64, VEC, VECTOR, ahead, at, load_vector, primitive, store_vector, unpack

SQUARE = types.UniTuple(VECTOR, LANES)

# --- twins -----------------------------------------------------------------------------------------------------------


def _walked(array, offset, first, last, run, inner, outer):
    """The vectors of a walk, as i64[LANES, LANES] places."""
    q = np.minimum(np.arange(first, first + LANES), last)
    places = (offset + q // run * outer + q % run * inner)[:, None] + np.arange(LANES)
    return _within(array, places)


def _within(array, places):
    if places.min() < 0 or places.max() >= array.size:
        raise IndexError(f"square: expected places in an array of {array.size}, got {places.min()}..{places.max()}")
    return places


def _load_square(array, offset, first, last, run, inner, outer):
    return tuple(array[_walked(array, offset, first, last, run, inner, outer)])


def _store_square(square, array, offset, first, last, run, inner, outer):
    places = _walked(array, offset, first, last, run, inner, outer)
    for vector, place in reversed(list(zip(square, places, strict=True))):
        array[place] = vector


def _load_places(array, offset, places):
    return tuple(array[_within(array, (offset + places)[:, None] + np.arange(LANES))])


def _keep_marked(square, marks):
    return tuple(np.where(marks[0] != 0, vector, np.float32(0)) for vector in square)


def _turn(square):
    return tuple(np.stack(square).T)


# --- compiled --------------------------------------------------------------------------------------------------------


def _pointers(context, b, sig, args):
    """Pointers to the vectors of a walk, given (array, offset, first, last, run, inner, outer)."""
    array, offset, first, last, run, inner, outer = args
    one, base = I64(1), at(context, b, sig[0], array, offset)
    q = b.select(b.icmp_signed("<", first, last), first, last)
    inside = b.srem(q, run)
    place = b.add(b.mul(b.sdiv(q, run), outer), b.mul(inside, inner))
    jump = b.sub(outer, b.mul(b.sub(run, one), inner))  # from the end of a run to the next
    out = []
    for _ in range(LANES):
        out.append(b.gep(base, [place]))
        ends, goes_on = b.icmp_signed("==", b.add(inside, one), run), b.icmp_signed("<", q, last)
        place = b.select(goes_on, b.add(place, b.select(ends, jump, inner)), place)
        inside = b.select(goes_on, b.select(ends, I64(0), b.add(inside, one)), inside)
        q = b.add(q, one)
    return out


WALK = (types.int64,) * 6


@primitive(_load_square)
def load_square(typing, array, offset, first, last, run, inner, outer):
    """The vectors first, first + 1, ... of a walk."""

    def codegen(context, b, sig, args):
        places = _pointers(context, b, sig.args, args)
        return cgutils.pack_array(b, [load_vector(b, place) for place in places], VEC)

    return SQUARE(array, *WALK), codegen


@primitive(_store_square)
def store_square(typing, square, array, offset, first, last, run, inner, outer):
    """Store vectors at first, first + 1, ... of a walk; of those beyond its last nothing stays."""

    def codegen(context, b, sig, args):
        places = _pointers(context, b, sig.args[1:], args[1:])
        for vector, place in reversed(list(zip(unpack(b, args[0], LANES), places, strict=True))):
            store_vector(b, vector, place)
        return context.get_dummy_value()

    return types.void(square, array, *WALK), codegen


@primitive(_load_places)
def load_places(typing, array, offset, places):
    """The vectors that begin `offset` beyond each of LANES places."""

    def codegen(context, b, sig, args):
        array, offset, places = args
        base, first = at(context, b, sig.args[0], array, offset), at(context, b, sig.args[2], places, I64(0))
        vectors = [load_vector(b, b.gep(base, [b.load(ahead(b, first, i))])) for i in range(LANES)]
        return cgutils.pack_array(b, vectors, VEC)

    return SQUARE(array, types.int64, places), codegen


@primitive(_keep_marked)
def keep_marked(typing, square, marks):
    """The lanes of each vector whose mark is not zero; zero in the others."""

    def codegen(context, b, sig, args):
        (marks,) = unpack(b, args[1], 1)
        zero = ir.Constant(VEC, [0.0] * LANES)
        kept = b.fcmp_ordered("!=", marks, zero)
        return cgutils.pack_array(b, [b.select(kept, vector, zero) for vector in unpack(b, args[0], LANES)], VEC)

    return square(square, marks), codegen


@primitive(_turn)
def turn(typing, square):
    """The square with rows and columns exchanged."""

    def codegen(context, b, sig, args):
        rows, half = unpack(b, args[0], LANES), LANES // 2
        while half:
            rows, half = _exchanged(b, rows, half), half // 2
        return cgutils.pack_array(b, rows, VEC)

    return square(square), codegen


def _exchanged(b, rows, size):
    """Of each pair of rows `size` apart, parts of `size` lanes: the first's odd ones and the second's even ones change
    places.
    """
    out = list(rows)
    lanes = range(LANES)
    even = [LANES + lane - size if lane & size else lane for lane in lanes]
    odd = [LANES + lane if lane & size else lane + size for lane in lanes]
    mask = ir.VectorType(I32, LANES)
    for i in lanes:
        if not i & size:
            first, second = rows[i], rows[i + size]
            out[i] = b.shuffle_vector(first, second, ir.Constant(mask, even))
            out[i + size] = b.shuffle_vector(first, second, ir.Constant(mask, odd))
    return out
