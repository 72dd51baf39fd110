"""Implicit diffusion on a periodic image, solved in Fourier space: a step that is stable whatever its length.

Source: the code beside Haber et al. (arXiv 1903.02639), where it is the implicit half of the IMEX step.
"""

from lhc_ref.arrays import Array, check_array, check_like, namespace
from lhc_ref.errors import InputError
from lhc_ref.related.fourier import fft2, fft2_vjp, inverse_fft2, inverse_fft2_vjp
from lhc_ref.tape import define_vjp


def implicit_multiplier(stencil: Array, *, size_hw: tuple[int, int], h: float) -> Array:
    """`1 / (1 + h*|l^(u, v)|^2)` for each frequency of an image, l^ the transform of the stencil: in (0, 1].

    Parameters
    ----------
    stencil : f[kh, kw, 1, c], a depthwise convolution, periodic over the image
    size_hw : (height, width) of the image
    h : > 0

    Returns
    -------
    f[1, height, width, c]. 1 for a stencil of zeros, `1/(1 + h*a^2)` for a single tap of height a.
    """
    check_array(stencil, "stencil", "kh, kw, 1, c")
    check_like(stencil, "stencil", (*stencil.shape[:2], 1, stencil.shape[3]), stencil, "a depthwise kernel")
    check_step(h)
    spectrum = fft2(_on_torus(stencil, size_hw))
    return 1 / (1 + stencil.dtype.type(h) * (spectrum**2).sum(axis=-1))


def implicit_diffusion(v: Array, stencil: Array, *, h: float) -> Array:
    """The y with `y + h * L^T L y = v`, L the periodic depthwise convolution with the stencil, solved in Fourier space.

    Parameters
    ----------
    v : f[n, height, width, c]
    stencil : f[kh, kw, 1, c]
    h : > 0

    Returns
    -------
    f[n, height, width, c], new memory, of a norm no larger than v's. Cost: two transforms of v.

    Raises
    ------
    InputError : wrong dtypes or shapes, h not positive.

    Notes
    -----
    Source: Haber et al., arXiv 1903.02639, and its code.
    """
    multiplier = _multiplier(v, stencil, h)
    return inverse_fft2(fft2(v) * multiplier[..., None])


def implicit_diffusion_vjp(dy: Array, v: Array, stencil: Array, *, h: float) -> tuple[Array, Array]:
    """Vector-Jacobian product of `implicit_diffusion`: dv is the step itself, for L^T L is symmetric."""
    multiplier, v_spectrum = _multiplier(v, stencil, h), fft2(v)
    check_like(dy, "dy", v.shape, v, "v")
    (dy_spectrum,) = inverse_fft2_vjp(dy, v_spectrum)
    (dv,) = fft2_vjp(dy_spectrum * multiplier[..., None], v)
    dmultiplier = (dy_spectrum * v_spectrum).sum(axis=(0, 4))[None]
    dpower = -v.dtype.type(h) * multiplier**2 * dmultiplier
    torus = _on_torus(stencil, v.shape[1:3])
    (dtorus,) = fft2_vjp(2 * fft2(torus) * dpower[..., None], torus)
    height, width = v.shape[1:3]
    dstencil = namespace(v).zeros_like(stencil)
    for ky in range(stencil.shape[0]):
        for kx in range(stencil.shape[1]):
            dstencil[ky, kx, 0] = dtorus[0, ky % height, kx % width]
    return dv, dstencil


define_vjp(implicit_diffusion, implicit_diffusion_vjp)


def _multiplier(v: Array, stencil: Array, h: float) -> Array:
    check_array(v, "v", "n, h, w, c")
    check_array(stencil, "stencil", "kh, kw, 1, c")
    check_like(stencil, "stencil", (*stencil.shape[:2], 1, v.shape[3]), v, "v")
    return implicit_multiplier(stencil, size_hw=v.shape[1:3], h=h)


def _on_torus(stencil: Array, size_hw: tuple[int, int]) -> Array:
    """The stencil on a periodic image f[1, height, width, c]; where its first tap lies does not change |l^|."""
    height, width = size_hw
    if height < 1 or width < 1:
        raise InputError(f"image: expected at least one pixel, got {height}x{width}. Drop the empty images.")
    torus = namespace(stencil).zeros((1, height, width, stencil.shape[3]), dtype=stencil.dtype)
    for ky in range(stencil.shape[0]):
        for kx in range(stencil.shape[1]):
            torus[0, ky % height, kx % width] += stencil[ky, kx, 0]
    return torus


def check_step(h: float) -> None:
    """Raise InputError unless `h` is a length to go."""
    if not h > 0:
        raise InputError(f"h: expected a length > 0, got {h!r}. Explicit diffusion is stable up to 2 / |K|^2.")
