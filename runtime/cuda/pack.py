"""Lays the weights of a convolution out for one tile, and proves that no index leaves its array."""

from dataclasses import dataclass

import numpy as np

from runtime import topology
from runtime.cuda.step import RUN_CHANNELS
from runtime.layer import Layer
from runtime.pack import PlanError

LIMIT = 2**31  # the kernels count in 32 bits


@dataclass(frozen=True, eq=False)
class Packed:
    """A convolution ready for its kernel.

    A *row* is one kept (tap, input channel) of a tile of output channels, a *run* some rows of adjacent channels. Tiles
    of many rows come first: a device that begins with the longest work ends with little waiting.

    Parameters
    ----------
    weights : f32[rows, outputs of a tile], zero where another output of the tile keeps the row
    runs : i32[runs, 5], how far below and right of the window's first pixel a run's first activation lies, and how many
        numbers of an image after it; its channels; and where its weights begin
    starts : i32[tiles + 1], where the runs of each output tile begin
    outputs : i32[tiles], the first output channel of each tile
    """

    weights: np.ndarray
    runs: np.ndarray
    starts: np.ndarray
    outputs: np.ndarray

    @property
    def tiles(self) -> int:
        """Tiles of output channels."""
        return len(self.outputs)

    @property
    def tables(self) -> np.ndarray:
        """`starts`, then `outputs`, as the kernel reads them."""
        return np.concatenate([self.starts, self.outputs])


def pack(layer: Layer, outputs: int) -> Packed:
    """Runs and weights of a convolution for tiles of so many output channels. O(weights).

    Runs are ordered by their blocks of `RUN_CHANNELS` channels first, so that the taps of a window read the same
    channels of a pixel soon after each other.
    """
    union = topology.of_layer(layer).rows(outputs)
    tiles, kh, kw, c_in = union.shape
    kernel = np.zeros((kh, kw, c_in, tiles * outputs), np.float32)
    kernel[..., : layer.out_shape[2]] = topology.full_kernel(layer)
    order = np.argsort(-union.sum((1, 2, 3)), kind="stable")
    by_tile = kernel.reshape(kh, kw, c_in, tiles, outputs)[..., order, :]
    blocks = -(-c_in // RUN_CHANNELS)
    padded = np.zeros((tiles, kh, kw, blocks * RUN_CHANNELS), bool)
    padded[..., :c_in] = union[order]
    by_block = padded.reshape(tiles, kh, kw, blocks, RUN_CHANNELS).transpose(0, 3, 1, 2, 4)
    tile, block, ky, kx, within = np.nonzero(by_block)
    ci = block * RUN_CHANNELS + within
    before = np.zeros_like(by_block)
    before[..., 1:] = by_block[..., :-1]
    (first,) = np.nonzero(~before[tile, block, ky, kx, within])  # rows that begin a run
    dy, dx = ky[first] * layer.window.dilation[0], kx[first] * layer.window.dilation[1]
    ahead = (dy * layer.shape[1] + dx) * c_in + ci[first]
    channels = np.diff(np.append(first, len(tile)))
    packed = Packed(
        by_tile[ky, kx, ci, tile],
        np.stack([dy, dx, ahead, channels, first * outputs], 1).astype(np.int32),
        np.searchsorted(tile[first], np.arange(tiles + 1)).astype(np.int32),
        (order * outputs).astype(np.int32),
    )
    prove(packed, layer, outputs)
    return packed


def pack_depthwise(layer: Layer) -> np.ndarray:
    """f32[kh, kw, c]: the weights of a depthwise convolution, zero where one is missing. O(weights)."""
    kernel, mask = layer.kernel, layer.mask
    assert kernel is not None, "only convolutions are packed"
    return (kernel if mask is None else np.where(mask, kernel, np.float32(0)))[:, :, 0, :]


def prove(packed: Packed, layer: Layer, outputs: int) -> None:
    """Raise PlanError unless every read and write of the kernel, at every output pixel, stays in its array.

    The kernel reads a run where its pixel, the window's first moved by (dy, dx), is in the image. So its indices are in
    the tensor if the run's channels are those of this pixel.
    """
    (h, w, c), c_out, starts = layer.shape, layer.out_shape[2], packed.starts.astype(np.int64)
    dy, dx, ahead, channels, weights_at = packed.runs.astype(np.int64).T
    rows = np.concatenate([[0], np.cumsum(channels)])
    if np.any(weights_at != rows[:-1] * outputs) or np.any((channels < 1) | (channels > RUN_CHANNELS)):
        raise PlanError(f"plan of {layer.name}: expected runs of 1 to {RUN_CHANNELS} channels in order, got others.")
    ordered = starts[0] == 0 and starts[-1] == len(packed.runs) and np.all(np.diff(starts) >= 0)
    if not ordered or len(starts) != packed.tiles + 1 or packed.weights.shape != (rows[-1], outputs):
        raise PlanError(f"plan of {layer.name}: expected starts and weights of {rows[-1]} rows, got others.")
    if not np.array_equal(np.sort(packed.outputs), np.arange(-(-c_out // outputs)) * outputs):
        raise PlanError(f"plan of {layer.name}: expected every {outputs} outputs in one tile, got {packed.outputs}.")
    first = ahead - (dy * w + dx) * c
    last = first + channels - 1
    if packed.runs.size and (min(dy.min(), dx.min(), first.min()) < 0 or last.max() >= c):
        raise PlanError(f"plan of {layer.name}: expected runs of channels 0..{c - 1}, got {first.min()}..{last.max()}.")
    if max(packed.weights.size, packed.runs.size, h * w * c, int(np.prod(layer.out_shape))) >= LIMIT:
        raise PlanError(f"plan of {layer.name}: expected indices within 31 bits, got more. Use smaller images.")
