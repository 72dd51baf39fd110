"""The choice of kernels: deterministic, the cheapest of all that fit, and with a reason that names its numbers."""

import json
import os
import re
import time
from dataclasses import asdict, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numba.core import config

from runtime import select, threads
from runtime.explain import Explanation, Part
from runtime.facts import KernelCost
from runtime.kernels.machine import LANES
from runtime.kernels.registry import REGISTRY
from runtime.kernels.step import Kernel
from runtime.layer import Layer, Window
from runtime.layout import BLOCK, CHANNELS, IMAGES, LAYOUTS
from runtime.plan import build, draft
from runtime.spec import to_layers
from tests import oracle, strategies
from tests.model_strategies import models
from tests.runtime.nets import masked, net

layouts = st.sampled_from(LAYOUTS)
both_layouts = pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.name)


def conv_layer(kernel, size_hw=(8, 8), **options):
    """The layer of a convolution without bias."""
    shape = (*size_hw, kernel.shape[2] * options.get("groups", 1))
    return to_layers(
        net({"x": shape}, ["y"], ("conv2d", "y", ["x"], {"padding": "same", **options}, {"kernel": kernel}))
    )[-1]


def drawn_layer(case, density=None):
    """The layer of a drawn convolution as it stands, its strides not yet taken out."""
    kernel = case.kernel()
    mask = None if density is None else np.random.default_rng([case.seed, 9]).random(kernel.shape) < density
    (top, _), (left, _) = oracle.resolve_padding(case.padding, case.size_hw, case.kernel_hw, case.stride, case.dilation)
    window = Window(case.kernel_hw, case.stride, case.dilation, top, left)
    shapes = (*case.size_hw, case.c_in), (*case.output_hw, case.c_out)
    return Layer("conv2d", ("c",), "x", "y", *shapes, window, kernel=kernel, mask=mask, groups=case.groups)


def grouped_mask(shape, group_in, group_out, density, seed=0):
    """A mask whose patterns are shared by groups, so that whole tiles miss whole rows."""
    groups = np.random.default_rng(seed).random((*shape[:2], shape[2] // group_in, shape[3] // group_out)) < density
    return groups.repeat(group_in, 2).repeat(group_out, 3)


@given(strategies.conv_cases(max_channels=40), st.one_of(st.none(), strategies.densities), layouts)
def test_the_cheapest_fitting_candidate_is_chosen_each_time(case, density, layout):
    layer = drawn_layer(case, density)
    choice = select.choose(layer, layout)
    assert select.choose(replace(layer), layout) == choice
    assert REGISTRY[choice.entry.name] is choice.entry
    assert layout.name in choice.entry.layouts
    assert choice.chosen in choice.candidates
    assert choice.cycles == min(candidate.cycles for candidate in choice.candidates)
    for candidate in choice.candidates:
        assert layout.name in candidate.entry.layouts
        assert layout.fits(case.c_out, select.tile_channels(candidate.entry))
        assert 0 < candidate.cycles <= candidate.dense_cycles


def test_the_choice_knows_neither_threads_nor_time(monkeypatch):
    layer = conv_layer(masked(np.ones((3, 3, 32, 32), np.float32), grouped_mask((3, 3, 32, 32), 32, 16, 0.3)))
    want = [select.choose(layer, layout) for layout in LAYOUTS]

    def unknown(*_):
        raise AssertionError("the selection asked")

    with monkeypatch.context() as patch:
        for place, name in (
            (threads, "available_cores"),
            (threads, "resolve"),
            (os, "cpu_count"),
            (os, "sched_getaffinity"),
            (time, "perf_counter"),
            (time, "monotonic"),
            (time, "time"),
        ):
            patch.setattr(place, name, unknown, raising=False)
        for count in (1, 64):
            patch.setattr(config, "NUMBA_NUM_THREADS", count)
            assert [select.choose(layer, layout) for layout in LAYOUTS] == want


@given(strategies.conv_cases(max_channels=34), layouts)
def test_fewer_weights_never_cost_more(case, layout):
    few, many = drawn_layer(case, 0.1), drawn_layer(case, 0.6)
    many = replace(many, mask=many.mask | few.mask)
    for less, more in zip(select.choose(few, layout).candidates, select.choose(many, layout).candidates, strict=True):
        assert less.entry is more.entry
        assert less.cycles <= more.cycles
        assert less.computed_macs <= more.computed_macs


@given(strategies.conv_cases(max_channels=6), st.sampled_from([None, 0.0, 0.3, 1.0]), layouts)
def test_multiply_adds_are_counted_as_they_are_executed(case, density, layout):
    layer = drawn_layer(case, density)
    kept = np.zeros((*case.kernel_hw, case.c_in, case.c_out), bool)
    mask = np.ones(case.kernel_shape, bool) if layer.mask is None else layer.mask
    for ci, co in oracle.group_slices(case.c_in, case.c_out, case.groups):
        kept[:, :, ci, co] = mask[:, :, :, co]
    taps = [(ky, kx) for _, _, ky, kx, _, _ in
            oracle.windows(case.size_hw, case.kernel_hw, case.stride, case.padding, case.dilation)]  # fmt: skip
    assert select.executed_macs(layer) == sum(int(kept[tap].sum()) for tap in taps)
    for candidate in select.choose(layer, layout).candidates:
        if candidate.entry.kernel == Kernel.DEPTHWISE:  # which computes every tap
            assert candidate.computed_macs == np.prod(case.output_hw) * case.c_out * np.prod(case.kernel_hw)
            continue
        oh, ow = case.output_hw
        if candidate.entry.kernel == Kernel.CONV_SCATTERED:  # padding too, and a last row by itself twice
            assert candidate.computed_macs == kept.sum() * (oh + oh % candidate.entry.tile.rows) * ow
            continue
        size = select.tile_channels(candidate.entry)
        tiles = [range(first, min(first + size, case.c_out)) for first in range(0, case.c_out, size)]
        if candidate.entry.kernel == Kernel.CONV_WINOGRAD:  # 16 products for 2x2 outputs, of whole kernels
            pairs = sum(size * int(kept[..., list(tile)].any((0, 1, 3)).sum()) for tile in tiles)
            assert candidate.computed_macs == 16 * -(-oh // 2) * -(-ow // 2) * pairs
            continue
        if candidate.entry.kernel == Kernel.CONV_PIXELS:  # padding too
            assert candidate.computed_macs == size * oh * ow * sum(int(kept[..., list(t)].any(3).sum()) for t in tiles)
            continue
        want = sum(size * int(kept[tap][:, list(tile)].any(1).sum()) for tap in taps for tile in tiles)
        assert candidate.computed_macs == want


# --- Reasons ---------------------------------------------------------------------------------------------------------


@both_layouts
def test_the_reason_names_density_and_gain(layout):
    shape = (3, 3, 64, 64)
    mask = grouped_mask(shape, 32, 32, 0.3)
    choice = select.choose(conv_layer(masked(np.ones(shape, np.float32), mask)), layout)
    found = re.match(r"density ([\d.]+): ([\d,]+) cycles predicted, ([\d.]+)x fewer than dense", choice.why)
    assert found, choice.why
    assert found[1] == f"{mask.mean():.3f}"
    assert found[2] == f"{choice.cycles:,.0f}"
    dense = next(c.dense_cycles for c in choice.candidates if c.entry is choice.entry)
    assert found[3] == f"{dense / choice.cycles:.1f}"
    assert float(found[3]) > 1.5
    for candidate in choice.candidates:
        assert f"{candidate.cycles:,.0f}" in choice.why


@both_layouts
@pytest.mark.parametrize("full_mask", [False, True])
def test_the_reason_of_a_dense_layer_says_so(layout, full_mask):
    kernel = np.ones((3, 3, 4, 8), np.float32)
    layer = conv_layer(masked(kernel, kernel > 0) if full_mask else kernel)
    assert select.choose(layer, layout).why.startswith("no weight is missing: dense, ")


@both_layouts
def test_the_reason_tells_when_missing_weights_gain_nothing(layout):
    """Every output channel of a tile keeps other weights, and all rows are computed."""
    shape = (1, 1, 16, LANES)
    kernel = masked(np.ones(shape, np.float32), ~np.eye(16, LANES, dtype=bool).reshape(shape))
    choice = select.choose(conv_layer(kernel), layout)
    scattered = (
        r"density 0\.\d{3}, but the kept weights are scattered over the output tiles: sparse gains only 1\.0\dx, "
    )
    assert re.match(scattered, choice.why), choice.why


def test_the_reason_of_a_depthwise_layer_and_of_the_other_operators():
    layer = conv_layer(np.ones((3, 3, 1, 20), np.float32), groups=20)
    choice = select.choose(layer, CHANNELS)
    assert choice.entry.kernel == Kernel.DEPTHWISE
    assert choice.why.startswith("depthwise: ")
    assert select.choose(layer, IMAGES).entry.kernel != Kernel.DEPTHWISE
    for node, kernel in (
        (("max_pool", "y", ["x"], {"size": (2, 2), "stride": (2, 2)}), Kernel.MAX_POOL),
        (("average_pool", "y", ["x"], {"size": (2, 2), "stride": (2, 2)}), Kernel.AVERAGE_POOL),
        (("global_average_pool", "y", ["x"]), Kernel.AVERAGE_POOL),
        (("add", "y", ["x", "x"]), Kernel.ADD),
        (("relu", "y", ["x"]), Kernel.ACTIVATE),
        (("softmax", "y", ["x"]), Kernel.SOFTMAX),
        (("flatten", "y", ["x"]), Kernel.FLATTEN),
    ):
        (other,) = to_layers(net({"x": (4, 4, 3)}, ["y"], node))
        for layout in LAYOUTS:
            choice = select.choose(other, layout)
            assert (choice.entry.kernel, choice.why) == (kernel, "the only kernel for this operator")
            assert choice.cycles > 0


@pytest.mark.parametrize("groups", [2, 4])
def test_a_grouped_layer_without_a_missing_weight_is_not_called_sparse_in_its_facts(groups):
    layer = conv_layer(np.ones((3, 3, 8, 8 * groups), np.float32), groups=groups)
    kept = select.topology.of_layer(layer).kept
    assert kept.mean() == 1 / groups
    assert select.executed_macs(layer) < layer.kernel.size * 64


@both_layouts
def test_explain_lists_all_candidates_with_what_is_predicted(layout):
    spec = net(
        {"x": (6, 6, 32)},
        ["y"],
        ("conv2d", "c", ["x"], {"padding": "same"}, {"kernel": np.ones((3, 3, 32, 32), np.float32)}),
        ("max_pool", "y", ["c"], {"size": (3, 3), "stride": (2, 2)}),
    )
    made = draft(spec, layout)
    convolution, pool = build(spec, made).facts
    assert len(convolution.candidates) > 1
    for facts, choice in zip((convolution, pool), made.choices, strict=True):
        want = [KernelCost(c.entry.name, c.cycles) for c in choice.candidates]
        assert list(facts.candidates) == want
        assert KernelCost(facts.kernel, facts.predicted_cycles) in want
    as_json = json.loads(Explanation(64, (Part(64, layout.name, 0, (convolution, pool)),)).json())
    assert as_json["parts"][0]["rows"][0]["candidates"] == [asdict(entry) for entry in convolution.candidates]


# --- What blocks of zeros buy ----------------------------------------------------------------------------------------


@both_layouts
def test_blocks_of_the_papers_size_pay_and_single_weights_pay_less(layout):
    shape = (3, 3, 64, 64)
    ones = np.ones(shape, np.float32)
    cost = {
        name: select.choose(conv_layer(masked(ones, mask)), layout).cycles
        for name, mask in (
            ("blocks", grouped_mask(shape, 32, 16, 0.1)),
            ("single", np.random.default_rng(0).random(shape) < 0.1),
            ("dense", np.full(shape, True)),
        )
    }
    assert cost["blocks"] < 0.5 * cost["dense"]
    assert cost["blocks"] < cost["single"] <= cost["dense"]


def test_unshared_patterns_of_wide_layers_run_one_output_at_a_time():
    shape = (3, 3, 4 * BLOCK, 4 * BLOCK)
    mask = np.random.default_rng(0).random(shape) < 0.1
    choice = select.choose(conv_layer(masked(np.ones(shape, np.float32), mask)), IMAGES)
    assert choice.entry.kernel == Kernel.CONV_SCATTERED
    assert choice.chosen.computed_macs == mask.sum() * 8 * 8  # of padding too: it is there, as zeros


@given(models(), layouts)
def test_a_draft_has_a_choice_for_each_layer_and_adds_up(spec, layout):
    made = draft(spec, layout)
    assert len(made.layers) == len(made.works) == len(made.choices)
    assert made.cycles == pytest.approx(sum(choice.cycles for choice in made.choices))
    assert [choice.why for choice in draft(spec, layout).choices] == [choice.why for choice in made.choices]
