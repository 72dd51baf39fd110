"""Patches: what the windows of a tile of pixels see, copied near the core, for weights that share no pattern.

Each output channel of such weights has rows of its own, so that a line of the cache, the images of one pixel, is loaded
for one multiply-add alone. The second-level cache does not keep up with that. So the lines that a few pixels need, of
as many input channels as the first-level cache holds, are copied to one place there, zeros for the padding included,
and all output channels add their rows of these channels before the next channels come.
"""

import math
from dataclasses import dataclass

import numpy as np

from runtime import topology
from runtime.kernels.machine import LANES
from runtime.kernels.tiles import Tile
from runtime.kernels.vector import NEAR_SIZE
from runtime.layer import Layer
from runtime.pack import Lists, PlanError, as_i32, bias_of

PART_SIZE = 32 * 1024 // 4  # elements that stay in the first-level cache beside what passes; of 24 to 48 KB the best
LIST_ROWS = (
    8  # that an output channel adds at once, on average; below, the visits cost more than a larger cache's lines
)


@dataclass(frozen=True)
class Patch:
    """The place of a copy: `channels` of a layer's input for one tile of pixels; lengths in lines of LANES elements.

    Padding at both sides of a whole image is there once: the zeros behind a row are those before the next, and the
    zeros below a channel those above the next.

    height, width : pixels that the windows of the largest tile see
    row, channel : from one row of them to the next, and from one channel to the next
    channels : input channels at once
    """

    height: int
    width: int
    row: int
    channel: int
    channels: int

    @classmethod
    def of(cls, layer: Layer, tile: Tile) -> "Patch":
        """The patch of a layer's tiles."""
        (h, w, c), (oh, ow, _), window = layer.shape, layer.out_shape, layer.window
        reach = [(size - 1) * d + 1 for size, d in zip(window.size, window.dilation, strict=True)]
        rows, columns = min(tile.rows, oh), widest(layer, tile)
        height, width = (rows - 1) * window.stride[0] + reach[0], columns - 1 + reach[1]
        below, behind = height - window.pad_top - h, width - window.pad_left - w
        row = width - (max(0, min(window.pad_left, behind)) if columns == ow else 0)
        channel = row * (height - (max(0, min(window.pad_top, below)) if rows == oh else 0))
        near, most = ((size // LANES - (height - 1) * row - width) // channel + 1 for size in (PART_SIZE, NEAR_SIZE))
        of_channel = window.size[0] * window.size[1] * topology.of_layer(layer).density  # rows, on average
        enough = math.ceil(LIST_ROWS / of_channel) if of_channel else most
        return cls(height, width, row, channel, max(1, min(c, max(near, min(most, enough)))))

    @property
    def lines(self) -> int:
        """Lines of the whole copy, from its first to its last."""
        return (self.channels - 1) * self.channel + (self.height - 1) * self.row + self.width

    @property
    def fits(self) -> bool:
        """Whether there is room for it."""
        return self.lines * LANES <= NEAR_SIZE

    def parts(self, layer: Layer) -> int:
        """How many times channels are copied until all have been there."""
        return -(-layer.shape[2] // self.channels)


def widest(layer: Layer, tile: Tile) -> int:
    """Columns of the largest register tile that covers a row of the output."""
    return tile.cover(layer.out_shape[1])[0][0]


@dataclass(frozen=True, eq=False)
class Scattered(Lists):
    """A convolution ready for the kernel of scattered weights.

    Parameters
    ----------
    weights : f32[rows]
    bias : f32[c_out]
    rows : i32[rows], offset of each row's activation from the patch's first element, for the tile's first pixel
    starts : i32[parts * c_out + 1], where the rows of each part of the input channels, and in it of each output
        channel, begin
    runs : i32[runs, 3], columns that register tiles of one size cover: (ox, count, columns of a tile)
    """

    runs: np.ndarray


def pack_scattered(layer: Layer, tile: Tile, patch: Patch) -> Scattered:
    """Rows and weights of a convolution, output channel by output channel, for each part of the input. O(weights)."""
    kept, kernel = topology.of_layer(layer).kept, topology.full_kernel(layer)
    kh, kw, c_in, c_out = kept.shape
    parts = patch.parts(layer)
    whole = ((0, 0), (0, 0), (0, parts * patch.channels - c_in), (0, 0))

    def by_part(values: np.ndarray) -> np.ndarray:
        """[parts, c_out, kh, kw, channels] of [kh, kw, c_in, c_out]."""
        return np.pad(values, whole).reshape(kh, kw, parts, patch.channels, c_out).transpose(2, 4, 0, 1, 3)

    rows = by_part(kept)
    ky, kx = (np.arange(size) * d for size, d in zip((kh, kw), layer.window.dilation, strict=True))
    lines = ky[:, None, None] * patch.row + kx[:, None] + np.arange(patch.channels) * patch.channel
    ox, runs = 0, []
    for size, count in tile.cover(layer.out_shape[1]):
        runs.append((ox, size * count, size))
        ox += size * count
    packed = Scattered(
        by_part(kernel)[rows],
        bias_of(layer, c_out),
        as_i32(np.broadcast_to(lines * LANES, rows.shape)[rows]),
        as_i32(np.r_[0, np.cumsum(rows.reshape(parts * c_out, -1).sum(1))]),
        np.array(runs, np.int32),
    )
    prove_scattered(packed, layer, tile, patch)
    return packed


def prove_scattered(packed: Scattered, layer: Layer, tile: Tile, patch: Patch) -> None:
    """Raise PlanError unless each output is made once, and every read and write of the patch stays in its place.

    What is read of the image the kernel bounds by the image itself.
    """
    c_out = layer.out_shape[2]
    if not packed.covers(patch.parts(layer) * c_out, 1):
        raise PlanError(f"plan of {layer.name}: expected row starts that cover {len(packed.rows)} rows, got others.")
    if len(packed.bias) != c_out:
        raise PlanError(f"plan of {layer.name}: expected a bias for {c_out} channels, got {len(packed.bias)}.")
    begins, counts, sizes = packed.runs.reshape(-1, 3).T
    covered = np.array_equal(begins, np.cumsum(counts) - counts) and counts.sum() == layer.out_shape[1]
    if not (covered and np.all(np.isin(sizes, tile.pixels)) and np.all(counts > 0) and not np.any(counts % sizes)):
        raise PlanError(f"plan of {layer.name}: expected runs over {layer.out_shape[1]} columns, got others.")
    if not patch.fits:
        raise PlanError(f"plan of {layer.name}: expected a patch of {NEAR_SIZE} elements, got {patch.lines * LANES}.")
    down = (min(tile.rows, layer.out_shape[0]) - 1) * layer.window.stride[0] * patch.row
    reach = (down + int(sizes.max())) * LANES
    if packed.rows.size and not 0 <= packed.rows.min() <= packed.rows.max() <= patch.lines * LANES - reach:
        raise PlanError(
            f"plan of {layer.name}: expected reads within 0..{patch.lines * LANES}, "
            f"got {int(packed.rows.min())}..{int(packed.rows.max()) + reach}."
        )
