"""XSepConv: a large depthwise convolution as depthwise 1xK, Kx1 and 2x2, the last with symmetric padding.

Sources: Chen et al., *XSepConv: Extremely Separated Convolution* (arXiv 2002.12046), from the abstract; symmetric
padding from the code of C2sp (Wu et al., *Convolution with even-sized kernels and symmetric padding*, NeurIPS 2019,
arXiv 1903.08385). Hypothesis: that the three follow each other in this order.
"""

from typing import Any

from lhc_ref.arrays import Array, check_array, check_like, namespace
from lhc_ref.conv import Pads, conv2d
from lhc_ref.errors import InputError
from lhc_ref.tape import apply, define_vjp

Value = Any  # an array, or a Variable

QUARTER_PADS: tuple[Pads, ...] = (((0, 1), (0, 1)), ((1, 0), (1, 0)), ((0, 1), (1, 0)), ((1, 0), (0, 1)))
"""((top, bottom), (left, right)) of each quarter of the channels: a 2x2 window then leans another way in each."""


def symmetric_pad(x: Array) -> Array:
    """Each quarter of the channels with one more row and column: bottom right, top left, bottom left, top right.

    `y[b, iy + top, ix + left, c] = x[b, iy, ix, c]` with the quarter's pads, `QUARTER_PADS`.

    Parameters
    ----------
    x : f[n, h, w, c], c a multiple of 4

    Returns
    -------
    f[n, h + 1, w + 1, c], new memory; the added pixels are zero. Cost: one copy.

    Raises
    ------
    InputError : wrong dtype or shape, channels that are not a multiple of 4.

    Notes
    -----
    Source: the code of arXiv 1903.08385 (C2sp).
    """
    n, h, w, c = _check(x)
    y = namespace(x).zeros((n, h + 1, w + 1, c), dtype=x.dtype)
    for pixels in _quarters(h, w, c):
        y[pixels] = x[..., pixels[3]]
    return y


def symmetric_pad_vjp(dy: Array, x: Array) -> tuple[Array]:
    """Vector-Jacobian product of `symmetric_pad`: each quarter of dy without its added pixels."""
    n, h, w, c = _check(x)
    check_like(dy, "dy", (n, h + 1, w + 1, c), x, "x")
    return (namespace(dy).concatenate([dy[pixels] for pixels in _quarters(h, w, c)], axis=3),)


define_vjp(symmetric_pad, symmetric_pad_vjp)


def _quarters(h: int, w: int, c: int) -> list[tuple[slice, slice, slice, slice]]:
    """Where each quarter of x lies in the padded image."""
    return [
        (slice(None), slice(top, top + h), slice(left, left + w), slice(quarter * c // 4, (quarter + 1) * c // 4))
        for quarter, ((top, _), (left, _)) in enumerate(QUARTER_PADS)
    ]


def _check(x: Array) -> tuple[int, int, int, int]:
    check_array(x, "x", "n, h, w, c")
    if x.shape[3] % 4:
        raise InputError(f"x: expected a multiple of 4 channels, got {x.shape[3]}. Symmetric padding has four groups.")
    n, h, w, c = x.shape
    return n, h, w, c


def xsepconv(x: Value, row: Value, column: Value, square: Value) -> Value:
    """Depthwise 1xK, then Kx1, then 2x2 after symmetric padding; the image keeps its size.

    `conv2d(symmetric_pad(conv2d(conv2d(x, row), column)), square, "valid")`, each depthwise.

    Parameters
    ----------
    x : f[n, h, w, c], an array or a Variable; c a multiple of 4
    row : f[1, k, 1, c]
    column : f[k, 1, 1, c]
    square : f[2, 2, 1, c]

    Returns
    -------
    f[n, h, w, c]. Cost, weights and MACs a pixel: (2k + 4)*c, against k*k*c of the depthwise convolution it stands for.

    Raises
    ------
    InputError : wrong dtypes or shapes.

    Notes
    -----
    Source: the abstract of arXiv 2002.12046; the order is a hypothesis.
    """
    c = x.shape[-1]
    y = apply(conv2d, apply(conv2d, x, row, groups=c), column, groups=c)
    return apply(conv2d, apply(symmetric_pad, y), square, groups=c, padding="valid")
