"""How many threads NumPy's matrix products use: the bits of trained weights depend on it."""

import ctypes
import os
from pathlib import Path

import numpy as np

VARIABLES = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS")
SYMBOLS = ("scipy_openblas_get_num_threads64_", "scipy_openblas_get_num_threads", "openblas_get_num_threads64_")


def threads() -> int:
    """As the OpenBLAS that NumPy's wheels bring reports it; with another BLAS what the variables of the process say."""
    packages = Path(np.__file__).parent.parent
    for path in (*(packages / "numpy.libs").glob("*openblas*"), *(packages / "numpy" / ".dylibs").glob("*openblas*")):
        try:
            library = ctypes.CDLL(str(path))
        except OSError:
            continue
        for symbol in SYMBOLS:
            if hasattr(library, symbol):
                return int(getattr(library, symbol)())
    asked = [os.environ[name] for name in VARIABLES if os.environ.get(name, "").isdecimal()]
    return int(asked[0]) if asked else os.cpu_count() or 1
