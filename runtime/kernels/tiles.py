"""Register tiles of the convolution kernels, chosen by machine: data, measured, not rules.

`outputs` counts output channels (images in the lanes) or vectors of output channels (channels in the lanes); `wide` and
`middle` are the pixels of the two larger tiles, one pixel being the third. A tile needs outputs*wide accumulators, `wide`
activations and one weight in registers.
"""
from dataclasses import dataclass

from runtime.kernels.machine import MACHINE, Machine


@dataclass(frozen=True)
class Tile:
    """One register tile shape with the cost of a row in processor cycles, for wide, middle and single tiles."""

    outputs: int
    wide: int
    middle: int
    cycles: tuple[float, float, float]

    def __post_init__(self) -> None:
        if not 1 <= self.middle <= self.wide:
            raise ValueError(f"tile: expected 1 <= middle <= wide, got {self.middle} and {self.wide}. Swap them.")

    def cycles_for(self, pixels: int) -> float:
        """Cycles of one row over a run of pixels, covered greedily."""
        wide, rest = divmod(pixels, self.wide)
        middle, single = divmod(rest, self.middle)
        return wide * self.cycles[0] + middle * self.cycles[1] + single * self.cycles[2]


# Cycles of a row, from GFLOP/s of the bare tiles on an AVX-512 server core (two 512-bit multiply-adds a cycle).
IMAGES_32 = (Tile(8, 3, 2, (12.3, 8.0, 5.2)), Tile(4, 6, 3, (12.1, 6.5, 4.5)), Tile(1, 12, 4, (16.0, 6.0, 4.0)))
CHANNELS_32 = (Tile(2, 8, 3, (8.2, 4.6, 4.0)), Tile(1, 16, 4, (10.0, 4.0, 4.0)))
# 16 registers: at most 12 accumulators.
IMAGES_16 = (Tile(4, 3, 2, (6.2, 4.2, 4.0)), Tile(1, 8, 3, (8.0, 4.0, 4.0)))
CHANNELS_16 = (Tile(2, 4, 2, (4.4, 4.0, 4.0)), Tile(1, 8, 3, (5.2, 4.0, 4.0)))


def images_tiles(machine: Machine = MACHINE) -> tuple[Tile, ...]:
    """Tiles with images in the lanes."""
    return IMAGES_32 if machine.registers >= 32 else IMAGES_16


def channels_tiles(machine: Machine = MACHINE) -> tuple[Tile, ...]:
    """Tiles with output channels in the lanes."""
    return CHANNELS_32 if machine.registers >= 32 else CHANNELS_16
