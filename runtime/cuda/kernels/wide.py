"""Loads and stores of four numbers at once, whole numbers divided in 32 bits, and a barrier of one warp.

Plain numba emits a load for each number, and divides in 64 bits. Each of these functions has a twin in plain Python for
numba's simulator. No range is checked; the first number's address is a multiple of four numbers.
"""

from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np
from llvmlite import ir
from numba import cuda, types

from runtime.cuda.kernels.options import SIMULATED, device
from runtime.cuda.step import LANES

I32, I64 = ir.IntType(32), ir.IntType(64)
WIDTH = LANES  # numbers loaded or stored at once

_intrinsic = None if SIMULATED else import_module("numba.cuda.extending").intrinsic  # the simulator has no such module

if SIMULATED:

    @device
    def sync_warp():
        """A barrier of a block is one of its warps, which must come to it equally often: the simulator has no other."""
        cuda.syncthreads()

else:

    @device
    def sync_warp():
        """A barrier of a warp."""
        cuda.syncwarp()


def _primitive(twin: Callable) -> Callable[[Callable], Any]:
    """Decorator: numba's intrinsic where code is compiled, the twin where it is simulated."""

    def choose(typing_function: Callable) -> Any:
        return twin if _intrinsic is None else _intrinsic(typing_function)

    return choose


def _vector_at(context: Any, builder: Any, array_type: types.Array, array: Any, index: Any, offset: Any) -> Any:
    """Pointer to the four numbers at index + offset; the offset is added in 64 bits, so that constants cost nothing."""
    data = context.make_array(array_type)(context, builder, value=array).data
    place = builder.gep(builder.gep(data, [builder.zext(index, I64)]), [builder.sext(offset, I64)])
    vector = ir.VectorType(data.type.pointee, WIDTH)
    return builder.bitcast(place, ir.PointerType(vector, data.type.addrspace))


def _alignment(array_type: types.Array) -> int:
    return WIDTH * array_type.dtype.bitwidth // 8


def _load4(array: Any, index: Any, offset: Any) -> tuple:
    at = int(index) + int(offset)
    return tuple(np.float32(array[at + k]) for k in range(WIDTH))


@_primitive(_load4)
def load4(_, array, index, offset):
    """Four numbers of f32[] or f16[] at u32 index + i32 offset, as float32."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        array_type = signature.args[0]
        pointer = _vector_at(context, builder, array_type, *args)
        vector = builder.load(pointer, align=_alignment(array_type))
        manager = context.data_model_manager[array_type.dtype]
        parts = []
        for k in range(WIDTH):
            number = manager.from_data(builder, builder.extract_element(vector, I32(k)))
            parts.append(context.cast(builder, number, array_type.dtype, types.float32))
        return context.make_tuple(builder, signature.return_type, parts)

    return types.UniTuple(types.float32, WIDTH)(array, index, offset), generate


def _store4(array: Any, index: Any, a: Any, b: Any, c: Any, d: Any) -> None:
    at = int(index)
    array[at : at + WIDTH] = (a, b, c, d)


@_primitive(_store4)
def store4(_, array, index, a, b, c, d):
    """Four float32 numbers to f32[] or f16[] at u32 index."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        array_type = signature.args[0]
        pointer = _vector_at(context, builder, array_type, args[0], args[1], I32(0))
        manager = context.data_model_manager[array_type.dtype]
        vector = ir.Constant(pointer.type.pointee, ir.Undefined)
        for k, number in enumerate(args[2:]):
            stored = manager.as_data(builder, context.cast(builder, number, types.float32, array_type.dtype))
            vector = builder.insert_element(vector, stored, I32(k))
        builder.store(vector, pointer, align=_alignment(array_type))
        return context.get_dummy_value()

    return types.void(array, index, a, b, c, d), generate


def _divide(name: str, twin: Callable) -> Any:
    @_primitive(twin)
    def divide(_, dividend, divisor):
        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return getattr(builder, name)(*args)

        return types.int32(types.int32, types.int32), generate

    return divide


quotient = _divide("udiv", lambda dividend, divisor: np.int32(dividend // divisor))
remainder = _divide("urem", lambda dividend, divisor: np.int32(dividend % divisor))
