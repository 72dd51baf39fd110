"""Involution: a kernel for every pixel, made from that pixel, and shared by the channels of a group.

Source: Li et al., *Involution: Inverting the Inherence of Convolution for Visual Recognition*, CVPR 2021 (arXiv
2103.06255), and the authors' code, whose reduction is r = 4.
"""

from collections.abc import Callable, Iterator
from typing import Any

from lhc_ref import ops
from lhc_ref.arrays import Array, OneOrTwo, check_array, check_like, describe, namespace, pair
from lhc_ref.conv import conv2d, output_size, pad_image, tap_slices
from lhc_ref.errors import InputError
from lhc_ref.tape import apply, define_vjp

Value = Any  # an array, or a Variable

REDUCTION = 4


def involution_groups(c: int) -> int:
    """The authors' number of groups: one for every 16 channels, at least one."""
    return max(1, c // 16)


def involution(x: Array, kernels: Array, *, size: OneOrTwo, stride: OneOrTwo = 1) -> Array:
    """`y[b, i, j, c] = sum over u, v of kernels[b, i, j, (g, u, v)] * x[b, i*s + u - kh//2, j*s + v - kw//2, c]`.

    `g = c // (c/G)` is the channel's group; x is zero outside the image.

    Parameters
    ----------
    x : f[n, h, w, c]
    kernels : f[n, oh, ow, G*kh*kw], group by group and tap by tap, as `involution_kernels` makes them
    size : (kh, kw), odd
    stride : one or two integers >= 1

    Returns
    -------
    f[n, oh, ow, c], new memory; oh = ceil(h/stride). Cost: n*oh*ow*c*kh*kw MACs.

    Raises
    ------
    InputError : wrong dtypes or shapes, an even size, groups that do not divide c.

    Notes
    -----
    Source: arXiv 2103.06255 and its code.
    """
    case = _Case(x, kernels, size, stride)
    padded = case.split(pad_image(x, case.pads))
    y: Array = 0
    for tap, pixels in case.taps():
        y += padded[pixels] * case.kernels[..., tap, None]
    return y.reshape(*kernels.shape[:3], x.shape[3])


def involution_vjp(dy: Array, x: Array, kernels: Array, *, size: OneOrTwo, stride: OneOrTwo = 1) -> tuple[Array, Array]:
    """Vector-Jacobian product of `involution`."""
    case = _Case(x, kernels, size, stride)
    check_like(dy, "dy", (*kernels.shape[:3], x.shape[3]), x, "x and kernels")
    xp = namespace(x)
    padded, dy_groups = case.split(pad_image(x, case.pads)), case.split(dy)
    dpadded, dkernels = xp.zeros_like(padded), xp.empty_like(case.kernels)
    for tap, pixels in case.taps():
        dpadded[pixels] += dy_groups * case.kernels[..., tap, None]
        dkernels[..., tap] = (dy_groups * padded[pixels]).sum(axis=-1)
    (top, _), (left, _) = case.pads
    dx = dpadded[:, top : top + x.shape[1], left : left + x.shape[2]].reshape(x.shape)
    return dx, dkernels.reshape(kernels.shape)


define_vjp(involution, involution_vjp)


def involution_kernels(
    x: Value,
    reduce: Value,
    span: Value,
    *,
    stride: OneOrTwo = 1,
    normalize: Callable[[Value], Value] | None = None,
) -> Value:
    """The kernels that each pixel asks for: `W2 relu(N(W1 pool(x)))`.

    Parameters
    ----------
    x : f[n, h, w, c], an array or a Variable
    reduce : f[1, 1, c, c/r], W1
    span : f[1, 1, c/r, G*kh*kw], W2
    stride : size of the average pool; none where it is 1
    normalize : N, a batch norm in the authors' code; None leaves it out

    Returns
    -------
    f[n, oh, ow, G*kh*kw] for `involution` with the same stride. Cost: n*oh*ow*c/r*(c + G*kh*kw) MACs.

    Notes
    -----
    Source: arXiv 2103.06255 and its code.
    """
    if pair(stride, "stride") != (1, 1):
        x = apply(ops.average_pool, x, size=stride, padding="same")
    z = apply(conv2d, x, reduce)
    z = z if normalize is None else normalize(z)
    return apply(conv2d, apply(ops.relu, z), span)


class _Case:
    """One involution's checked sizes."""

    def __init__(self, x: Array, kernels: Array, size: OneOrTwo, stride: OneOrTwo) -> None:
        check_array(x, "x", "n, h, w, c")
        check_array(kernels, "kernels", "n, oh, ow, G*kh*kw")
        n, h, w, c = x.shape
        kh, kw = self.size = pair(size, "size")
        if kh % 2 == 0 or kw % 2 == 0:
            raise InputError(f"size: expected odd numbers of taps, got {kh}x{kw}. The pixel itself is the centre.")
        self.stride = pair(stride, "stride")
        self.pads = (kh // 2, kh // 2), (kw // 2, kw // 2)
        self.out_hw = output_size((h, w), self.size, stride=stride, padding=self.pads)
        self.groups, rest = divmod(kernels.shape[3], kh * kw)
        if rest or self.groups < 1 or c % self.groups:
            raise InputError(
                f"kernels: expected [n, oh, ow, G*{kh * kw}] with G a divisor of c={c}, got {describe(kernels)}. "
                f"Reshape it."
            )
        check_like(kernels, "kernels", (n, *self.out_hw, kernels.shape[3]), x, "x")
        self.kernels = kernels.reshape(n, *self.out_hw, self.groups, kh * kw)

    def split(self, a: Array) -> Array:
        """[n, h, w, c] as [n, h, w, groups, channels of a group]."""
        return a.reshape(*a.shape[:3], self.groups, a.shape[3] // self.groups)

    def taps(self) -> Iterator[tuple[int, tuple[slice, slice, slice]]]:
        """Number of each tap, and the images, rows and columns of the padded image that it meets."""
        slices = tap_slices(self.size, self.out_hw, self.stride, (1, 1))
        for tap, (_, _, (rows, columns)) in enumerate(slices):
            yield tap, (slice(None), rows, columns)
