"""Lean convolution: a cheap stencil within groups of channels, plus a full 1x1 that couples all of them.

Source: Ephrath et al., *LeanConvNets* (arXiv 1910.13157), after Treister et al., *Low-Cost Parameterizations of Deep
CNNs* (arXiv 1805.07821); from the abstracts and summaries of both. Hypothesis: that the separable 3-point stencil is a
row or a column of three taps, one of each in turn making a separable 3x3.
"""

import numpy as np

from lhc_ref.arrays import Array, OneOrTwo, check_array, check_like, namespace
from lhc_ref.conv import conv2d, conv2d_vjp
from lhc_ref.errors import InputError
from lhc_ref.tape import define_vjp

_PICTURES = {
    "3-point row": "000/111/000",
    "3-point column": "010/010/010",
    "4-point": "010/101/010",
    "5-point": "010/111/010",
    "9-point": "111/111/111",
}
STENCILS = {name: np.array([[tap == "1" for tap in row] for row in p.split("/")]) for name, p in _PICTURES.items()}
"""Name -> bool[3, 3]. The 4-point stencil is the cross without its centre, which the 1x1 holds anyway."""

PADS = ((1, 1), (1, 1))  # Why not "same": at stride 2 its pads put the stencil's centre beside the pixel of the 1x1.


def stencil_kernel(weights: Array, *, stencil: str) -> Array:
    """`kernel[tap t of the stencil] = weights[t]`, zero elsewhere: f[taps, c, c_out] -> f[3, 3, c, c_out].

    Taps are in C order. Cost: one copy. Source: as for `lean_conv2d`.
    """
    check_array(weights, "weights", "taps, c, c_out")
    taps = _taps(stencil)
    check_like(weights, "weights", (len(taps), *weights.shape[1:]), weights, f"the {stencil} stencil")
    kernel = namespace(weights).zeros((3, 3, *weights.shape[1:]), dtype=weights.dtype)
    for tap, (ky, kx) in enumerate(taps):
        kernel[ky, kx] = weights[tap]
    return kernel


def stencil_kernel_vjp(dy: Array, weights: Array, *, stencil: str) -> tuple[Array]:
    """Vector-Jacobian product of `stencil_kernel`: dy at the stencil's taps."""
    check_like(dy, "dy", (3, 3, *weights.shape[1:]), weights, "weights")
    return (namespace(dy).stack([dy[ky, kx] for ky, kx in _taps(stencil)]),)


def _taps(stencil: str) -> list[tuple[int, int]]:
    """(ky, kx) of the taps, in C order."""
    if stencil not in STENCILS:
        raise InputError(f"stencil: expected one of {', '.join(STENCILS)}, got {stencil!r}. Use one of these.")
    return [(int(ky), int(kx)) for ky, kx in np.argwhere(STENCILS[stencil])]


def lean_shapes(
    c_in: int, c_out: int, *, stencil: str, groups: int
) -> tuple[tuple[int, int, int], tuple[int, int, int, int]]:
    """Shapes of the two weight arrays of `lean_conv2d`: for c channels `taps*c*(c/groups) + c^2` numbers together.

    Raises
    ------
    InputError : an unknown stencil, or groups that do not divide both channel counts.
    """
    if groups < 1 or c_in % groups or c_out % groups:
        raise InputError(f"groups: expected a divisor of c_in={c_in} and c_out={c_out}, got {groups!r}. Change one.")
    return (len(_taps(stencil)), c_in // groups, c_out), (1, 1, c_in, c_out)


def lean_conv2d(x: Array, weights: Array, pointwise: Array, *, stencil: str, stride: OneOrTwo = 1) -> Array:
    """`conv2d(x, stencil_kernel(weights), groups) + conv2d(x, pointwise)`, the 1x1 on the stencil's centre pixel.

    Parameters
    ----------
    x : f[n, h, w, c_in]
    weights : f[taps, c_in/groups, c_out]
        How many groups there are follows from its shape; c_in of them make the stencil depthwise.
    pointwise : f[1, 1, c_in, c_out]
    stencil : a key of `STENCILS`
    stride : one or two integers >= 1

    Returns
    -------
    f[n, ceil(h/stride), ceil(w/stride), c_out], new memory; x is padded by one zero pixel on all sides.

    Raises
    ------
    InputError : wrong dtypes or shapes, an unknown stencil.

    Notes
    -----
    Cost: n*oh*ow*c_out*(9*c_in/groups + c_in) MACs as computed here, taps instead of 9 for an engine that skips zeros.
    Source: arXiv 1910.13157, `S_g * x + W_1x1 * x`; see the module.
    """
    groups = _groups(x, weights)
    spatial = conv2d(x, stencil_kernel(weights, stencil=stencil), stride=stride, padding=PADS, groups=groups)
    return spatial + conv2d(x, pointwise, stride=stride, padding="valid")


def lean_conv2d_vjp(
    dy: Array, x: Array, weights: Array, pointwise: Array, *, stencil: str, stride: OneOrTwo = 1
) -> tuple[Array, Array, Array]:
    """Vector-Jacobian product of `lean_conv2d`: those of its two convolutions, dx being their sum."""
    groups, kernel = _groups(x, weights), stencil_kernel(weights, stencil=stencil)
    dx_spatial, dkernel = conv2d_vjp(dy, x, kernel, stride=stride, padding=PADS, groups=groups)
    dx_pointwise, dpointwise = conv2d_vjp(dy, x, pointwise, stride=stride, padding="valid")
    return dx_spatial + dx_pointwise, *stencil_kernel_vjp(dkernel, weights, stencil=stencil), dpointwise


define_vjp(stencil_kernel, stencil_kernel_vjp)
define_vjp(lean_conv2d, lean_conv2d_vjp)


def _groups(x: Array, weights: Array) -> int:
    """How many groups the shape of the weights stands for; the convolution checks the rest."""
    check_array(x, "x", "n, h, w, c_in")
    check_array(weights, "weights", "taps, c_in/groups, c_out")
    c_in, per_group = x.shape[3], weights.shape[1]
    if per_group < 1 or c_in % per_group:
        raise InputError(f"weights: expected [taps, a divisor of c_in={c_in}, c_out], got {weights.shape}. Reshape it.")
    return c_in // per_group
