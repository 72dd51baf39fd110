"""The kernel of each entry, made once: the one way from `runtime.cuda.registry` to code."""

from functools import cache
from typing import Any

from runtime.cuda.kernels import conv, images, images_plain, other
from runtime.cuda.registry import Entry, Kernel

MAKERS = {
    Kernel.DEPTHWISE: lambda entry: other.depthwise,
    Kernel.MAX_POOL: lambda entry: other.pool(True),
    Kernel.AVERAGE_POOL: lambda entry: other.pool(False),
    Kernel.DEPTHWISE_IMAGES: lambda entry: images_plain.depthwise_images,
    Kernel.MAX_POOL_IMAGES: lambda entry: images_plain.pool_images(True),
    Kernel.AVERAGE_POOL_IMAGES: lambda entry: images_plain.pool_images(False),
    Kernel.SOFTMAX: lambda entry: other.softmax(entry.threads),
    Kernel.MAP: lambda entry: other.map_numbers,
    Kernel.MOVE: lambda entry: other.move,
    Kernel.TRANSPOSE: lambda entry: other.transpose(entry.threads),
    Kernel.CONV: lambda entry: conv.conv(entry.tile),
    Kernel.CONV_IMAGES: lambda entry: images.conv_images(entry.tile),
}


@cache
def kernel_of(entry: Entry) -> Any:
    """The kernel, compiled by numba at its first launch for each storage."""
    return MAKERS[entry.kernel](entry)
