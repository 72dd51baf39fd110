"""Launches recorded once and repeated by one call: CUDA graphs, which numba lacks, by the driver's own functions.

numba-cuda takes some 70 us to launch a kernel with eight arguments, more than many kernels run; a graph of 20 launches
takes 4 us (on the host of an H200).
"""

import ctypes
import sys
import weakref
from collections.abc import Callable
from functools import cache
from typing import Any

from runtime.cuda.gate import DeviceError, cuda

LIBRARY = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
NON_BLOCKING = 1  # of a stream: not held up by the default stream, nor holding it up while it is recorded
RELAXED = 2  # of a recording: other threads may use the GPU meanwhile


@cache
def _driver() -> ctypes.CDLL:
    """NVIDIA's driver, which numba has found before."""
    return ctypes.CDLL(LIBRARY)


def _call(name: str, *arguments: Any) -> None:
    status = getattr(_driver(), name)(*arguments)
    if status:
        raise DeviceError(
            f"{name}: expected the driver to record and repeat launches, got error {status}. Run again; if it stays "
            "so, start a new process."
        )


class Graph:
    """What `record(stream)` launches, to be launched again; `held` are the arrays that the launches use.

    Nothing runs while it is recorded. Everything that is launched has been compiled before.
    """

    def __init__(self, record: Callable[[Any], None], held: Any) -> None:
        self._held = held
        stream, graph, executable = ctypes.c_void_p(), ctypes.c_void_p(), ctypes.c_void_p()
        _call("cuStreamCreate", ctypes.byref(stream), NON_BLOCKING)
        try:
            _call("cuStreamBeginCapture_v2", stream, RELAXED)
            try:
                record(cuda().external_stream(stream.value))
            finally:
                _call("cuStreamEndCapture", stream, ctypes.byref(graph))
            _call("cuGraphInstantiateWithFlags", ctypes.byref(executable), graph, ctypes.c_ulonglong(0))
        finally:
            if graph:  # also of a recording that failed
                _call("cuGraphDestroy", graph)
            _call("cuStreamDestroy_v2", stream)
        self._executable = executable
        weakref.finalize(self, _driver().cuGraphExecDestroy, executable).atexit = False

    def launch(self, stream: int) -> None:
        """Queue all launches on a stream, by its number."""
        _call("cuGraphLaunch", self._executable, ctypes.c_void_p(stream))
