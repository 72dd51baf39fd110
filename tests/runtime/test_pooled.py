"""Convolutions that pool: what is folded in, what must stay, and the numbers, at every size, edge and tile."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lhc_ref.evaluate import evaluate_with_bounds
from lhc_ref.modelfile import MaskedKernel
from runtime import select
from runtime.kernels.registry import REGISTRY
from runtime.kernels.step import Kernel
from runtime.kernels.vector import COMPILED, LANES
from runtime.layout import CHANNELS, LAYOUTS
from runtime.spec import to_layers
from tests.runtime.nets import GuardedModel, definition, net
from tests.strategies import numbers, seeds
from tests.tolerances import assert_exact, assert_identical, assert_within

POOLING = (Kernel.CONV_IMAGES, Kernel.CONV_CHANNELS, Kernel.CONV_WINOGRAD, Kernel.CONV_PIXELS, Kernel.DEPTHWISE)
TILED = [
    (entry.name, layout)
    for entry in REGISTRY.values()
    for layout in LAYOUTS
    if entry.kernel in POOLING and layout.name in entry.layouts
]
every_tile = pytest.mark.parametrize(("name", "layout"), TILED)


def pooled_spec(kernel, shape, size, bias=None, relu=True, **options):
    """x -> conv2d (-> relu) -> max_pool with windows side by side -> y."""
    tensors = {"kernel": kernel} | ({} if bias is None else {"bias": bias})
    between = "b" if relu else "a"
    return net(
        {"x": shape},
        ["y"],
        ("conv2d", "a", ["x"], {"padding": "same", **options}, tensors),
        *([("relu", "b", ["a"])] if relu else []),
        ("max_pool", "y", [between], {"size": size, "stride": size, "padding": "valid"}),
    )


def shared(kernel, seed, density, group=8):
    """A stored kernel whose output channels share patterns, a group at a time."""
    kh, kw, c_in, c_out = kernel.shape
    mask = np.random.default_rng(seed).random((kh, kw, c_in, -(-c_out // group))) < density
    return MaskedKernel.from_dense(kernel, mask, 1, group)


@st.composite
def pooled(draw, kind, exact):
    """A spec and its input: windows of one to three pixels over images with odd rests, strides, dilation, padding, as
    far as a kind of kernel runs them.
    """
    depthwise = kind == Kernel.DEPTHWISE
    size = draw(st.sampled_from([(2, 2), (3, 2), (1, 2), (2, 1), (3, 3), (1, 1)]))
    stride = draw(st.sampled_from([(1, 1), (2, 1), (1, 2)]))
    dilation = (1, 1) if stride != (1, 1) else draw(st.sampled_from([(1, 1), (2, 1), (1, 3)]))
    kernel_hw = draw(st.sampled_from([(3, 3), (1, 1), (2, 3), (1, 5)]))
    if kind == Kernel.CONV_WINOGRAD:
        size, stride, dilation, kernel_hw = draw(st.sampled_from([(2, 2), (1, 1)])), (1, 1), (1, 1), (3, 3)
    hw = tuple(
        stride[i] * size[i] * draw(st.integers(1, 4 if i else 2)) + draw(st.integers(0, size[i] - 1)) for i in (0, 1)
    )
    if kind == Kernel.CONV_WINOGRAD:
        hw = hw if hw != (1, 1) else (2, 2)  # one pixel alone is not the transform's
    c_in, c_out = (
        draw(st.integers(1, 5)),
        draw(st.sampled_from([2 if depthwise else 1, 8, 33, *([64] if COMPILED else [])])),
    )
    seed = draw(seeds)
    kernel = numbers(seed, "kernel", (*kernel_hw, 1 if depthwise else c_in, c_out), exact=exact)
    if depthwise:
        stored, c_in, options = kernel, c_out, {"groups": c_out}
    else:
        stored, options = shared(kernel, seed, draw(st.sampled_from([0.1, 0.5, 1.0]))), {}
    bias = numbers(seed, "bias", (c_out,), exact=exact) if draw(st.booleans()) else None
    spec = pooled_spec(
        stored, (*hw, c_in), size, bias, draw(st.booleans()), stride=stride, dilation=dilation, **options
    )
    return spec, numbers(seed, "x", (draw(st.integers(1, 3)), *hw, c_in), exact=exact)


@every_tile
@given(data=st.data())
def test_every_tile_pools_exactly_on_integers(name, layout, data):
    entry = REGISTRY[name]
    spec, x = data.draw(pooled(entry.kernel, True))
    model = GuardedModel(spec, layout, entry, data.draw(st.booleans()))
    got = model.run(x)
    last = model.plan(layout).facts[-1]
    assert (last.op, last.layer.split("+")[-1]) == ("conv2d", "node y")
    whole = entry.kernel == Kernel.CONV_PIXELS and last.density == 1.0  # it is no candidate where no weight is missing
    assert whole or last.kernel == entry.name or not layout.fits(last.out_shape[2], select.tile_channels(entry))
    assert_exact(got, definition(spec, {"x": x})["y"], np.float32)


@every_tile
@given(data=st.data())
def test_every_tile_pools_within_the_bound_on_real_numbers(name, layout, data):
    entry = REGISTRY[name]
    spec, x = data.draw(pooled(entry.kernel, False))
    model = GuardedModel(spec, layout, entry)
    want, bound = evaluate_with_bounds(spec, {"x": x}, winograd=model.transformed(len(x)))["y"]
    assert_within(model.run(x), want, bound, np.float32)


WHOLE = [entry.name for entry in REGISTRY.values() if entry.kernel == Kernel.CONV_WHOLE]


@pytest.mark.parametrize("name", WHOLE)
@pytest.mark.parametrize("size", [(2, 2), (1, 2), (2, 1)])
@pytest.mark.parametrize("bands", [1, 3])
@pytest.mark.parametrize("relu", [False, True])
def test_whole_lines_pool_exactly_on_integers(name, size, bands, relu):
    entry, c_out = REGISTRY[name], 2 * LANES + 3
    shape = (bands * entry.tile.rows, entry.tile.pixels[0], 5)
    kernel = shared(numbers(bands, "kernel", (3, 3, 5, c_out)), bands, 0.5)
    spec = pooled_spec(kernel, shape, size, numbers(bands, "bias", (c_out,)), relu)
    model, x = GuardedModel(spec, CHANNELS, entry), numbers(bands, "x", (2, *shape))
    assert_exact(model.run(x), definition(spec, {"x": x})["y"], np.float32)
    assert [facts.kernel for facts in model.plan(CHANNELS).facts] == [name]


KERNEL = numbers(1, "kernel", (3, 3, 4, 16))


def folded(spec):
    return [layer.op for layer in to_layers(spec)] == ["conv2d"]


def test_windows_side_by_side_are_folded_in():
    (layer,) = to_layers(pooled_spec(KERNEL, (7, 9, 4), (2, 2)))
    assert layer.nodes == ("node a", "node b", "node y")
    assert (layer.out_shape, layer.conv_shape, layer.unpooled) == ((3, 4, 16), (6, 8, 16), (7, 9, 16))
    assert layer.low == 0.0


def test_what_follows_pooling_is_folded_in_too():
    spec = pooled_spec(KERNEL, (6, 6, 4), (2, 2), relu=False)
    spec = net(
        {"x": (6, 6, 4)},
        ["z"],
        *((node.op, node.output, node.inputs, node.attrs, node.tensors) for node in spec.nodes),
        ("relu", "z", ["y"]),
    )
    (layer,) = to_layers(spec)
    assert (layer.output, layer.low) == ("z", 0.0)


def with_function(op, attrs, pool_first):
    """x -> conv2d -> function -> max_pool, or these two in turn."""
    size = {"size": (2, 2), "stride": (2, 2), "padding": "valid"}
    pool, function = ("max_pool", size), (op, attrs)
    nodes = [pool, function] if pool_first else [function, pool]
    return net(
        {"x": (6, 6, 4)},
        ["y"],
        ("conv2d", "a", ["x"], {"padding": "same"}, {"kernel": KERNEL}),
        *((kind, name, [read], given) for (kind, given), name, read in zip(nodes, "by", "ab", strict=True)),
    )


FALLING = [("leaky_relu", {"slope": -0.5}), ("hard_sigmoid", {"alpha": -0.5, "beta": 0.5})]
RISING = [("leaky_relu", {"slope": 0.5}), ("hard_sigmoid", {"alpha": 0.5, "beta": 0.5})]
CURVED = [("sigmoid", {}), ("tanh", {}), ("hard_swish", {})]


@pytest.mark.parametrize(("op", "attrs"), [*FALLING, *RISING, *CURVED])
def test_a_function_after_pooling_is_folded_in_and_one_before_if_it_rises_to_the_last_bit(op, attrs):
    for pool_first in (False, True):
        spec = with_function(op, attrs, pool_first)
        assert folded(spec) == (pool_first or (op, attrs) in RISING)
        x = numbers(2, "x", (3, 6, 6, 4), exact=False)
        for layout in LAYOUTS:
            model = GuardedModel(spec, layout)
            want, bound = evaluate_with_bounds(spec, {"x": x}, winograd=model.transformed(3))["y"]
            assert_within(model.run(x), want, bound, np.float32)


def test_a_slope_of_zero_stays_before_pooling_for_it_makes_nan_of_infinity():
    spec = net(
        {"x": (2, 4, 1)},
        ["y"],
        ("conv2d", "a", ["x"], {}, {"kernel": np.ones((1, 1, 1, 16), np.float32)}),
        ("leaky_relu", "b", ["a"], {"slope": 0.0}),
        ("max_pool", "y", ["b"], {"size": (2, 2), "stride": (2, 2), "padding": "valid"}),
    )
    x = np.array([[-np.inf, 1, 2, 1], [1, 1, 1, 1]], np.float32).reshape(1, 2, 4, 1)
    for layout in LAYOUTS:
        with np.errstate(invalid="ignore"):
            got = GuardedModel(spec, layout).run(x)
        assert np.isnan(got[0, 0, 0]).all()
        assert_identical(got[0, 0, 1], np.full(16, 2, np.float32))


@pytest.mark.parametrize(
    "window",
    [
        {"size": (2, 2), "stride": (1, 1), "padding": "valid"},
        {"size": (3, 3), "stride": (2, 2), "padding": "valid"},
        {"size": (3, 3), "stride": (3, 3), "padding": "same"},
        {"size": (2, 2), "stride": (3, 3), "padding": "valid"},
        {"size": (2, 2), "stride": (2, 2), "padding": ((1, 0), (1, 0))},
        {"size": (2, 2), "stride": (2, 2), "padding": "same"},
        {"size": (1, 2), "stride": (1, 2), "padding": ((0, 0), (0, 1))},
    ],
    ids=["overlapping", "three by two", "padded on both sides", "with gaps", "padded", "padded at the end", "one axis"],
)
def test_other_windows_stay(window):
    spec = net(
        {"x": (7, 7, 4)},
        ["y"],
        ("conv2d", "a", ["x"], {"padding": "same"}, {"kernel": KERNEL}),
        ("max_pool", "y", ["a"], window),
    )
    assert not folded(spec)
    x = numbers(2, "x", (2, 7, 7, 4))
    for layout in LAYOUTS:
        model = GuardedModel(spec, layout)
        want, bound = evaluate_with_bounds(spec, {"x": x}, winograd=model.transformed(2))["y"]
        assert_within(model.run(x), want, bound, np.float32)


def test_windows_that_begin_in_the_padding_stay_though_as_many_would_fit_inside():
    window = {"size": (2, 2), "stride": (2, 2), "padding": ((1, 0), (1, 0))}
    nodes = [("conv2d", "a", ["x"], {"padding": "same"}, {"kernel": KERNEL}), ("max_pool", "y", ["a"], window)]
    spec, x = net({"x": (6, 6, 4)}, ["y"], *nodes), numbers(3, "x", (2, 6, 6, 4))
    assert [layer.out_shape for layer in to_layers(spec)] == [(6, 6, 16), (3, 3, 16)]
    for layout in LAYOUTS:
        assert_exact(GuardedModel(spec, layout).run(x), definition(spec, {"x": x})["y"], np.float32)


def test_what_others_read_or_what_a_sum_joined_stays():
    conv = ("conv2d", "a", ["x"], {"padding": "same"}, {"kernel": numbers(1, "kernel", (3, 3, 4, 4))})
    pool = {"size": (2, 2), "stride": (2, 2), "padding": "valid"}
    seen = net({"x": (6, 6, 4)}, ["a", "y"], conv, ("max_pool", "y", ["a"], pool))
    summed = net({"x": (6, 6, 4)}, ["y"], conv, ("add", "s", ["a", "x"]), ("max_pool", "y", ["s"], pool))
    for spec in (seen, summed):
        assert [layer.op for layer in to_layers(spec)] == ["conv2d", "max_pool"]


def test_a_sum_behind_pooling_stays_for_its_other_may_lie_where_the_largest_wait():
    pool = {"size": (2, 2), "stride": (2, 2), "padding": "valid"}
    spec = net(
        {"x": (8, 8, 4), "r": (4, 4, 16)},
        ["y"],
        ("conv2d", "a", ["x"], {"padding": "same"}, {"kernel": KERNEL}),
        ("max_pool", "b", ["a"], pool),
        ("add", "y", ["b", "r"]),
    )
    assert [layer.op for layer in to_layers(spec)] == ["conv2d", "add"]
    given_ = {"x": numbers(2, "x", (2, 8, 8, 4)), "r": numbers(3, "r", (2, 4, 4, 16))}
    for layout in LAYOUTS:
        for name in (None, *WHOLE):
            got = GuardedModel(spec, layout, REGISTRY.get(name)).run(given_)
            assert_exact(got, definition(spec, given_)["y"], np.float32)


def test_scattered_weights_keep_their_own_kernel():
    mask = np.random.default_rng(0).random(KERNEL.shape) < 0.1
    assert not folded(pooled_spec(MaskedKernel.from_dense(KERNEL, mask, 1, 1), (6, 6, 4), (2, 2)))
    assert folded(pooled_spec(shared(KERNEL, 0, 0.1), (6, 6, 4), (2, 2)))


def test_a_gpu_plan_pools_by_itself():
    spec = pooled_spec(KERNEL, (6, 6, 4), (2, 2))
    assert [layer.op for layer in to_layers(spec, pooled=False)] == ["conv2d", "max_pool"]


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.name)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity_go_through_pooling(layout, value):
    kernel = np.ones((1, 1, 1, 16), np.float32)
    x = np.zeros((1, 4, 4, 1), np.float32)
    x[0, 1, 2, 0] = value
    spec = pooled_spec(kernel, (4, 4, 1), (2, 2), relu=False)
    want = np.zeros((1, 2, 2, 16), np.float32)
    want[0, 0, 1] = np.maximum(value, 0)
    assert_identical(GuardedModel(spec, layout).run(x), want)


def test_products_are_counted_where_they_are_computed():
    """Seven rows of which six are pooled: nominal and kept are the convolution's, executed what runs."""
    spec = pooled_spec(np.ones((1, 1, 4, 16), np.float32), (7, 6, 4), (2, 2))
    for layout in LAYOUTS:
        (facts,) = GuardedModel(spec, layout).plan(layout).facts
        assert (facts.macs_nominal, facts.macs_kept, facts.macs_executed) == (64 * 42, 64 * 42, 64 * 36)
        assert facts.out_shape == (3, 3, 16)


def test_fewer_taps_at_the_edge_are_foreseen():
    (layer,) = to_layers(pooled_spec(KERNEL, (6, 6, 4), (2, 2)))
    whole = replace(layer, out_shape=(6, 6, 16), pool=(1, 1), unpooled=None)
    assert select.executed_macs(layer) == select.executed_macs(whole)
