"""Binary convolution: weights and activations -1 or +1, and the scaling factors that make up for it.

Sources: sign, and one scale a filter: Rastegari et al., *XNOR-Net*, ECCV 2016 (arXiv 1603.05279). Gated scales:
Martinez et al., *Training Binary Neural Networks with Real-to-Binary Convolutions*, ICLR 2020 (arXiv 2003.11535), from
third-party code. Scales shared by adjacent positions: Lyu, Zhu, Liu, *Cross-filter Compression* (arXiv 2005.09034),
from the abstract. Hypothesis: who is adjacent, and that a scale is the mean |w| of what shares it, as in XNOR-Net.
"""

from collections.abc import Callable
from typing import Any

from lhc_ref import ops
from lhc_ref.arrays import Array, OneOrTwo, check_array, check_float, check_like, namespace
from lhc_ref.conv import Padding, conv2d
from lhc_ref.errors import InputError
from lhc_ref.tape import apply, define_vjp

Value = Any  # an array, or a Variable

Block = tuple[int, int, int, int]
"""Adjacent (taps vertically, taps horizontally, input channels, filters) that share a scale; 0 stands for all."""

PER_FILTER: Block = (0, 0, 0, 1)


def sign(x: Array) -> Array:
    """+1 where x >= 0, else -1 (NaN too): f[...] -> f[...]. Straight-through derivative: `sign_vjp`.

    `y = 1 if x >= 0 else -1`. Cost: one pass over x. Source: arXiv 1603.05279, with sign(0) = +1.
    """
    check_float(x, "x")
    one = x.dtype.type(1)
    return namespace(x).where(x >= 0, one, -one)


def sign_vjp(dy: Array, x: Array) -> tuple[Array]:
    """STE of `sign`: slope 1 where |x| <= 1, else 0; the derivative of `sign_surrogate`."""
    check_like(dy, "dy", x.shape, x, "x")
    return (dy * (abs(x) <= 1),)


def sign_surrogate(x: Array) -> Array:
    """The function that `sign_vjp` differentiates: x clipped to [-1, 1]."""
    return namespace(x).clip(x, -1, 1)


def block_scale(kernel: Array, *, block: Block = PER_FILTER) -> Array:
    """For every weight the mean |w| of the block that it lies in, `y[i] = sum of |w| over block(i) / its size`.

    Parameters
    ----------
    kernel : f[kh, kw, c_in, c_out]
    block : (0, 0, 0, 1), one scale a filter, is XNOR-Net's. Across filters: (1, kw, 0, 0) for one scale a row of
        adjacent positions in all filters, (0, 0, 0, 4) for one scale every four adjacent filters.

    Returns
    -------
    f[kh, kw, c_in, c_out]

    Raises
    ------
    InputError : wrong dtype or shape, a block that does not divide the kernel.

    Notes
    -----
    Cost: two passes over the kernel. Source: arXiv 1603.05279 (one a filter); the abstract of arXiv 2005.09034 (across
    filters; hypothesis: who is adjacent, and that the scale is a mean).
    """
    split = _split(kernel, block)
    means = abs(kernel).reshape(split).mean(axis=(1, 3, 5, 7), keepdims=True)
    return namespace(kernel).broadcast_to(means, split).reshape(kernel.shape)


def block_scale_vjp(dy: Array, kernel: Array, *, block: Block = PER_FILTER) -> tuple[Array]:
    """Vector-Jacobian product of `block_scale`; the slope of |w| at 0 is 0."""
    split = _split(kernel, block)
    check_like(dy, "dy", kernel.shape, kernel, "kernel")
    xp = namespace(kernel)
    means = dy.reshape(split).mean(axis=(1, 3, 5, 7), keepdims=True)
    return (xp.broadcast_to(means, split).reshape(kernel.shape) * xp.sign(kernel),)


def scale_channels(x: Array, gates: Array) -> Array:
    """`y[b, iy, ix, c] = x[b, iy, ix, c] * gates[b, c]`: f[n, h, w, c] and f[n, c] -> f[n, h, w, c].

    Cost: one pass over x. Source: third-party code of arXiv 2003.11535.
    """
    check_array(x, "x", "n, h, w, c")
    check_like(gates, "gates", (x.shape[0], x.shape[3]), x, "x")
    return x * gates[:, None, None]


def scale_channels_vjp(dy: Array, x: Array, gates: Array) -> tuple[Array, Array]:
    """Vector-Jacobian product of `scale_channels`."""
    check_like(dy, "dy", x.shape, x, "x")
    return dy * gates[:, None, None], (dy * x).sum(axis=(1, 2))


define_vjp(sign, sign_vjp)
define_vjp(block_scale, block_scale_vjp)
define_vjp(scale_channels, scale_channels_vjp)


def binary_conv2d(
    x: Value, kernel: Value, *, block: Block | None = PER_FILTER, stride: OneOrTwo = 1, padding: Padding = "same"
) -> Value:
    """`conv2d(sign(x), scale * sign(kernel))`; padded pixels count as 0, neither -1 nor +1.

    Parameters
    ----------
    x : f[n, h, w, c_in], an array or a Variable
    kernel : f[kh, kw, c_in, c_out], the real weights that training changes
    block : who shares a scale, see `block_scale`; None leaves scales out
    stride, padding : as for `conv2d`

    Returns
    -------
    f[n, oh, ow, c_out]. On a tape both signs are straight-through, and the scale is differentiated as it is.
    Cost: as `conv2d`; an engine may count bits instead. Source: arXiv 1603.05279.
    """
    signs = apply(sign, kernel)
    if block is not None:
        signs = apply(ops.multiply, apply(block_scale, kernel, block=block), signs)
    return apply(conv2d, apply(sign, x), signs, stride=stride, padding=padding)


def gate(x: Value, reduce: Value, expand: Value) -> Value:
    """The scale of each output channel as the image asks for it: `sigmoid(relu(mean over pixels @ reduce) @ expand)`.

    Parameters
    ----------
    x : f[n, h, w, c], an array or a Variable
    reduce : f[c, c/8]
    expand : f[c/8, c_out]

    Returns
    -------
    f[n, c_out], in (0, 1). Cost: n*c/8*(c + c_out) MACs. Source: third-party code of arXiv 2003.11535.
    """
    squeezed = apply(ops.relu, apply(ops.dense, apply(ops.global_average_pool, x), reduce))
    return apply(ops.sigmoid, apply(ops.dense, squeezed, expand))


def real_to_binary(
    x: Value,
    kernel: Value,
    reduce: Value,
    expand: Value,
    slope: Value,
    *,
    normalize: Callable[[Value], Value] | None = None,
    shortcut: Callable[[Value], Value] | None = None,
    stride: OneOrTwo = 1,
    padding: Padding = "same",
) -> Value:
    """One block: `PReLU(gate(x) * binconv(sign(N(x)))) + shortcut(x)`, the binary convolution without scales.

    Parameters
    ----------
    x : f[n, h, w, c], an array or a Variable
    kernel : f[kh, kw, c, c_out]
    reduce, expand : of `gate`
    slope : f[c_out], of PReLU
    normalize : N, a batch norm in the paper; None leaves it out
    shortcut : f[n, h, w, c] -> f[n, oh, ow, c_out]; None adds x itself
    stride, padding : of the convolution

    Returns
    -------
    f[n, oh, ow, c_out]. Cost: that of the convolution, and n*c/8*(c + c_out) MACs of the gate. Source: third-party code
    of arXiv 2003.11535.
    """
    normal = x if normalize is None else normalize(x)
    y = binary_conv2d(normal, kernel, block=None, stride=stride, padding=padding)
    y = apply(ops.prelu, apply(scale_channels, y, gate(x, reduce, expand)), slope)
    return apply(ops.add, y, x if shortcut is None else shortcut(x))


def _split(kernel: Array, block: Block) -> tuple[int, ...]:
    """The kernel's shape with every axis split into (blocks, size of a block)."""
    check_array(kernel, "kernel", "kh, kw, c_in, c_out")
    sizes = [b or length for b, length in zip(block, kernel.shape, strict=True)]
    if any(size < 1 or length % size for size, length in zip(sizes, kernel.shape, strict=True)):
        raise InputError(f"block: expected divisors of the kernel {kernel.shape}, got {block}. 0 stands for all.")
    return tuple(part for size, length in zip(sizes, kernel.shape, strict=True) for part in (length // size, size))
