"""What runs the kernels of these tests: numba's simulator, or a GPU, or nothing; and models that watch their memory."""

from contextlib import nullcontext

import numpy as np
import pytest
from numba import cuda
from numba.core import config

from runtime.cuda import memory
from runtime.cuda.model import GpuModel
from runtime.cuda.registry import conv_entries, images_entries, plain_entries
from runtime.cuda.tiles import IMAGES_TILES, TILES, ImagesTile, Tile
from tests.runtime.nets import CANARY, POISON
from tests.tolerances import assert_identical

SIMULATED = bool(config.ENABLE_CUDASIM)
AVAILABLE = SIMULATED or cuda.is_available()
launching = pytest.mark.skipif(not AVAILABLE, reason="needs NUMBA_ENABLE_CUDASIM=1 or an NVIDIA GPU: make cudasim")

if SIMULATED:
    from tests.cuda.simulator import turns
else:

    def turns(order=None):
        """A GPU has an order of its own."""
        return nullcontext()


# Tiles of a few threads, as odd as the rules allow: a single thread across, several chunks of outputs to write.
TINY = (Tile(4, 2, 2, 2, 2), Tile(8, 8, 2, 4, 4), Tile(2, 1, 1, 1, 1), Tile(6, 4, 3, 2, 2), Tile(4, 8, 4, 2, 2))
# Warps of fewer lanes than a GPU's, which only the simulator has.
TINY_IMAGES = (ImagesTile(4, 1, 1, 1), ImagesTile(8, 2, 1, 2), ImagesTile(4, 2, 2, 3), ImagesTile(4, 6, 3, 1))
TRIED = (*TINY, *TINY_IMAGES) if SIMULATED else (*TINY, *TILES, *IMAGES_TILES)
tiles_to_try = pytest.mark.parametrize("tile", TRIED, ids=lambda tile: tile.name)
ONE_OF_EACH = (TINY[0], TINY_IMAGES[2] if SIMULATED else IMAGES_TILES[1])
layouts_to_try = pytest.mark.parametrize("tile", ONE_OF_EACH, ids=["nhwc", "hwcn"])
PLAIN = plain_entries(8, 2, 4) if SIMULATED else plain_entries()


def entries_of(tile):
    """All kernels, with this tile alone for convolutions."""
    return (conv_entries if isinstance(tile, Tile) else images_entries)((tile,)) + PLAIN


ENTRIES = {tile: entries_of(tile) for tile in (*TINY, *TINY_IMAGES)}
ORDERS = {"ordered": lambda items: items, "reversed": lambda items: items[::-1]}
GUARD = 64  # numbers on each side of a buffer


class GuardedArena(memory.Arena):
    """Memory of exactly the size asked for, full of NaN, between canaries."""

    def __init__(self):
        super().__init__()
        self.whole = []

    def take(self, use, size, dtype):
        bits = {"float32": (np.uint32, CANARY, POISON), "float16": (np.uint16, np.uint16(0x7EAD), np.uint16(0x7EEF))}
        kind, canary, poison = bits[dtype]
        host = np.full(size + 2 * GUARD, canary, kind)
        host[GUARD : GUARD + size] = poison
        whole = cuda.to_device(host.view(dtype))
        self.whole.append((whole, canary))
        return whole[GUARD : GUARD + size]

    def check(self):
        """Every canary is as it was."""
        for whole, canary in self.whole:
            host = whole.copy_to_host().view(canary.dtype)
            for end in (host[:GUARD], host[-GUARD:]):
                assert_identical(end, np.full(GUARD, canary))


class GuardedGpuModel(GpuModel):
    """A GPU model with one tile, in guarded and poisoned memory."""

    def __init__(self, spec, tile=TINY[0], **options):
        super().__init__(spec, entries=entries_of(tile), **options)

    def run(self, x, order=ORDERS["ordered"], **options):
        with pytest.MonkeyPatch.context() as patch, turns(order):
            self._arenas.clear()
            patch.setattr(memory, "Arena", GuardedArena)
            y = super().run(x, **options)
        for arena in self._arenas.values():
            arena.check()
        return y
