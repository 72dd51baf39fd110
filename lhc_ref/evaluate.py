"""What a graph computes: its operators' definitions in float64, and bounds on how far a float32 engine may be off."""

from collections import Counter
from collections.abc import Callable, Collection, Mapping
from typing import Any

import numpy as np

from lhc_ref import inference, ops
from lhc_ref.arrays import describe
from lhc_ref.bounds import BOUNDS, SLACK, Bounded
from lhc_ref.conv import conv2d
from lhc_ref.errors import InputError
from lhc_ref.modelfile import MaskedKernel, ModelSpec, Node, validate

Array = np.ndarray


def _conv2d(x: Array, *, kernel: Array, bias: Array | None = None, **attrs: Any) -> Array:
    y = conv2d(x, kernel, **attrs)
    return y if bias is None else ops.bias_add(y, bias)


def _dense(x: Array, *, kernel: Array, bias: Array | None = None) -> Array:
    y = ops.dense(x, kernel)
    return y if bias is None else ops.bias_add(y, bias)


DEFINITIONS: Mapping[str, Callable[..., Array]] = {
    "conv2d": _conv2d,
    "dense": _dense,
    "relu": ops.relu,
    "add": ops.add,
    "max_pool": ops.max_pool,
    "average_pool": ops.average_pool,
    "global_average_pool": ops.global_average_pool,
    "flatten": ops.flatten,
    "softmax": ops.softmax,
    **inference.DEFINITIONS,
}


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
        return DEFINITIONS[node.op](*xs, **_tensors(node, dtype), **node.attrs)

    return _walk(spec, values, step, keep)


def evaluate_with_bounds(
    spec: ModelSpec,
    inputs: Mapping[str, Array],
    keep: bool = False,
    observed: Mapping[str, Array] | None = None,
    winograd: Collection[str] = (),
) -> dict[str, Bounded]:
    """Compute a graph in float64 and, beside each value, a bound on |a float32 engine's result - value|.

    The running error analysis takes each node's bound from those of the values it reads: what the node makes of their
    errors, plus what its own roundings add at the magnitudes at hand. The bounds hold for every engine that

    - rounds to nearest float32, or works more precisely and stores float32, or keeps a value unrounded;
    - computes each operator by its definition: sums in any order or blocking, fused multiply-adds or not, products
      with absent weights left out or not (but no FFT or Strassen scheme, nor Winograd's where `winograd` does not
      say so: they round differently);
    - adds a bias as one more term of the sum, and what an `add` node adds after the sum is complete;
    - multiplies by a reciprocal where an average or softmax divides, if it likes, but divides where a `div` node does;
    - has an exp and a tanh within `EXP_ULPS` = 4 ulp, and subtracts the largest logit before a softmax's exp;
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
    winograd : names of nodes that the engine may compute by Winograd's F(2x2, 3x3) (Lavin, Gray, arXiv 1509.09308,
        section 4.1), with weights transformed in float64 and rounded once; of those, convolutions of 3x3 taps at every
        pixel get the larger of both bounds

    Returns
    -------
    Bounded(value, bound), f64[n, ...shape] each, by name. A bound is infinite where float32 may overflow, or
    what divides may be 0.

    Raises
    ------
    ModelFileError : `spec` is invalid.
    InputError : an array is missing or unknown, is not float32 and finite, or has another shape; an unknown node.

    Notes
    -----
    Cost: three convolutions for each one of the graph. Memory: two float64 arrays for each value alive.
    """
    spec = validate(spec)
    checked = {name: _check_exact(name, x) for name, x in _check_inputs(spec, inputs).items()}
    seen = {name: _check_exact(name, x) for name, x in (observed or {}).items()}
    for name in seen.keys() - {node.output for node in spec.nodes}:
        raise InputError(f"observed: expected names of the graph's values, got {name!r}. Leave it out.")

    for name in set(winograd) - {node.name for node in spec.nodes}:
        raise InputError(f"winograd: expected names of the graph's nodes, got {name!r}. Leave it out.")

    def step(node: Node, xs: list[Bounded]) -> Bounded:
        tensors = _tensors(node, np.float64)
        ways = {"winograd": node.name in winograd} if node.op == "conv2d" else {}
        xs = [_seen(name, x, seen) for name, x in zip(node.inputs, xs, strict=True)]
        y = DEFINITIONS[node.op](*(x.value for x in xs), **tensors, **node.attrs)
        bound = BOUNDS[node.op](*xs, y, **tensors, **node.attrs, **ways) * SLACK
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
        raise InputError(f"array {name!r}: expected finite float32 numbers, got {got}. Give what the engine gets.")
    return x
