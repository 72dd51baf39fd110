"""Operators of the model file that nets from elsewhere have: definitions only, training here uses none of them.

Images are f[n, h, w, c], features f[n, features]; the array's own dtype is kept, and results are new memory unless the
docstring says otherwise. What they are given was checked with the graph.
"""

from collections.abc import Callable, Mapping

from lhc_ref import ops
from lhc_ref.arrays import Array, namespace


def clip(x: Array, *, low: float, high: float) -> Array:
    """`y = min(max(x, low), high)`: f[...] -> f[...]; the largest float32 and its negative are no limits.

    Cost: one pass over x. Source: elementary (ONNX's Clip).
    """
    return namespace(x).clip(x, low, high)


def leaky_relu(x: Array, *, slope: float) -> Array:
    """`y = x where x > 0, else slope * x`: f[...] -> f[...].

    Cost: one pass over x. Source: Maas, Hannun, Ng, *Rectifier Nonlinearities*, ICML 2013.
    """
    return namespace(x).where(x > 0, x, x * x.dtype.type(slope))


def hard_sigmoid(x: Array, *, alpha: float, beta: float) -> Array:
    """`y = min(max(alpha * x + beta, 0), 1)`: f[...] -> f[...].

    Cost: one pass over x. Source: Courbariaux et al., *BinaryConnect* (arXiv 1511.00363), with ONNX's two parameters.
    """
    return namespace(x).clip(x * x.dtype.type(alpha) + x.dtype.type(beta), 0, 1)


def hard_swish(x: Array) -> Array:
    """`y = x * min(max(x / 6 + 0.5, 0), 1)`: f[...] -> f[...].

    Cost: one pass over x. Source: Howard et al., *Searching for MobileNetV3* (arXiv 1905.02244).
    """
    return x * namespace(x).clip(x / 6 + x.dtype.type(0.5), 0, 1)


def tanh(x: Array) -> Array:
    """Hyperbolic tangent, `y = tanh(x)`: f[...] -> f[...]. Cost: one pass over x. Source: elementary."""
    return namespace(x).tanh(x)


def scale(x: Array, *, scale: Array, bias: Array | None = None) -> Array:
    """`y = x * scale[c] + bias[c]`: f[..., c], f[c], f[c] -> f[..., c].

    Cost: one pass over x. Source: elementary (a batch norm that follows no convolution).
    """
    y = x * scale
    return y if bias is None else y + bias


def mul(a: Array, b: Array) -> Array:
    """`y = a * b`: f[n, h, w, c] and f[n, h, w, c] or f[n, 1, 1, c] -> f[n, h, w, c].

    Cost: one pass over a. Source: elementary; with one pixel Hu et al., *Squeeze-and-Excitation* (arXiv 1709.01507).
    """
    return a * b


def sub(a: Array, b: Array) -> Array:
    """`y = a - b`: f[n, h, w, c] and f[n, h, w, c] or f[n, 1, 1, c] -> f[n, h, w, c].

    Cost: one pass over a. Source: elementary.
    """
    return a - b


def div(a: Array, b: Array) -> Array:
    """`y = a / b`: f[n, h, w, c] and f[n, h, w, c] or f[n, 1, 1, c] -> f[n, h, w, c]; by 0 as IEEE 754 has it.

    Cost: one pass over a. Source: elementary.
    """
    return a / b


def concat(*xs: Array) -> Array:
    """The channels, or features, of all inputs, one after the other: f[..., c1], f[..., c2], ... -> f[..., c1 + ...].

    `y = (x1 | x2 | ...)`. Cost: one copy. Source: elementary (`numpy.concatenate`).
    """
    return namespace(xs[0]).concatenate(xs, axis=-1)


def pad(x: Array, *, padding: tuple[tuple[int, int], tuple[int, int]], value: float) -> Array:
    """`value` around the image, ((top, bottom), (left, right)): f[n, h, w, c] -> f[n, top + h + bottom, ..., c].

    `y[b, top + iy, left + ix, c] = x[b, iy, ix, c]`. Cost: one copy. Source: elementary (`numpy.pad`).
    """
    return namespace(x).pad(x, ((0, 0), *padding, (0, 0)), constant_values=value)


def upsample(x: Array, *, factor: tuple[int, int]) -> Array:
    """`y[b, iy, ix, c] = x[b, iy // fy, ix // fx, c]`, factor being (fy, fx): f[n, h, w, c] -> f[n, h*fy, w*fx, c].

    Cost: one pass over y. Source: elementary (nearest neighbour).
    """
    return x.repeat(factor[0], axis=1).repeat(factor[1], axis=2)


def slice_(x: Array, *, start: tuple[int, ...], stop: tuple[int, ...], step: tuple[int, ...]) -> Array:
    """Every `step`-th number from `start` to before `stop`, of each axis but the batch: f[n, ...] -> f[n, ...].

    Cost: none, a view. Source: elementary (`x[:, start:stop:step, ...]`).
    """
    return x[(slice(None), *(slice(*cut) for cut in zip(start, stop, step, strict=True)))]


def rearrange(x: Array, *, split: tuple[int, ...], order: tuple[int, ...], shape: tuple[int, ...]) -> Array:
    """The numbers reshaped to `split`, transposed by `order`, reshaped to `shape`, all without the batch.

    f[n, ...] -> f[n, ...shape]. Cost: at most one copy. Source: elementary (depth to space, channel shuffles).
    """
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
    "div": div,
    "concat": concat,
    "pad": pad,
    "upsample": upsample,
    "slice": slice_,
    "rearrange": rearrange,
}
