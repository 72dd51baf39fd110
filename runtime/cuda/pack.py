"""Lays the weights of a convolution out for one tile, and proves that no index leaves its array."""

from dataclasses import dataclass

import numpy as np

from runtime import topology
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
    def bytes(self) -> int:
        """Memory of float32 weights and the index."""
        return self.weights.nbytes + self.rows.nbytes + self.starts.nbytes


def pack(layer: Layer, outputs: int) -> Packed:
    """Rows and weights of a convolution for tiles of so many output channels. O(weights)."""
    union = topology.of_layer(layer).rows(outputs)
    tiles, kh, kw, c_in = union.shape
    kernel = np.zeros((kh, kw, c_in, tiles * outputs), np.float32)
    kernel[..., : layer.out_shape[2]] = topology.full_kernel(layer)
    tile, ky, kx, ci = np.nonzero(union)
    dy, dx = ky * layer.window.dilation[0], kx * layer.window.dilation[1]
    packed = Packed(
        kernel.reshape(kh, kw, c_in, tiles, outputs)[ky, kx, ci, tile],
        np.stack([dy, dx, (dy * layer.shape[1] + dx) * c_in + ci], 1).astype(np.int32),
        np.searchsorted(tile, np.arange(tiles + 1)).astype(np.int32),
    )
    prove(packed, layer, outputs)
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
    (h, w, c), c_out, starts = layer.shape, layer.out_shape[2], packed.starts.astype(np.int64)
    ordered = starts[0] == 0 and starts[-1] == len(packed.rows) and np.all(np.diff(starts) >= 0)
    if not ordered or packed.weights.shape != (len(packed.rows), outputs):
        raise PlanError(f"plan of {layer.name}: expected starts and weights of {len(packed.rows)} rows, got others.")
    if not (packed.tiles - 1) * outputs < c_out <= packed.tiles * outputs:
        raise PlanError(f"plan of {layer.name}: expected tiles for {c_out} channels, got {packed.tiles} of {outputs}.")
    dy, dx, ahead = packed.rows.astype(np.int64).T
    channel = ahead - (dy * w + dx) * c
    if packed.rows.size and (min(dy.min(), dx.min(), channel.min()) < 0 or channel.max() >= c):
        raise PlanError(
            f"plan of {layer.name}: expected rows of channels 0..{c - 1}, got {channel.min()}..{channel.max()}."
        )
    if max(packed.weights.size, 3 * len(packed.rows), h * w * c, int(np.prod(layer.out_shape))) >= LIMIT:
        raise PlanError(f"plan of {layer.name}: expected indices within 31 bits, got more. Use smaller images.")
