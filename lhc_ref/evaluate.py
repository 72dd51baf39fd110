"""What a graph computes: its operators' definitions in float64, and bounds on how far a float32 engine may be off."""

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from lhc_ref import ops
from lhc_ref.arrays import describe
from lhc_ref.conv import conv2d
from lhc_ref.errors import InputError
from lhc_ref.modelfile import MaskedKernel, ModelSpec, Node, validate

U32, U64 = 2.0**-24, 2.0**-53  # unit roundoffs
TINY = float(np.finfo(np.float32).tiny)  # what an operation may lose to underflow, results flushed to zero included
LARGEST = float(np.finfo(np.float32).max)
SLACK = 1 + 2.0**-20  # for the rounding of the bounds themselves, which float64 computes in sums of up to 2**28 terms
EXP_ULPS = 4  # how exact the engine's exp must be
EXP_RANGE = 105.0  # below -EXP_RANGE, exp is under the smallest float32

Array = np.ndarray


class Bounded(NamedTuple):
    """A value in float64 and how far an engine's float32 may be from it, elementwise."""

    value: Array
    bound: Array


# --- Definitions -----------------------------------------------------------------------------------------------------


def _conv2d(x: Array, *, kernel: Array, bias: Array | None = None, **attrs: Any) -> Array:
    y = conv2d(x, kernel, **attrs)
    return y if bias is None else ops.bias_add(y, bias)


def _dense(x: Array, *, kernel: Array, bias: Array | None = None) -> Array:
    y = ops.dense(x, kernel)
    return y if bias is None else ops.bias_add(y, bias)


# --- Bounds: f(*xs, y, **tensors, **attrs) -> bound on |float32 result - y| --------------------------------------------


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


def _conv2d_bound(x: Bounded, y: Array, *, kernel: Array, bias: Array | None = None, **attrs: Any) -> Array:
    weights, kept = np.abs(kernel), np.count_nonzero(kernel, axis=(0, 1, 2))
    offset = 0.0 if bias is None else np.abs(bias)
    magnitude = conv2d(np.abs(x.value) + x.bound, weights, **attrs) + offset
    return _sum_bound(conv2d(x.bound, weights, **attrs), magnitude, kept + (bias is not None))


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


class Rule(NamedTuple):
    """What an operator computes, and its bound."""

    define: Callable[..., Array]
    bound: Callable[..., Array]


RULES: Mapping[str, Rule] = {
    "conv2d": Rule(_conv2d, _conv2d_bound),
    "dense": Rule(_dense, _dense_bound),
    "relu": Rule(ops.relu, _relu_bound),
    "add": Rule(ops.add, _add_bound),
    "max_pool": Rule(ops.max_pool, _max_pool_bound),
    "average_pool": Rule(ops.average_pool, _average_pool_bound),
    "global_average_pool": Rule(ops.global_average_pool, _global_average_pool_bound),
    "flatten": Rule(ops.flatten, _flatten_bound),
    "softmax": Rule(ops.softmax, _softmax_bound),
}


# --- Graphs ----------------------------------------------------------------------------------------------------------


def evaluate(
    spec: ModelSpec, inputs: Mapping[str, Array], dtype: Any = np.float64, keep: bool = False
) -> dict[str, Array]:
    """Compute a graph with the reference operators.

    Parameters
    ----------
    spec : checked here
    inputs : f[n, ...shape], float32 or float64, for each input of the graph by name
    dtype : float64 (the definition) or float32; inputs and weights are converted to it
    keep : return every value of the graph; else the outputs alone, others being freed after their last use

    Returns
    -------
    Arrays of `dtype` by name, new memory.

    Raises
    ------
    ModelFileError : `spec` is invalid.
    InputError : an input is missing or unknown, or has another shape or dtype.
    """
    spec = validate(spec)
    values = {name: x.astype(dtype) for name, x in _check_inputs(spec, inputs).items()}

    def step(node: Node, xs: list[Array]) -> Array:
        return RULES[node.op].define(*xs, **_tensors(node, dtype), **node.attrs)

    return _walk(spec, values, step, keep)


def evaluate_with_bounds(
    spec: ModelSpec,
    inputs: Mapping[str, Array],
    keep: bool = False,
    observed: Mapping[str, Array] | None = None,
) -> dict[str, Bounded]:
    """Compute a graph in float64 and, beside each value, a bound on |a float32 engine's result - value|.

    The running error analysis takes each node's bound from those of the values it reads: what the node makes of their
    errors, plus what its own roundings add at the magnitudes at hand. The bounds hold for every engine that

    - rounds to nearest float32, or works more precisely and stores float32, or keeps a value unrounded;
    - computes each operator by its definition: sums in any order or blocking, fused multiply-adds or not, products
      with absent weights left out or not (but no Winograd, FFT or Strassen scheme, which round differently);
    - adds a bias as one more term of the sum, and what an `add` node adds after the sum is complete;
    - multiplies by a reciprocal where an average or softmax divides, if it likes;
    - has an exp within `EXP_ULPS` = 4 ulp, and subtracts the largest logit before it;
    - treats subnormal operands as what they are; results below the smallest normal number may be flushed to zero.

    The number of roundings of a convolution is that of its non-zero weights, not of its nominal ones.

    Parameters
    ----------
    spec : checked here
    inputs : f32[n, ...shape], finite, for each input of the graph by name: what the engine gets, so exact
    keep : return every value of the graph; else the outputs alone, others being freed after their last use
    observed : an engine's own float32 results for some values of the graph, by name. What reads such a value is then
        computed from it as if it were exact, so that bounds compare one layer with the next and stay tight in deep
        nets, where a bound carried through the whole depth grows with each layer.

    Returns
    -------
    Bounded(value, bound), f64[n, ...shape] each, by name. A bound is infinite where float32 may overflow.

    Raises
    ------
    ModelFileError : `spec` is invalid.
    InputError : an array is missing or unknown, is not float32 and finite, or has another shape.

    Notes
    -----
    Cost: three convolutions for each one of the graph. Memory: two float64 arrays for each value alive.
    """
    spec = validate(spec)
    checked = {name: _check_exact(name, x) for name, x in _check_inputs(spec, inputs).items()}
    seen = {name: _check_exact(name, x) for name, x in (observed or {}).items()}
    for name in seen.keys() - {node.output for node in spec.nodes}:
        raise InputError(f"observed: expected names of the graph's values, got {name!r}. Leave it out.")

    def step(node: Node, xs: list[Bounded]) -> Bounded:
        tensors, rule = _tensors(node, np.float64), RULES[node.op]
        xs = [_seen(name, x, seen) for name, x in zip(node.inputs, xs, strict=True)]
        y = rule.define(*(x.value for x in xs), **tensors, **node.attrs)
        bound = rule.bound(*xs, y, **tensors, **node.attrs) * SLACK
        return Bounded(y, np.where(np.isnan(bound), np.inf, bound))

    with np.errstate(all="ignore"):
        return _walk(spec, {name: _exact(x) for name, x in checked.items()}, step, keep)


def _walk(
    spec: ModelSpec, values: dict[str, Any], step: Callable[[Node, list[Any]], Any], keep: bool
) -> dict[str, Any]:
    """Apply `step` to each node in order; frees what no later node reads."""
    readers = Counter(name for node in spec.nodes for name in node.inputs)
    readers.update(spec.outputs)
    for node in spec.nodes:
        values[node.output] = step(node, [values[name] for name in node.inputs])
        for name in node.inputs:
            readers[name] -= 1
            if not readers[name] and not keep:
                del values[name]
    return values if keep else {name: values[name] for name in spec.outputs}


def _tensors(node: Node, dtype: Any) -> dict[str, Array]:
    """The node's tensors as dense arrays of `dtype`, by role."""
    dense = {role: t.dense() if isinstance(t, MaskedKernel) else t for role, t in node.tensors.items()}
    return {role: array.astype(dtype) for role, array in dense.items()}


def _exact(x: Array) -> Bounded:
    return Bounded(x.astype(np.float64), np.zeros(x.shape))


def _seen(name: str, x: Bounded, observed: Mapping[str, Array]) -> Bounded:
    """The engine's own value where it was observed, else `x`."""
    if name not in observed:
        return x
    if observed[name].shape != x.value.shape:
        raise InputError(
            f"observed {name!r}: expected {x.value.shape}, got {observed[name].shape}. Use the same batch."
        )
    return _exact(observed[name])


def _check_inputs(spec: ModelSpec, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """The inputs, all there, with the graph's shapes and one batch size."""
    names = [entry.name for entry in spec.inputs]
    if not isinstance(inputs, Mapping) or sorted(inputs) != sorted(names):
        given = str(sorted(inputs)) if isinstance(inputs, Mapping) else type(inputs).__name__
        raise InputError(f"inputs: expected arrays by name for {sorted(names)}, got {given}. Pass one for each.")
    for entry in spec.inputs:
        x, want = inputs[entry.name], f"float32 or float64 [n, {', '.join(map(str, entry.shape))}]"
        if not isinstance(x, np.ndarray) or x.dtype not in (np.float32, np.float64) or x.shape[1:] != entry.shape:
            raise InputError(f"input {entry.name!r}: expected {want}, got {describe(x)}. Convert or reshape it.")
    sizes = sorted({x.shape[0] for x in inputs.values()})
    if len(sizes) > 1:
        raise InputError(f"inputs: expected one batch size, got {sizes}. Pass arrays with equal first axes.")
    return dict(inputs)


def _check_exact(name: str, x: Array) -> Array:
    """An array that an engine gets or made: float32 and finite."""
    if not isinstance(x, np.ndarray) or x.dtype != np.float32 or not np.isfinite(x).all():
        got = describe(x) + " with NaN or infinity" * (getattr(x, "dtype", None) == np.float32)
        raise InputError(
            f"array {name!r}: expected finite float32 numbers, got {got}. Bounds need what the engine gets."
        )
    return x
