"""The one place where compiler options of GPU kernels are set.

No fast-math flag is: NVVM fuses a product and a sum into one multiply-add by itself, and NaN, infinity and denormal
numbers behave as IEEE says.
"""

from collections.abc import Callable
from typing import Any

from numba import cuda
from numba.core import config

SIMULATED = bool(config.ENABLE_CUDASIM)
OPTIONS: dict[str, Any] = {}


def kernel(function: Callable) -> Any:
    """A kernel that is launched."""
    return cuda.jit(**OPTIONS)(function)


def kernel_of_registers(most: int) -> Callable[[Callable], Any]:
    """A kernel that is launched and shall use at most so many registers."""
    return cuda.jit(**OPTIONS, **({} if SIMULATED else {"max_registers": most}))


def device(function: Callable) -> Any:
    """A function that kernels call."""
    return cuda.jit(device=True, **OPTIONS)(function)
