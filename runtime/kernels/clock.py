"""A monotonic clock for compiled code, with a plain twin for the pass without compilation."""

import time

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from runtime.kernels.vector import COMPILED

POSIX = hasattr(time, "clock_gettime")
I32, I64 = ir.IntType(32), ir.IntType(64)


def _now_ns():
    return time.monotonic_ns()


if COMPILED:

    @intrinsic
    def now_ns(typing):
        """Nanoseconds since some moment in the past, by POSIX's monotonic clock; 0 elsewhere."""

        def codegen(context, b, sig, args):
            if not POSIX:
                return context.get_constant(types.int64, 0)
            timespec = ir.LiteralStructType([I64, I64])
            read = cgutils.get_or_insert_function(
                b.module, ir.FunctionType(I32, [I32, timespec.as_pointer()]), "clock_gettime"
            )
            place = cgutils.alloca_once(b, timespec)
            b.call(read, [I32(time.CLOCK_MONOTONIC), place])
            seconds, rest = (b.load(cgutils.gep_inbounds(b, place, 0, i)) for i in (0, 1))
            return b.add(b.mul(seconds, I64(1_000_000_000)), rest)

        return types.int64(), codegen
else:
    now_ns = _now_ns
