"""Tiles of the GPU's convolution: frozen values, among which selection, or a trial on a real device, chooses."""

from dataclasses import dataclass

from runtime.cuda.step import LANES, RUN_CHANNELS


@dataclass(frozen=True)
class Tile:
    """A warp's part of a convolution: all `outputs` for four images of a pixel in each lane.

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
        if self.split > 1 and self.outputs > 16:  # the kernel adds shared sums up in at most four steps of four outputs
            raise ValueError(f"tile: expected at most 16 outputs where warps share tiles, got {self}. Make it smaller.")
        if self.shared_bytes > 48 * 1024 or self.threads > 1024:  # what a kernel may have without being asked for
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
        """Shared memory of a block."""
        return 4 * self.warps * self.warp_numbers

    @property
    def warp_numbers(self) -> int:
        """Numbers of a warp in shared memory: its weights of a run, or its sums for four outputs."""
        return max(RUN_CHANNELS * self.outputs, LANES * LANES * self.lanes)

    def blocks(self, positions: int, tiles: int) -> int:
        """Thread blocks for so many pixels times four images, and tiles of output channels."""
        return -(-positions // (self.warps // self.split * self.lanes)) * tiles


# 16 outputs: a group of the paper's masks shares its rows, so none is computed for an output that lacks it. More warps
# on a tile where there are few pixels and images.
TILES = (Tile(16, 4, 1), Tile(16, 4, 2), Tile(16, 4, 4), Tile(16, 8, 8), Tile(16, 16, 16))
