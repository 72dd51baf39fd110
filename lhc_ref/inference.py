"""Operators of the model file that nets from elsewhere have: definitions only, training here uses none of them.

Images are f[n, h, w, c], features f[n, features]; the array's own dtype is kept.
"""

from collections.abc import Callable, Mapping

import numpy as np

from lhc_ref import ops
from lhc_ref.arrays import Array


def clip(x: Array, *, low: float, high: float) -> Array:
    """`min(max(x, low), high)`; the largest float32 and its negative are no limits."""
    return np.clip(x, low, high)


def leaky_relu(x: Array, *, slope: float) -> Array:
    """`x` where x > 0, else `slope * x` (Maas et al. 2013)."""
    return np.where(x > 0, x, x * x.dtype.type(slope))


def hard_sigmoid(x: Array, *, alpha: float, beta: float) -> Array:
    """`min(max(alpha * x + beta, 0), 1)`."""
    return np.clip(x * x.dtype.type(alpha) + x.dtype.type(beta), 0, 1)


def hard_swish(x: Array) -> Array:
    """`x * min(max(x / 6 + 0.5, 0), 1)` (Howard et al. 2019)."""
    return x * np.clip(x / 6 + x.dtype.type(0.5), 0, 1)


def tanh(x: Array) -> Array:
    """Hyperbolic tangent."""
    return np.tanh(x)


def scale(x: Array, *, scale: Array, bias: Array | None = None) -> Array:
    """`x * scale[c] + bias[c]`: f[..., c], f[c], f[c]."""
    y = x * scale
    return y if bias is None else y + bias


def mul(a: Array, b: Array) -> Array:
    """`a * b`; `b` may be one pixel for all of a's."""
    return a * b


def sub(a: Array, b: Array) -> Array:
    """`a - b`; `b` may be one pixel for all of a's."""
    return a - b


def concat(*xs: Array) -> Array:
    """The channels, or features, of all inputs, one after the other."""
    return np.concatenate(xs, axis=-1)


def pad(x: Array, *, padding: tuple[tuple[int, int], tuple[int, int]], value: float) -> Array:
    """`value` around the image: ((top, bottom), (left, right))."""
    return np.pad(x, ((0, 0), *padding, (0, 0)), constant_values=value)


def upsample(x: Array, *, factor: tuple[int, int]) -> Array:
    """Each pixel `factor` times along rows and columns."""
    return x.repeat(factor[0], axis=1).repeat(factor[1], axis=2)


def slice_(x: Array, *, start: tuple[int, ...], stop: tuple[int, ...], step: tuple[int, ...]) -> Array:
    """Every `step`-th number from `start` to before `stop`, of each axis but the batch."""
    return x[(slice(None), *(slice(*cut) for cut in zip(start, stop, step, strict=True)))]


def rearrange(x: Array, *, split: tuple[int, ...], order: tuple[int, ...], shape: tuple[int, ...]) -> Array:
    """The numbers reshaped to `split`, transposed by `order`, reshaped to `shape`, all without the batch."""
    n = len(x)
    return x.reshape(n, *split).transpose(0, *(axis + 1 for axis in order)).reshape(n, *shape)


DEFINITIONS: Mapping[str, Callable[..., Array]] = {
    "clip": clip,
    "leaky_relu": leaky_relu,
    "prelu": ops.prelu,
    "sigmoid": ops.sigmoid,
    "hard_sigmoid": hard_sigmoid,
    "hard_swish": hard_swish,
    "tanh": tanh,
    "scale": scale,
    "mul": mul,
    "sub": sub,
    "concat": concat,
    "pad": pad,
    "upsample": upsample,
    "slice": slice_,
    "rearrange": rearrange,
}
