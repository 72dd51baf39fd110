"""Numbers as addresses: for `numba.carray`, compiled or not."""

import ctypes
from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from numba import types
from numba.extending import intrinsic

from runtime.kernels.vector import COMPILED


def pointer_to(dtype: Any) -> Any:
    """An intrinsic: a number as the address of elements of a dtype."""
    element = types.CPointer(numba.from_dtype(np.dtype(dtype)))

    @intrinsic
    def pointer(typing, address):
        def codegen(context, b, sig, args):
            return b.inttoptr(args[0], context.get_value_type(element))

        return element(types.int64), codegen

    return pointer


def _floats_at(address):
    return ctypes.cast(int(address), ctypes.POINTER(ctypes.c_float))


floats_at: Callable = pointer_to(np.float32) if COMPILED else _floats_at
