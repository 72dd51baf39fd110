"""The hand-made kinds of convolution, each as one choice of mask: which weights of a full kernel exist.

That they all are masks, and that learnable heterogeneous convolution therefore chooses among them and all between, is
the claim of Zhao, Wu, Zhang (arXiv 2301.05440). Here `conv2d(x, kernel * mask)` is the hand-made convolution, and
`free_scores(mask)` are the scores of free patterns that an LHC layer would have to learn for it.

A mask is bool[kh, kw, c_in, c_out], new memory. Pads belong to its window: where the hand-made window is smaller (1x1
in 3x3), the mask's pads are larger by what surrounds the small window.
"""

from collections.abc import Callable

import numpy as np

from lhc_ref.arrays import OneOrTwo, pair
from lhc_ref.errors import InputError
from lhc_ref.mask import group_counts


def standard(size: OneOrTwo, c_in: int, c_out: int) -> np.ndarray:
    """Every weight exists: an ordinary convolution."""
    group_counts(c_in=c_in, c_out=c_out, group_in=1, group_out=1)
    return np.ones((*pair(size, "size"), c_in, c_out), bool)


def grouped(size: OneOrTwo, c_in: int, c_out: int, *, groups: int) -> np.ndarray:
    """Output channels see the input channels of their own group only: `groups` blocks on the channels' diagonal.

    Raises
    ------
    InputError : groups does not divide both channel counts.
    """
    mask = standard(size, c_in, c_out)
    if groups < 1 or c_in % groups or c_out % groups:
        raise InputError(f"groups: expected a divisor of c_in={c_in} and c_out={c_out}, got {groups!r}. Change one.")
    group_of_input = np.arange(c_in) // (c_in // groups)
    group_of_output = np.arange(c_out) // (c_out // groups)
    return mask & (group_of_input[:, None] == group_of_output)


def depthwise(size: OneOrTwo, c_in: int, c_out: int) -> np.ndarray:
    """Each input channel has a group of its own; c_out is a multiple of c_in."""
    return grouped(size, c_in, c_out, groups=c_in)


def pointwise(size: OneOrTwo, c_in: int, c_out: int) -> np.ndarray:
    """The centre tap alone: a 1x1 convolution."""
    mask = ~standard(size, c_in, c_out)
    mask[centre(size)] = True
    return mask


def horizontal(size: OneOrTwo, c_in: int, c_out: int) -> np.ndarray:
    """The row of taps through the centre: a 1xk convolution."""
    mask = ~standard(size, c_in, c_out)
    mask[centre(size)[0]] = True
    return mask


def vertical(size: OneOrTwo, c_in: int, c_out: int) -> np.ndarray:
    """The column of taps through the centre: a kx1 convolution."""
    mask = ~standard(size, c_in, c_out)
    mask[:, centre(size)[1]] = True
    return mask


def dilated(size: OneOrTwo, c_in: int, c_out: int, *, dilation: OneOrTwo) -> np.ndarray:
    """`size` taps, `dilation` pixels apart, in a window of (size - 1) * dilation + 1 taps."""
    (kh, kw), (dy, dx) = pair(size, "size"), pair(dilation, "dilation")
    mask = ~standard(((kh - 1) * dy + 1, (kw - 1) * dx + 1), c_in, c_out)
    mask[::dy, ::dx] = True
    return mask


def hetconv(size: OneOrTwo, c_in: int, c_out: int, *, p: int) -> np.ndarray:
    """HetConv: one input channel in `p` keeps all taps, the others the centre; which ones shifts with the output.

    Output channel co sees all taps of the input channels ci with `(ci - co) % p == 0`. A kxk window has density
    `1/p + (1 - 1/p) / k^2`: 5/9, 1/3, 2/9 for 3x3 and p = 2, 4, 8.

    Raises
    ------
    InputError : p does not divide c_in, or the window has no centre.

    Notes
    -----
    Source: Singh, Verma, Rai, Namboodiri, *HetConv*, CVPR 2019 (arXiv 1903.04120).
    """
    mask = standard(size, c_in, c_out)
    if p < 1 or c_in % p:
        raise InputError(f"p: expected a divisor of c_in={c_in}, got {p!r}. One input channel in p keeps all taps.")
    whole = (np.arange(c_in)[:, None] - np.arange(c_out)) % p == 0
    return mask & whole | pointwise(size, c_in, c_out)


KINDS: dict[str, Callable[..., np.ndarray]] = {
    "standard": standard,
    "grouped": grouped,
    "depthwise": depthwise,
    "pointwise": pointwise,
    "horizontal": horizontal,
    "vertical": vertical,
    "dilated": dilated,
    "hetconv": hetconv,
}
"""Every kind by name: `kind(size, c_in, c_out, **its own options) -> bool[kh, kw, c_in, c_out]`."""


def centre(size: OneOrTwo) -> tuple[int, int]:
    """(ky, kx) of the tap in the middle of a window; both lengths have to be odd."""
    kh, kw = pair(size, "size")
    if kh % 2 == 0 or kw % 2 == 0:
        raise InputError(f"size: expected odd numbers of taps, got {kh}x{kw}. A window of even length has no centre.")
    return kh // 2, kw // 2


def free_scores(mask: np.ndarray, dtype: str = "float32") -> np.ndarray:
    """Scores that `free_mask` with a pattern for every pair of channels turns into this mask: 1 on, -1 off."""
    return np.where(mask, 1, -1).astype(dtype)
