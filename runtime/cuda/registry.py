"""Every GPU kernel by name, ``<dtype>_<op>_<layout>_<structure>_<tile>__cuda``, without importing one."""

import math
from dataclasses import dataclass
from enum import Enum

import numpy as np

from runtime.cuda.step import LANES
from runtime.cuda.tiles import TILES, Tile

LAYOUT = "hwcn"  # how tensors lie between layers: [pixel][channel][image]

THREADS = 256  # of a block of every kernel but convolution and softmax: whole warps, eight blocks fill a multiprocessor
SOFTMAX_THREADS = 128


class Kernel(Enum):
    """Kernel families."""

    CONV = "conv2d"
    TRANSPOSE = "transpose"
    DEPTHWISE = "depthwise"
    MAX_POOL = "max_pool"
    AVERAGE_POOL = "average_pool"
    SOFTMAX = "softmax"
    MAP = "map"
    MOVE = "move"


@dataclass(frozen=True)
class Entry:
    """One kernel: its family, its tile if it has a choice of tiles, and threads of a block."""

    kernel: Kernel
    tile: Tile | None = None
    threads: int = THREADS

    def name(self, storage: str) -> str:
        """Its name with tensors stored as float32 or float16; sums are float32 either way."""
        structure = "full_thread" if self.tile is None else f"rows_{self.tile.name}"
        return f"{storage.replace('float', 'f')}_{self.kernel.value}_{LAYOUT}_{structure}__cuda"

    def blocks(self, step: np.void) -> int:
        """Thread blocks for a step of some batch size."""
        size, pixels, lanes = int(step["size"]), int(step["pixels"]), int(step["lanes"])
        if self.tile is not None:
            return self.tile.blocks(pixels // LANES, int(step["tiles"]))
        if self.kernel is Kernel.TRANSPOSE:
            side = math.isqrt(4 * self.threads)
            return -(-(size // lanes) // side) * -(-(lanes if step["to_lanes"] else int(step["images"])) // side)
        if self.kernel is Kernel.SOFTMAX:
            return pixels
        return -(-size // (self.threads * (LANES if self.kernel in IN_FOURS else 1)))


IN_FOURS = (Kernel.DEPTHWISE, Kernel.MAX_POOL, Kernel.AVERAGE_POOL)  # a thread makes four images of a number


def conv_entries(tiles: tuple[Tile, ...] = TILES) -> tuple[Entry, ...]:
    """The convolution with each tile."""
    return tuple(Entry(Kernel.CONV, tile, tile.threads) for tile in tiles)


def plain_entries(
    threads: int = THREADS, softmax_threads: int = SOFTMAX_THREADS, transpose_threads: int = THREADS
) -> tuple[Entry, ...]:
    """The kernels without tiles, one of each family."""
    special = {Kernel.SOFTMAX: softmax_threads, Kernel.TRANSPOSE: transpose_threads}
    return tuple(Entry(kernel, None, special.get(kernel, threads)) for kernel in Kernel if kernel is not Kernel.CONV)


ENTRIES: tuple[Entry, ...] = (*conv_entries(), *plain_entries())
