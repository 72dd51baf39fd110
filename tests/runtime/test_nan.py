"""NaN and infinity: what skipped weights keep from the output, and what every other operator lets through."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime import topology
from runtime.kernels.machine import LANES
from runtime.kernels.registry import REGISTRY
from runtime.kernels.step import Kernel
from runtime.layout import BLOCK, LAYOUTS
from runtime.select import tile_channels
from runtime.spec import to_layers
from tests import oracle, strategies
from tests.runtime.nets import GuardedModel, classifier, conv_spec, definition, images, masked, net
from tests.tolerances import assert_exact, assert_identical, assert_within, softmax_bound

both_layouts = pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.name)


CONVS = [(entry.name, layout) for entry in REGISTRY.values() if entry.tile for layout in entry.layouts]


def reached(layer, entry, x_bad):
    """bool[n, oh, ow, c_out]: which outputs compute a product with a marked input, by what the class promises."""
    kept = topology.of_layer(layer).kept
    size = tile_channels(entry)
    if entry.kernel == Kernel.DEPTHWISE:
        computed = np.broadcast_to(np.eye(kept.shape[2], dtype=bool), kept.shape)
    else:
        rows = topology.of_layer(layer).rows(size)
        if entry.kernel == Kernel.CONV_WINOGRAD:  # whole kernels
            rows = np.broadcast_to(rows.any((1, 2), keepdims=True), rows.shape)
        computed = np.repeat(rows.transpose(1, 2, 3, 0), size, axis=3)[..., : kept.shape[3]]
    window = layer.window
    bottom, right = (
        (layer.out_shape[i] - 1) * window.stride[i] + (window.size[i] - 1) * window.dilation[i] + 1
        - layer.shape[i] - (window.pad_top, window.pad_left)[i]
        for i in (0, 1)
    )  # fmt: skip
    padding = ((window.pad_top, max(0, bottom)), (window.pad_left, max(0, right)))
    return oracle.conv2d(x_bad, computed, None, window.stride, padding, window.dilation) > 0


@pytest.mark.parametrize(("name", "layout"), CONVS)
@pytest.mark.parametrize("bad", [np.nan, np.inf])
@given(seed=strategies.seeds, density=st.sampled_from([0.02, 0.1, 0.5]), batch=st.integers(1, 3))
def test_what_a_skipped_weight_would_read_does_not_reach_the_output(name, layout, bad, seed, density, batch):
    entry, rng = REGISTRY[name], np.random.default_rng(seed)
    c_in = c_out = 2 * BLOCK
    groups = c_in if entry.kernel == Kernel.DEPTHWISE else 1
    shape = (3 if entry.kernel == Kernel.CONV_WINOGRAD else 2, 3, c_in // groups, c_out)
    size_hw = (entry.tile.rows, entry.tile.pixels[0]) if entry.kernel == Kernel.CONV_WHOLE else (4, 3)
    weights = masked(rng.choice([-2, 1, 3], shape).astype(np.float32), rng.random(shape) < density)
    spec = conv_spec(weights, (*size_hw, c_in), padding="same", groups=groups)
    x = rng.integers(-4, 5, (batch, *size_hw, c_in)).astype(np.float32)
    x[rng.random(x.shape) < 0.01] = bad
    model = GuardedModel(spec, next(one for one in LAYOUTS if one.name == layout), entry)
    with np.errstate(invalid="ignore"):
        got = model.run(x)
        want = definition(spec, {"x": x})["y"]
    (layer,) = to_layers(spec)
    touched = reached(layer, entry, ~np.isfinite(x))
    assert_exact(
        got[~touched], definition(spec, {"x": np.nan_to_num(x, nan=0, posinf=0, neginf=0)})["y"][~touched], np.float32
    )
    assert not np.isfinite(got[touched]).any()
    if np.isnan(bad):
        assert np.isnan(got[touched]).all()
        assert np.isnan(want[touched]).all()  # the definition multiplies every absent weight, by 0


@both_layouts
@pytest.mark.parametrize("lane", [0, 1, LANES - 1])
def test_nan_in_one_image_stays_in_it(layout, lane):
    x = images(LANES)
    clean = GuardedModel(classifier(softmax=True), layout).run(x)
    x[lane, 1, 2, 0] = np.nan
    with np.errstate(invalid="ignore"):
        got = GuardedModel(classifier(softmax=True), layout).run(x)
    others = np.arange(LANES) != lane
    assert_identical(got[others], clean[others])
    assert np.isnan(got[lane]).all()


SPECIAL = np.array([np.nan, np.inf, -np.inf, -0.0, 1, -1], np.float32)


@both_layouts
@pytest.mark.parametrize("batch", [1, LANES])
def test_nan_and_infinity_through_the_other_operators(layout, batch):
    x = np.random.default_rng(5).choice(SPECIAL, (batch, 4, 4, 9)).astype(np.float32)
    pool = {"size": (2, 2), "stride": (2, 2), "padding": "valid"}
    nodes = [
        ("relu", "relu", ["x"]),
        ("max_pool", "max", ["x"], pool),
        ("average_pool", "mean", ["x"], pool),
        ("add", "sum", ["x", "relu"]),
        ("flatten", "flat", ["x"]),
        ("softmax", "share", ["x"]),
    ]
    spec = net({"x": x.shape[1:]}, [node[1] for node in nodes], *nodes)
    with np.errstate(invalid="ignore"):
        got, want = GuardedModel(spec, layout).run(x), definition(spec, {"x": x})
    windows = x.reshape(batch, 2, 2, 2, 2, 9).transpose(0, 1, 3, 2, 4, 5).reshape(batch, 2, 2, 4, 9)
    want["max"] = windows.max(axis=3)  # NaN if any number of the window is
    for name in spec.outputs:
        np.testing.assert_array_equal(np.isnan(got[name]), np.isnan(want[name]), name)
        finite = np.isfinite(want[name])
        bound = softmax_bound(np.where(np.isneginf(x) | ~finite, -1000, x))[finite] if name == "share" else 0.0
        assert_within(got[name][finite], want[name][finite], bound, np.float32)
        infinite = np.isinf(want[name])
        assert_exact(got[name][infinite], want[name][infinite], np.float32)
