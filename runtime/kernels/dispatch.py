"""One compiled function for each row of the registry: runs one task of a step.

Each is compiled, and kept on disk, by itself at its first use, so that a net waits for its own kernels only.
"""

from collections.abc import Callable
from typing import Any

from runtime.kernels import border, gather, mapping, other
from runtime.kernels.conv import conv, conv_scattered
from runtime.kernels.functions import finish
from runtime.kernels.options import entry_kernel
from runtime.kernels.pixels import conv_pixels
from runtime.kernels.registry import REGISTRY, Entry
from runtime.kernels.step import Kernel
from runtime.kernels.vector import CHANNELS, DEPTHWISE, IMAGES, marker
from runtime.kernels.whole import conv_whole
from runtime.kernels.winograd import conv_winograd

KINDS = {Kernel.CONV_IMAGES: IMAGES, Kernel.CONV_CHANNELS: CHANNELS, Kernel.DEPTHWISE: DEPTHWISE}


def _convolution(entry: Entry) -> Callable:
    tile = entry.tile
    assert tile is not None, "a convolution kernel has a tile"
    sizes = tuple(marker(pixels * tile.vectors) for pixels in tile.pixels)
    if entry.kernel == Kernel.CONV_SCATTERED:
        rows = marker(tile.rows)

        def run_scattered(step, task, base, first, count, arena, weights, index):
            conv_scattered(rows, sizes, step, task, base, arena, weights, index)
            finish(step, task, base, arena, weights)

        return run_scattered
    if entry.kernel == Kernel.CONV_WHOLE:
        high, wide, pixels = marker(tile.rows), marker(tile.pixels[0]), marker(tile.rows * tile.pixels[0])

        def run_whole(step, task, base, first, count, arena, weights, index):
            conv_whole(pixels, high, wide, step, task, base, arena, weights, index)
            finish(step, task, base, arena, weights)

        return run_whole
    if entry.kernel == Kernel.CONV_WINOGRAD:
        lanes, made = IMAGES if entry.layouts == ("images",) else CHANNELS, marker(tile.outputs)

        def run_winograd(step, task, base, first, count, arena, weights, index):
            conv_winograd(lanes, made, sizes, sizes[0], step, task, base, arena, weights, index)
            finish(step, task, base, arena, weights)

        return run_winograd
    if entry.kernel == Kernel.CONV_PIXELS:
        shared = marker(tile.outputs)

        def run_pixels(step, task, base, first, count, arena, weights, index):
            conv_pixels(shared, sizes, step, task, base, arena, weights, index)
            finish(step, task, base, arena, weights)

        return run_pixels
    kind, outputs, columns = KINDS[entry.kernel], marker(tile.outputs), marker(tile.vectors)

    def run_convolution(step, task, base, first, count, arena, weights, index):
        conv(kind, outputs, sizes, columns, step, task, base, arena, weights, index)
        finish(step, task, base, arena, weights)

    return run_convolution


def _max_pool(step, task, base, first, count, arena, weights, index):
    other.pool(True, step, task, base, arena)


def _average_pool(step, task, base, first, count, arena, weights, index):
    other.pool(False, step, task, base, arena)


def _add(step, task, base, first, count, arena, weights, index):
    other.elementwise(True, step, task, base, arena)


def _activate(step, task, base, first, count, arena, weights, index):
    other.elementwise(False, step, task, base, arena)


def _flatten(step, task, base, first, count, arena, weights, index):
    other.flatten(step, task, base, arena)


def _softmax(step, task, base, first, count, arena, weights, index):
    other.softmax(step, task, base, arena)


def _map(step, task, base, first, count, arena, weights, index):
    mapping.map_numbers(step, task, base, arena, weights)


def _gather(step, task, base, first, count, arena, weights, index):
    gather.gather(step, task, base, arena, index)


def _import(step, task, base, first, count, arena, weights, index):
    border.import_images(step, task, base, first, count, arena)


def _export(step, task, base, first, count, arena, weights, index):
    border.export_images(step, task, base, first, count, arena)


OTHERS = {
    Kernel.MAX_POOL: _max_pool,
    Kernel.AVERAGE_POOL: _average_pool,
    Kernel.ADD: _add,
    Kernel.ACTIVATE: _activate,
    Kernel.FLATTEN: _flatten,
    Kernel.SOFTMAX: _softmax,
    Kernel.MAP: _map,
    Kernel.GATHER: _gather,
    Kernel.IMPORT: _import,
    Kernel.EXPORT: _export,
}

TASKS: list[Any] = [entry_kernel(OTHERS.get(e.kernel) or _convolution(e)) for e in REGISTRY.values()]
"""For each row of the registry, a function (step, task, base, first, count, arena, weights, index): one task of a step,
for the image group whose arena begins at `base` and which holds images first..first+count-1."""
