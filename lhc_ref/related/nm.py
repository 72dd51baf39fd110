"""N:M sparsity: of every M consecutive weights along the input channels the N largest are kept, chosen at each forward.

Source: Zhou et al., *Learning N:M Fine-grained Structured Sparse Neural Networks From Scratch*, ICLR 2021 (arXiv
2102.04010), and the authors' code. Ours: on ties the lower index stays, and a short last group of m keeps ceil(N*m/M).
"""

from lhc_ref.arrays import Array, check_array, check_like, namespace
from lhc_ref.errors import InputError
from lhc_ref.tape import define_vjp

DECAY = 2e-4  # the authors' strength of the decay of pruned weights


def nm_mask(kernel: Array, *, n: int, m: int) -> Array:
    """1 at the N largest |w| of every M consecutive input channels, else 0.

    Parameters
    ----------
    kernel : f[kh, kw, c_in, c_out]
    n, m : 1 <= n <= m

    Returns
    -------
    f[kh, kw, c_in, c_out]

    Raises
    ------
    InputError : wrong dtype or shape, n or m out of range.
    """
    check_array(kernel, "kernel", "kh, kw, c_in, c_out")
    if not 1 <= n <= m:
        raise InputError(f"n, m: expected 1 <= n <= m, got {n}, {m}. 2, 4 keeps two weights of every four.")
    xp = namespace(kernel)
    kh, kw, c_in, c_out = kernel.shape
    groups = -(-c_in // m)
    rest = c_in - (groups - 1) * m
    kept = xp.full((groups, 1, 1), n)
    kept[groups - 1 :] = -(-n * rest // m)
    smallness = xp.pad(-abs(kernel), ((0, 0), (0, 0), (0, groups * m - c_in), (0, 0)), constant_values=float("inf"))
    order = smallness.reshape(kh, kw, groups, m, c_out).argsort(axis=3, kind="stable")
    rank = order.argsort(axis=3, kind="stable")
    mask = (rank < kept).reshape(kh, kw, groups * m, c_out)[:, :, :c_in]
    return mask.astype(kernel.dtype)


def nm_kernel(kernel: Array, *, n: int, m: int, decay: float = DECAY) -> Array:
    """`kernel * nm_mask(kernel)`; `decay` is for the derivative only. f[kh, kw, c_in, c_out] -> the same.

    Cost: a sort of every group. Source: arXiv 2102.04010 and its code.
    """
    return kernel * nm_mask(kernel, n=n, m=m)


def nm_kernel_vjp(dy: Array, kernel: Array, *, n: int, m: int, decay: float = DECAY) -> tuple[Array]:
    """SR-STE of `nm_kernel`: `dy + decay * (1 - mask) * kernel`, to the pruned weights as well.

    The first term is the straight-through estimator, the derivative of `nm_surrogate`, and linear in dy. The second is
    the derivative of `nm_penalty`, added once a backward pass whatever dy is; decay = 0 leaves the first alone.
    """
    mask = nm_mask(kernel, n=n, m=m)
    check_like(dy, "dy", kernel.shape, kernel, "kernel")
    return (dy + kernel.dtype.type(decay) * (1 - mask) * kernel,)


def nm_surrogate(kernel: Array) -> Array:
    """The function whose derivative the estimator takes for that of `nm_kernel`: the identity."""
    return kernel


def nm_penalty(kernel: Array, mask: Array, *, decay: float = DECAY) -> Array:
    """`decay/2 * sum of ((1 - mask) * kernel)^2`: what the decay of `nm_kernel_vjp` adds to the loss.

    kernel and mask f[kh, kw, c_in, c_out], the mask being a constant -> f[].
    """
    return kernel.dtype.type(decay / 2) * (((1 - mask) * kernel) ** 2).sum()


define_vjp(nm_kernel, nm_kernel_vjp)
