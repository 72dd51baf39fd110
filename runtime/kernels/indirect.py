"""Calls the compiled function of a registry row through its address.

Whatever calls a compiled function by name is optimised together with all of its code; the loops that hand out tasks
would each take as long to compile as all kernels together (measured: 26 s of 40 s).
"""

from functools import cache
from typing import Any

import numba
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from runtime.kernels.dispatch import TASKS
from runtime.kernels.step import STEP
from runtime.kernels.vector import COMPILED

I64 = ir.IntType(64)


def _signature() -> tuple[Any, ...]:
    """Numba types of a task function's arguments."""
    floats, integers = types.Array(types.float32, 1, "C"), types.Array(types.int32, 1, "C")
    return (numba.from_dtype(STEP), *[types.int64] * 4, floats, floats, integers)


@cache
def task_address(row: int) -> int:
    """Where the compiled function of a registry row begins; compiles it, or takes it from the cache, at the first call.

    Without compilation it is the row itself.
    """
    if not COMPILED:
        return row
    signature, function = _signature(), TASKS[row]
    function.compile(signature)
    result = function.overloads[signature]
    return int(result.library.get_pointer_to_function(result.fndesc.llvm_func_name))


def _call_task(address, step, task, base, first, count, arena, weights, index):
    TASKS[address](step, task, base, first, count, arena, weights, index)


if COMPILED:

    @intrinsic
    def call_task(typing, address, step, task, base, first, count, arena, weights, index):
        """function(step, ..., index) for the function found at `address`."""
        wanted = _signature()

        def codegen(context, b, sig, args):
            function = context.call_conv.get_function_type(types.none, wanted)
            pointer = b.inttoptr(args[0], function.as_pointer())
            status, _ = context.call_conv.call_function(b, pointer, types.none, wanted, args[1:])
            with cgutils.if_unlikely(b, status.is_error):
                context.call_conv.return_status_propagate(b, status)
            return context.get_dummy_value()

        return types.void(types.int64, *wanted), codegen
else:
    call_task = _call_task
