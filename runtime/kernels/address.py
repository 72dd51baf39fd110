"""Arrays by their addresses, for compiled code; with a plain twin of what kernels use."""

import ctypes
from typing import Any

import numba
import numpy as np
from numba import carray, types
from numba.extending import intrinsic

from runtime.kernels.options import kernel
from runtime.kernels.vector import COMPILED


def pointer_to(dtype: Any) -> Any:
    """An intrinsic: a number as the address of elements of a dtype, for `carray`."""
    element = types.CPointer(numba.from_dtype(np.dtype(dtype)))

    @intrinsic
    def pointer(typing, address):
        def codegen(context, b, sig, args):
            return b.inttoptr(args[0], context.get_value_type(element))

        return element(types.int64), codegen

    return pointer


def _floats(address, size):
    return np.ctypeslib.as_array((ctypes.c_float * int(size)).from_address(int(address)))


if COMPILED:
    floats_at = pointer_to(np.float32)

    @kernel
    def floats(address, size):
        """The f32[size] that begins at an address."""
        return carray(floats_at(address), size)
else:
    floats = _floats
