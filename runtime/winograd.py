"""Winograd's transform of a 3x3 convolution: the layers that it runs, how a task's memory is used, its weights."""

import math
from dataclasses import dataclass

import numpy as np

from runtime import topology
from runtime.costs import with_weights
from runtime.kernels.machine import LANES
from runtime.kernels.tiles import Tile
from runtime.kernels.winograd import EDGE, FREQUENCIES, MEMORY_SIZE
from runtime.layer import Layer
from runtime.layout import Layout, round_up
from runtime.pack import Lists, PlanError, as_i32, bias_of

# G of F(2x2, 3x3): what three weights of a line become.
WEIGHTS = np.array([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]])
PART_SIZE = MEMORY_SIZE  # elements of a task's memory that a part of the input channels takes with all beside it
# Of 64 to 256, and of 16 to 64, the best for VGG16's layers in batches and a U-Net's single images (AMD Zen 5):
WAITING_CHANNELS = 256  # output channels whose sums wait between parts of the input
NEAR_WINDOWS = 32  # of a single image, that find their weights in the second-level cache

# Cycles of a vector of a window's inputs, one of outputs, and a register tile's products beside their rows (AMD Zen 5).
INPUT_CYCLES, OUTPUT_CYCLES, PRODUCT_CYCLES = 30.0, 24.0, 40.0


def fits(layer: Layer) -> bool:
    """Whether the transform computes a layer: 3x3, every pixel; pooled by windows of its own size, or not."""
    window = layer.window
    plain = window.size == (3, 3) and window.stride == window.dilation == (1, 1)
    pooled = layer.pool == (1, 1) or (layer.pool == (2, 2) and layer.other is None)
    return plain and pooled and layer.conv_shape[:2] != (1, 1)


def positions(layer: Layer) -> tuple[int, int]:
    """Rows and columns of windows."""
    h, w, _ = layer.conv_shape
    return -(-h // 2), -(-w // 2)


@dataclass(frozen=True)
class Blocking:
    """What a task keeps in its memory at a time.

    windows : of 4x4 inputs, side by side
    channels : input channels, in each of `parts` parts but the last, which may have fewer
    tiles : of output channels, at most
    stride, channel, size : elements from one window's number to the next window's, channel's and frequency's
    """

    windows: int
    channels: int
    parts: int
    tiles: int
    stride: int
    channel: int
    size: int

    @classmethod
    def of(cls, layer: Layer, layout: Layout, tile: Tile, tile_channels: int) -> "Blocking":
        """Of a layer: as few parts of the input channels as there is memory for."""
        most = tile.pixels[0] if layout.lanes > 1 else NEAR_WINDOWS // tile.pixels[0] * tile.pixels[0]
        (rows, wide), c_in = positions(layer), layer.shape[2]
        tiles, windows = -(-layer.out_shape[2] // tile_channels), min(rows * wide, most)
        for parts in range(1, c_in + 1):
            channels = round_up(-(-c_in // parts), LANES // layout.lanes)
            fewer = min(tiles, max(1, WAITING_CHANNELS // tile_channels)) if channels < c_in else tiles
            blocking = cls._of_channels(channels, -(-c_in // channels), windows, fewer, layout)
            if blocking.elements(tile) <= PART_SIZE:
                break
        return blocking

    @classmethod
    def _of_channels(cls, channels: int, parts: int, windows: int, tiles: int, layout: Layout) -> "Blocking":
        if layout.lanes > 1:
            stride, channel, lines = LANES, windows * LANES, windows * channels
        else:
            stride, channel = channels + LANES, 1
            lines = windows * stride // LANES
        # Odd, so that an input's 16 numbers fall into different sets of the first-level cache.
        return cls(windows, channels, parts, tiles, stride, channel, (lines | 1) * LANES)

    def elements(self, tile: Tile) -> int:
        """Of a task's memory."""
        products = tile.pixels[0] * tile.outputs * LANES
        waiting = self.windows * self.tiles * tile.outputs * 4 * LANES if self.parts > 1 else 0
        return FREQUENCIES * (products + self.size) + EDGE + waiting


def kept_channels(layer: Layer, tile_channels: int) -> np.ndarray:
    """bool[tiles, c_in]: the input channels of which any output channel of a tile keeps any weight. O(mask)."""
    return np.asarray(topology.of_layer(layer).rows(tile_channels).any(axis=(1, 2)))


def cycles(layer: Layer, layout: Layout, tile: Tile, tile_channels: int, rows: int) -> float:
    """Predicted of one image group on one core, for so many kept channels of all tiles together."""
    blocking, c_in, windows = (
        Blocking.of(layer, layout, tile, tile_channels),
        layer.shape[2],
        math.prod(positions(layer)),
    )
    tiles = -(-layer.out_shape[2] // tile_channels)
    calls, row_cycles = _cover(windows, blocking.windows, tile)
    vectors = -(-c_in * layout.lanes // LANES) * -(-tiles // blocking.tiles)
    transforms = vectors * INPUT_CYCLES + tiles * tile.outputs * blocking.parts * OUTPUT_CYCLES
    products = FREQUENCIES * (rows * row_cycles + tiles * blocking.parts * calls * PRODUCT_CYCLES)
    weights = FREQUENCIES * rows * tile_channels
    return windows * transforms + with_weights(products, weights * -(-windows // blocking.windows))


def _cover(windows: int, near: int, tile: Tile) -> tuple[int, float]:
    """Register tiles that cover windows, `near` at a time and the largest first; and cycles of a row of them all."""
    calls, row_cycles = 0, 0.0
    for count, times in ((near, windows // near), (windows % near, 1)):
        for size, cost in zip(tile.pixels, tile.cycles, strict=True):
            calls += count // size * times
            row_cycles += count // size * times * cost
            count %= size
    return calls, row_cycles


@dataclass(frozen=True, eq=False)
class Transformed(Lists):
    """A convolution ready for Winograd's kernel.

    Parameters
    ----------
    weights : f32, of each part of the input channels and tile of output channels [16, kept channels, tile_channels]
    bias : f32[tiles * tile_channels]
    rows : i32[rows], offset of each kept channel from the first of its part
    starts : i32[parts * tiles + 1], where the rows of each part, and in it of each tile, begin
    """


def pack_transformed(layer: Layer, layout: Layout, tile: Tile, tile_channels: int, blocking: Blocking) -> Transformed:
    """Weights transformed in float64 and rounded once; those that do not exist are zeros. O(weights)."""
    kernel = topology.full_kernel(layer).astype(np.float64)
    _, _, c_in, c_out = kernel.shape
    tiles = -(-c_out // tile_channels)
    whole = np.zeros((4, 4, c_in, tiles * tile_channels), np.float32)
    whole[..., :c_out] = np.einsum("ik,jl,klcd->ijcd", WEIGHTS, WEIGHTS, kernel, optimize=True)
    by_tile = whole.reshape(FREQUENCIES, c_in, tiles, tile_channels).transpose(2, 0, 1, 3)
    kept, firsts = kept_channels(layer, tile_channels), range(0, c_in, blocking.channels)
    lists = [np.flatnonzero(own[first : first + blocking.channels]) for first in firsts for own in kept]
    places = [(tile, first) for first in firsts for tile in range(tiles)]
    packed = Transformed(
        np.concatenate(
            [by_tile[tile][:, first + rows].reshape(-1) for (tile, first), rows in zip(places, lists, strict=True)]
        ),
        bias_of(layer, tiles * tile_channels),
        as_i32(np.concatenate(lists) * blocking.channel),
        as_i32(np.cumsum([0, *map(len, lists)])),
    )
    prove_transformed(packed, layer, layout, tile, tile_channels, blocking)
    return packed


def prove_transformed(
    packed: Transformed, layer: Layer, layout: Layout, tile: Tile, tile_channels: int, blocking: Blocking
) -> None:
    """Raise PlanError unless a task's memory holds what the kernel puts there, and weights and bias are as many as it
    reads. What it reads and writes of images the kernel bounds by the images themselves.
    """
    c_in, c_out, rows = layer.shape[2], layer.out_shape[2], packed.rows
    tiles, channels = -(-c_out // tile_channels), blocking.channels
    if not (fits(layer) and layout.fits(c_out, tile_channels)):
        raise PlanError(f"plan of {layer.name}: expected a 3x3 convolution whose tiles fit in blocks, got another.")
    if not (blocking.parts - 1) * channels < c_in <= blocking.parts * channels:
        raise PlanError(f"plan of {layer.name}: expected parts of {c_in} channels, got {blocking.parts} of {channels}.")
    if not packed.covers(blocking.parts * tiles, FREQUENCIES * tile_channels):
        raise PlanError(f"plan of {layer.name}: expected row starts that cover {len(rows)} rows, got others.")
    if len(packed.bias) != tiles * tile_channels:
        raise PlanError(f"plan of {layer.name}: expected a bias for {c_out} channels, got {len(packed.bias)}.")
    vector = LANES if layout.lanes > 1 else 1
    reach = (blocking.windows - 1) * blocking.stride + vector
    last = (channels - 1) * blocking.channel
    if last + reach > blocking.size or (rows.size and not 0 <= rows.min() <= rows.max() <= last):
        raise PlanError(
            f"plan of {layer.name}: expected reads within 0..{blocking.size}, "
            f"got {rows.min(initial=0)}..{max(rows.max(initial=0), last) + reach}."
        )
    if blocking.elements(tile) > MEMORY_SIZE:
        raise PlanError(f"plan of {layer.name}: expected {MEMORY_SIZE} elements, got {blocking.elements(tile)}.")
