"""Convolution (cross-correlation) and its vector-Jacobian product, as matrix products of windows and kernel."""

from collections.abc import Iterator, Sequence
from typing import Any

from lhc_ref.arrays import Array, OneOrTwo, check_array, check_like, namespace, pair
from lhc_ref.errors import InputError

Pads = tuple[tuple[int, int], tuple[int, int]]
Padding = str | Pads

# Why: numbers of windows copied out at once, so that a matrix product finds its operands in cache. In float32 1 MiB:
# of 2**15 to 2**19 the fastest on two Zen 3 cores, by up to a quarter.
BLOCK_NUMBERS = 2**18


def resolve_padding(
    padding: Padding,
    size_hw: tuple[int, int],
    kernel_hw: tuple[int, int],
    stride: OneOrTwo = (1, 1),
    dilation: OneOrTwo = (1, 1),
) -> Pads:
    """Padding as numbers of pixels.

    Parameters
    ----------
    padding : "same" | "valid" | ((top, bottom), (left, right))
        "same" is TensorFlow's: ceil(size / stride) outputs, and the odd pixel at the end (bottom, right).
    size_hw, kernel_hw : (height, width) of the image and of the window, in pixels and taps.
    stride, dilation : one or two integers >= 1.

    Returns
    -------
    ((top, bottom), (left, right)) in pixels.

    Raises
    ------
    InputError : not one of the three forms, or a negative pad.
    """
    if padding == "valid":
        return (0, 0), (0, 0)
    if padding == "same":
        windows = zip(size_hw, kernel_hw, pair(stride, "stride"), pair(dilation, "dilation"), strict=True)
        vertical, horizontal = (_same(*window) for window in windows)
        return vertical, horizontal
    if isinstance(padding, Sequence) and not isinstance(padding, str) and len(padding) == 2:
        return pair(padding[0], "padding (top, bottom)", 0), pair(padding[1], "padding (left, right)", 0)
    raise InputError(
        f'padding: expected "same", "valid" or ((top, bottom), (left, right)), got {padding!r}. Use one of these.'
    )


def _same(size: int, k: int, stride: int, dilation: int) -> tuple[int, int]:
    """TensorFlow's "same" pads along one axis."""
    total = max((-(-size // stride) - 1) * stride + (k - 1) * dilation + 1 - size, 0)
    return total // 2, total - total // 2


def output_size(
    size_hw: tuple[int, int],
    kernel_hw: tuple[int, int],
    *,
    stride: OneOrTwo = (1, 1),
    padding: Padding = "same",
    dilation: OneOrTwo = (1, 1),
) -> tuple[int, int]:
    """Output (height, width) of a window that slides over an image.

    Parameters as for `resolve_padding`.

    Raises
    ------
    InputError : the window does not fit into the padded image.
    """
    pads = resolve_padding(padding, size_hw, kernel_hw, stride, dilation)
    stride, dilation = pair(stride, "stride"), pair(dilation, "dilation")
    extents = [(k - 1) * d + 1 for k, d in zip(kernel_hw, dilation, strict=True)]
    padded = [size + sum(pad) for size, pad in zip(size_hw, pads, strict=True)]
    if any(p < e for p, e in zip(padded, extents, strict=True)):
        raise InputError(
            f"image: expected at least {extents[0]}x{extents[1]} pixels with padding, got {padded[0]}x{padded[1]}. "
            f"Pad more, or use a smaller window or dilation."
        )
    oh, ow = ((p - e) // s + 1 for p, e, s in zip(padded, extents, stride, strict=True))
    return oh, ow


def tap_slices(
    kernel_hw: tuple[int, int], out_hw: tuple[int, int], stride: tuple[int, int], dilation: tuple[int, int]
) -> Iterator[tuple[int, int, tuple[slice, slice]]]:
    """For each tap `ky, kx`, the slices of the padded image's rows and columns that it meets, in C order."""
    for ky in range(kernel_hw[0]):
        for kx in range(kernel_hw[1]):
            rows, columns = (
                slice(k * d, k * d + (o - 1) * s + 1, s)
                for k, d, o, s in zip((ky, kx), dilation, out_hw, stride, strict=True)
            )
            yield ky, kx, (rows, columns)


def pad_image(x: Array, pads: Pads, value: float = 0.0) -> Array:
    """`x` [n, h, w, c] with a border of `value`; `x` itself where there is no border."""
    if pads == ((0, 0), (0, 0)):
        return x
    return namespace(x).pad(x, ((0, 0), *pads, (0, 0)), constant_values=value)


def conv2d(
    x: Array,
    kernel: Array,
    *,
    stride: OneOrTwo = (1, 1),
    padding: Padding = "same",
    dilation: OneOrTwo = (1, 1),
    groups: int = 1,
) -> Array:
    """Convolution as nets mean it: cross-correlation, without flipping the kernel.

    `y[b, oy, ox, co] = sum over ky, kx, ci of x[b, iy, ix, ci] * kernel[ky, kx, ci, co]` where
    `iy = oy*stride + ky*dilation - top`, `ix` likewise, and x is zero outside the image. With groups, output channel
    `co` sees the input channels of group `co // (c_out/groups)` only, and `ci` counts within that group.

    Parameters
    ----------
    x : f[n, h, w, c_in]
        float32 or float64.
    kernel : f[kh, kw, c_in/groups, c_out]
        Same dtype as `x`.
    stride, dilation : one or two integers >= 1
    padding : "same" (TensorFlow's) | "valid" | ((top, bottom), (left, right))
    groups : divides c_in and c_out

    Returns
    -------
    f[n, oh, ow, c_out], new memory.

    Raises
    ------
    InputError : wrong dtype, shape, padding or groups; a window larger than the padded image.

    Notes
    -----
    Cost: n*oh*ow*kh*kw*c_in/groups*c_out MACs, as one matrix product for each block of output pixels, whose windows are
    copied out as the rows of a matrix; beside the result, memory for the padded images and for one block's windows.
    Source: the convolution of neural nets, with TensorFlow's padding rules.
    """
    case = _Case(x, kernel, stride, padding, dilation, groups)
    return case.convolve(pad_image(x, case.pads), kernel)


def conv2d_dx(
    dy: Array,
    x: Array,
    kernel: Array,
    *,
    stride: OneOrTwo = (1, 1),
    padding: Padding = "same",
    dilation: OneOrTwo = (1, 1),
    groups: int = 1,
) -> Array:
    """Cotangent of `conv2d`'s `x`: a convolution of `dy` with the flipped kernel. Arguments as for `conv2d_vjp`.

    Cost: that of a convolution of stride 1 over all of `x`, whatever the stride.
    """
    case = _Case(x, kernel, stride, padding, dilation, groups)
    case.check_dy(dy, x)
    (h, w), (reach_y, reach_x) = x.shape[1:3], ((k - 1) * d for k, d in zip(kernel.shape, case.dilation, strict=False))
    (top, bottom), (left, right) = case.pads
    # Zeros between the cotangents where the window steps over pixels, and around them as far as a window reaches.
    size_hw = (top + h + bottom + reach_y, left + w + right + reach_x)
    spread = namespace(x).zeros((case.n, *size_hw, case.c_out), dtype=x.dtype)
    spread[:, reach_y :: case.stride[0], reach_x :: case.stride[1]][:, : case.oh, : case.ow] = dy
    spread = spread[:, top : top + h + reach_y, left : left + w + reach_x]
    return conv2d(spread, case.flipped(kernel), padding="valid", dilation=dilation, groups=groups)


def conv2d_dkernel(
    dy: Array,
    x: Array,
    kernel: Array,
    *,
    stride: OneOrTwo = (1, 1),
    padding: Padding = "same",
    dilation: OneOrTwo = (1, 1),
    groups: int = 1,
) -> Array:
    """Cotangent of `conv2d`'s `kernel`: windows, transposed, times cotangents. Arguments as for `conv2d_vjp`."""
    case = _Case(x, kernel, stride, padding, dilation, groups)
    case.check_dy(dy, x)
    windows, dy_groups = case.windows(pad_image(x, case.pads)), case.split(dy)
    dmatrix = namespace(x).zeros((groups, case.taps, case.c_out // groups), dtype=x.dtype)
    for images, lines in case.blocks():
        rows = windows[:, images, lines].reshape(groups, -1, case.taps)
        dmatrix += rows.swapaxes(1, 2) @ dy_groups[:, images, lines].reshape(groups, -1, case.c_out // groups)
    return namespace(x).moveaxis(dmatrix, 0, 1).reshape(kernel.shape)


def conv2d_vjp(
    dy: Array,
    x: Array,
    kernel: Array,
    *,
    stride: OneOrTwo = (1, 1),
    padding: Padding = "same",
    dilation: OneOrTwo = (1, 1),
    groups: int = 1,
) -> tuple[Array, Array]:
    """Vector-Jacobian product of `conv2d`.

    Parameters
    ----------
    dy : f[n, oh, ow, c_out]
        Cotangent of the output, same dtype as `x`.
    x, kernel, stride, padding, dilation, groups : as given to `conv2d`

    Returns
    -------
    dx : f[n, h, w, c_in], dkernel : f[kh, kw, c_in/groups, c_out]
        `conv2d_dx` and `conv2d_dkernel` compute one alone.

    Raises
    ------
    InputError : as `conv2d`, or `dy` of another shape or dtype than the output.
    """
    options: dict[str, Any] = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    return conv2d_dx(dy, x, kernel, **options), conv2d_dkernel(dy, x, kernel, **options)


class _Case:
    """One convolution's checked sizes, and its operands as matrices [groups, rows, columns]."""

    def __init__(
        self,
        x: Array,
        kernel: Array,
        stride: OneOrTwo,
        padding: Padding,
        dilation: OneOrTwo,
        groups: int,
    ) -> None:
        check_array(x, "x", "n, h, w, c_in")
        check_array(kernel, "kernel", "kh, kw, c_in/groups, c_out")
        n, h, w, c_in = x.shape
        kh, kw, _, c_out = kernel.shape
        if not isinstance(groups, int) or groups < 1 or c_in % groups or c_out % groups:
            raise InputError(
                f"groups: expected a divisor of c_in={c_in} and c_out={c_out}, got {groups!r}. Change one."
            )
        check_like(kernel, "kernel", (kh, kw, c_in // groups, c_out), x, "x")
        if min(kh, kw, h, w, c_in, c_out) < 1:
            raise InputError(
                f"x, kernel: expected no empty axis but the batch, got {x.shape}, {kernel.shape}. Drop it."
            )
        self.stride, self.dilation, self.groups = pair(stride, "stride"), pair(dilation, "dilation"), groups
        self.pads = resolve_padding(padding, (h, w), (kh, kw), stride, dilation)
        self.oh, self.ow = output_size((h, w), (kh, kw), stride=stride, padding=padding, dilation=dilation)
        self.n, self.kh, self.kw, self.c_out = n, kh, kw, c_out
        self.taps = kh * kw * c_in // groups  # of one window, in the channels of one group

    def check_dy(self, dy: Array, x: Array) -> None:
        check_like(dy, "dy", (self.n, self.oh, self.ow, self.c_out), x, "x and kernel")

    def blocks(self) -> Iterator[tuple[slice, slice]]:
        """Slices of images and output rows that cover all output pixels, `BLOCK_NUMBERS` of windows at a time."""
        pixels = BLOCK_NUMBERS // (self.groups * self.taps)
        images, lines = max(1, pixels // (self.oh * self.ow)), min(self.oh, max(1, pixels // self.ow))
        for b in range(0, self.n, images):
            for oy in range(0, self.oh, lines):
                yield slice(b, min(b + images, self.n)), slice(oy, min(oy + lines, self.oh))

    def convolve(self, padded: Array, kernel: Array) -> Array:
        """Windows times kernel, block by block."""
        xp, groups, c_out = namespace(padded), self.groups, self.c_out // self.groups
        windows, matrix = self.windows(padded), self.split(kernel.reshape(-1, self.c_out))
        y = xp.empty((groups, self.n, self.oh, self.ow, c_out), dtype=padded.dtype)
        for images, lines in self.blocks():
            rows, out = windows[:, images, lines].reshape(groups, -1, self.taps), y[:, images, lines]
            xp.matmul(rows, matrix, out=out.reshape(groups, -1, c_out))
        return xp.moveaxis(y, 0, -2).reshape(self.n, self.oh, self.ow, self.c_out)

    def windows(self, padded: Array) -> Array:
        """What each output pixel sees, [groups, n, oh, ow, kh, kw, channels of a group]: a view."""
        (sy, sx), (dy, dx) = self.stride, self.dilation
        reach = (self.kh - 1) * dy + 1, (self.kw - 1) * dx + 1
        xp = namespace(padded)
        seen = xp.lib.stride_tricks.sliding_window_view(self.split(padded), reach, axis=(2, 3))
        return xp.moveaxis(seen[:, :, ::sy, ::sx, :, ::dy, ::dx], 4, -1)

    def split(self, a: Array) -> Array:
        """[..., channels] as [groups, ..., channels of a group]: a view."""
        grouped = a.reshape(*a.shape[:-1], self.groups, a.shape[-1] // self.groups)
        return namespace(a).moveaxis(grouped, -2, 0)

    def flipped(self, kernel: Array) -> Array:
        """f[kh, kw, c_in/groups, c_out] as the kernel f[kh, kw, c_out/groups, c_in] of the way back."""
        by_group = namespace(kernel).moveaxis(self.split(kernel[::-1, ::-1]), 0, -2)  # kh, kw, c_in, groups, c_out
        return by_group.swapaxes(2, 4).reshape(self.kh, self.kw, self.c_out // self.groups, -1)
