"""What runs the kernels of these tests: numba's simulator, or a GPU, or nothing; and models that watch their memory."""

from contextlib import nullcontext

import numpy as np
import pytest
from numba import cuda
from numba.core import config

from runtime.cuda import memory
from runtime.cuda.model import GpuModel
from runtime.cuda.registry import conv_entries, plain_entries
from runtime.cuda.tiles import TILES, Tile
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


# Tiles of warps of fewer lanes than a GPU's, which only the simulator has: one lane, a lane that fills no warp, several
# warps of a block with and without a tile in common, several fours of outputs.
TINY = (Tile(4, 1, 1, 1), Tile(8, 2, 1, 2), Tile(4, 2, 2, 3), Tile(4, 6, 3, 1), Tile(16, 4, 2, 2))
tiles_to_try = pytest.mark.parametrize("tile", TINY if SIMULATED else TILES, ids=lambda tile: tile.name)
PLAIN = plain_entries(8, 2, 4) if SIMULATED else plain_entries()
SMALL_TILE = TINY[2] if SIMULATED else TILES[0]


def entries_of(tile):
    """All kernels, with this tile alone for convolutions."""
    return conv_entries((tile,)) + PLAIN


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

    def __init__(self, spec, tile=SMALL_TILE, **options):
        super().__init__(spec, entries=entries_of(tile), **options)

    def run(self, x, order=ORDERS["ordered"], **options):
        with pytest.MonkeyPatch.context() as patch, turns(order):
            self._arenas.clear()
            patch.setattr(memory, "Arena", GuardedArena)
            y = super().run(x, **options)
        for arena in self._arenas.values():
            arena.check()
        return y
