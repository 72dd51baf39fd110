"""How activations lie in memory.

IMAGES: the lanes of a vector are images, channels in blocks of up to 32; for batches. CHANNELS: one image, channels innermost;
for single images. Element (channel c, pixel p, lane l) is at ``((c // block) * pixels + p) * block * lanes + (c % block) * lanes + l``.
"""
from dataclasses import dataclass

from runtime.kernels.machine import LANES
from runtime.spec import Shape

BLOCK = 32                  # channels of a pixel that lie together: 2 KiB with 16 lanes, so strides stay kind to caches and TLB


def round_up(n: int, multiple: int) -> int:
    """The next multiple."""
    return -(-n // multiple) * multiple


@dataclass(frozen=True)
class Layout:
    """A layout family: how many images one group holds, and how channels are blocked."""

    name: str
    lanes: int

    def block(self, channels: int) -> int:
        """Channels in a block, padding included."""
        if self.lanes > 1:
            return min(BLOCK, round_up(channels, 8))
        # Pixels a multiple of 512 bytes apart would fall into few sets of the first-level cache: one vector of padding spreads them.
        return round_up(channels, LANES) + (LANES if channels % 128 == 0 else 0)

    def fits(self, channels: int, tile_channels: int) -> bool:
        """Whether register tiles of so many output channels never reach beyond a block."""
        block = self.block(channels)
        return block % tile_channels == 0 if channels > block else round_up(channels, tile_channels) <= block

    def size(self, shape: Shape) -> int:
        """Elements of one tensor of one image group, padding of the last block included."""
        h, w, c = shape
        return round_up(c, self.block(c)) * h * w * self.lanes


IMAGES = Layout("images", LANES)
CHANNELS = Layout("channels", 1)
