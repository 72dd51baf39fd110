"""The kernel of each entry, made once: the one way from `runtime.cuda.registry` to code."""

from functools import cache
from typing import Any

from runtime.cuda.kernels import conv, other, windows
from runtime.cuda.registry import Entry, Kernel

MAKERS = {
    Kernel.CONV: lambda entry: conv.conv(entry.tile),
    Kernel.DEPTHWISE: lambda entry: windows.depthwise,
    Kernel.MAX_POOL: lambda entry: windows.pool(True),
    Kernel.AVERAGE_POOL: lambda entry: windows.pool(False),
    Kernel.SOFTMAX: lambda entry: other.softmax(entry.threads),
    Kernel.MAP: lambda entry: other.map_numbers,
    Kernel.MOVE: lambda entry: other.move,
    Kernel.TRANSPOSE: lambda entry: other.transpose(entry.threads),
}


@cache
def kernel_of(entry: Entry) -> Any:
    """The kernel, compiled by numba at its first launch for each storage."""
    return MAKERS[entry.kernel](entry)
