"""Where values lie: an output takes the place of what nobody needs any more, and of nothing else."""

import numpy as np
import pytest

from lhc_ref.evaluate import evaluate_with_bounds
from runtime import select
from runtime.kernels.step import Kernel
from runtime.layout import IMAGES, LAYOUTS
from runtime.places import lifetimes, places, replaceable
from runtime.plan import draft
from runtime.spec import to_layers
from tests.runtime.nets import GuardedModel, masked, net
from tests.strategies import numbers
from tests.tolerances import assert_within

SHAPE = (5, 5, 32)
KERNEL = numbers(1, "kernel", (3, 3, 32, 32))
SAME = {"padding": "same"}


def conv(output, x, kernel=KERNEL):
    return ("conv2d", output, [x], SAME, {"kernel": kernel})


def offsets_of(outputs, *nodes, layout=IMAGES):
    spec = net({"x": SHAPE}, outputs, *nodes)
    made = draft(spec, layout)
    sizes = {name: layout.size(SHAPE) for name in lifetimes(spec, made.layers)}
    return places(spec, made.layers, made.choices, sizes)


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.name)
def test_a_sum_takes_the_place_of_the_residual(layout):
    offsets, size = offsets_of(["y"], conv("a", "x"), conv("b", "a"), ("add", "y", ["b", "x"]), layout=layout)
    assert offsets["y"] == offsets["x"] != offsets["a"]
    assert 2 * layout.size(SHAPE) <= size < 3 * layout.size(SHAPE)


def test_a_chain_of_sums_stays_in_one_place():
    nodes = [("relu", "r", ["x"])]
    for i in range(3):
        before = "r" if i == 0 else f"s{i - 1}"
        nodes += [conv(f"a{i}", before), conv(f"b{i}", f"a{i}"), ("add", f"s{i}", [f"b{i}", before])]
    offsets, size = offsets_of(["s2"], *nodes)
    assert len({offsets[name] for name in ("x", "r", "s0", "s1", "s2")}) == 1
    assert 2 * IMAGES.size(SHAPE) <= size < 3 * IMAGES.size(SHAPE)


def test_a_residual_that_others_read_later_keeps_its_place():
    for outputs, more in ((["y"], [conv("z", "s"), ("add", "y", ["z", "x"])]), (["s", "x2"], [("relu", "x2", ["x"])])):
        offsets, _ = offsets_of(outputs, conv("a", "x"), conv("b", "a"), ("add", "s", ["b", "x"]), *more)
        assert offsets["s"] != offsets["x"]


def test_a_residual_that_the_convolution_reads_too_keeps_its_place():
    offsets, _ = offsets_of(["y"], conv("a", "x"), ("add", "y", ["a", "x"]))
    assert offsets["y"] != offsets["x"]


def test_a_residual_keeps_its_place_beside_sums_that_wait():
    mask = np.random.default_rng(0).random(KERNEL.shape) < 0.1
    spec = net({"x": SHAPE}, ["y"], conv("a", "x"), conv("b", "a", masked(KERNEL, mask)), ("add", "y", ["b", "x"]))
    layer = to_layers(spec)[-1]
    choices = {c.entry.kernel: select.Choice(c, "", ()) for c in select.choose(layer, IMAGES).candidates}
    assert replaceable(layer, choices[Kernel.CONV_SCATTERED]) == []
    assert replaceable(layer, choices[Kernel.CONV_IMAGES]) == ["x"]


def test_activations_functions_and_sums_stay_where_they_are():
    for node in (("sigmoid", "y", ["a"]), ("add", "y", ["a", "x"]), ("mul", "y", ["a", "a"])):
        offsets, _ = offsets_of(["y"], ("max_pool", "a", ["x"], {"size": (3, 3), "stride": (1, 1), **SAME}), node)
        assert offsets["y"] == offsets["a"]


def test_an_output_is_never_overwritten():
    offsets, _ = offsets_of(["a", "y"], ("sigmoid", "a", ["x"]), ("tanh", "y", ["a"]))
    assert offsets["a"] != offsets["y"]


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.name)
def test_sums_in_one_place_are_right(layout):
    nodes = [("relu", "r", ["x"])]
    for i in range(3):
        before = "r" if i == 0 else f"s{i - 1}"
        nodes += [conv(f"a{i}", before), conv(f"b{i}", f"a{i}"), ("add", f"s{i}", [f"b{i}", before])]
    spec, x = net({"x": SHAPE}, ["s2"], *nodes), numbers(2, "x", (2, *SHAPE))
    for small_tasks in (False, True):
        model = GuardedModel(spec, layout, small_tasks=small_tasks)
        ((want, bound),) = evaluate_with_bounds(spec, {"x": x}, winograd=model.transformed(2)).values()
        got = model.run(x, threads=3)
        assert_within(got, want, bound, np.float32)
