"""The one place where compiler options are set.

``contract`` lets a product and a sum become one fused multiply-add; nothing else is relaxed, so NaN and infinity behave
as IEEE says.
"""

from numba import njit

OPTIONS = {"nogil": True, "cache": True, "error_model": "numpy", "fastmath": {"contract"}}

kernel = njit(**OPTIONS)
parallel_kernel = njit(**OPTIONS, parallel=True)
