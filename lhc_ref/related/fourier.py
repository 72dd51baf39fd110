"""Per-channel discrete Fourier transforms over the pixels, with complex numbers as two real channels."""

from lhc_ref.arrays import Array, check_array, check_like, describe, namespace
from lhc_ref.errors import InputError
from lhc_ref.tape import define_vjp


def fft2(x: Array) -> Array:
    """`z[b, u, v, c] = sum over iy, ix of x[b, iy, ix, c] * exp(-2i pi (u*iy/h + v*ix/w))`.

    Parameters
    ----------
    x : f[n, h, w, c]

    Returns
    -------
    f[n, h, w, c, 2] : real and imaginary parts, of x's dtype. Cost: n*c*h*w*log(h*w). Source: Cooley and Tukey 1965.

    Raises
    ------
    InputError : wrong dtype or shape, an image without pixels.
    """
    check_array(x, "x", "n, h, w, c")
    _check_pixels(x)
    return _split(namespace(x).fft.fft2(x, axes=(1, 2)), x)


def fft2_vjp(dy: Array, x: Array) -> tuple[Array]:
    """Vector-Jacobian product of `fft2`: the real part of its conjugate transpose, h*w times the inverse."""
    check_like(dy, "dy", (*x.shape, 2), x, "x")
    return (inverse_fft2(dy) * dy.dtype.type(x.shape[1] * x.shape[2]),)


def inverse_fft2(z: Array) -> Array:
    """Real part of the inverse of `fft2`, with `exp(+2i pi ...)/(h*w)`: f[n, h, w, c, 2] -> f[n, h, w, c].

    Spectra of real images have real inverses; from any other one the imaginary part is dropped.
    Cost: n*c*h*w*log(h*w). Source: as for `fft2`.
    """
    check_array(z, "z", "n, h, w, c, 2")
    if z.shape[4] != 2:
        raise InputError(f"z: expected real and imaginary parts last, got {describe(z)}. Stack the two.")
    _check_pixels(z)
    return namespace(z).fft.ifft2(z[..., 0] + 1j * z[..., 1], axes=(1, 2)).real.astype(z.dtype)


def inverse_fft2_vjp(dy: Array, z: Array) -> tuple[Array]:
    """Vector-Jacobian product of `inverse_fft2`: `fft2` divided by h*w."""
    check_like(dy, "dy", z.shape[:4], z, "z")
    return (fft2(dy) / dy.dtype.type(z.shape[1] * z.shape[2]),)


define_vjp(fft2, fft2_vjp)
define_vjp(inverse_fft2, inverse_fft2_vjp)


def _split(z: Array, like: Array) -> Array:
    xp = namespace(like)
    return xp.stack((z.real, z.imag), axis=-1).astype(like.dtype)


def _check_pixels(x: Array) -> None:
    if x.shape[1] * x.shape[2] == 0:
        raise InputError(f"image: expected at least one pixel, got {x.shape[1]}x{x.shape[2]}. Drop the empty images.")
