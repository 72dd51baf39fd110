"""Which weights exist, without their values: densities, pattern census, block structure, rows of output tiles."""

import math
from dataclasses import dataclass
from functools import reduce

import numpy as np

from runtime.layer import Layer


@dataclass(frozen=True, eq=False)
class Topology:
    """The existing weights of one layer.

    kept : bool[kh, kw, c_in, c_out] with c_in counting *all* input channels, grouped convolution written out as absent
        weights.
    """

    kept: np.ndarray

    @property
    def density(self) -> float:
        """Existing weights over all of kh*kw*c_in*c_out; a grouped layer's absent weights count as missing."""
        return np.count_nonzero(self.kept) / self.kept.size

    def rows(self, tile_channels: int) -> np.ndarray:
        """bool[tiles, kh, kw, c_in]: the (tap, input channel) pairs that any output channel of a tile keeps.
        O(mask).
        """
        kh, kw, c_in, c_out = self.kept.shape
        tiles = -(-c_out // tile_channels)
        padded = np.zeros((kh, kw, c_in, tiles * tile_channels), bool)
        padded[..., :c_out] = self.kept
        # Same as: padded.reshape(kh, kw, c_in, tiles, tile_channels).any(axis=-1), in a tenth of the time.
        together = math.gcd(tile_channels, 8)
        words = padded.view(f"u{together}").reshape(kh, kw, c_in, tiles, tile_channels // together)
        kept = reduce(np.bitwise_or, (words[..., i] for i in range(words.shape[-1])))
        return (kept != 0).transpose(3, 0, 1, 2)


def count_by_tap(kept: np.ndarray) -> np.ndarray:
    """i64[kh, kw]: how many of bool[kh, kw, ...] are set at each tap. O(mask)."""
    # Same as: kept.sum(axis=(2, 3)), in a tenth of the time: NumPy counts a whole contiguous array by words.
    return np.array([[np.count_nonzero(tap) for tap in row] for row in kept])


def of_layer(layer: Layer) -> Topology:
    """Topology of a convolution layer; every weight of a layer without a mask exists, zeros included."""
    kernel = layer.kernel
    assert kernel is not None, "only convolutions have a topology"
    kh, kw, c_group, c_out = kernel.shape
    mask = np.ones(kernel.shape, bool) if layer.mask is None else layer.mask
    if layer.groups == 1:
        return Topology(mask)
    kept = np.zeros((kh, kw, c_group * layer.groups, c_out), bool)
    per_group = c_out // layer.groups
    for g in range(layer.groups):
        kept[:, :, g * c_group : (g + 1) * c_group, g * per_group : (g + 1) * per_group] = mask[
            ..., g * per_group : (g + 1) * per_group
        ]
    return Topology(kept)


def masked_kernel(layer: Layer) -> np.ndarray:
    """f32[kh, kw, c_in / groups, c_out]; absent weights are zero."""
    assert layer.kernel is not None, "only convolutions have a kernel"
    return layer.kernel if layer.mask is None else np.where(layer.mask, layer.kernel, np.float32(0))


def full_kernel(layer: Layer) -> np.ndarray:
    """f32[kh, kw, c_in, c_out] with all input channels; absent weights are zero."""
    masked = masked_kernel(layer)
    if layer.groups == 1:
        return masked
    kh, kw, c_group, c_out = masked.shape
    full = np.zeros((kh, kw, c_group * layer.groups, c_out), np.float32)
    per_group = c_out // layer.groups
    for g in range(layer.groups):
        out = slice(g * per_group, (g + 1) * per_group)
        full[:, :, g * c_group : (g + 1) * c_group, out] = masked[..., out]
    return full


def census(mask: np.ndarray) -> dict[tuple[int, ...], int]:
    """How often each pattern occurs among the (input, output) pairs: {flat 0/1 pattern: count}, most frequent first.

    mask : bool[kh, kw, c_in, c_out]. O(mask log mask).
    """
    flat = mask.reshape(mask.shape[0] * mask.shape[1], -1).T
    patterns, counts = np.unique(flat, axis=0, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    return {tuple(int(v) for v in patterns[i]): int(counts[i]) for i in order}


def shared_by(mask: np.ndarray, axis: int, limit: int = 64) -> int:
    """The largest power of two of adjacent channels (axis 2: inputs, 3: outputs) that share their patterns
    throughout.
    """
    group = 1
    while group < limit and mask.shape[axis] > group:
        wider = 2 * group
        starts = np.arange(mask.shape[axis]) // wider * wider
        if not np.array_equal(mask, np.take(mask, starts, axis)):
            break
        group = wider
    return group
