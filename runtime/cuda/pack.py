"""Lays the weights of a convolution out for one tile, and proves that no index leaves its array."""

from dataclasses import dataclass

import numpy as np

from runtime import topology
from runtime.cuda.step import RUN_CHANNELS
from runtime.pack import PlanError
from runtime.spec import Layer

LIMIT = 2**31  # the kernels count in 32 bits


@dataclass(frozen=True, eq=False)
class Packed:
    """A convolution ready for its kernel.

    Parameters
    ----------
    weights : f32[rows, outputs of a tile], zero where another output of the tile keeps the row
    rows : i32[rows, 3], how far below and right of the window's first pixel a row's activation lies, and how many
        numbers after it
    starts : i32[tiles + 1], where the rows of each output tile begin
    """

    weights: np.ndarray
    rows: np.ndarray
    starts: np.ndarray

    @property
    def tiles(self) -> int:
        """Tiles of output channels."""
        return len(self.starts) - 1

    @property
    def index(self) -> np.ndarray:
        """What the kernel is told of its tiles."""
        return self.starts


def _rows(layer: Layer, outputs: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """bool[tiles, kh, kw, c]: the rows of each output tile; f32[kh, kw, c, tiles, outputs]: weights; and, for a tap and
    channel, i64[kh, kw, c, 3]: how far below and right of the window's first pixel, and how many numbers after it.
    """
    union = topology.of_layer(layer).rows(outputs)
    tiles, kh, kw, c_in = union.shape
    kernel = np.zeros((kh, kw, c_in, tiles * outputs), np.float32)
    kernel[..., : layer.out_shape[2]] = topology.full_kernel(layer)
    ky, kx, ci = np.ogrid[:kh, :kw, :c_in]
    dy, dx = ky * layer.window.dilation[0], kx * layer.window.dilation[1]
    places = np.stack(np.broadcast_arrays(dy, dx, (dy * layer.shape[1] + dx) * c_in + ci), -1)
    return union, kernel.reshape(kh, kw, c_in, tiles, outputs), places


def pack(layer: Layer, outputs: int) -> Packed:
    """Rows and weights of a convolution for tiles of so many output channels. O(weights)."""
    union, kernel, places = _rows(layer, outputs)
    tile, ky, kx, ci = np.nonzero(union)
    packed = Packed(
        kernel[ky, kx, ci, tile],
        places[ky, kx, ci].astype(np.int32),
        np.searchsorted(tile, np.arange(len(union) + 1)).astype(np.int32),
    )
    prove(packed, layer, outputs)
    return packed


@dataclass(frozen=True, eq=False)
class PackedRuns(Packed):
    """A convolution ready for the kernel with images innermost: `rows` are runs, i32[runs, 5], a `Packed` row's three
    numbers of its first channel, its channels, and where its weights begin; `starts` count runs. Tiles of many rows
    come first: a device that begins with the longest work ends with little waiting.

    Parameters
    ----------
    outputs : i32[tiles], the first output channel of each tile
    """

    outputs: np.ndarray

    @property
    def channels(self) -> np.ndarray:
        """Of each run."""
        return self.rows[:, 3]

    @property
    def index(self) -> np.ndarray:
        """`starts`, then `outputs`, as the kernel reads them."""
        return np.concatenate([self.starts, self.outputs])


def pack_runs(layer: Layer, outputs: int) -> PackedRuns:
    """Runs and weights of a convolution for tiles of so many output channels. O(weights).

    Runs are ordered by their blocks of `RUN_CHANNELS` channels first, so that the taps of a window read the same
    channels of a pixel soon after each other.
    """
    union, kernel, places = _rows(layer, outputs)
    order = np.argsort(-union.sum((1, 2, 3)), kind="stable")
    union, kernel = union[order], kernel[..., order, :]
    tiles, kh, kw, c_in = union.shape
    blocks = -(-c_in // RUN_CHANNELS)
    padded = np.zeros((tiles, kh, kw, blocks * RUN_CHANNELS), bool)
    padded[..., :c_in] = union
    by_block = padded.reshape(tiles, kh, kw, blocks, RUN_CHANNELS).transpose(0, 3, 1, 2, 4)
    tile, block, ky, kx, within = np.nonzero(by_block)
    ci = block * RUN_CHANNELS + within
    before = np.zeros_like(by_block)
    before[..., 1:] = by_block[..., :-1]
    (first,) = np.nonzero(~before[tile, block, ky, kx, within])  # rows that begin a run
    lengths = np.diff(np.append(first, len(tile)))
    at = tile[first], ky[first], kx[first], ci[first]
    packed = PackedRuns(
        kernel[ky, kx, ci, tile],
        np.column_stack([places[at[1:]], lengths, first * outputs]).astype(np.int32),
        np.searchsorted(at[0], np.arange(tiles + 1)).astype(np.int32),
        (order * outputs).astype(np.int32),
    )
    prove_runs(packed, layer, outputs)
    return packed


def pack_depthwise(layer: Layer) -> np.ndarray:
    """f32[kh, kw, c]: the weights of a depthwise convolution, zero where one is missing. O(weights)."""
    kernel, mask = layer.kernel, layer.mask
    assert kernel is not None, "only convolutions are packed"
    return (kernel if mask is None else np.where(mask, kernel, np.float32(0)))[:, :, 0, :]


def prove(packed: Packed, layer: Layer, outputs: int) -> None:
    """Raise PlanError unless every read of the kernel, at every output pixel, stays in its array.

    The kernel reads a row where its pixel, the window's first moved by (dy, dx), is in the image. So an index is in the
    tensor if the row's place is that of a channel of this pixel.
    """
    _prove(packed, layer, outputs, len(packed.rows), np.ones(len(packed.rows), np.int64))


def prove_runs(packed: PackedRuns, layer: Layer, outputs: int) -> None:
    """`prove` for runs: their channels are those of one pixel, and their weights follow each other."""
    channels, weights_at = packed.channels.astype(np.int64), packed.rows[:, 4].astype(np.int64)
    rows = np.concatenate([[0], np.cumsum(channels)])
    if np.any(weights_at != rows[:-1] * outputs) or np.any((channels < 1) | (channels > RUN_CHANNELS)):
        raise PlanError(f"plan of {layer.name}: expected runs of 1 to {RUN_CHANNELS} channels in order, got others.")
    if not np.array_equal(np.sort(packed.outputs), np.arange(packed.tiles) * outputs):
        raise PlanError(f"plan of {layer.name}: expected every {outputs} outputs in one tile, got {packed.outputs}.")
    _prove(packed, layer, outputs, int(rows[-1]), channels)


def _prove(packed: Packed, layer: Layer, outputs: int, weight_rows: int, channels: np.ndarray) -> None:
    (h, w, c), c_out, starts = layer.shape, layer.out_shape[2], packed.starts.astype(np.int64)
    ordered = starts[0] == 0 and starts[-1] == len(packed.rows) and np.all(np.diff(starts) >= 0)
    if not ordered or packed.weights.shape != (weight_rows, outputs):
        raise PlanError(f"plan of {layer.name}: expected starts and weights of {weight_rows} rows, got others.")
    if not (packed.tiles - 1) * outputs < c_out <= packed.tiles * outputs:
        raise PlanError(f"plan of {layer.name}: expected tiles for {c_out} channels, got {packed.tiles} of {outputs}.")
    dy, dx, ahead = packed.rows[:, :3].astype(np.int64).T
    first = ahead - (dy * w + dx) * c
    last = first + channels - 1
    if packed.rows.size and (min(dy.min(), dx.min(), first.min()) < 0 or last.max() >= c):
        raise PlanError(f"plan of {layer.name}: expected rows of channels 0..{c - 1}, got {first.min()}..{last.max()}.")
    if max(packed.weights.size, packed.rows.size, h * w * c, int(np.prod(layer.out_shape))) >= LIMIT:
        raise PlanError(f"plan of {layer.name}: expected indices within 31 bits, got more. Use smaller images.")
