"""Register tiles of the convolution kernels, chosen by machine: data, measured, not rules.

`outputs` counts output channels (images in the lanes) or vectors of output channels (channels in the lanes); a run of
output columns is covered by tiles of `pixels` columns, at the least cost. A tile needs outputs * pixels * vectors
accumulators, as many activations as pixels * vectors (images) or one (channels), and one weight, all in registers.
"""

from dataclasses import dataclass

from runtime.kernels.machine import MACHINE, Machine


@dataclass(frozen=True)
class Tile:
    """One register tile shape: its outputs, the numbers of pixels it comes in, and the processor cycles of a row for
    each.

    vectors : how many vectors of images lie side by side in each pixel.
    near : output tiles that walk over the pixels together, so that the second finds its activations in the first-level
        cache: worth it where the tiles of a pattern are many.
    rows : of pixels, each of `pixels` columns; a tile of two reaches fewer lines than one as large of a single row.
    """

    outputs: int
    pixels: tuple[int, ...]
    cycles: tuple[float, ...]
    vectors: int = 1
    near: int = 1
    rows: int = 1

    def __post_init__(self) -> None:
        if list(self.pixels) != sorted(set(self.pixels), reverse=True) or self.pixels[-1:] != (1,):
            raise ValueError(f"tile: expected falling numbers of pixels that end in 1, got {self.pixels}. Sort them.")
        if self.vectors > 1 and self.pixels != (1,):
            raise ValueError(f"tile: expected one pixel of {self.vectors} vectors, got {self.pixels}. Make it one.")
        if self.rows not in (1, 2, 4):
            raise ValueError(f"tile: expected 1, 2 or 4 rows of pixels, got {self.rows}. Make them two.")
        if len(self.cycles) != len(self.pixels):
            raise ValueError(
                f"tile: expected {len(self.pixels)} costs, got {len(self.cycles)}. Give one for each number of pixels."
            )

    @property
    def name(self) -> str:
        """Pixels x outputs of the largest tile; where there are rows of pixels, these come first."""
        rows = f"{self.rows}x" if self.rows > 1 else ""
        return f"{rows}{self.pixels[0]}x{self.outputs}"

    def cover(self, run: int) -> list[tuple[int, int]]:
        """(pixels, how many of them) of the tiles that cover a run of columns at the least cost, the largest first."""
        best: list[tuple[float, int]] = [(0.0, 0)]  # of each length: its cost, and the tile that comes last
        for length in range(1, run + 1):
            best.append(
                min(
                    (best[length - size][0] + cost + CALL_CYCLES, size)
                    for size, cost in zip(self.pixels, self.cycles, strict=True)
                    if size <= length
                )
            )
        sizes: list[int] = []
        while run:
            sizes.append(best[run][1])
            run -= sizes[-1]
        return [(size, sizes.count(size)) for size in self.pixels if size in sizes]


CALL_CYCLES = 0.4  # what a tile's call costs beside its rows, for each of some hundred rows

# Cycles of a row, from GFLOP/s of the bare tiles on an AVX-512 server core (two 512-bit multiply-adds a cycle).
IMAGES_32 = (
    Tile(8, (3, 2, 1), (12.2, 8.2, 5.2)),
    Tile(4, (6, 4, 2, 1), (12.2, 8.3, 5.0, 3.0)),
    Tile(1, (12, 4, 1), (24.0, 6.0, 2.0)),
)
# Scattered weights load two vectors a cycle from the first-level cache: pixels, a weight and an offset. Fitted together
# with what `runtime.select` has of such layers.
SCATTERED_32 = (
    Tile(1, (4, 2, 1), (10.2, 5.9, 3.7), rows=4),
    Tile(1, (8, 7, 4, 2, 1), (10.2, 9.1, 5.9, 3.7, 2.4), rows=2),
    Tile(1, (8, 4, 2, 1), (5.9, 3.7, 2.4, 1.7)),
)
# Pixels in the lanes, whose vectors mostly lie across two lines of the cache; fitted together with what
# `runtime.pixels` has of them.
PIXELS_32 = (
    Tile(8, (3, 2, 1), (12.4, 7.9, 5.4)),
    Tile(4, (6, 4, 2, 1), (12.9, 8.6, 4.6, 3.5)),
    Tile(1, (12, 4, 2, 1), (15.8, 5.5, 3.1, 1.9)),
)
# 7 and 14 columns: what images of 7, 14, 28, 56 pixels are made of.
CHANNELS_32 = (
    Tile(2, (8, 7, 4, 2, 1), (8.2, 7.2, 4.6, 2.9, 2.2)),
    Tile(1, (16, 14, 8, 7, 4, 2, 1), (9.9, 8.8, 5.2, 4.8, 3.3, 2.3, 1.4)),
)
# Whole lines of images: all of those of 4x4 and 2x2, two of 8x8.
WHOLE_16 = (Tile(1, (2, 1), (3.0, 2.0), rows=2),)
WHOLE_32 = (
    Tile(1, (8, 4, 2, 1), (9.9, 5.2, 3.3, 2.3), rows=2),
    Tile(1, (4, 2, 1), (9.9, 5.2, 3.3), rows=4),
    *WHOLE_16,
)
# 16 registers: at most 12 accumulators. From GFLOP/s on an AMD server core with AVX2 (two 256-bit multiply-adds a
# cycle): the largest of each run at 95 % of that, one pixel of 8 images x 4 outputs at 75 %, of 16 images at 95 %, and
# pixels of one output at what the second-level cache gives (AMD Zen 5, compiled for AVX2).
SCATTERED_16 = (
    Tile(1, (4, 2, 1), (4.8, 2.9, 1.9), rows=2),
    Tile(1, (8, 4, 2, 1), (4.9, 2.9, 1.9, 1.4)),
)
IMAGES_16 = (Tile(4, (3, 2, 1), (6.0, 4.2, 2.7), near=4), Tile(1, (8, 4, 1), (7.6, 4.1, 1.6), near=8))
# Half of the vectors of pixels lie across two lines of the cache. Fitted to 2,000 layers (AMD Zen 5 compiled for AVX2).
PIXELS_16 = (IMAGES_16[0], Tile(1, (8, 4, 2, 1), (6.7, 3.6, 2.1, 1.4)))
WIDE_16 = tuple(
    Tile(outputs, (1,), (cycles,), 2, near=16 // outputs) for outputs, cycles in ((4, 4.2), (2, 2.5), (1, 1.8))
)
CHANNELS_16 = (Tile(2, (6, 4, 2, 1), (6.0, 4.4, 2.8, 2.0)), Tile(1, (8, 4, 2, 1), (5.3, 3.0, 1.8, 1.4)))


def images_tiles(machine: Machine = MACHINE) -> tuple[Tile, ...]:
    """Tiles with images in the lanes."""
    return IMAGES_32 if machine.registers >= 32 else IMAGES_16


def wide_tiles(machine: Machine = MACHINE) -> tuple[Tile, ...]:
    """Tiles with images in the lanes of two vectors side by side; none for a machine on which that has not been
    measured to be better.
    """
    return WIDE_16 if machine.lanes == 8 else ()


def channels_tiles(machine: Machine = MACHINE) -> tuple[Tile, ...]:
    """Tiles with output channels in the lanes."""
    return CHANNELS_32 if machine.registers >= 32 else CHANNELS_16


def pixels_tiles(machine: Machine = MACHINE) -> tuple[Tile, ...]:
    """Tiles with a single image's pixels in the lanes, whose outputs fill a vector."""
    tiles = PIXELS_32 if machine.registers >= 32 else PIXELS_16
    return tuple(tile for tile in tiles if machine.lanes % tile.outputs == 0)


def whole_tiles(machine: Machine = MACHINE) -> tuple[Tile, ...]:
    """Tiles that are whole lines of an image, with output channels in the lanes."""
    return WHOLE_32 if machine.registers >= 32 else WHOLE_16


def scattered_tiles(machine: Machine = MACHINE) -> tuple[Tile, ...]:
    """Tiles with images in the lanes and one output channel at a time."""
    return SCATTERED_32 if machine.registers >= 32 else SCATTERED_16
