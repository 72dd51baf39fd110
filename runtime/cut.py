"""Cuts a batch into parts, each for a layout."""

from collections.abc import Callable

from runtime.kernels.machine import LANES
from runtime.layout import CHANNELS, IMAGES, LAYOUTS, WIDE, Layout

Cycles = Callable[[Layout], float]  # predicted for one image group in a layout


def cut(batch: int, cycles: Cycles) -> list[tuple[Layout, int]]:
    """(layout, number of images) in order; each part goes the way that the cost model finds cheaper. A single image
    always goes by itself.
    """
    wide = _wide_images(batch, cycles)
    parts = [(WIDE, wide), *_narrow_parts(batch - wide, cycles)]
    return [part for part in parts if part[1]]


def _wide_images(batch: int, cycles: Cycles) -> int:
    """Images that go two vectors at a time: whole groups, at least two of them, for two groups keep two cores busy
    without waiting for each other.
    """
    whole = batch // WIDE.lanes * WIDE.lanes
    if WIDE not in LAYOUTS or whole < 2 * WIDE.lanes:
        return 0
    groups = WIDE.lanes // IMAGES.lanes
    return whole if cycles(WIDE) < groups * cycles(IMAGES) else 0


def _narrow_parts(batch: int, cycles: Cycles) -> list[tuple[Layout, int]]:
    """The cut of images that don't go two vectors at a time."""
    whole, rest = batch // LANES * LANES, batch % LANES
    if batch <= 1:
        return [(CHANNELS, batch)]
    group, single = cycles(IMAGES), cycles(CHANNELS)
    if group > LANES * single:
        return [(CHANNELS, batch)]
    if rest and group <= rest * single:
        whole, rest = batch, 0
    return [(IMAGES, whole), (CHANNELS, rest)]
