"""Small graphs whose fusing, order or splitting into tasks could go wrong where random graphs seldom look."""

import numpy as np
import pytest
from hypothesis import given

from runtime import pack
from runtime.layout import BLOCK, CHANNELS, LAYOUTS
from runtime.model import Model
from runtime.spec import to_layer
from tests import oracle, strategies
from tests.runtime.nets import GuardedModel, definition, net
from tests.strategies import numbers
from tests.tolerances import assert_exact, assert_within, softmax_bound

KERNELS = [numbers(seed, "kernel", (3, 3, 4, 4)) for seed in range(3)]


def conv(output, x, which=0):
    return ("conv2d", output, [x], {"padding": "same"}, {"kernel": KERNELS[which]})


GRAPHS = {
    "a sum after the activation": [conv("a", "x"), ("relu", "b", ["a"]), ("add", "y", ["b", "x"])],
    "an activation, a sum, an activation": [
        conv("a", "x"), ("relu", "b", ["a"]), ("add", "c", ["b", "x"]), ("relu", "y", ["c"]),
    ],
    "two sums": [conv("a", "x"), ("add", "b", ["a", "x"]), ("add", "y", ["b", "x"])],
    "a sum with what is made later": [conv("a", "x"), conv("b", "x", 1), ("add", "y", ["a", "b"])],
    "a sum of later and earlier": [conv("a", "x"), conv("b", "x", 1), ("add", "y", ["b", "a"])],
    "a sum with itself": [conv("a", "x"), ("add", "y", ["a", "a"])],
    "a value read again after a fused sum": [
        conv("a", "x"), conv("b", "a", 1), ("add", "c", ["b", "a"]), conv("d", "c", 2), ("add", "y", ["d", "a"]),
    ],
    "a chain longer than its buffers": [conv(f"v{i}", f"v{i - 1}" if i else "x", i % 3) for i in range(3)]
    + [("add", "y", ["v2", "v0"])],
    "a negative sum through an activation": [conv("a", "x"), ("add", "b", ["x", "a"]), ("relu", "y", ["b"])],
    "pools and activations": [
        conv("a", "x"),
        ("max_pool", "b", ["a"], {"size": (2, 2), "stride": (1, 2), "padding": "same"}),
        ("relu", "c", ["b"]),
        ("flatten", "y", ["c"]),
    ],
}  # fmt: skip


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.name)
@pytest.mark.parametrize(("threads", "small_tasks"), [(1, False), (2, True)], ids=["alone", "together"])
@pytest.mark.parametrize("name", GRAPHS)
def test_small_graphs_are_exact(name, threads, small_tasks, layout):
    """Kernels and images hold integers, and no sum here leaves those that float32 holds.

    Three groups of images: one thread takes each through all layers, two share the tasks of each layer.
    """
    nodes = GRAPHS[name]
    x = numbers(7, "x", (2 * layout.lanes + 1, 3, 4, 4))
    x[::2] -= 2  # so that sums are negative where activations must come after them
    spec = net({"x": x.shape[1:]}, ["y"], *nodes)
    want = definition(spec, {"x": x})
    assert max(np.abs(value).max() for value in want.values()) < 2**24
    assert_exact(
        GuardedModel(spec, layout, small_tasks=small_tasks).run(x, threads=threads), want["y"], dtype=np.float32
    )


def test_what_lies_between_can_be_an_output_too():
    x = numbers(8, "x", (3, 3, 4, 4))
    spec = net({"x": x.shape[1:]}, ["a", "y"], conv("a", "x"), ("relu", "b", ["a"]), ("add", "y", ["b", "a"]))
    want, got = definition(spec, {"x": x}), Model(spec).run(x)
    for name in ("a", "y"):
        assert_exact(got[name], want[name], dtype=np.float32)


@given(strategies.conv_cases())
def test_a_window_begins_where_the_definition_says(case):
    node = net({"x": case.x().shape[1:]}, ["y"], ("conv2d", "y", ["x"], case.options, {"kernel": case.kernel()})).nodes[
        0
    ]
    layer = to_layer(node, case.x().shape[1:], (*case.output_hw, case.c_out), [])
    padding = oracle.resolve_padding(case.padding, case.size_hw, case.kernel_hw, case.stride, case.dilation)
    assert (layer.window.pad_top, layer.window.pad_left) == tuple(before for before, _ in padding)


@pytest.mark.parametrize("groups", [1, 4], ids=["rows", "depthwise"])
def test_packing_proves_its_ranges(groups, monkeypatch):
    """Offsets one image too far are noticed before any kernel runs."""
    kernel = numbers(7, "kernel", (3, 3, 4 // groups, 4))
    spec = net({"x": (3, 4, 4)}, ["y"], ("conv2d", "y", ["x"], {"groups": groups}, {"kernel": kernel}))
    offsets = pack.row_offsets
    monkeypatch.setattr(pack, "row_offsets", lambda layer, layout: offsets(layer, layout) + layout.size(layer.shape))
    with pytest.raises(pack.PlanError, match="expected reads within"):
        GuardedModel(spec, CHANNELS).run(numbers(7, "x", (1, 3, 4, 4)))


WITH_NAN = {
    "activation": [("relu", "y", ["x"])],
    "convolution and activation": [
        ("conv2d", "a", ["x"], {"padding": "same"}, {"kernel": np.ones((2, 2, 4, 4), np.float32)}),
        ("relu", "y", ["a"]),
    ],
    "sum and activation": [("add", "a", ["x", "x"]), ("relu", "y", ["a"])],
    "largest of a window": [("max_pool", "y", ["x"], {"size": (2, 2), "stride": (1, 1), "padding": "same"})],
    "mean of a window": [("average_pool", "y", ["x"], {"size": (2, 2), "stride": (1, 1), "padding": "same"})],
    "softmax": [("softmax", "y", ["x"])],
}


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.name)
@pytest.mark.parametrize("at", [(0, 0, 0, 0), (1, 1, 1, 3), (1, 2, 3, 1)])
@pytest.mark.parametrize("name", WITH_NAN)
def test_nan_comes_out_where_the_definition_has_it(name, at, layout):
    """Neither a maximum nor an activation may lose it, and no neighbour may catch it; the rest is the definition's."""
    x = numbers(9, "x", (2, 3, 4, 4))
    x[at] = np.nan
    spec = net({"x": x.shape[1:]}, ["y"], *WITH_NAN[name])
    want = definition(spec, {"x": x})["y"]
    with np.errstate(invalid="ignore"):
        got = GuardedModel(spec, layout).run(x)
    assert_exact(np.isnan(got), np.isnan(want))
    assert np.isnan(want).any()
    bound = softmax_bound(np.nan_to_num(x)) if name == "softmax" else 0.0
    assert_within(np.nan_to_num(got, nan=-1), np.nan_to_num(want, nan=-1), bound, dtype=np.float32)


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.name)
@pytest.mark.parametrize("op", ["softmax", "relu", "flatten", "global_average_pool", "max_pool"])
def test_more_channels_than_a_block_holds(op, layout):
    x = numbers(10, "x", (2, 2, 2, 2 * BLOCK + 3))
    attrs = {"size": (2, 1), "stride": (1, 1)} if op == "max_pool" else {}
    spec = net({"x": x.shape[1:]}, ["y"], (op, "y", ["x"], attrs))
    want = definition(spec, {"x": x})["y"]
    bound = softmax_bound(x) if op == "softmax" else 0.0  # means of four small integers are exact
    assert_within(GuardedModel(spec, layout).run(x), want, bound, dtype=np.float32)
