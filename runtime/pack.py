"""Lays the weights of a convolution out for one register tile, and proves that no address leaves its buffer."""

from dataclasses import dataclass, fields

import numpy as np

from lhc_ref.modelfile import LhcError
from runtime import topology
from runtime.kernels.machine import LANES
from runtime.kernels.tiles import Tile
from runtime.layer import Layer
from runtime.layout import Layout, round_up
from runtime.windows import axis_taps, column_runs, row_taps, well_formed


class PlanError(LhcError):
    """A plan that would read or write outside its buffers; never expected, always checked."""


@dataclass(frozen=True, eq=False)
class Lists:
    """What any kernel of convolutions reads: weights, a bias, and lists of rows that begin at `starts`."""

    weights: np.ndarray
    bias: np.ndarray
    rows: np.ndarray
    starts: np.ndarray

    @property
    def bytes(self) -> int:
        """Memory of weights, bias and index."""
        return sum(getattr(self, field.name).nbytes for field in fields(self))

    def covers(self, lists: int, row_weights: int) -> bool:
        """Whether so many lists, one after the other, hold every row, each with so many weights."""
        starts = self.starts.astype(np.int64)
        ordered = len(starts) == lists + 1 and starts[0] == 0 and bool(np.all(np.diff(starts) >= 0))
        return ordered and starts[-1] == len(self.rows) and len(self.weights) == len(self.rows) * row_weights


@dataclass(frozen=True, eq=False)
class Packed(Lists):
    """A convolution ready for its kernel.

    Parameters
    ----------
    weights : f32[rows * tile_channels], for each row of each tile its weights, zero where another output keeps the row
    bias : f32[tiles * tile_channels]
    rows : i32[rows], offset of each row's activation from the window's first pixel
    starts : i32[tiles, taps + 1], where the rows of each tile and tap begin
    row_taps : i32[rows, 2], for each row of the convolution the taps inside the image: (ky_low, ky_high)
    runs : i32[runs, 3 + 4*pool_w], as `column_runs` gives them
    """

    row_taps: np.ndarray
    runs: np.ndarray

    @property
    def tiles(self) -> int:
        """Tiles of output channels."""
        return len(self.starts)


def row_offsets(layer: Layer, layout: Layout) -> np.ndarray:
    """i64[kh, kw, c_in]: how far each (tap, channel) lies from the window's first pixel, channel 0."""
    h, w, c = layer.shape
    block = layout.block(c)
    pixel = layout.pixel(c)
    ky = np.arange(layer.window.size[0])[:, None, None] * layer.window.dilation[0] * w * pixel
    kx = np.arange(layer.window.size[1])[None, :, None] * layer.window.dilation[1] * pixel
    ci = np.arange(c)
    return ky + kx + (ci // block) * h * w * pixel + (ci % block) * layout.lanes


def pack(layer: Layer, layout: Layout, tile: Tile, tile_channels: int) -> Packed:
    """Rows and weights of a convolution for register tiles that hold `tile_channels` output channels. O(weights)."""
    rows = topology.of_layer(layer).rows(tile_channels)
    tiles, kh, kw, c_in = rows.shape
    taps = kh * kw
    offsets = np.broadcast_to(row_offsets(layer, layout), rows.shape)
    counts = rows.reshape(tiles * taps, c_in).sum(1)
    ends = np.cumsum(counts)
    starts = np.empty((tiles, taps + 1), np.int64)
    starts[:, :taps] = (ends - counts).reshape(-1, taps)
    starts[:, taps] = ends[taps - 1 :: taps]
    packed = Packed(
        weights_of(layer, rows, tile_channels).reshape(-1),
        bias_of(layer, tiles * tile_channels),
        as_i32(offsets[rows]),
        as_i32(starts),
        row_taps(layer),
        column_runs(layer, tile),
    )
    prove(packed, layer, layout, tile, tile_channels)
    return packed


def weights_of(layer: Layer, rows: np.ndarray, tile_channels: int) -> np.ndarray:
    """f32[kept rows, tile_channels]: the weights of each (tile, tap, input channel) of bool[tiles, kh, kw, c_in]."""
    kernel = topology.masked_kernel(layer)
    if layer.groups > 1:
        return _weights_of_groups(layer, kernel, rows, tile_channels)
    kh, kw, c_in, c_out = kernel.shape
    weights = np.zeros((kh, kw, c_in, len(rows) * tile_channels), np.float32)
    weights[..., :c_out] = kernel
    weights = weights.reshape(kh, kw, c_in, len(rows), tile_channels).transpose(3, 0, 1, 2, 4)
    # Same as: weights[rows], in a tenth to a half of the time where many rows are kept.
    if rows.all():
        return np.ascontiguousarray(weights).reshape(-1, tile_channels)
    if 3 * np.count_nonzero(rows) > rows.size:
        return weights.reshape(-1, tile_channels).take(np.flatnonzero(rows), axis=0)
    return np.ascontiguousarray(weights[rows])


def _weights_of_groups(layer: Layer, kernel: np.ndarray, rows: np.ndarray, tile_channels: int) -> np.ndarray:
    """Same as `weights_of` with the groups written out as absent weights, of which a depthwise layer has millions."""
    _, _, c_group, c_out = kernel.shape
    tile, ky, kx, ci = (at[:, None] for at in np.nonzero(rows))
    co = tile * tile_channels + np.arange(tile_channels)
    inside = ci - co // (c_out // layer.groups) * c_group
    exists = (co < c_out) & (inside >= 0) & (inside < c_group)
    found = kernel[ky, kx, np.where(exists, inside, 0), np.where(exists, co, 0)]
    return np.where(exists, found, np.float32(0))


def bias_of(layer: Layer, size: int) -> np.ndarray:
    """f32[size]: a layer's bias, zeros where it has none."""
    bias = np.zeros(size, np.float32)
    if layer.bias is not None:
        bias[: layer.bias.size] = layer.bias
    return bias


def pack_depthwise(layer: Layer, layout: Layout, tile: Tile) -> Packed:
    """Rows and weights of a depthwise convolution with channels in the lanes: every tap is a row. O(weights)."""
    kernel = topology.masked_kernel(layer)
    taps, c = kernel.shape[0] * kernel.shape[1], kernel.shape[3]
    step = tile.outputs * LANES
    tiles = -(-c // step)
    own = np.zeros((taps, tiles * step), np.float32)
    own[:, :c] = kernel.reshape(taps, c)
    offsets = np.tile(row_offsets(layer, layout)[:, :, 0].reshape(-1), tiles)
    starts = np.arange(tiles)[:, None] * taps + np.arange(taps + 1)
    weights = np.ascontiguousarray(own.reshape(taps, tiles, step).transpose(1, 0, 2)).reshape(-1)
    packed = Packed(
        weights,
        bias_of(layer, tiles * step),
        as_i32(offsets),
        as_i32(starts),
        row_taps(layer),
        column_runs(layer, tile),
    )
    prove(packed, layer, layout, tile, step, depthwise=True)
    return packed


def as_i32(values: np.ndarray) -> np.ndarray:
    """Values of an index; PlanError where they need more than 32 bits."""
    if values.size and not (int(values.min()) >= -(2**31) and int(values.max()) < 2**31):
        raise PlanError(
            f"plan: expected offsets within 32 bits, got up to {int(np.abs(values).max())}. "
            "Use smaller images or fewer channels."
        )
    return np.ascontiguousarray(values, np.int32)


def _extremes(layer: Layer, axis: int) -> tuple[np.ndarray, np.ndarray]:
    """i64[taps], i64[taps]: along one axis, the first and last window position at which each tap is executed."""
    window = layer.window
    pad, stride, dilation = (window.pad_top, window.pad_left)[axis], window.stride[axis], window.dilation[axis]
    valid = axis_taps(layer, axis)
    position = np.arange(layer.conv_shape[axis]) * stride - pad
    low = -np.arange(window.size[axis]) * dilation  # a tap that is never executed reads nothing
    high = low.copy()
    for k in range(window.size[axis]):
        runs = position[(valid[:, 0] <= k) & (k < valid[:, 1])]
        if runs.size:
            low[k], high[k] = runs.min(), runs.max()
    return low, high


def prove(
    packed: Packed, layer: Layer, layout: Layout, tile: Tile, tile_channels: int, depthwise: bool = False
) -> None:
    """Raise PlanError unless every read and write of the kernels, at every output position, stays in its buffer.

    For each tap the extreme output positions that execute it are known, so the check is exact and costs O(rows). The
    tiles of a depthwise layer read their own channels, as many as they make; others read one vector, or one number.
    """
    taps = layer.window.size[0] * layer.window.size[1]
    first = packed.starts.astype(np.int64)
    ordered = first.shape[1] == taps + 1 and np.all(np.diff(first, axis=1) >= 0) and first[0, 0] == 0
    joined = ordered and np.array_equal(first[1:, 0], first[:-1, -1]) and first[-1, -1] == len(packed.rows)
    if not joined or len(packed.weights) != len(packed.rows) * tile_channels:
        raise PlanError(f"plan of {layer.name}: expected row starts that cover {len(packed.rows)} rows, got others.")
    if not well_formed(packed.runs, layer, tile):
        raise PlanError(f"plan of {layer.name}: expected runs over {layer.out_shape[1]} columns, got others.")
    if not np.array_equal(packed.row_taps, row_taps(layer)):
        raise PlanError(f"plan of {layer.name}: expected the taps of {layer.conv_shape[0]} rows, got others.")
    c_out, made = layer.out_shape[2], packed.tiles * tile_channels
    if not (
        layout.fits(c_out, tile_channels)
        and len(packed.bias) == made
        and c_out <= made <= round_up(c_out, layout.block(c_out))
    ):
        raise PlanError(f"plan of {layer.name}: expected bias and tiles for {c_out} channels, got {made}.")
    smallest, largest = _reach(layer, layout)
    tap_of_row = np.repeat(np.tile(np.arange(taps), len(first)), np.diff(first, axis=1).reshape(-1))
    tile_of_row = np.repeat(np.arange(len(first)), first[:, -1] - first[:, 0])
    begin = packed.rows + (tile_of_row * tile_channels if depthwise else 0)
    reads_low = begin + smallest[tap_of_row]
    reads_high = begin + largest[tap_of_row] + (tile_channels if depthwise else layout.lanes)
    if packed.rows.size and (reads_low.min() < 0 or reads_high.max() > layout.size(layer.shape)):
        raise PlanError(
            f"plan of {layer.name}: expected reads within 0..{layout.size(layer.shape)}, "
            f"got {int(reads_low.min())}..{int(reads_high.max())}."
        )


def _reach(layer: Layer, layout: Layout) -> tuple[np.ndarray, np.ndarray]:
    """i64[taps], i64[taps]: offsets of the first and last window position at which each tap is executed."""
    (_, w, c), columns = layer.shape, layer.window.size[1]
    tap, pixel = np.arange(layer.window.size[0] * columns), layout.pixel(c)
    down, across = _extremes(layer, 0), _extremes(layer, 1)
    low, high = ((down[i][tap // columns] * w + across[i][tap % columns]) * pixel for i in (0, 1))
    return low, high
