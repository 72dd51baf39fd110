"""Every GPU kernel by name, ``<dtype>_<op>_nhwc_<structure>_<tile>__cuda``, without importing one."""

from dataclasses import dataclass
from enum import Enum

from runtime.cuda.tiles import TILES, Tile

THREADS = 256  # of a block of every kernel but convolution and softmax: whole warps, eight blocks fill a multiprocessor
SOFTMAX_THREADS = 128


class Kernel(Enum):
    """Kernel families."""

    CONV = "conv2d"
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
        return f"{storage.replace('float', 'f')}_{self.kernel.value}_nhwc_{structure}__cuda"

    def blocks(self, size: int, pixels: int, tiles: int) -> int:
        """Thread blocks for so many numbers in so many pixels; `tiles` of output channels, for a convolution."""
        if self.tile is not None:
            return -(-pixels // self.tile.pixels) * tiles
        return pixels if self.kernel is Kernel.SOFTMAX else -(-size // self.threads)


def conv_entries(tiles: tuple[Tile, ...] = TILES) -> tuple[Entry, ...]:
    """The convolution with each tile."""
    return tuple(Entry(Kernel.CONV, tile, tile.threads) for tile in tiles)


def plain_entries(threads: int = THREADS, softmax_threads: int = SOFTMAX_THREADS) -> tuple[Entry, ...]:
    """The kernels without tiles, one of each family."""
    return tuple(
        Entry(kernel, None, softmax_threads if kernel is Kernel.SOFTMAX else threads)
        for kernel in Kernel
        if kernel is not Kernel.CONV
    )


ENTRIES: tuple[Entry, ...] = (*conv_entries(), *plain_entries())
