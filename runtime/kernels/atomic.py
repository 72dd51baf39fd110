"""Atomic counters in an int64 array, with plain twins for the pass without compilation (which has one thread)."""

import os

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from runtime.kernels.vector import COMPILED, at

VOID = ir.VoidType()


def _fetch_add(array, index, amount):
    before = array[index]
    array[index] += amount
    return before


def _load_acquire(array, index):
    return array[index]


def _exchange_if(array, index, expected, new):
    found = array[index] == expected
    if found:
        array[index] = new
    return found


def _store_release(array, index, value):
    array[index] = value


def _pause():
    return None


def _yield_core():
    return None


if COMPILED:

    @intrinsic
    def fetch_add(typing, array, index, amount):
        """array[index] += amount as one sequentially consistent step; gives the value before."""

        def codegen(context, b, sig, args):
            return b.atomic_rmw("add", at(context, b, sig.args[0], args[0], args[1]), args[2], "seq_cst")

        return types.int64(array, types.int64, types.int64), codegen

    @intrinsic
    def load_acquire(typing, array, index):
        """array[index], seen with everything its last writer wrote before."""

        def codegen(context, b, sig, args):
            return b.load_atomic(at(context, b, sig.args[0], args[0], args[1]), "acquire", 8)

        return types.int64(array, types.int64), codegen

    @intrinsic
    def exchange_if(typing, array, index, expected, new):
        """Put `new` at array[index] if `expected` is there, sequentially consistent; gives whether it was."""

        def codegen(context, b, sig, args):
            place = at(context, b, sig.args[0], args[0], args[1])
            return b.extract_value(b.cmpxchg(place, args[2], args[3], "seq_cst", "seq_cst"), 1)

        return types.boolean(array, types.int64, types.int64, types.int64), codegen

    @intrinsic
    def store_release(typing, array, index, value):
        """array[index] = value, after everything that this thread wrote before."""

        def codegen(context, b, sig, args):
            b.store_atomic(args[2], at(context, b, sig.args[0], args[0], args[1]), "release", 8)
            return context.get_dummy_value()

        return types.void(array, types.int64, types.int64), codegen

    @intrinsic
    def pause(typing):
        """A hint that this thread spins; costs nothing where the processor has no such instruction."""

        def codegen(context, b, sig, args):
            if b.module.triple.startswith("x86_64"):
                b.call(cgutils.get_or_insert_function(b.module, ir.FunctionType(VOID, []), "llvm.x86.sse2.pause"), [])
            return context.get_dummy_value()

        return types.void(), codegen

    @intrinsic
    def yield_core(typing):
        """Let another thread have this core, where the system is POSIX."""

        def codegen(context, b, sig, args):
            if os.name == "posix":
                b.call(cgutils.get_or_insert_function(b.module, ir.FunctionType(ir.IntType(32), []), "sched_yield"), [])
            return context.get_dummy_value()

        return types.void(), codegen
else:
    fetch_add, load_acquire, exchange_if, store_release = _fetch_add, _load_acquire, _exchange_if, _store_release
    pause, yield_core = _pause, _yield_core
