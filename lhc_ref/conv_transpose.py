"""Transposed convolution: the adjoint of `conv2d`, so that its own derivatives are convolutions."""

from typing import Any

from lhc_ref.arrays import Array, OneOrTwo, check_array, check_like, namespace, pair
from lhc_ref.conv import Padding, conv2d, conv2d_dkernel, conv2d_dx, output_size, resolve_padding
from lhc_ref.errors import InputError


def conv2d_transpose(
    x: Array,
    kernel: Array,
    *,
    size: tuple[int, int] | None = None,
    stride: OneOrTwo = (1, 1),
    padding: Padding = "same",
    dilation: OneOrTwo = (1, 1),
    groups: int = 1,
) -> Array:
    """The map A* with `<conv2d(z, kernel), x> = <z, A* x>` for every image z: each pixel scattered by the kernel.

    Parameters
    ----------
    x : f[n, oh, ow, c_out]
        What `conv2d` with this kernel and these options gives.
    kernel : f[kh, kw, c_in/groups, c_out]
    size : (h, w) of the result; default the smallest that `conv2d` takes to (oh, ow), for "same" oh*stride, ow*stride.
    stride, padding, dilation, groups : as for `conv2d`

    Returns
    -------
    f[n, h, w, c_in], new memory. Cost: as `conv2d` from that image. Source: the adjoint, by definition; see Dumoulin
    and Visin, *A guide to convolution arithmetic* (arXiv 1603.07285).

    Raises
    ------
    InputError : wrong dtypes or shapes, a size that `conv2d` does not take to (oh, ow).
    """
    z = _image_like(x, kernel, size, stride, padding, dilation, groups)
    return conv2d_dx(x, z, kernel, stride=stride, padding=padding, dilation=dilation, groups=groups)


def conv2d_transpose_vjp(
    dy: Array,
    x: Array,
    kernel: Array,
    *,
    size: tuple[int, int] | None = None,
    stride: OneOrTwo = (1, 1),
    padding: Padding = "same",
    dilation: OneOrTwo = (1, 1),
    groups: int = 1,
) -> tuple[Array, Array]:
    """Vector-Jacobian product of `conv2d_transpose`: dx = conv2d(dy), dkernel with dy and x in exchanged roles."""
    z = _image_like(x, kernel, size, stride, padding, dilation, groups)
    check_like(dy, "dy", z.shape, x, "x and kernel")
    options: dict[str, Any] = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    return conv2d(dy, kernel, **options), conv2d_dkernel(x, dy, kernel, **options)


def _image_like(
    x: Array,
    kernel: Array,
    size: tuple[int, int] | None,
    stride: OneOrTwo,
    padding: Padding,
    dilation: OneOrTwo,
    groups: int,
) -> Array:
    """A stand-in, without memory of its own, for an image that `conv2d` takes to x."""
    check_array(x, "x", "n, oh, ow, c_out")
    check_array(kernel, "kernel", "kh, kw, c_in/groups, c_out")
    (n, oh, ow, _), kernel_hw = x.shape, kernel.shape[:2]
    if size is None:
        steps = pair(stride, "stride")
        if padding == "same":
            size = oh * steps[0], ow * steps[1]
        else:
            pads = resolve_padding(padding, (1, 1), kernel_hw)
            windows = zip((oh, ow), kernel_hw, steps, pair(dilation, "dilation"), pads, strict=True)
            h, w = ((o - 1) * s + (k - 1) * d + 1 - sum(pad) for o, k, s, d, pad in windows)
            size = h, w
    size = pair(size, "size")
    got = output_size(size, kernel_hw, stride=stride, padding=padding, dilation=dilation)
    if got != (oh, ow):
        raise InputError(f"size: expected one that conv2d takes to {(oh, ow)}, got {size}, taken to {got}. Change it.")
    xp = namespace(x)
    return xp.broadcast_to(xp.zeros((), dtype=x.dtype), (n, *size, kernel.shape[2] * groups))
