"""Circulant coupling: every output channel sees the same weights, shifted round the channels with it.

Two evaluations of one operator: `conv2d(x, circulant_kernel(theta))`, which is the definition, and `circulant_conv2d`,
which multiplies in the Fourier space of the channels. Source: the code beside Treister et al., *Low-Cost
Parameterizations of Deep CNNs* (arXiv 1805.07821), where it is unfinished.
"""

from collections.abc import Iterator

from lhc_ref.arrays import Array, OneOrTwo, check_array, check_like, describe, namespace, pair
from lhc_ref.conv import Padding, output_size, pad_image, resolve_padding, tap_slices
from lhc_ref.errors import InputError
from lhc_ref.tape import define_vjp


def circulant_shape(size: OneOrTwo, c_in: int, c_out: int, *, block: int) -> tuple[int, int, int, int, int]:
    """Shape of theta: kh*kw*c_in*c_out/block weights; `block = c_in = c_out` couples all channels with kh*kw*c_in.

    Raises
    ------
    InputError : block does not divide both channel counts.
    """
    if block < 1 or c_in % block or c_out % block:
        raise InputError(f"block: expected a divisor of c_in={c_in} and c_out={c_out}, got {block!r}. Change one.")
    return (*pair(size, "size"), c_in // block, c_out // block, block)


def circulant_kernel(theta: Array) -> Array:
    """The dense kernel: entry (p*b + i, q*b + j) of each tap is `theta[..., p, q, (j - i) mod b]`.

    With one block that is `y[c] = sum_d theta[d] * x[(c - d) mod C]`.

    Parameters
    ----------
    theta : f[kh, kw, p, q, b], p blocks of b input channels and q of b output channels

    Returns
    -------
    f[kh, kw, p*b, q*b], new memory.

    Notes
    -----
    Cost: one copy a weight, c_in*c_out*kh*kw. Source: the code beside arXiv 1805.07821; see the module.
    """
    check_array(theta, "theta", "kh, kw, p, q, b")
    kh, kw, p, q, b = theta.shape
    i = namespace(theta).arange(b)
    blocks = theta[..., (i - i[:, None]) % b]
    return blocks.swapaxes(3, 4).reshape(kh, kw, p * b, q * b)


def circulant_kernel_vjp(dy: Array, theta: Array) -> tuple[Array]:
    """Vector-Jacobian product of `circulant_kernel`: the sum along each wrapped diagonal."""
    kh, kw, p, q, b = theta.shape
    check_like(dy, "dy", (kh, kw, p * b, q * b), theta, "theta")
    i = namespace(theta).arange(b)
    blocks = dy.reshape(kh, kw, p, b, q, b).swapaxes(3, 4)
    return (blocks[..., i[:, None], (i + i[:, None]) % b].sum(axis=-2),)


def circulant_conv2d(
    x: Array, theta: Array, *, stride: OneOrTwo = 1, padding: Padding = "same", dilation: OneOrTwo = 1
) -> Array:
    """`conv2d(x, circulant_kernel(theta))` by way of Fourier transforms over the channels of each block.

    Parameters
    ----------
    x : f[n, h, w, p*b]
    theta : f[kh, kw, p, q, b]
    stride, padding, dilation : as for `conv2d`

    Returns
    -------
    f[n, oh, ow, q*b], new memory.

    Raises
    ------
    InputError : wrong dtypes or shapes, as for `conv2d`.

    Notes
    -----
    Cost: n*h*w*(c_in + c_out)*log(b) for the transforms, and n*oh*ow*kh*kw*c_in*c_out/(2*b) complex products.
    Source: as for `circulant_kernel`.
    """
    case = _Case(x, theta, stride, padding, dilation)
    xp = namespace(x)
    x_spectrum, theta_spectrum = case.spectrum(pad_image(x, case.pads)), xp.fft.rfft(theta)
    y_spectrum = 0
    for ky, kx, (rows, columns) in case.taps():
        y_spectrum += xp.einsum("nhwpf,pqf->nhwqf", x_spectrum[:, rows, columns], theta_spectrum[ky, kx])
    return case.channels(y_spectrum, x)


def circulant_conv2d_vjp(
    dy: Array,
    x: Array,
    theta: Array,
    *,
    stride: OneOrTwo = 1,
    padding: Padding = "same",
    dilation: OneOrTwo = 1,
) -> tuple[Array, Array]:
    """Vector-Jacobian product of `circulant_conv2d`: correlations over the channels, conjugates in Fourier space."""
    case = _Case(x, theta, stride, padding, dilation)
    check_like(dy, "dy", (x.shape[0], *case.out_hw, theta.shape[3] * theta.shape[4]), x, "x and theta")
    xp = namespace(x)
    x_spectrum, theta_spectrum = case.spectrum(pad_image(x, case.pads)), xp.fft.rfft(theta)
    dy_spectrum = case.spectrum(dy)
    dx_spectrum, dtheta_spectrum = xp.zeros_like(x_spectrum), xp.zeros_like(theta_spectrum)
    for ky, kx, (rows, columns) in case.taps():
        pixels = x_spectrum[:, rows, columns]
        dx_spectrum[:, rows, columns] += xp.einsum("nhwqf,pqf->nhwpf", dy_spectrum, theta_spectrum[ky, kx].conj())
        dtheta_spectrum[ky, kx] = xp.einsum("nhwpf,nhwqf->pqf", pixels.conj(), dy_spectrum)
    (top, _), (left, _) = case.pads
    dx = case.channels(dx_spectrum, x)[:, top : top + x.shape[1], left : left + x.shape[2]]
    return dx, xp.fft.irfft(dtheta_spectrum, n=case.block).astype(theta.dtype)


define_vjp(circulant_kernel, circulant_kernel_vjp)
define_vjp(circulant_conv2d, circulant_conv2d_vjp)


class _Case:
    """One circulant convolution's checked sizes."""

    def __init__(self, x: Array, theta: Array, stride: OneOrTwo, padding: Padding, dilation: OneOrTwo) -> None:
        check_array(x, "x", "n, h, w, c_in")
        check_array(theta, "theta", "kh, kw, p, q, b")
        kh, kw, p, _, b = theta.shape
        if theta.dtype != x.dtype or p * b != x.shape[3] or 0 in theta.shape:
            raise InputError(
                f"theta: expected {x.dtype}[kh, kw, p, q, b] with p*b = c_in = {x.shape[3]}, got {describe(theta)}. "
                f"Convert or reshape it."
            )
        self.block = b
        self.size, self.stride, self.dilation = (kh, kw), pair(stride, "stride"), pair(dilation, "dilation")
        self.pads = resolve_padding(padding, x.shape[1:3], self.size, stride, dilation)
        self.out_hw = output_size(x.shape[1:3], self.size, stride=stride, padding=padding, dilation=dilation)

    def taps(self) -> Iterator[tuple[int, int, tuple[slice, slice]]]:
        return tap_slices(self.size, self.out_hw, self.stride, self.dilation)

    def spectrum(self, a: Array) -> Array:
        """[n, h, w, c] as the transforms [n, h, w, blocks, b//2 + 1] of its blocks."""
        n, h, w, c = a.shape
        return namespace(a).fft.rfft(a.reshape(n, h, w, c // self.block, self.block))

    def channels(self, spectrum: Array, like: Array) -> Array:
        """The inverse of `spectrum`, in the dtype of `like`."""
        a = namespace(like).fft.irfft(spectrum, n=self.block).astype(like.dtype)
        return a.reshape(*a.shape[:3], a.shape[3] * self.block)
