"""Evaluation of graphs against the oracle; bounds that hold for float32 engines and are tight enough to be of use."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lhc_ref import evaluate as evaluation
from lhc_ref.bounds import BOUNDS, Bounded
from lhc_ref.errors import InputError, ModelFileError
from lhc_ref.evaluate import DEFINITIONS, evaluate, evaluate_with_bounds
from lhc_ref.modelfile import OPS, InputSpec, MaskedKernel, ModelSpec, Node, validate
from tests import oracle
from tests.model_strategies import ROUNDING, model_inputs, models
from tests.tolerances import assert_exact, assert_within

F32 = np.float32
U = 2.0**-24


def densify(tensors):
    return {role: t.dense() if isinstance(t, MaskedKernel) else t for role, t in tensors.items()}


def one_node(op, shape, attrs=(), tensors=(), arity=1):
    """A graph of one node on inputs of one shape."""
    names = tuple(f"x{i}" for i in range(arity))
    node = Node(op, "node", names, "y", dict(attrs), dict(tensors))
    return ModelSpec(tuple(InputSpec(name, shape) for name in names), ("y",), (node,))


# --- Values ----------------------------------------------------------------------------------------------------------


def test_every_operator_has_a_definition_and_a_bound():
    assert OPS.keys() == DEFINITIONS.keys() == BOUNDS.keys()


@given(models(exact=True, ops=OPS.keys() - ROUNDING), st.integers(0, 99))
def test_values_are_the_oracles(spec, seed):
    inputs = model_inputs(spec, 2, seed, exact=True)
    values = evaluate(spec, inputs, keep=True)
    for node in validate(spec).nodes:
        xs = [values[name] for name in node.inputs]
        want = xs[0] + xs[1] if node.op == "add" else run_oracle(node, *xs)
        assert_exact(values[node.output], want, np.float64)


def run_oracle(node, *xs):
    x = xs[0]
    if node.op in ("relu", "flatten", "softmax") and x.ndim != 4:
        return {"relu": oracle.relu, "flatten": lambda x: x, "softmax": oracle.softmax}[node.op](x)
    return getattr(oracle, {"slice": "cut"}.get(node.op, node.op))(*xs, **densify(node.tensors), **node.attrs)


@given(models(), st.integers(0, 99))
def test_keeping_changes_nothing_but_what_is_returned(spec, seed):
    inputs = model_inputs(spec, 2, seed)
    outputs, everything = evaluate(spec, inputs), evaluate(spec, inputs, keep=True)
    assert list(outputs) == list(spec.outputs)
    assert everything.keys() == {entry.name for entry in spec.inputs} | {node.output for node in spec.nodes}
    for name, value in outputs.items():
        assert_exact(value, everything[name], np.float64)
    bounded = evaluate_with_bounds(spec, inputs)
    assert list(bounded) == list(spec.outputs)
    for name, pair in bounded.items():
        assert_exact(pair.value, everything[name], np.float64)


def test_values_are_freed_after_their_last_use(monkeypatch):
    alive = []
    nodes = tuple(Node("relu", f"n{i}", (f"v{i}",), f"v{i + 1}") for i in range(9))
    spec = ModelSpec((InputSpec("v0", (4,)),), ("v9",), nodes)
    walk = evaluation._walk

    def watched(spec, values, step, keep):
        def counting(node, xs):
            alive.append(len(values))
            return step(node, xs)

        return walk(spec, values, counting, keep)

    monkeypatch.setattr(evaluation, "_walk", watched)
    evaluate(spec, {"v0": np.ones((1, 4), F32)})
    assert max(alive) == 1


def test_float32_evaluation_stays_float32():
    spec = several_layers(np.random.default_rng(0))
    values = evaluate(spec, {"x": np.ones((1, 8, 8, 1))}, dtype=F32, keep=True)
    assert {value.dtype for value in values.values()} == {np.dtype(F32)}


# --- A float32 engine that sums in many orders -----------------------------------------------------------------------


def fma(a, b, c):
    """a*b + c: the product of two float32 is exact in float64, and so is all but the last rounding, nearly."""
    return (a.astype(np.float64) * b.astype(np.float64) + c.astype(np.float64)).astype(F32)


def summed(terms, order, fused=None):
    """Sum of f32[..., k] over the last axis in float32, in one of many orders; `fused` are the factors for fma."""
    k = terms.shape[-1]
    if order == "pairwise":
        while terms.shape[-1] > 1:
            if terms.shape[-1] % 2:
                terms = np.concatenate([terms, np.zeros_like(terms[..., :1])], axis=-1)
            terms = terms[..., ::2] + terms[..., 1::2]
        return terms[..., 0] if k else np.zeros(terms.shape[:-1], F32)
    if order == "fma":
        acc = np.zeros(terms.shape[:-1], F32)
        for i in range(k):
            acc = fma(fused[0][..., i], fused[1][..., i], acc)
        return acc
    if order == "backward":
        terms = terms[..., ::-1]
    elif order == "shuffled":
        terms = np.random.default_rng(k).permuted(terms, axis=-1)
    elif order in ("largest first", "smallest first", "worst"):
        size = np.abs(terms) if order != "worst" else -terms  # worst: positive terms up to the peak, then the others
        terms = np.take_along_axis(terms, np.argsort(-size if order == "largest first" else size, axis=-1), axis=-1)
    acc = np.zeros(terms.shape[:-1], F32)
    for i in range(k):
        acc = acc + terms[..., i]
    return acc


ORDERS = ["forward", "backward", "pairwise", "fma", "shuffled", "largest first", "smallest first", "worst"]


def run_float32(spec, inputs, order, tamper=None):
    """All values of a graph in float32 by an engine of the tests' own; `tamper(node, y)` may change a result."""
    values = dict(inputs)
    for node in validate(spec).nodes:
        xs = [values[name] for name in node.inputs]
        y = ENGINE[node.op](node, xs, order)
        assert y.dtype == F32
        values[node.output] = y if tamper is None else tamper(node, y)
    return values


def engine_conv2d(node, xs, order):
    kernel, bias = densify(node.tensors)["kernel"], node.tensors.get("bias")
    geometry = {key: node.attrs[key] for key in ("stride", "padding", "dilation")}
    kh, kw, _, c_out = kernel.shape
    columns = []
    for ci, co in oracle.group_slices(xs[0].shape[3], c_out, node.attrs["groups"]):
        x = xs[0][..., ci]
        eye = np.eye(kh * kw * x.shape[3]).reshape(kh, kw, x.shape[3], -1)
        patches = oracle.conv2d(x, eye, **geometry).astype(F32)  # exact: one product with 1 each
        a, w = np.broadcast_arrays(patches[..., None, :], kernel[..., co].reshape(-1, co.stop - co.start).T)
        columns.append((a, w))
    a, w = (np.concatenate(parts, axis=-2) for parts in zip(*columns, strict=True))
    return engine_sum(a, w, bias, order)


def engine_dense(node, xs, order):
    kernel = node.tensors["kernel"]
    a, w = np.broadcast_arrays(xs[0][:, None, :], kernel.T[None])
    return engine_sum(a, w, node.tensors.get("bias"), order)


def engine_sum(a, w, bias, order):
    if bias is not None:
        a = np.concatenate([a, np.broadcast_to(bias[:, None], (*a.shape[:-1], 1))], axis=-1)
        w = np.concatenate([w, np.ones((*w.shape[:-1], 1), F32)], axis=-1)
    return summed(a * w, order, (a, w))


def engine_windows(node, x):
    """[n, oh, ow, c, taps] and which taps are real."""
    size, geometry = node.attrs["size"], {key: node.attrs[key] for key in ("stride", "padding")}
    taps = size[0] * size[1]
    eye = np.eye(taps).reshape(*size, 1, taps)
    split = [oracle.conv2d(x[..., c : c + 1], eye, **geometry) for c in range(x.shape[3])]
    real = oracle.conv2d(np.ones_like(x[..., :1]), eye, **geometry) > 0
    return np.stack(split, axis=3).astype(F32), np.broadcast_to(real[..., None, :], (*real.shape[:3], x.shape[3], taps))


def engine_max_pool(node, xs, order):
    taps, real = engine_windows(node, xs[0])
    return np.where(real, taps, F32(-np.inf)).max(axis=-1)


def engine_average_pool(node, xs, order):
    taps, real = engine_windows(node, xs[0])
    return engine_mean(taps, real.sum(axis=-1).astype(F32), order)


def engine_global_average_pool(node, xs, order):
    n, h, w, c = xs[0].shape
    return engine_mean(np.moveaxis(xs[0].reshape(n, h * w, c), 1, 2), F32(h * w), order)


def engine_mean(terms, count, order):
    """Divided after the sum, or multiplied by the reciprocal after or before it."""
    if order in ("forward", "pairwise"):
        return summed(terms, order, (terms, np.ones_like(terms))) / count
    reciprocal = F32(1) / count
    if order in ("backward", "shuffled"):
        return summed(terms, order) * reciprocal
    shares = np.broadcast_to(np.asarray(reciprocal)[..., None], terms.shape)
    return summed(terms * shares, order, (terms, shares))


def engine_softmax(node, xs, order):
    """With an exp that is off by 4 ulp, alternately up and down."""
    x = xs[0]
    exact = np.exp((x - x.max(axis=-1, keepdims=True)).astype(np.float64))
    sign = np.where(np.arange(x.shape[-1]) % 2, 1, -1) * (1 if order in ("forward", "fma") else -1)
    e = (exact * (1 + sign * 3.4 * 2.0**-23)).astype(F32)
    total = summed(e, order, (e, np.ones_like(e)))[..., None]
    return e / total if order in ("forward", "worst") else e * (F32(1) / total)


def off(x, sign):
    """f32 numbers that are 4 ulp off, up or down."""
    return (x * (1 + sign * 3.4 * 2.0**-23)).astype(F32)


def engine_sigmoid(node, xs, order):
    """By exp(-x), which overflows to infinity, or by exp(-|x|); both off by 4 ulp."""
    x, sign = xs[0].astype(np.float64), 1 if order in ("forward", "fma") else -1
    with np.errstate(over="ignore"):
        e = off(np.exp(-x), sign)
        stable = off(np.exp(-abs(x)), sign)
        return F32(1) / (F32(1) + e) if order == "forward" else np.where(x < 0, stable, F32(1)) / (F32(1) + stable)


def engine_hard_swish(node, xs, order):
    x = xs[0]
    gate = x * F32(1 / 6) + F32(0.5) if order == "forward" else (x + F32(3)) / F32(6)
    return x * np.clip(gate, F32(0), F32(1))


def engine_scale(node, xs, order):
    y = xs[0] * node.tensors["scale"]
    return y + node.tensors["bias"] if "bias" in node.tensors else y


ENGINE = {
    **{
        op: lambda node, xs, order: DEFINITIONS[node.op](*xs, **node.attrs)
        for op in ("clip", "concat", "pad", "upsample", "slice", "rearrange")
    },
    "leaky_relu": lambda node, xs, order: np.where(xs[0] > 0, xs[0], xs[0] * F32(node.attrs["slope"])),
    "prelu": lambda node, xs, order: np.where(xs[0] > 0, xs[0], xs[0] * node.tensors["slope"]),
    "sigmoid": engine_sigmoid,
    "hard_sigmoid": lambda node, xs, order: np.clip(
        xs[0] * F32(node.attrs["alpha"]) + F32(node.attrs["beta"]), F32(0), F32(1)
    ),
    "hard_swish": engine_hard_swish,
    "tanh": lambda node, xs, order: off(np.tanh(xs[0].astype(np.float64)), -1 if order == "forward" else 1),
    "scale": engine_scale,
    "mul": lambda node, xs, order: xs[0] * xs[1],
    "sub": lambda node, xs, order: xs[0] - xs[1],
    "div": lambda node, xs, order: xs[0] / xs[1],
    "conv2d": engine_conv2d,
    "dense": engine_dense,
    "relu": lambda node, xs, order: np.maximum(xs[0], F32(0)),
    "add": lambda node, xs, order: xs[0] + xs[1],
    "max_pool": engine_max_pool,
    "average_pool": engine_average_pool,
    "global_average_pool": engine_global_average_pool,
    "flatten": lambda node, xs, order: xs[0].reshape(len(xs[0]), -1),
    "softmax": engine_softmax,
}


# --- Bounds are sound ------------------------------------------------------------------------------------------------


@given(models(), st.integers(0, 99), st.sampled_from(ORDERS), st.sampled_from([1e-30, 1e-3, 1.0, 1e4]))
def test_a_float32_engine_stays_within_the_bounds(spec, seed, order, scale):
    inputs = {name: x * F32(scale) for name, x in model_inputs(spec, 2, seed).items()}
    bounds = evaluate_with_bounds(spec, inputs, keep=True)
    got = run_float32(spec, inputs, order)
    for name, (value, bound) in bounds.items():
        assert_within(got[name], value, bound, F32)


@pytest.mark.parametrize("order", ORDERS)
def test_a_net_of_several_layers_stays_within_the_bounds(order):
    spec = several_layers(np.random.default_rng(3))
    inputs = {"x": np.random.default_rng(4).random((8, 8, 8, 1), dtype=F32)}
    bounds = evaluate_with_bounds(spec, inputs, keep=True)
    got = run_float32(spec, inputs, order)
    for name, (value, bound) in bounds.items():
        assert_within(got[name], value, bound, F32)


def test_a_sum_that_rounds_the_same_way_each_time_is_close_to_its_bound():
    """1 + eps/2*(1-) again and again stays 1: the engine loses almost all that the analysis allows."""
    k = 1000
    weights = np.full((k, 1), U * 0.999, F32)
    weights[0] = 1
    spec = one_node("dense", (k,), tensors={"kernel": weights})
    inputs = {"x0": np.ones((1, k), F32)}
    (value, bound) = evaluate_with_bounds(spec, inputs)["y"]
    error = abs(float(run_float32(spec, inputs, "forward")["y"][0, 0]) - value[0, 0])
    print(f"\nobserved / bound = {error / bound[0, 0]:.3f}")
    assert 0.9 * bound[0, 0] < error <= bound[0, 0]


def test_underflow_is_in_the_bound():
    """Products that all vanish: the relative part alone would be far too small."""
    spec = one_node("dense", (100,), tensors={"kernel": np.full((100, 1), 1e-25, F32)})
    inputs = {"x0": np.full((1, 100), 1e-21, F32)}
    (value, bound) = evaluate_with_bounds(spec, inputs)["y"]
    got = run_float32(spec, inputs, "forward")["y"]
    assert got[0, 0] == 0
    assert 0 < value[0, 0] <= bound[0, 0] < 1e-35


def test_where_float32_may_overflow_the_bound_is_infinite():
    spec = one_node("dense", (2,), tensors={"kernel": np.array([[1], [-1]], F32)})
    (value, bound) = evaluate_with_bounds(spec, {"x0": np.full((1, 2), 3e38, F32)})["y"]
    assert value[0, 0] == 0
    assert bound[0, 0] == np.inf


def test_an_infinite_bound_stays_infinite():
    big = np.full((2, 2), 3e38, F32)
    nodes = (
        Node("dense", "d", ("x",), "a", {}, {"kernel": big}),
        Node("relu", "r", ("a",), "b"),
        Node("dense", "e", ("b",), "c", {}, {"kernel": np.zeros((2, 2), F32)}),
        Node("softmax", "s", ("c",), "y"),
    )
    spec = ModelSpec((InputSpec("x", (2,)),), ("y",), nodes)
    bounds = evaluate_with_bounds(spec, {"x": np.full((1, 2), 3e38, F32)}, keep=True)
    assert all(np.isinf(bounds[name].bound).all() for name in "abcy")


def test_only_kept_weights_count():
    """A kernel with 2 of 200 weights has the bound of 2 products, not of 200."""
    kernel = np.zeros((200, 1), F32)
    kernel[[3, 150]] = 1
    spec = one_node("dense", (200,), tensors={"kernel": kernel})
    (value, bound) = evaluate_with_bounds(spec, {"x0": np.ones((1, 200), F32)})["y"]
    assert bound[0, 0] < 2.1 * U * value[0, 0]


def test_relu_and_max_pool_cut_the_bound():
    x = Bounded(np.array([-1.0, -0.1, 0.1, 2.0]), np.full(4, 0.5))
    assert_within(BOUNDS["relu"](x, oracle.relu(x.value)), np.array([0, 0.4, 0.5, 0.5]), 1e-15)
    pixels = Bounded(np.array([1.0, 3.0]).reshape(1, 1, 2, 1), np.array([1.5, 0.25]).reshape(1, 1, 2, 1))
    bound = BOUNDS["max_pool"](pixels, np.full((1, 1, 1, 1), 3.0), size=(1, 2), stride=(1, 1), padding="valid")
    assert bound.item() == 0.25


@given(st.integers(0, 999), st.sampled_from([0.0, 1e-6, 1e-2, 3.0]), st.sampled_from([1.0, 20.0, 300.0]))
def test_softmax_of_every_input_within_its_bound_is_within_the_bound(seed, radius, scale):
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(3, 7)) * scale
    radii = radius * rng.random(logits.shape)
    y = oracle.softmax(logits)
    bound = BOUNDS["softmax"](Bounded(logits, radii), y)
    for _ in range(20):
        moved = logits + radii * rng.choice([-1, 0, 1], logits.shape)
        assert_within(oracle.softmax(moved), y, bound)
    assert (bound <= 1.1).all()


@given(st.integers(0, 999), st.sampled_from([0.0, 1e-6, 1e-2, 0.9]), st.sampled_from([0.0, 1e-3, 2.0]))
def test_a_quotient_of_all_numbers_within_their_bounds_is_within_its_bound(seed, near, radius):
    """And the bound is that of the worst of them, but for the engine's own rounding."""
    rng = np.random.default_rng(seed)
    a, b = (rng.choice([-1, 1], 50) * rng.uniform(0.5, 2, 50) for _ in range(2))
    x, divisor = Bounded(a, radius * rng.random(50)), Bounded(b, near * abs(b))
    bound = BOUNDS["div"](x, divisor, a / b)
    ends = [(a + i * x.bound) / (b + j * divisor.bound) for i in (-1, 0, 1) for j in (-1, 0, 1)]
    worst = np.max([abs(end - a / b) for end in ends], axis=0)
    assert_within(np.zeros(50), worst, bound)
    assert_within(bound, worst, 1.1 * U * (abs(a / b) + worst))


def test_a_divisor_that_may_be_zero_has_an_infinite_bound():
    """Of d = b - z each number but the last may be 0: it is, or is no larger than what its own rounding may take."""
    nodes = (Node("sub", "s", ("b", "z"), "d"), Node("div", "q", ("a", "d"), "y"))
    spec = ModelSpec(tuple(InputSpec(name, (4,)) for name in "abz"), ("y",), nodes)
    inputs = {
        "a": np.array([[0, 1, 1e-38, 1]], F32),
        "b": np.array([[3, 3, 1e-38, 3]], F32),
        "z": np.array([[3, 3, 0, 3 - 2**-22]], F32),
    }
    bounds = evaluate_with_bounds(spec, inputs)["y"].bound
    assert np.isinf(bounds).tolist() == [[True, True, True, False]]
    assert bounds[0, 3] < 4 * U * 2**22


# --- Bounds are tight enough -----------------------------------------------------------------------------------------


def several_layers(rng, widths=(16, 32, 32, 48), density=0.12):
    """A net as the demo's: an ordinary stem, convolutions of the given density, a classifier."""
    nodes, x, c_in = [], "x", 1
    for i, c_out in enumerate(widths):
        share = density if i else 1.0
        kernel = (rng.normal(size=(3, 3, c_in, c_out)) * np.sqrt(2 / (9 * c_in * share))).astype(F32)
        if i:
            mask = rng.random((3, 3, -(-c_in // 4), -(-c_out // 4))) < share
            kernel = MaskedKernel.from_dense(kernel, mask, 4, 4)
        tensors = {"kernel": kernel, "bias": (0.1 * rng.normal(size=c_out)).astype(F32)}
        nodes += [
            Node("conv2d", f"conv{i}", (x,), f"conv{i}", {}, tensors),
            Node("relu", f"relu{i}", (f"conv{i}",), f"relu{i}"),
        ]
        x, c_in = f"relu{i}", c_out
    classifier = {"kernel": (rng.normal(size=(c_in, 10)) / np.sqrt(c_in)).astype(F32), "bias": np.zeros(10, F32)}
    nodes += [
        Node("max_pool", "max", (x,), "max", {"size": (2, 2), "stride": (2, 2)}),
        Node("global_average_pool", "mean", ("max",), "mean"),
        Node("dense", "classifier", ("mean",), "logits", {}, classifier),
        Node("softmax", "softmax", ("logits",), "probabilities"),
    ]
    return ModelSpec((InputSpec("x", (8, 8, 1)),), ("logits", "probabilities"), tuple(nodes))


LAYERS = ["conv0", "conv1", "conv2", "conv3", "classifier"]


@pytest.mark.parametrize("layer", LAYERS)
def test_an_error_of_a_thousandth_in_one_layer_is_caught_at_the_outputs(layer):
    spec = several_layers(np.random.default_rng(5))
    inputs = {"x": np.random.default_rng(6).random((16, 8, 8, 1), dtype=F32)}
    value, bound = evaluate_with_bounds(spec, inputs)["logits"]

    def tamper(node, y):
        return y * F32(1.001) if node.name == layer else y

    right, wrong = (run_float32(spec, inputs, "forward", t)["logits"] for t in (None, tamper))
    ratios = [float((np.abs(got - value) / bound).max()) for got in (right, wrong)]
    print(f"\n{layer}: observed / bound = {ratios[0]:.2e} untouched, {ratios[1]:.2f} with the error")
    assert ratios[0] <= 1 < ratios[1]


def test_bounds_from_observed_values_stay_tight_in_deep_nets():
    """After 14 dense layers the carried bound says nothing; from layer to layer it still catches a thousandth."""
    spec = several_layers(np.random.default_rng(7), widths=(24,) * 14, density=1.0)
    inputs = {"x": np.random.default_rng(8).random((2, 8, 8, 1), dtype=F32)}
    right = run_float32(spec, inputs, "fma")
    made = {node.output for node in spec.nodes}
    observed = {name: right[name] for name in made}
    carried, local = (evaluate_with_bounds(spec, inputs, keep=True, observed=o) for o in (None, observed))
    for name in made:
        assert_within(right[name], *local[name], F32)
    last = "conv13"
    relative = [(b[last].bound / np.abs(b[last].value).max()).max() for b in (carried, local)]
    print(f"\nrelative bound at {last}: {relative[0]:.1e} carried, {relative[1]:.1e} from observed values")
    assert relative[0] > 1 > 1e4 * relative[1]


# --- Refusals --------------------------------------------------------------------------------------------------------

RELU = one_node("relu", (2, 2, 3))
GOOD = np.zeros((1, 2, 2, 3), F32)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({}, r"inputs: expected arrays by name for \['x0'\], got \[\]"),
        (GOOD, "inputs: expected arrays by name .* got ndarray"),
        ({"x0": GOOD, "x1": GOOD}, "inputs: expected"),
        ({"x0": GOOD[0]}, r"input 'x0': expected float32 or float64 \[n, 2, 2, 3\], got float32\[2, 2, 3\]"),
        ({"x0": GOOD.astype(np.float16)}, "float16"),
        ({"x0": [[1.0]]}, "input 'x0': expected .* got list"),
    ],
)
def test_wrong_inputs_are_named(inputs, message):
    for function in (evaluate, evaluate_with_bounds):
        with pytest.raises(InputError, match=message):
            function(RELU, inputs)


def test_batches_must_agree():
    spec = one_node("add", (3,), arity=2)
    with pytest.raises(InputError, match=r"one batch size, got \[1, 2\]"):
        evaluate(spec, {"x0": np.zeros((1, 3), F32), "x1": np.zeros((2, 3), F32)})


@pytest.mark.parametrize("x", [GOOD.astype(np.float64), GOOD + F32(np.nan), GOOD + F32(np.inf)])
def test_bounds_want_finite_float32(x):
    with pytest.raises(InputError, match="array 'x0': expected finite float32"):
        evaluate_with_bounds(RELU, {"x0": x})


def test_wrong_observed_values_are_named():
    spec = ModelSpec(RELU.inputs, ("z",), (*RELU.nodes, Node("relu", "again", ("y",), "z")))
    with pytest.raises(InputError, match=r"observed: expected .* got 'nobody'"):
        evaluate_with_bounds(spec, {"x0": GOOD}, observed={"nobody": GOOD})
    with pytest.raises(InputError, match="observed 'y': expected"):
        evaluate_with_bounds(spec, {"x0": GOOD}, observed={"y": GOOD[:, :1]})


def test_an_invalid_graph_is_refused():
    with pytest.raises(ModelFileError, match="inputs of node"):
        evaluate(one_node("relu", (3,), arity=2), {"x0": np.zeros((1, 3)), "x1": np.zeros((1, 3))})
