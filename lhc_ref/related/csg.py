"""CSG: kernels generated from codes by one linear map that a whole net shares.

Source: Omidvar et al., *Associative Convolutional Layers*, AISTATS 2021 (arXiv 1906.04309), and the authors' PyTorch
code. First convolution, classifier and shortcuts are never generated.
"""

import numpy as np

from lhc_ref.arrays import Array, check_array, check_like, namespace
from lhc_ref.errors import InputError
from lhc_ref.mask import group_counts
from lhc_ref.tape import define_vjp

SliceShape = tuple[int, int, int, int]
"""(s0, s1, kh, kw): a generated slice holds s0*s1*kh*kw numbers, as many as s0 output and s1 input channels need."""

SETTINGS: dict[str, tuple[SliceShape, int]] = {
    "12/72": ((12, 12, 3, 3), 72),
    "16/128": ((16, 16, 3, 3), 128),
    "16/16 pointwise": ((16, 16, 1, 1), 16),
}
"""The authors' slice shapes, each with its code length L."""

RESNET_CODE_MEAN = 0.001


def code_count(slice_shape: SliceShape, *, c_in: int, c_out: int) -> int:
    """How many codes make a kernel: `ceil(c_out/s0) * ceil(c_in/s1)`."""
    s0, s1, _, _ = slice_shape
    in_slices, out_slices = group_counts(c_in=c_in, c_out=c_out, group_in=s1, group_out=s0)
    return out_slices * in_slices


def csg_kernel(codes: Array, generator: Array, *, slice_shape: SliceShape, c_in: int, c_out: int) -> Array:
    """`codes @ generator.T`, its numbers in order filling a kernel that is cropped to c_in and c_out.

    The numbers fill (ceil(c_out/s0)*s0, ceil(c_in/s1)*s1, kh, kw), output channels first (OIHW), in C order. So a slice
    is a contiguous run in that order, not an s0 x s1 tile of channels.

    Parameters
    ----------
    codes : f[n, L]
        The layer's own; `n = code_count(slice_shape, c_in=c_in, c_out=c_out)`.
    generator : f[s0*s1*kh*kw, L]
        Shared by the layers of a net; on a tape its cotangents of all layers are summed.
    slice_shape : (s0, s1, kh, kw)

    Returns
    -------
    f[kh, kw, c_in, c_out] (HWIO), new memory. Cost: n*s0*s1*kh*kw*L MACs.

    Raises
    ------
    InputError : wrong dtypes or shapes, channel counts below 1.

    Notes
    -----
    Source: arXiv 1906.04309 and its code, which has s0 and s1 the other way round in n (equal in every setting).
    """
    whole = _whole_shape(codes, generator, slice_shape, c_in, c_out)
    oihw = (codes @ generator.T).reshape(whole)[:c_out, :c_in]
    return namespace(codes).ascontiguousarray(oihw.transpose(2, 3, 1, 0))


def csg_kernel_vjp(
    dy: Array, codes: Array, generator: Array, *, slice_shape: SliceShape, c_in: int, c_out: int
) -> tuple[Array, Array]:
    """Vector-Jacobian product of `csg_kernel`: `dcodes = d @ generator`, `dgenerator = d.T @ codes`.

    `d` f[n, s0*s1*kh*kw] holds dy in the order of the slices, zero where they were cropped.
    """
    whole = _whole_shape(codes, generator, slice_shape, c_in, c_out)
    check_like(dy, "dy", (*slice_shape[2:], c_in, c_out), codes, "codes")
    d = namespace(dy).zeros(whole, dtype=dy.dtype)
    d[:c_out, :c_in] = dy.transpose(3, 2, 0, 1)
    d = d.reshape(codes.shape[0], generator.shape[0])
    return d @ generator, d.T @ codes


define_vjp(csg_kernel, csg_kernel_vjp)


def _whole_shape(
    codes: Array, generator: Array, slice_shape: SliceShape, c_in: int, c_out: int
) -> tuple[int, int, int, int]:
    """OIHW shape before the crop; checks all arguments."""
    check_array(codes, "codes", "n, length")
    s0, s1, kh, kw = slice_shape
    check_like(codes, "codes", (code_count(slice_shape, c_in=c_in, c_out=c_out), codes.shape[1]), codes, "the channels")
    check_like(generator, "generator", (s0 * s1 * kh * kw, codes.shape[1]), codes, "slice_shape and codes")
    return -(-c_out // s0) * s0, -(-c_in // s1) * s1, kh, kw


def initial_generator(
    rng: np.random.Generator, slice_shape: SliceShape, length: int, *, kind: str = "uniform", dtype: str = "float32"
) -> np.ndarray:
    """A generator f[s0*s1*kh*kw, length] to start from.

    Parameters
    ----------
    kind : "normal": variance 2/length, the authors' choice for CIFAR ResNets. "uniform": in +-1/sqrt(length), theirs
        elsewhere. "binary": -0.5 or +0.5, which is to stay as it is; only codes learn then.

    Raises
    ------
    InputError : another kind.
    """
    shape = int(np.prod(slice_shape)), length
    values: np.ndarray
    if kind == "normal":
        values = rng.normal(0.0, np.sqrt(2 / length), shape)
    elif kind == "uniform":
        values = rng.uniform(-1 / np.sqrt(length), 1 / np.sqrt(length), shape)
    elif kind == "binary":
        values = rng.integers(0, 2, shape) - 0.5
    else:
        raise InputError(f'kind: expected "normal", "uniform" or "binary", got {kind!r}. Use one of these.')
    return values.astype(dtype)


def initial_codes(
    rng: np.random.Generator, count: int, length: int, *, mean: float = 0.0, dtype: str = "float32"
) -> np.ndarray:
    """Codes f[count, length] to start from: normal, deviation 1; for CIFAR ResNets the mean is `RESNET_CODE_MEAN`."""
    return rng.normal(mean, 1.0, (count, length)).astype(dtype)
