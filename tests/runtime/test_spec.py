"""From graph to layers: what is fused, what must stay, and that whole graphs still compute what they say."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lhc_ref.evaluate import evaluate_with_bounds
from runtime.layer import Window
from runtime.layout import LAYOUTS
from runtime.spec import as_long_rows, to_layers
from tests import strategies
from tests.model_strategies import model_inputs, models
from tests.runtime.nets import GuardedModel, definition, masked, net
from tests.strategies import numbers
from tests.tolerances import assert_exact, assert_within

KERNEL = numbers(1, "kernel", (3, 3, 4, 4))
SHAPE = (5, 5, 4)


def conv(output, x, **attrs):
    return ("conv2d", output, [x], {"padding": "same"} | attrs, {"kernel": KERNEL})


def layers(outputs, *nodes, inputs=None):
    return to_layers(net(inputs or {"x": SHAPE}, outputs, *nodes))


def summary(found):
    """[(op, reads, makes)] of layers."""
    return [(layer.op, *(name for name in (layer.x, layer.other, layer.output) if name is not None)) for layer in found]


def test_an_activation_joins_what_makes_its_input():
    for node in (
        conv("a", "x"),
        ("add", "a", ["x", "x"]),
        ("max_pool", "a", ["x"], {"size": (2, 2), "stride": (2, 2)}),
        ("average_pool", "a", ["x"], {"size": (2, 2), "stride": (2, 2)}),
    ):
        (layer,) = layers(["y"], node, ("relu", "y", ["a"]))
        assert (layer.op, layer.output, layer.low, layer.high) == (node[0], "y", 0.0, np.inf)
        assert layer.nodes == ("node a", "node y")
        assert layer.name == "node a"


def test_an_activation_of_an_input_or_of_a_flattened_value_stays():
    assert summary(layers(["y"], ("relu", "y", ["x"]))) == [("activate", "x", "y")]
    found = layers(["y"], ("flatten", "f", ["x"]), ("relu", "y", ["f"]))
    assert summary(found) == [("flatten", "x", "f"), ("activate", "f", "y")]


def test_a_sum_joins_the_later_convolution_and_then_its_activation():
    for reads in (["a", "x"], ["x", "a"]):
        (layer,) = layers(["y"], conv("a", "x"), ("add", "s", reads), ("relu", "y", ["s"]))
        assert summary([layer]) == [("conv2d", "x", "x", "y")]
        assert layer.low == 0.0


def test_a_sum_of_two_convolutions_joins_the_second():
    for reads in (["a", "b"], ["b", "a"]):
        found = layers(["y"], conv("a", "x"), conv("b", "x"), ("add", "y", reads))
        assert summary(found) == [("conv2d", "x", "a"), ("conv2d", "x", "a", "y")]


def test_a_sum_with_what_is_made_later_is_not_moved_before_it():
    pool = ("max_pool", "m", ["x"], {"size": (1, 1), "stride": (1, 1)})
    found = layers(["y"], conv("a", "x"), pool, ("add", "y", ["a", "m"]))
    assert summary(found) == [("conv2d", "x", "a"), ("max_pool", "x", "m"), ("add", "a", "m", "y")]


def test_a_sum_with_itself_and_a_second_sum_stay():
    assert [layer.op for layer in layers(["y"], conv("a", "x"), ("add", "y", ["a", "a"]))] == ["conv2d", "add"]
    found = layers(["y"], conv("a", "x"), ("add", "s", ["a", "x"]), ("add", "y", ["s", "x"]))
    assert summary(found) == [("conv2d", "x", "x", "s"), ("add", "s", "x", "y")]


def test_a_sum_after_an_activation_stays():
    found = layers(["y"], conv("a", "x"), ("relu", "b", ["a"]), ("add", "y", ["b", "x"]))
    assert summary(found) == [("conv2d", "x", "b"), ("add", "b", "x", "y")]


@pytest.mark.parametrize("outputs", [["a", "y"], ["y", "a"]])
def test_an_output_stays_visible(outputs):
    found = layers(outputs, conv("a", "x"), ("relu", "y", ["a"]))
    assert summary(found) == [("conv2d", "x", "a"), ("activate", "a", "y")]


def test_a_value_read_twice_is_not_fused_away():
    found = layers(["y", "z"], conv("a", "x"), ("relu", "y", ["a"]), conv("z", "a"))
    assert [layer.output for layer in found] == ["a", "y", "z"]


ENDS = {
    "leaky_relu": ({"slope": 0.125}, {}),
    "prelu": ({}, {"slope": numbers(6, "slope", (4,))}),
    "sigmoid": ({}, {}),
    "hard_sigmoid": ({"alpha": 0.25, "beta": 0.5}, {}),
    "hard_swish": ({}, {}),
    "tanh": ({}, {}),
}


@pytest.mark.parametrize("op", ENDS)
def test_a_function_joins_the_convolution_whose_numbers_it_takes(op):
    attrs, tensors = ENDS[op]
    (layer,) = layers(["y"], conv("a", "x"), (op, "f", ["a"], attrs, tensors), ("relu", "y", ["f"]))
    assert (layer.op, layer.function, layer.output) == ("conv2d", op, "y")
    assert layer.nodes == ("node a", "node f", "node y")
    assert (layer.low, layer.high) == (0.0, np.inf)
    assert layer.alpha == attrs.get("alpha", attrs.get("slope", 0.0))
    assert layer.beta == attrs.get("beta", 0.0)
    assert [vector.tolist() for vector in layer.vectors] == [value.tolist() for value in tensors.values()]


def test_a_function_follows_the_sum_that_joined_before():
    (layer,) = layers(["y"], conv("a", "x"), ("add", "s", ["a", "x"]), ("tanh", "y", ["s"]))
    assert (layer.op, layer.other, layer.function) == ("conv2d", "x", "tanh")


def test_no_sum_joins_after_a_function():
    found = layers(["y"], conv("a", "x"), ("sigmoid", "b", ["a"]), ("add", "y", ["b", "x"]))
    assert summary(found) == [("conv2d", "x", "b"), ("add", "b", "x", "y")]


def test_a_function_of_what_is_limited_or_of_a_function_stays():
    found = layers(["y"], conv("a", "x"), ("relu", "b", ["a"]), ("sigmoid", "y", ["b"]))
    assert summary(found) == [("conv2d", "x", "b"), ("sigmoid", "b", "y")]
    found = layers(["y"], conv("a", "x"), ("tanh", "b", ["a"]), ("sigmoid", "y", ["b"]))
    assert summary(found) == [("conv2d", "x", "b"), ("sigmoid", "b", "y")]


def test_a_function_of_what_others_read_or_of_another_layer_stays():
    found = layers(["y", "z"], conv("a", "x"), ("tanh", "y", ["a"]), conv("z", "a"))
    assert [layer.output for layer in found] == ["a", "y", "z"]
    assert summary(layers(["y"], ("add", "a", ["x", "x"]), ("tanh", "y", ["a"]))) == [
        ("add", "x", "x", "a"),
        ("tanh", "a", "y"),
    ]


@pytest.mark.parametrize("reads", [["a", "s"], ["s", "a"]])
def test_a_product_with_the_own_sigmoid_is_a_swish(reads):
    (layer,) = layers(["y"], conv("a", "x"), ("sigmoid", "s", ["a"]), ("mul", "y", reads))
    assert (layer.op, layer.function, layer.nodes) == ("conv2d", "swish", ("node a", "node s", "node y"))
    (layer,) = layers(
        ["y"], ("sigmoid", "s", ["x"]), ("mul", "p", [*("x" if r == "a" else r for r in reads)]), ("relu", "y", ["p"])
    )
    assert (layer.op, layer.x, layer.other, layer.output, layer.low) == ("swish", "x", None, "y", 0.0)


def test_a_product_with_the_own_hard_sigmoid_is_a_hard_swish_if_its_line_is():
    sixth = float(np.float32(1 / 6))
    for alpha, beta, found in ((sixth, 0.5, ["hard_swish"]), (0.2, 0.5, ["hard_sigmoid", "mul"])):
        line = ("hard_sigmoid", "s", ["x"], {"alpha": alpha, "beta": beta})
        assert [layer.op for layer in layers(["y"], line, ("mul", "y", ["x", "s"]))] == found


def test_other_products_with_a_sigmoid_stay():
    sigmoid = ("sigmoid", "s", ["x"])
    assert [layer.op for layer in layers(["y"], sigmoid, ("mul", "y", ["s", "s"]))] == ["sigmoid", "mul"]
    assert [layer.op for layer in layers(["y", "s"], sigmoid, ("mul", "y", ["x", "s"]))] == ["sigmoid", "mul"]
    limited = ("clip", "t", ["s"], {"low": 0.25, "high": 0.5})
    assert [layer.op for layer in layers(["y"], sigmoid, limited, ("mul", "y", ["x", "t"]))] == ["sigmoid", "mul"]
    found = layers(["y"], sigmoid, ("mul", "y", ["z", "s"]), inputs={"x": SHAPE, "z": SHAPE})
    assert [layer.op for layer in found] == ["sigmoid", "mul"]
    tanh = ("tanh", "s", ["x"])
    assert [layer.op for layer in layers(["y"], tanh, ("mul", "y", ["x", "s"]))] == ["tanh", "mul"]


@pytest.mark.parametrize("name", ["swish", "hard_swish"])
def test_a_swish_computes_what_its_nodes_say(name):
    first = ("sigmoid", "s", ["a"]) if name == "swish" else ("hard_sigmoid", "s", ["a"], {"alpha": 1 / 6, "beta": 0.5})
    spec = net({"x": SHAPE}, ["y"], conv("a", "x"), first, ("mul", "y", ["a", "s"]))
    given_ = {"x": numbers(3, "x", (5, *SHAPE), exact=False) * np.float32(20)}
    for layout in LAYOUTS:
        model = GuardedModel(spec, layout)
        ((_, (want, bound)),) = evaluate_with_bounds(spec, given_, winograd=model.transformed(5)).items()
        assert_within(model.run(given_), want, bound, np.float32)


def dense(output, x, features, units):
    return ("dense", output, [x], {}, {"kernel": numbers(2, output, (features, units))})


def test_flatten_joins_a_dense_layer():
    (layer,) = layers(["y"], ("flatten", "f", ["x"]), dense("d", "f", 100, 7), ("relu", "y", ["d"]))
    assert summary([layer]) == [("conv2d", "x", "y")]
    assert (layer.shape, layer.out_shape, layer.window) == (SHAPE, (1, 1, 7), Window((5, 5)))
    assert_exact(layer.kernel, numbers(2, "d", (100, 7)).reshape(5, 5, 4, 7))


def test_flatten_that_is_only_added_to_a_dense_layer_does_not_become_its_input():
    nodes = [("flatten", "f", ["x"]), dense("d", "r", 4, 4), ("add", "y", ["d", "f"])]
    inputs = {"x": (2, 2, 1), "r": (4,)}
    assert summary(layers(["y"], *nodes, inputs=inputs)) == [("flatten", "x", "f"), ("conv2d", "r", "f", "y")]
    spec, given_ = net(inputs, ["y"], *nodes), {"x": numbers(3, "x", (2, 2, 2, 1)), "r": numbers(4, "r", (2, 4))}
    for layout in LAYOUTS:
        assert_exact(GuardedModel(spec, layout).run(given_), definition(spec, given_)["y"], np.float32)


def test_a_strided_pointwise_convolution_picks_its_pixels_first():
    node = ("conv2d", "y", ["x"], {"stride": (2, 2)}, {"kernel": numbers(5, "k", (1, 1, 4, 6))})
    pick, layer = layers(["y"], node)
    assert (pick.op, pick.x, pick.out_shape, layer.x, layer.shape) == (
        "max_pool",
        "x",
        (3, 3, 4),
        pick.output,
        (3, 3, 4),
    )


def test_no_value_of_a_file_can_take_the_name_of_a_value_of_ours():
    node = ("conv2d", "y", ["x"], {"stride": (2, 2)}, {"kernel": numbers(5, "k", (1, 1, 4, 6))})
    pick, _ = layers(["y"], node)
    assert not pick.output.isprintable()


def test_a_mask_that_keeps_everything_is_no_mask():
    full, part = (masked(KERNEL, np.full(KERNEL.shape, True) & (np.arange(4) < limit)) for limit in (4, 3))
    for kernel, want in ((full, False), (part, True)):
        (layer,) = to_layers(net({"x": SHAPE}, ["y"], ("conv2d", "y", ["x"], {}, {"kernel": kernel})))
        assert (layer.mask is not None) == want


@given(strategies.conv_cases())
def test_padding_is_the_definitions(case):
    attrs = case.options
    (layer, *_) = reversed(
        layers(["y"], ("conv2d", "y", ["x"], attrs, {"kernel": case.kernel()}), inputs={"x": case.x().shape[1:]})
    )
    assert layer.out_shape == (*case.output_hw, case.c_out)


@given(st.integers(1, 40), st.integers(1, 40))
def test_long_rows_hold_the_same_pixels(h, w):
    node = ("conv2d", "y", ["x"], {}, {"kernel": numbers(5, "k", (1, 1, 4, 6))})
    (layer,) = layers(["y"], node, inputs={"x": (h, w, 4)})
    work = as_long_rows(layer)
    assert work.shape[0] * work.shape[1] == h * w == work.out_shape[0] * work.out_shape[1]
    assert work.shape[1] >= w


@given(models(), st.sampled_from(LAYOUTS), st.booleans(), st.integers(1, 3), st.integers(0, 99))
def test_graphs_compute_what_they_say(spec, layout, small_tasks, threads, seed):
    inputs = model_inputs(spec, 3, seed)
    model = GuardedModel(spec, layout, small_tasks=small_tasks)
    got = model.run(inputs, threads=threads)
    for name, (value, bound) in evaluate_with_bounds(spec, inputs, winograd=model.transformed(3)).items():
        assert_within(got[name] if isinstance(got, dict) else got, value, bound, np.float32)
