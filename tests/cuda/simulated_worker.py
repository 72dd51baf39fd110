"""`runtime/bench/worker.py`, in numba's simulator with threads that take turns and with small blocks."""

import sys

from runtime.bench import worker
from runtime.cuda.model import GpuModel
from tests.cuda.gpus import SMALL_TILE, entries_of
from tests.cuda.simulator import turns

if __name__ == "__main__":
    GpuModel.__init__.__kwdefaults__["entries"] = entries_of(SMALL_TILE)
    with turns():
        worker.main(*sys.argv[1:])
