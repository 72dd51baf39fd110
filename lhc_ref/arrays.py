"""What every operator asks of its arrays: whose functions to call, and whether dtype and shape are right."""

import sys
from types import ModuleType
from typing import Any

import numpy as np

from lhc_ref.errors import InputError

Array = Any  # a NumPy array, or one of another library that mirrors NumPy (CuPy)

OneOrTwo = int | tuple[int, int]  # vertical and horizontal, or one number for both

FLOATS = ("float32", "float64")


def namespace(x: Array) -> ModuleType:
    """The module whose functions work on `x`: numpy for NumPy arrays, cupy for CuPy arrays."""
    if isinstance(x, np.ndarray | np.generic):
        return np
    return sys.modules[type(x).__module__.partition(".")[0]]


def to_numpy(x: Array) -> np.ndarray:
    """`x` in the memory of the CPU: itself where it is a NumPy array, else a copy."""
    return x if isinstance(x, np.ndarray) else namespace(x).asnumpy(x)


def describe(x: object) -> str:
    """`float32[2, 3]` for an array, the type's name for anything else."""
    if hasattr(x, "dtype") and hasattr(x, "shape"):
        return f"{x.dtype}[{', '.join(map(str, x.shape))}]"
    return type(x).__name__


def check_array(x: Array, name: str, shape: str) -> None:
    """Raise InputError unless `x` is a float32 or float64 array with the axes that `shape` ("n, h, w, c") names."""
    axes = shape.split(", ") if shape else []
    if not hasattr(x, "dtype") or str(x.dtype) not in FLOATS or x.ndim != len(axes):
        raise InputError(
            f"{name}: expected a float32 or float64 array [{shape}], got {describe(x)}. Convert or reshape it."
        )


def check_float(x: Array, name: str) -> None:
    """Raise InputError unless `x` is a float32 or float64 array, of any shape."""
    if not hasattr(x, "dtype") or str(x.dtype) not in FLOATS:
        raise InputError(f"{name}: expected a float32 or float64 array, got {describe(x)}. Convert it with astype.")


def check_like(x: Array, name: str, shape: tuple[int, ...], like: Array, like_name: str) -> None:
    """Raise InputError unless `x` has exactly this shape, and the dtype of `like`."""
    if not hasattr(x, "dtype") or x.dtype != like.dtype or tuple(x.shape) != tuple(shape):
        expected = f"{like.dtype}[{', '.join(map(str, shape))}]"
        raise InputError(
            f"{name}: expected {expected} to go with {like_name}, got {describe(x)}. "
            f"Convert or reshape it: dtypes are never mixed."
        )


def pair(value: OneOrTwo, name: str, minimum: int = 1) -> tuple[int, int]:
    """`value` as (vertical, horizontal); one integer stands for both."""
    both = (value, value) if isinstance(value, int | np.integer) else value
    try:
        vertical, horizontal = both
        ok = all(isinstance(v, int | np.integer) and v >= minimum for v in (vertical, horizontal))
    except (TypeError, ValueError):
        ok = False
    if not ok:
        raise InputError(
            f"{name}: expected one or two integers >= {minimum}, got {value!r}. Give (vertical, horizontal)."
        )
    return int(vertical), int(horizontal)
