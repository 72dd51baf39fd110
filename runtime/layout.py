"""How activations lie in memory.

IMAGES: the lanes of a vector are images, channels in blocks of up to 32; for batches. WIDE: the same with the lanes of
two vectors side by side, so that a register tile of one pixel is large enough; for larger batches, on machines whose
tiles are small. CHANNELS: one image, channels innermost; for single images. Element (channel c, pixel p, lane l) is at
``((c // block) * pixels + p) * pixel + (c % block) * lanes + l``, where `pixel` counts the elements of one pixel of one
block. Where that would be a power of two of bytes, pixels side by side would fall into few sets of the first-level
cache (measured: half the speed), so one channel's lanes of padding follow each pixel.
"""

from dataclasses import dataclass

from runtime.kernels.machine import LANES
from runtime.kernels.tiles import wide_tiles
from runtime.kernels.vector import BLOCK
from runtime.layer import Shape


def round_up(n: int, multiple: int) -> int:
    """The next multiple."""
    return -(-n // multiple) * multiple


@dataclass(frozen=True)
class Layout:
    """A layout family: how many images one group holds, and how channels are blocked; `close`: fewer channels than a
    vector holds lie without padding.
    """

    name: str
    lanes: int
    close: bool = False

    @property
    def meaning(self) -> str:
        """What the lanes are, in words."""
        if self.lanes == 1:
            return "one image, channels in the lanes of a vector"
        vectors = "a vector" if self.lanes == LANES else f"{self.lanes // LANES} vectors side by side"
        return f"{self.lanes} images in the lanes of {vectors}"

    def block(self, channels: int) -> int:
        """Channels in a block, padding included."""
        if self.close and channels < LANES:
            return channels
        return min(BLOCK, round_up(channels, 8)) if self.lanes > 1 else round_up(channels, LANES)

    def pixel(self, channels: int) -> int:
        """Elements from one pixel of a block to the next."""
        if self.lanes > 1:
            return (self.block(channels) + (channels >= BLOCK)) * self.lanes
        return self.block(channels) + (LANES if channels % 128 == 0 else 0)

    def fits(self, channels: int, tile_channels: int) -> bool:
        """Whether register tiles of so many output channels never reach beyond a block."""
        block = self.block(channels)
        return block % tile_channels == 0

    def size(self, shape: Shape) -> int:
        """Elements of one tensor of one image group, padding of the last block included."""
        h, w, c = shape
        return round_up(c, self.block(c)) // self.block(c) * h * w * self.pixel(c)


IMAGES = Layout("images", LANES)
WIDE = Layout("wide", 2 * LANES)
CHANNELS = Layout("channels", 1)
CLOSE = Layout("channels", 1, close=True)  # of a user's pictures, where only convolutions read them, by single numbers
LAYOUTS = (WIDE, IMAGES, CHANNELS) if wide_tiles() else (IMAGES, CHANNELS)
