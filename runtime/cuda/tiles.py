"""Tiles of the GPU's convolutions: frozen values, among which selection, or a trial on a real device, chooses."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Tile:
    """A thread block's part of a convolution: `pixels` x `outputs` numbers, of which a thread has some in registers.

    Parameters
    ----------
    pixels, outputs : of a block
    thread_pixels, thread_outputs : of a thread; its pixels lie apart, so that the lanes of a warp read pixels side by
        side from shared memory, and its outputs together
    depth : rows, that is kept (tap, input channel) pairs, staged in shared memory at a time
    """

    pixels: int
    outputs: int
    thread_pixels: int
    thread_outputs: int
    depth: int = 16

    def __post_init__(self) -> None:
        whole = self.pixels % self.thread_pixels == 0 and self.outputs % self.thread_outputs == 0
        if not whole:
            raise ValueError(f"tile: expected a block that its threads' parts cover, got {self}. Choose multiples.")
        if self.threads % self.depth or self.pixels * self.depth % self.threads or self.depth % self.thread_outputs:
            raise ValueError(f"tile: expected threads that stage rows in equal parts, got {self}. Choose multiples.")
        if self.shared_bytes > 48 * 1024 or self.threads > 1024:  # what a kernel may have without being asked for
            raise ValueError(f"tile: expected at most 48 KiB and 1024 threads, got {self}. Make it smaller.")

    @property
    def name(self) -> str:
        """Pixels x outputs."""
        return f"{self.pixels}x{self.outputs}"

    @property
    def threads(self) -> int:
        """Threads of a block."""
        return self.pixels // self.thread_pixels * (self.outputs // self.thread_outputs)

    @property
    def shared_bytes(self) -> int:
        """Shared memory of a block: activations, weights, and where each pixel's window begins."""
        return 4 * (self.depth * (self.pixels + 1) + self.depth * self.outputs + 3 * self.pixels)


# 16 outputs: a group of the paper's masks shares its rows, so none is computed for an output that lacks it.
# 64: fewer activations read for each product, where all outputs keep all rows. 8: for masks without structure.
TILES = (
    Tile(128, 64, 8, 8),
    Tile(32, 64, 2, 8),
    Tile(512, 16, 8, 8),
    Tile(128, 16, 4, 8),
    Tile(32, 16, 1, 8),
    Tile(512, 8, 8, 8),
)


@dataclass(frozen=True)
class ImagesTile:
    """A warp's part of a convolution with images innermost: all `outputs` for four images of a pixel in each lane.

    Parameters
    ----------
    outputs : output channels of a tile
    warps : of a block
    split : warps that share the runs of a tile, and add their sums up at the end
    lanes : of a warp; fewer than 32 in simulations alone
    """

    outputs: int
    warps: int = 4
    split: int = 1
    lanes: int = 32

    def __post_init__(self) -> None:
        if self.outputs % 4 or self.warps % self.split:
            raise ValueError(
                f"tile: expected outputs in fours and warps that share tiles, got {self}. Choose multiples."
            )
        if self.shared_bytes > 48 * 1024 or self.threads > 1024:
            raise ValueError(f"tile: expected at most 48 KiB and 1024 threads, got {self}. Make it smaller.")

    @property
    def name(self) -> str:
        """Images of a thread x outputs, warps of a block, and how many of them share a tile."""
        return f"4x{self.outputs}w{self.warps}s{self.split}"

    @property
    def threads(self) -> int:
        """Threads of a block."""
        return self.warps * self.lanes

    @property
    def shared_bytes(self) -> int:
        """Shared memory of a block: each warp's weights of a run."""
        return 4 * self.warps * max(32 * self.outputs, 16 * self.lanes)

    def blocks(self, positions: int, tiles: int) -> int:
        """Thread blocks for so many pixels times four images, and tiles of output channels."""
        return -(-positions // (self.warps // self.split * self.lanes)) * tiles


# More warps on a tile where there are few pixels and images.
IMAGES_TILES = (
    ImagesTile(16, 4, 1),
    ImagesTile(16, 4, 2),
    ImagesTile(16, 4, 4),
    ImagesTile(16, 8, 8),
    ImagesTile(16, 16, 16),
)
