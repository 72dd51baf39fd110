"""Masks of kernels whose weights hold zeros."""

from math import prod

import numpy as np

from lhc_ref.modelfile import MaskedKernel

LARGEST_GROUP = 2**16  # that a mask of the model file may have


def group_size(mask: np.ndarray, axis: int) -> int:
    """How many adjacent channels along an axis share their pattern throughout: the most for which it holds exactly.

    Groups begin at its multiples and the last may be short, so a size fits where it divides each place at which
    neighbours differ.
    """
    along = np.moveaxis(mask, axis, 0)
    differ = (along[1:] != along[:-1]).any(axis=(1, 2, 3))
    places = np.flatnonzero(differ) + 1
    size = int(np.gcd.reduce(places)) if places.size else len(along)
    return size if size <= LARGEST_GROUP else 1


def with_mask(kernel: np.ndarray) -> np.ndarray | MaskedKernel:
    """A kernel f32[kh, kw, c_in, c_out] under the mask of its zeros; itself where it has none. O(weights)."""
    mask = kernel != 0
    if mask.all() or not prod(kernel.shape):
        return kernel
    group_in, group_out = group_size(mask, 2), group_size(mask, 3)
    groups = np.ascontiguousarray(mask[:, :, ::group_in, ::group_out])
    return MaskedKernel.from_dense(np.ascontiguousarray(kernel), groups, group_in, group_out)
