"""Every GPU kernel by name, ``<dtype>_<op>_<layout>_<structure>_<tile>__cuda``, without importing one."""

import math
from dataclasses import dataclass
from enum import Enum

import numpy as np

from runtime.cuda.step import LANES
from runtime.cuda.tiles import IMAGES_TILES, TILES, ImagesTile, Tile

NHWC, HWCN = "nhwc", "hwcn"  # how tensors lie: images one after the other, or innermost

THREADS = 256  # of a block of every kernel but convolution and softmax: whole warps, eight blocks fill a multiprocessor
SOFTMAX_THREADS = 128


class Kernel(Enum):
    """Kernel families."""

    CONV = "conv2d"
    CONV_IMAGES = "conv2d_images"
    DEPTHWISE_IMAGES = "depthwise_images"
    MAX_POOL_IMAGES = "max_pool_images"
    AVERAGE_POOL_IMAGES = "average_pool_images"
    TRANSPOSE = "transpose"
    DEPTHWISE = "depthwise"
    MAX_POOL = "max_pool"
    AVERAGE_POOL = "average_pool"
    SOFTMAX = "softmax"
    MAP = "map"
    MOVE = "move"


# Kernels that work in NHWC, and those that do the same with images innermost. Others serve both layouts.
IN_IMAGES = {
    Kernel.DEPTHWISE: Kernel.DEPTHWISE_IMAGES,
    Kernel.MAX_POOL: Kernel.MAX_POOL_IMAGES,
    Kernel.AVERAGE_POOL: Kernel.AVERAGE_POOL_IMAGES,
}


@dataclass(frozen=True)
class Entry:
    """One kernel: its family, its tile if it has a choice of tiles, and threads of a block."""

    kernel: Kernel
    tile: Tile | ImagesTile | None = None
    threads: int = THREADS

    @property
    def layout(self) -> str | None:
        """The layout that it works in; None: any."""
        if self.kernel in IN_IMAGES or self.kernel is Kernel.CONV:
            return NHWC
        return HWCN if self.kernel in IN_IMAGES.values() or self.kernel is Kernel.CONV_IMAGES else None

    def name(self, storage: str) -> str:
        """Its name with tensors stored as float32 or float16; sums are float32 either way."""
        structure = "full_thread" if self.tile is None else f"rows_{self.tile.name}"
        op = self.kernel.value.removesuffix("_images")
        return f"{storage.replace('float', 'f')}_{op}_{self.layout or 'any'}_{structure}__cuda"

    def blocks(self, step: np.void) -> int:
        """Thread blocks for a step of some batch size."""
        size, pixels, tiles = int(step["size"]), int(step["pixels"]), int(step["tiles"])
        match self.tile:
            case Tile():
                return -(-pixels // self.tile.pixels) * tiles
            case ImagesTile():
                return self.tile.blocks(pixels // LANES, tiles)
        if self.kernel is Kernel.TRANSPOSE:
            side = math.isqrt(4 * self.threads)
            lanes, images = int(step["lanes"]), int(step["images"])
            return -(-(size // lanes) // side) * -(-(lanes if step["to_lanes"] else images) // side)
        numbers = LANES if self.kernel in IN_IMAGES.values() else 1  # that a thread makes
        return pixels if self.kernel is Kernel.SOFTMAX else -(-size // (self.threads * numbers))


def conv_entries(tiles: tuple[Tile, ...] = TILES) -> tuple[Entry, ...]:
    """The convolution in NHWC with each tile."""
    return tuple(Entry(Kernel.CONV, tile, tile.threads) for tile in tiles)


def images_entries(tiles: tuple[ImagesTile, ...] = IMAGES_TILES) -> tuple[Entry, ...]:
    """The convolution with images innermost, with each tile."""
    return tuple(Entry(Kernel.CONV_IMAGES, tile, tile.threads) for tile in tiles)


def plain_entries(
    threads: int = THREADS, softmax_threads: int = SOFTMAX_THREADS, transpose_threads: int = THREADS
) -> tuple[Entry, ...]:
    """The kernels without tiles, one of each family."""
    special = {Kernel.SOFTMAX: softmax_threads, Kernel.TRANSPOSE: transpose_threads}
    tiled = (Kernel.CONV, Kernel.CONV_IMAGES)
    return tuple(Entry(kernel, None, special.get(kernel, threads)) for kernel in Kernel if kernel not in tiled)


ENTRIES: tuple[Entry, ...] = (*images_entries(), *conv_entries(), *plain_entries())
