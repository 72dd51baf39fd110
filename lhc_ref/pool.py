"""Max, average and global average pooling, each with its vector-Jacobian product beside it."""

from collections.abc import Callable

from lhc_ref.arrays import Array, OneOrTwo, check_array, check_like, namespace, pair
from lhc_ref.conv import Padding, Pads, output_size, pad_image, resolve_padding, tap_slices
from lhc_ref.errors import InputError


def max_pool(
    x: Array,
    *,
    size: OneOrTwo = (2, 2),
    stride: OneOrTwo | None = None,
    padding: Padding = "valid",
) -> Array:
    """Largest real pixel of each window, `y[b, oy, ox, c] = max over ky, kx of x[b, iy, ix, c]`; a NaN in it gives NaN.

    Parameters
    ----------
    x : f[n, h, w, c]
    size, stride : one or two integers >= 1; stride None means `size`
    padding : as for `conv2d`; padded pixels are ignored, and every pad must be smaller than the window

    Returns
    -------
    f[n, oh, ow, c], new memory.

    Raises
    ------
    InputError : wrong dtype or shape, a pad as large as the window, a window larger than the padded image.

    Notes
    -----
    Cost: n*oh*ow*c comparisons a tap. Source: elementary; `iy = oy*stride + ky - top`, as in `conv2d`.
    """
    window = _Window(x, size, stride, padding)
    return window.reduce(namespace(x).maximum, pad_image(x, window.pads, -float("inf")))


def max_pool_vjp(
    dy: Array,
    x: Array,
    *,
    size: OneOrTwo = (2, 2),
    stride: OneOrTwo | None = None,
    padding: Padding = "valid",
) -> tuple[Array]:
    """Vector-Jacobian product of `max_pool`; of several equal maxima the first in C order gets it all."""
    window = _Window(x, size, stride, padding)
    window.check_dy(dy, x)
    xp = namespace(x)
    padded = pad_image(x, window.pads, -float("inf"))
    y = window.reduce(xp.maximum, padded)
    dpadded = xp.zeros_like(padded)
    free = xp.ones(y.shape, dtype=bool)
    for rows, columns in window.taps():
        wins = free & (padded[:, rows, columns] == y)
        dpadded[:, rows, columns] += dy * wins
        free &= ~wins
    return (window.crop(dpadded, x),)


def average_pool(
    x: Array,
    *,
    size: OneOrTwo = (2, 2),
    stride: OneOrTwo | None = None,
    padding: Padding = "valid",
) -> Array:
    """Mean of the real pixels of each window, `sum / number of them`: padded pixels are not counted.

    f[n, h, w, c] -> f[n, oh, ow, c]; parameters and errors as for `max_pool`. Cost: n*oh*ow*c additions a tap.
    Source: elementary; TensorFlow counts likewise, PyTorch with `count_include_pad=False`.
    """
    window = _Window(x, size, stride, padding)
    return window.reduce(namespace(x).add, pad_image(x, window.pads)) / window.counts(x)


def average_pool_vjp(
    dy: Array,
    x: Array,
    *,
    size: OneOrTwo = (2, 2),
    stride: OneOrTwo | None = None,
    padding: Padding = "valid",
) -> tuple[Array]:
    """Vector-Jacobian product of `average_pool`."""
    window = _Window(x, size, stride, padding)
    window.check_dy(dy, x)
    n, h, w, c = x.shape
    (top, bottom), (left, right) = window.pads
    dpadded = namespace(x).zeros((n, h + top + bottom, w + left + right, c), dtype=x.dtype)
    share = dy / window.counts(x)
    for rows, columns in window.taps():
        dpadded[:, rows, columns] += share
    return (window.crop(dpadded, x),)


def global_average_pool(x: Array) -> Array:
    """Mean over the pixels, `y[b, c] = sum over iy, ix of x[b, iy, ix, c] / (h*w)`: f[n, h, w, c] -> f[n, c].

    Cost: one pass over x. Source: Lin, Chen, Yan, *Network In Network*, ICLR 2014 (arXiv 1312.4400).
    """
    check_array(x, "x", "n, h, w, c")
    if x.shape[1] * x.shape[2] == 0:
        raise InputError(f"x: expected at least one pixel, got {x.shape[1]}x{x.shape[2]}. Drop the empty images.")
    return x.mean(axis=(1, 2))


def global_average_pool_vjp(dy: Array, x: Array) -> tuple[Array]:
    """Vector-Jacobian product of `global_average_pool`."""
    n, h, w, c = x.shape
    check_like(dy, "dy", (n, c), x, "x")
    return ((dy / dy.dtype.type(h * w))[:, None, None, :].repeat(h, axis=1).repeat(w, axis=2),)


class _Window:
    """A pooling window's checked sizes and its taps."""

    def __init__(self, x: Array, size: OneOrTwo, stride: OneOrTwo | None, padding: Padding) -> None:
        check_array(x, "x", "n, h, w, c")
        self.size = pair(size, "size")
        self.stride = self.size if stride is None else pair(stride, "stride")
        hw = x.shape[1:3]
        self.pads: Pads = resolve_padding(padding, hw, self.size, self.stride)
        if any(max(pads) >= size for pads, size in zip(self.pads, self.size, strict=True)):
            raise InputError(
                f"padding: expected pads smaller than the window {self.size}, got {self.pads}. "
                f"Pad less: a window of padding alone has no value."
            )
        self.out_hw = output_size(hw, self.size, stride=self.stride, padding=padding)

    def check_dy(self, dy: Array, x: Array) -> None:
        check_like(dy, "dy", (x.shape[0], *self.out_hw, x.shape[3]), x, "x")

    def taps(self) -> list[tuple[slice, slice]]:
        return [slices for _, _, slices in tap_slices(self.size, self.out_hw, self.stride, (1, 1))]

    def reduce(self, operation: Callable[..., Array], padded: Array) -> Array:
        """`operation` over every window: over its rows, then over its columns."""
        rows, columns = ([taps[axis] for taps in self.taps()] for axis in (0, 1))
        lines = _reduce(operation, [padded[:, taps] for taps in rows[:: self.size[1]]])
        return _reduce(operation, [lines[:, :, taps] for taps in columns[: self.size[1]]])

    def counts(self, x: Array) -> Array:
        """Real pixels in each window: f[1, oh, ow, 1]."""
        xp = namespace(x)
        return self.reduce(xp.add, pad_image(xp.ones((1, *x.shape[1:3], 1), dtype=x.dtype), self.pads))

    def crop(self, dpadded: Array, x: Array) -> Array:
        """The image's part of a padded image."""
        (top, _), (left, _) = self.pads
        return dpadded[:, top : top + x.shape[1], left : left + x.shape[2]]


def _reduce(operation: Callable[..., Array], parts: list[Array]) -> Array:
    """`operation` over arrays of one shape: new memory."""
    total = parts[0].copy()
    for part in parts[1:]:
        operation(total, part, out=total)
    return total
