"""How far a float32 engine may be from an operator's float64 value: for each operator, one step of an error analysis.

`f(*xs, y, **tensors, **attrs)` takes what the operator read, with bounds, and the y that it made of it in float64. It
returns a bound on |float32 result - y|, elementwise. For which engines it holds: see `evaluate.evaluate_with_bounds`.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from lhc_ref import inference, ops
from lhc_ref.conv import conv2d

U32, U64 = 2.0**-24, 2.0**-53  # unit roundoffs
TINY = float(np.finfo(np.float32).tiny)  # what an operation may lose to underflow, results flushed to zero included
LARGEST = float(np.finfo(np.float32).max)
SLACK = 1 + 2.0**-20  # for the rounding of the bounds themselves, which float64 computes in sums of up to 2**28 terms
EXP_ULPS = 4  # how exact the engine's exp and tanh must be
EXP_RANGE = 105.0  # below -EXP_RANGE, exp is under the smallest float32

Array = np.ndarray


class Bounded(NamedTuple):
    """A value in float64 and how far an engine's float32 may be from it, elementwise."""

    value: Array
    bound: Array


def _gamma(k: Array | int, u: float) -> Array:
    """k*u / (1 - k*u), the relative error of k roundings; infinite where it says nothing."""
    ku = np.asarray(k, np.float64) * u
    return np.where(ku < 1, ku / (1 - ku), np.inf)


def _sum_bound(carried: Array, magnitude: Array, k: Array | int) -> Array:
    """For a sum of k terms, products or not, whose magnitudes sum to `magnitude`.

    `carried` is what the terms' own errors make. A term passes through at most k roundings whatever the order (Higham,
    Accuracy and Stability, 3.1); a fused product saves one. The float64 value has the same kind of error.
    """
    bound = carried + (_gamma(k, U32) + _gamma(k, U64)) * magnitude + 2 * np.asarray(k) * TINY
    return np.where(magnitude < LARGEST / 2, bound, np.inf)


def _conv2d_bound(
    x: Bounded, y: Array, *, kernel: Array, bias: Array | None = None, winograd: bool = False, **attrs: Any
) -> Array:
    weights, kept = np.abs(kernel), np.count_nonzero(kernel, axis=(0, 1, 2))
    offset, largest = 0.0 if bias is None else np.abs(bias), np.abs(x.value) + x.bound
    carried = conv2d(x.bound, weights, **attrs)
    bound = _sum_bound(carried, conv2d(largest, weights, **attrs) + offset, kept + (bias is not None))
    if not (winograd and _is_winograds(kernel, **attrs)):
        return bound
    # Along a term's way: the weight's own rounding, 2 sums of the input's transform, c_in products and the bias, 4 sums
    # of the output's transform, and one for parts of the channels whose sums are transformed by themselves.
    magnitude = conv2d(largest, winograd_spread(kernel), **attrs) + offset
    return np.maximum(bound, _sum_bound(carried, magnitude, kernel.shape[2] + 9))


# Winograd's F(2x2, 3x3): a row of 4 inputs and 3 weights each become 4 numbers, the products of which 2 outputs.
WINOGRAD_INPUT = np.array([[1, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, 1, 0, -1]])
WINOGRAD_WEIGHTS = np.array([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]])
WINOGRAD_OUTPUT = np.array([[1, 1, 1, 0], [0, 1, -1, -1]])


def _is_winograds(kernel: Array, **attrs: Any) -> bool:
    """Whether F(2x2, 3x3) computes a convolution: 3x3, every pixel, nothing dilated."""
    every = all(tuple(attrs.get(name, (1, 1))) == (1, 1) for name in ("stride", "dilation"))
    return kernel.shape[:2] == (3, 3) and every


def winograd_spread(kernel: Array) -> Array:
    """f64[3, 3, c_in, c_out]: what each input counts for in the magnitudes of F(2x2, 3x3), at the larger of both
    places that it has in a window. Terms that cancel are in it.
    """
    transformed = np.abs(np.einsum("ik,jl,klcd->ijcd", WINOGRAD_WEIGHTS, WINOGRAD_WEIGHTS, kernel, optimize=True))
    seen = np.abs(np.stack([WINOGRAD_OUTPUT[p, :, None] * WINOGRAD_INPUT[:, p : p + 3] for p in (0, 1)]))
    return np.einsum("pfi,qgj,fgcd->pqijcd", seen, seen, transformed, optimize=True).max((0, 1))


def _dense_bound(x: Bounded, y: Array, *, kernel: Array, bias: Array | None = None) -> Array:
    weights, kept = np.abs(kernel), np.count_nonzero(kernel, axis=0)
    offset = 0.0 if bias is None else np.abs(bias)
    magnitude = (np.abs(x.value) + x.bound) @ weights + offset
    return _sum_bound(x.bound @ weights, magnitude, kept + (bias is not None))


def _monotone_bound(f: Callable[..., Array], x: Bounded, y: Array, **attrs: Any) -> Array:
    """For an `f` that rounds nothing and never falls when an element of its input rises."""
    return np.maximum(f(x.value + x.bound, **attrs) - y, y - f(x.value - x.bound, **attrs))


def _relu_bound(x: Bounded, y: Array) -> Array:
    return _monotone_bound(ops.relu, x, y)


def _max_pool_bound(x: Bounded, y: Array, **attrs: Any) -> Array:
    return _monotone_bound(ops.max_pool, x, y, **attrs)


def _flatten_bound(x: Bounded, y: Array) -> Array:
    return ops.flatten(x.bound)


def _add_bound(a: Bounded, b: Bounded, y: Array) -> Array:
    carried = a.bound + b.bound
    return _sum_bound(carried, np.abs(y) + carried, 1)


def _average_pool_bound(x: Bounded, y: Array, **attrs: Any) -> Array:
    """One rounding more for the division, or two for a product with the reciprocal, before or after the sum."""
    count = attrs["size"][0] * attrs["size"][1]
    magnitude = ops.average_pool(np.abs(x.value) + x.bound, **attrs)
    bound = _sum_bound(ops.average_pool(x.bound, **attrs), magnitude, count + 2)
    return np.where(magnitude * count < LARGEST / 2, bound, np.inf)


def _global_average_pool_bound(x: Bounded, y: Array) -> Array:
    count = x.value.shape[1] * x.value.shape[2]
    magnitude = ops.global_average_pool(np.abs(x.value) + x.bound)
    bound = _sum_bound(ops.global_average_pool(x.bound), magnitude, count + 2)
    return np.where(magnitude * count < LARGEST / 2, bound, np.inf)


def _softmax_bound(x: Bounded, y: Array) -> Array:
    """By intervals: softmax rises in its own logit and falls in the others; then the engine's own roundings.

    The engine: z = x - max(x), exp(z) within EXP_ULPS (or anything up to TINY where exp(z) is below TINY), sum,
    division or product with the reciprocal. A term exp(z) is then exact but for a factor exp(+-own).
    """
    count = y.shape[-1]
    top = (x.value + x.bound).max(axis=-1, keepdims=True)
    high, low = np.exp(x.value + x.bound - top), np.exp(x.value - x.bound - top)
    high_sum, low_sum = high.sum(axis=-1, keepdims=True), low.sum(axis=-1, keepdims=True)
    lost = 4 * count * U64  # by the differences below
    upper = np.minimum(high / (high + np.maximum(low_sum * (1 - lost) - low, 0)), 1)
    lower = low / (low + np.maximum(high_sum * (1 + lost) - high, 0))
    distance = np.minimum(top - (x.value - x.bound), EXP_RANGE)
    own = U32 * distance + (2 * EXP_ULPS + 1) * U32
    total = (upper * np.expm1(own)).sum(axis=-1, keepdims=True)
    grow = (1 + total) * (1 + _gamma(count, U32)) * (1 + 4 * U32)
    shrink = np.maximum((1 - total) * (1 - _gamma(count, U32)) * (1 - 4 * U32), 0)
    largest, least = upper * np.exp(own) / shrink, lower * np.exp(-own) / grow
    return np.maximum(largest - y, y - least) + 4 * TINY + count * 2.0**-48 * y


def _clip_bound(x: Bounded, y: Array, **attrs: Any) -> Array:
    return _monotone_bound(inference.clip, x, y, **attrs)


def _prelu_bound(x: Bounded, y: Array, *, slope: Array | float) -> Array:
    """One product; what x's error makes is at most the larger slope's."""
    carried = np.maximum(1, np.abs(slope)) * x.bound
    return _sum_bound(carried, np.abs(y) + carried, 1)


def _sigmoid_bound(x: Bounded, y: Array) -> Array:
    """The engine: 1 / (1 + exp(-x)), or by exp(-|x|); exp within EXP_ULPS, an addition, a division or two."""
    carried = _monotone_bound(ops.sigmoid, x, y)
    return carried + (2 * EXP_ULPS + 4) * U32 * SLACK * (y + carried) + 4 * TINY


def _tanh_bound(x: Bounded, y: Array) -> Array:
    """The engine's tanh is within EXP_ULPS too."""
    carried = _monotone_bound(inference.tanh, x, y)
    return carried + (2 * EXP_ULPS + 1) * U32 * SLACK * (np.abs(y) + carried) + 4 * TINY


def _hard_sigmoid_bound(x: Bounded, y: Array, *, alpha: float, beta: float) -> Array:
    """A product, an addition, and one rounding where the engine divides by a rounded reciprocal; limits round nothing,
    and never move two numbers apart.
    """
    carried = np.abs(alpha) * x.bound
    return _sum_bound(carried, np.abs(alpha) * np.abs(x.value) + carried + np.abs(beta), 3)


def _hard_swish_bound(x: Bounded, y: Array) -> Array:
    """The product of x and a hard sigmoid; x * x / 6 + x / 2 in any order between its limits is no further off."""
    factor = inference.hard_sigmoid(x.value, alpha=1 / 6, beta=0.5)
    gate = Bounded(factor, np.minimum(_hard_sigmoid_bound(x, factor, alpha=1 / 6, beta=0.5), 1))
    return _mul_bound(x, gate, y)


def _scale_bound(x: Bounded, y: Array, *, scale: Array, bias: Array | None = None) -> Array:
    carried = np.abs(scale) * x.bound
    offset = 0.0 if bias is None else np.abs(bias)
    return _sum_bound(carried, np.abs(scale) * np.abs(x.value) + carried + offset, 2)


def _mul_bound(a: Bounded, b: Bounded, y: Array) -> Array:
    carried = np.abs(a.value) * b.bound + a.bound * (np.abs(b.value) + b.bound)
    return _sum_bound(carried, np.abs(y) + carried, 1)


def _div_bound(a: Bounded, b: Bounded, y: Array) -> Array:
    """a'/b' - a/b is (a' - a)/b' - y (b' - b)/b', and |b'| at least |b| - b.bound; infinite where b' may be 0."""
    least = np.maximum(np.abs(b.value) - b.bound, 0)
    carried = (a.bound + np.abs(y) * b.bound) / least
    return _sum_bound(carried, np.abs(y) + carried, 1)


def _concat_bound(*xs: Any) -> Array:
    return inference.concat(*(x.bound for x in xs[:-1]))


def _moved(op: str) -> Callable[..., Array]:
    """The bound of an operator that only moves numbers: they take their errors along."""

    def bound(x: Bounded, y: Array, **attrs: Any) -> Array:
        constant = {"value": 0.0} if "value" in attrs else {}
        return inference.DEFINITIONS[op](x.bound, **{**attrs, **constant})

    return bound


BOUNDS: Mapping[str, Callable[..., Array]] = {
    "conv2d": _conv2d_bound,
    "dense": _dense_bound,
    "relu": _relu_bound,
    "add": _add_bound,
    "max_pool": _max_pool_bound,
    "average_pool": _average_pool_bound,
    "global_average_pool": _global_average_pool_bound,
    "flatten": _flatten_bound,
    "softmax": _softmax_bound,
    "clip": _clip_bound,
    "leaky_relu": _prelu_bound,
    "prelu": _prelu_bound,
    "sigmoid": _sigmoid_bound,
    "hard_sigmoid": _hard_sigmoid_bound,
    "hard_swish": _hard_swish_bound,
    "tanh": _tanh_bound,
    "scale": _scale_bound,
    "mul": _mul_bound,
    "sub": _add_bound,
    "div": _div_bound,
    "concat": _concat_bound,
    **{op: _moved(op) for op in ("pad", "upsample", "slice", "rearrange")},
}
