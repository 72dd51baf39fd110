"""What memory costs a layer, in cycles of one core, beside its multiply-adds; what a task is worth."""

import math

from runtime.layer import Layer
from runtime.layout import Layout

CACHED_BYTES = 20 * 2**20  # activations of one image group beyond this are taken to come from memory,
MEMORY_BYTES_PER_CYCLE = 2.0  # at this rate; measured 1-3 on a shared server with 32 MB of third-level cache
NEAR_BYTES = 2 * 2**20  # weights beyond these come from the third-level cache,
WEIGHT_BYTES_PER_CYCLE = 10.0  # at this rate for one core (AMD Zen 5, whose second-level cache has 1 MB)

TASK_CYCLES = 5_000.0  # of work that is worth claiming by itself: about a microsecond; 30,000 leave cores waiting


def memory_cycles(layer: Layer, layout: Layout) -> float:
    """Cycles that a layer waits for memory: none while its activations stay in a cache shared by the cores."""
    moved = 4 * (layout.size(layer.shape) + layout.size(layer.out_shape) * (2 if layer.other else 1))
    return moved / MEMORY_BYTES_PER_CYCLE if moved > CACHED_BYTES else 0.0


def with_weights(cycles: float, weights: int) -> float:
    """Cycles of multiply-adds that read so many weights meanwhile: where these are many, from the third-level cache.

    A single image of 2x2 pixels waits for little else, one of 16x16 does not wait; between them both hide each other
    partly (VGG16's dense layers on an AMD Zen 5 core).
    """
    read = 4 * weights
    return math.hypot(cycles, read / WEIGHT_BYTES_PER_CYCLE) if read > NEAR_BYTES else cycles
