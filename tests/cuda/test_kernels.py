"""Every GPU kernel against the definition, at small odd sizes, in poisoned memory, in two orders of its threads."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lhc_ref.evaluate import evaluate_with_bounds
from lhc_ref.modelfile import OPS, MaskedKernel, validate
from runtime.cuda.plan import FAMILIES, build
from runtime.cuda.registry import ENTRIES as REGISTERED
from runtime.cuda.registry import Kernel
from runtime.cuda.tiles import TILES, Tile
from runtime.fuse import OF_ONE
from tests import oracle
from tests.cuda.gpus import ORDERS, SIMULATED, SMALL_TILE, TINY, GuardedGpuModel, launching, tiles_to_try
from tests.model_strategies import ROUNDING, model_inputs, models
from tests.modelfile_bytes import GOLDEN_SPECS
from tests.runtime.kernel_cases import LayerCase
from tests.runtime.nets import conv_spec, definition, masked, net, small_kernel
from tests.runtime.test_kernels import CORNERS
from tests.strategies import ConvCase, numbers
from tests.tolerances import assert_exact, assert_identical, assert_within, softmax_bound, sum_bound, unit_roundoff

few = settings(max_examples=4 if SIMULATED else 40)
in_every_order = pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS)


def layer(size_hw=(3, 5), kernel_hw=(3, 3), stride=(1, 1), padding="same", dilation=(1, 1), groups=1, **fused):
    """A small convolution with everything that can be fused into it."""
    conv = ConvCase(2, size_hw, kernel_hw, 3 * groups, 5 * groups, stride, padding, dilation, groups, 7)
    plain = {"group_in": 1, "group_out": 1, "empty_outputs": 0, "bias": True, "residual": False, "relu": False}
    return LayerCase(conv, **{"density": 0.5, **plain, **fused})


def solve(problem, tile, order=ORDERS["ordered"], storage="float32"):
    """Run a problem and compare with the definition."""
    model = GuardedGpuModel(problem.spec, tile, storage=storage)
    got = model.run(problem.inputs, order)
    want = definition(problem.spec, problem.inputs)["y"]
    if problem.bound is None:
        assert_exact(got, want, np.float32)
    else:
        assert_within(got, want, problem.bound, np.float32)
    return got


@launching
@tiles_to_try
@pytest.mark.parametrize("corner", CORNERS)
def test_corner(tile, corner):
    solve(layer(**CORNERS[corner]).problem(exact=True), tile)


@launching
@pytest.mark.parametrize("tile", TILES, ids=lambda tile: tile.name)
@pytest.mark.parametrize("storage", ["float32", "float16"])
def test_every_registered_tile(tile, storage):
    """More pixels than one block of the small tiles, more rows than one chunk, a last chunk and tile cut short."""
    case = layer((5, 7), groups=1, residual=True, relu=True)
    solve(replace(case, conv=replace(case.conv, c_in=5, c_out=9, n=1)).problem(exact=True), tile, storage=storage)


@launching
@in_every_order
@tiles_to_try
def test_several_blocks_and_chunks_in_every_order(tile, order):
    case = layer((4, 5), groups=2, residual=True)
    solve(case.problem(exact=True), tile, order)


@launching
@tiles_to_try
@pytest.mark.parametrize("groups", [1, 3])
def test_within_the_rounding_bound_on_real_numbers(tile, groups):
    solve(layer(groups=groups, residual=True, relu=True).problem(exact=False), tile)


@launching
@pytest.mark.parametrize("density", [None, 0.4])
@in_every_order
def test_depthwise(density, order):
    case = layer((4, 3), groups=4, density=density, residual=True, relu=True)
    solve(replace(case, conv=replace(case.conv, c_in=4, c_out=4)).problem(exact=True), SMALL_TILE, order)


@launching
def test_no_bit_depends_on_the_block_or_the_batch():
    """Sums are added in one order, and shared sums in that of their warps, in any block, lane or batch."""
    problem = layer(residual=True).problem(exact=False)
    alone = [Tile(4, 1, 1, 1), Tile(4, 2, 1, 2)] if SIMULATED else [Tile(16, 4), Tile(16, 8)]
    shared = [Tile(4, 2, 2, 3), Tile(4, 4, 2, 1)] if SIMULATED else [Tile(16, 4, 2), Tile(16, 2, 2)]
    for tiles in (alone, shared):
        first, *others = [solve(problem, tile) for tile in tiles]
        for other in others:
            assert_identical(other, first)
        one = GuardedGpuModel(problem.spec, tiles[0]).run({name: x[:1] for name, x in problem.inputs.items()})
        assert_identical(one, first[:1])


@launching
@pytest.mark.parametrize("op", sorted(OPS))
def test_each_operator_within_its_bound(op):
    @few
    @given(spec=models(max_nodes=1, ops={op}, max_channels=5), batch=st.integers(1, 3), seed=st.integers(0, 99))
    def check(spec, batch, seed):
        inputs = model_inputs(spec, batch, seed)
        y = GuardedGpuModel(spec).run(inputs, ORDERS["reversed"])
        got = y if isinstance(y, dict) else {spec.outputs[0]: y}
        for name, (value, bound) in evaluate_with_bounds(spec, inputs).items():
            assert_within(got[name], value, bound, np.float32)

    check()


@launching
@in_every_order
def test_a_product_with_the_own_sigmoid(order):
    """One operator of the plan, and none of the model file."""
    spec = net({"x": (3, 3, 5)}, ["y"], ("sigmoid", "s", ["x"]), ("mul", "y", ["x", "s"]))
    inputs = {"x": numbers(3, "x", (5, 3, 3, 5), exact=False) * np.float32(20)}
    model = GuardedGpuModel(spec)
    got = model.run(inputs, order)
    assert [row.op for row in model.explain(5).rows] == ["swish"]
    want, bound = evaluate_with_bounds(spec, inputs)["y"]
    assert_within(got, want, bound, np.float32)


ENDS = {
    "leaky_relu": {"slope": 0.25},
    "prelu": {},
    "sigmoid": {},
    "hard_sigmoid": {"alpha": 0.5, "beta": 0.25},
    "hard_swish": {},
    "tanh": {},
    "swish": {},
}


def ended(kernel, shape, ops=ENDS, low=-1.5, high=2.0, **options):
    """Convolutions, each of which ends in another function, between a sum and a clip; outputs by the function's name.

    One net for all, since the simulator takes long to begin.
    """
    nodes, slope = [], np.arange(1, kernel.shape[3] + 1, dtype=np.float32) / 4
    for op in ops:
        nodes.append(("conv2d", f"{op} c", ["x"], {"padding": "same", **options}, {"kernel": kernel}))
        nodes.append(("add", f"{op} s", [f"{op} c", "r"]))
        if op == "swish":  # an operator of the plan, and none of the model file
            nodes += [("sigmoid", "g", [f"{op} s"]), ("mul", f"{op} f", ["g", f"{op} s"])]
        else:
            nodes.append((op, f"{op} f", [f"{op} s"], ENDS[op], {"slope": slope} if op == "prelu" else {}))
        nodes.append(("clip", op, [f"{op} f"], {"low": low, "high": high}))
    return net({"x": shape, "r": (*shape[:2], kernel.shape[3])}, list(ops), *nodes)


def solve_ended(spec, inputs, order=ORDERS["ordered"], tile=SMALL_TILE, storage="float32"):
    """Outputs by name, of a net of convolutions alone: a launch for each, input and output."""
    model = GuardedGpuModel(spec, tile, storage=storage)
    got = model.run(inputs, order)
    assert model.launches == len(inputs) + 2 * len(spec.outputs)
    return got


def test_a_convolution_ends_in_every_function_of_one_number():
    assert set(ENDS) == OF_ONE


@launching
@tiles_to_try
def test_functions_behind_convolutions(tile):
    kernel = masked(numbers(7, "k", (3, 3, 3, 5), exact=False), np.random.default_rng(1).random((3, 3, 3, 5)) < 0.5)
    inputs = {name: numbers(8, name, (3, 2, 3, c), exact=False) for name, c in (("x", 3), ("r", 5))}
    spec = ended(kernel, (2, 3, 3))
    got = solve_ended(spec, inputs, ORDERS["reversed"], tile)
    for name, (value, bound) in evaluate_with_bounds(spec, inputs).items():
        assert_within(got[name], value, bound, np.float32)
        assert np.ptp(value) > 1 or "sigmoid" in name


@launching
@in_every_order
def test_functions_behind_depthwise_convolutions(order):
    inputs = {name: numbers(9, name, (2, 3, 2, 3), exact=False) for name in "xr"}
    spec = ended(numbers(10, "k", (3, 3, 1, 3), exact=False), (3, 2, 3), groups=3)
    got = solve_ended(spec, inputs, order)
    for name, (value, bound) in evaluate_with_bounds(spec, inputs).items():
        assert_within(got[name], value, bound, np.float32)


@launching
@pytest.mark.parametrize("groups", [1, 3])
@pytest.mark.parametrize("storage", ["float32", "float16"])
def test_functions_of_whole_numbers_behind_convolutions(storage, groups):
    inputs = {name: numbers(11, name, (2, 2, 2, 3)) for name in "xr"}
    exact = [op for op in ENDS if op not in ROUNDING | {"swish"}]
    spec = ended(small_kernel(3, (3, 3, 3 // groups, 3)), (2, 2, 3), exact, -4.0, 4.0, groups=groups)
    got, want = solve_ended(spec, inputs, storage=storage), definition(spec, inputs)
    for name in spec.outputs:
        assert_exact(got[name], want[name], np.float32)


@launching
@pytest.mark.parametrize("groups", [1, 2])
def test_nan_and_infinity_through_functions_behind_convolutions(groups):
    """A convolution that changes nothing; with two inputs of an output, infinity times the other's zero is NaN."""
    special = np.array([np.nan, np.inf, -np.inf, 0, 1, -5], np.float32)
    x = np.stack([special, np.arange(6, dtype=np.float32)], 1).reshape(1, 2, 3, 2)
    inputs = {"x": x, "r": np.zeros_like(x)}
    kernel = np.eye(2, dtype=np.float32) if groups == 1 else np.ones((1, 2), np.float32)
    spec = ended(kernel.reshape(1, 1, -1, 2), (2, 3, 2), high=1e9, groups=groups)
    with np.errstate(invalid="ignore", over="ignore"):
        got, want = solve_ended(spec, inputs), definition(spec, inputs)
    for name in spec.outputs:
        np.testing.assert_array_equal(np.isnan(got[name]), np.isnan(want[name]), name)
        ends = np.isinf(x) & ~np.isnan(want[name])
        assert_exact(got[name][ends], want[name][ends], np.float32)


@launching
@pytest.mark.parametrize("storage", ["float32", "float16"])
@few
@given(
    spec=models(exact=True, ops=OPS.keys() - ROUNDING, max_channels=5), batch=st.integers(1, 5), seed=st.integers(0, 9)
)
def test_whole_numbers_come_out_exactly(storage, spec, batch, seed):
    inputs = model_inputs(spec, batch, seed, exact=True)
    values = definition(spec, inputs)
    y = GuardedGpuModel(spec, storage=storage).run(inputs)
    got = y if isinstance(y, dict) else {spec.outputs[0]: y}
    if max(np.abs(value).max() for value in values.values()) < (2**11 if storage == "float16" else 2**20):
        for name in spec.outputs:
            assert_exact(got[name], values[name], np.float32)


@launching
@in_every_order
@pytest.mark.parametrize("version", GOLDEN_SPECS)
def test_the_golden_graphs(version, order):
    spec = validate(GOLDEN_SPECS[version]())
    inputs = model_inputs(spec, 2, 0)
    y = GuardedGpuModel(spec).run(inputs, order)
    got = y if isinstance(y, dict) else {spec.outputs[0]: y}
    for name, (value, bound) in evaluate_with_bounds(spec, inputs).items():
        assert_within(got[name], value, bound, np.float32)


@launching
def test_half_precision_rounds_what_is_stored_and_nothing_else():
    """Against the exact result for rounded numbers: float32's bound, and one rounding of the output."""
    kernel, x, bias = (numbers(3, name, shape, exact=False) for name, shape in HALF_SHAPES.items())
    kernel_16, x_16 = kernel.astype(np.float16), x.astype(np.float16)
    spec = conv_spec(kernel, x.shape[1:], bias, padding="same")
    got = GuardedGpuModel(spec, storage="float16").run(x)
    want = oracle.conv2d(x_16, kernel_16, bias, padding="same")
    magnitude = oracle.conv2d(np.abs(x_16), np.abs(kernel_16), np.abs(bias), padding="same")
    inner = sum_bound(magnitude, kernel[..., 0].size + 2, np.float32)
    smallest = float(np.finfo(np.float16).smallest_subnormal)
    assert_within(got, want, inner + unit_roundoff(np.float16) * (np.abs(want) + inner) + smallest, np.float32)


HALF_SHAPES = {"kernel": (3, 3, 4, 5), "x": (1, 4, 3, 4), "bias": (5,)}


# 2048 and ones, whose sum float16 does not reach number by number: above 2048 it counts by twos.
BIG_FIRST = np.array([2048, 1, 1, 1, 1, 1, 1, 1, 1], np.float32)
ADDED = {
    "dense": (
        net({"x": (9,)}, ["y"], ("dense", "y", ["x"], {}, {"kernel": np.ones((9, 1), np.float32)})),
        {"x": BIG_FIRST.reshape(1, 9)},
        2056,
    ),
    "conv": (
        conv_spec(np.ones((3, 3, 1, 1), np.float32), (3, 3, 1), padding="valid"),
        {"x": BIG_FIRST.reshape(1, 3, 3, 1)},
        2056,
    ),
    "depthwise": (
        conv_spec(np.ones((3, 3, 1, 2), np.float32), (3, 3, 2), padding="valid", groups=2),
        {"x": np.repeat(BIG_FIRST, 2).reshape(1, 3, 3, 2)},
        2056,
    ),
    "bias and activation": (
        conv_spec(np.ones((1, 1, 2, 1), np.float32), (1, 1, 2), np.float32([1])),
        {"x": np.float32([2048, 1]).reshape(1, 1, 1, 2)},
        2050,
    ),
    "mean": (
        net({"x": (2, 4, 1)}, ["y"], ("average_pool", "y", ["x"], {"size": (2, 4), "stride": (2, 4)})),
        {"x": np.float32([2048, 1, 1, 1, 1, 1, 1, 2]).reshape(1, 2, 4, 1)},
        257,
    ),
    "mean of all": (
        net({"x": (2, 4, 1)}, ["y"], ("global_average_pool", "y", ["x"])),
        {"x": np.float32([2048, 1, 1, 1, 1, 1, 1, 2]).reshape(1, 2, 4, 1)},
        257,
    ),
}


@launching
@pytest.mark.parametrize("case", ADDED)
def test_half_precision_adds_up_in_float32(case):
    spec, inputs, want = ADDED[case]
    total = np.float16(0)
    for number in inputs["x"].ravel()[:: 2 if case == "depthwise" else 1]:  # the same sum in float16
        total = np.float16(total + np.float16(number))
    assert total < 2056
    for tile in TINY if SIMULATED else TILES:
        got = GuardedGpuModel(spec, tile, storage="float16").run(inputs)
        assert_exact(got, np.full(got.shape, want, np.float32))


@launching
def test_softmax_of_half_precision_adds_up_in_float32():
    """The exact result for rounded logits, float32's bound, and one rounding of the output."""
    x = numbers(5, "x", (2, 300), exact=False)
    spec = net({"x": (300,)}, ["y"], ("softmax", "y", ["x"]))
    x_16 = x.astype(np.float16).astype(np.float32)
    want, inner = oracle.softmax(x_16), softmax_bound(x_16)
    smallest = float(np.finfo(np.float16).smallest_subnormal)
    bound = inner + unit_roundoff(np.float16) * (want + inner) + smallest
    assert_within(GuardedGpuModel(spec, storage="float16").run({"x": x}), want, bound, np.float32)


@launching
def test_missing_weights_keep_nan_and_infinity_out():
    """Of two input channels each is read by four outputs, which one tile makes."""
    kernel = np.repeat(np.array([[[[1, 0], [0, 2]]]], np.float32), 4, axis=3)
    spec = conv_spec(MaskedKernel.from_dense(kernel, kernel != 0, 1, 1), (1, 3, 2))
    x = np.array([[[[1, np.nan], [np.inf, 2], [3, 4]]]], np.float32)
    y = GuardedGpuModel(spec, Tile(4, 1, 1, 1 if SIMULATED else 32)).run(x)
    want = np.array([[[[1, np.nan], [np.inf, 4], [3, 8]]]], np.float32)
    np.testing.assert_array_equal(y, np.repeat(want, 4, axis=3))  # NaN of any bits


@launching
@pytest.mark.parametrize("op", ["max_pool", "relu"])
def test_nan_stays(op):
    attrs = {"size": (1, 2), "stride": (1, 1)} if op == "max_pool" else {}
    spec = net({"x": (1, 4, 1)}, ["y"], (op, "y", ["x"], attrs))
    x = np.array([np.nan, 1, 2, np.nan], np.float32).reshape(1, 1, 4, 1)
    want = [np.nan, 2, np.nan] if op == "max_pool" else [np.nan, 1, 2, np.nan]
    assert_identical(GuardedGpuModel(spec).run(x).ravel(), np.array(want, np.float32))


def test_every_kernel_is_registered_once_and_reached():
    names = [entry.name("float32") for entry in REGISTERED]
    assert len(set(names)) == len(names)
    assert {entry.kernel for entry in REGISTERED} == set(Kernel)
    plans = [build(make(), 2) for make in GOLDEN_SPECS.values()]
    used = {launch.entry.kernel for plan in plans for launch in plan.launches}
    assert used | set(FAMILIES.values()) | {Kernel.DEPTHWISE} == set(Kernel)
