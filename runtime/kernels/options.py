"""The one place where compiler options are set, and where compiled code is kept.

``contract`` lets a product and a sum become one fused multiply-add; nothing else is relaxed, so NaN and infinity behave
as IEEE says.
"""

from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

from numba import njit

OPTIONS = {"nogil": True, "error_model": "numpy", "fastmath": {"contract"}}

# Other kernels alone call these: what Python would need to call them took a quarter of the time of compiling. Called
# from Python nevertheless, the process ends; where nothing is compiled, all are plain functions.
INNER = {"no_cpython_wrapper": True, **OPTIONS}

kernel = njit(**INNER)
# For kernels that take and give a tile: between functions it would travel through memory.
inlined_kernel = njit(forceinline=True, **INNER)


def source_stamp(folder: Path = Path(__file__).parent) -> str:
    """A hash of every kernel's source."""
    return sha256(b"".join(path.read_bytes() for path in sorted(folder.glob("*.py")))).hexdigest()


SOURCES = source_stamp()


def entry_kernel(function: Callable) -> Any:
    """A kernel that Python calls; its compiled code is kept on disk, where there is a place for it, for exactly these
    sources.

    Numba compares the function's own file alone: after a change in a file that it calls into, the old code would run.
    Only what Python calls is kept: the kernels inside are part of its code.
    """
    try:
        dispatcher = njit(function, cache=True, **OPTIONS)
    except RuntimeError:  # no folder can be written
        return njit(function, **OPTIONS)
    kept_in = getattr(getattr(dispatcher, "_cache", None), "_cache_file", None)
    if kept_in is not None:
        kept_in._source_stamp = SOURCES
    return dispatcher
