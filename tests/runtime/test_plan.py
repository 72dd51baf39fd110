"""What a plan tells of itself, what `explain` makes of it, and the facts of masks that both rest on."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime import topology
from runtime.kernels.machine import AVX2, AVX512, GENERIC, LANES, NEON, Machine, compiler_features
from runtime.kernels.machine import config as numba_config
from runtime.kernels.registry import REGISTRY
from runtime.kernels.tiles import CALL_CYCLES, Tile, channels_tiles, images_tiles, scattered_tiles
from runtime.layout import BLOCK, CHANNELS, IMAGES, LAYOUTS, round_up
from runtime.model import Model
from runtime.plan import build, draft
from runtime.spec import to_layers
from tests import strategies
from tests.model_strategies import models
from tests.runtime.nets import GuardedModel, definition, masked, net
from tests.tolerances import assert_exact, assert_identical

both_layouts = pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.name)

KERNEL = np.ones((3, 3, 4, 16), np.float32)
MASK = np.zeros(KERNEL.shape, bool)
MASK[1, :, :, :] = True
MASK[0, 0, 1, 5] = True
SPEC = net(
    {"x": (6, 5, 4)},
    ["p"],
    ("conv2d", "a", ["x"], {"padding": "same"}, {"kernel": masked(KERNEL, MASK)}),
    ("relu", "b", ["a"]),
    ("flatten", "f", ["b"]),
    ("dense", "d", ["f"], {}, {"kernel": np.ones((480, 7), np.float32)}),
    ("softmax", "p", ["d"]),
)


@both_layouts
def test_facts_of_each_layer(layout):
    conv, dense, softmax = build(SPEC, draft(SPEC, layout)).facts
    assert (conv.layer, conv.op, conv.shape, conv.out_shape) == ("node a+node b", "conv2d", (6, 5, 4), (6, 5, 16))
    assert conv.density == MASK.mean()
    assert conv.macs_nominal == 30 * KERNEL.size
    assert conv.macs_kept == 30 * MASK.sum()
    assert conv.macs_executed == 6 * 4 * 16 * (5 + 4 + 4) + 5 * 4  # the middle row's taps; one weight of the corner tap
    assert conv.macs_executed <= conv.macs_computed <= 16 * conv.macs_executed
    assert conv.bytes > 4 * MASK.sum()
    assert (dense.layer, dense.density, dense.macs_nominal) == ("node f+node d", 1.0, 480 * 7)
    assert dense.macs_nominal == dense.macs_kept == dense.macs_executed <= dense.macs_computed
    assert (softmax.density, softmax.macs_nominal, softmax.bytes) == (None, 0, 0)


def convolution(output, x, c_in, c_out, groups=1):
    kernel = np.ones((3, 3, c_in // groups, c_out), np.float32)
    return ("conv2d", output, [x], {"padding": "same", "groups": groups}, {"kernel": kernel})


READERS = {  # of an input with 3 channels: the nodes, the outputs, whether its pixels lie without padding
    "a convolution": ([convolution("a", "x", 3, LANES)], ["a"], True),
    "two convolutions": ([convolution("a", "x", 3, LANES), convolution("b", "x", 3, 2 * LANES)], ["a", "b"], True),
    "one of few channels": ([convolution("a", "x", 3, LANES - 1)], ["a"], False),
    "a depthwise one": ([convolution("a", "x", 3, 3, 3)], ["a"], False),
    "a sum": ([convolution("a", "x", 3, LANES), ("add", "b", ["x", "x"])], ["a", "b"], False),
    "a residual": ([convolution("a", "x", 3, 3), ("add", "b", ["a", "x"])], ["b"], False),
    "an activation": ([convolution("a", "x", 3, LANES), ("relu", "b", ["x"])], ["a", "b"], False),
}


@pytest.mark.parametrize("name", READERS)
def test_pixels_of_an_input_lie_without_padding_where_single_numbers_are_read(name):
    nodes, outputs, close = READERS[name]
    spec = net({"x": (4, 5, 3)}, outputs, *nodes)
    step = build(spec, draft(spec, CHANNELS)).steps[0]
    assert step["out_pixel"] == (3 if close else LANES)
    x = np.random.default_rng(0).integers(-4, 5, (1, 4, 5, 3)).astype(np.float32)
    got, want = GuardedModel(spec, CHANNELS).run({"x": x}), definition(spec, {"x": x})
    for output in outputs:
        assert_exact(got[output] if len(outputs) > 1 else got, want[output], np.float32)


def test_packed_bytes_follow_density():
    shape = (3, 3, 64, 64)
    sizes = {}
    for kept in (7, 14, 72):
        groups = np.arange(9 * 2 * 4).reshape(3, 3, 2, 4) < kept
        kernel = masked(np.ones(shape, np.float32), groups.repeat(32, 2).repeat(16, 3))
        spec = net({"x": (8, 8, 64)}, ["y"], ("conv2d", "y", ["x"], {"padding": "same"}, {"kernel": kernel}))
        sizes[kept] = Model(spec).plan(IMAGES).bytes
    for kept, size in sizes.items():
        assert size < (kept / 72 + 0.02) * sizes[72]


@pytest.mark.parametrize("batch", [1, 64])
def test_explain_as_a_table_and_as_json(batch):
    explanation = Model(SPEC).explain(batch)
    lines = str(explanation).splitlines()
    assert len(lines) == 2 + len(explanation.rows)
    assert lines[0].startswith(f"batch {batch}, layout {explanation.layout}, ")
    for facts, line in zip(explanation.rows, lines[2:], strict=True):
        assert line.startswith(facts.layer)
        assert facts.kernel in line
        assert f" {facts.tile} " in line.partition(facts.kernel)[2]
        assert line.endswith(facts.why)
    data = json.loads(explanation.json())
    assert [row["kernel"] for row in data["parts"][0]["rows"]] == [facts.kernel for facts in explanation.rows]
    assert [row["tile"] for row in data["parts"][0]["rows"]] == [facts.tile for facts in explanation.rows]
    tiles = {entry.tile.name for entry in REGISTRY.values() if entry.tile} | {"vector", "scalar"}
    assert {facts.tile for facts in explanation.rows} <= tiles
    assert data["bytes"] == explanation.bytes > 0


def test_explain_of_a_layer_without_weights_says_that_it_multiplies_nothing():
    spec = net(
        {"x": (1, 1, 2)}, ["y"], ("conv2d", "y", ["x"], {}, {"kernel": masked(KERNEL[:1, :1, :2], MASK[:1, :1, 2:])})
    )
    assert str(Model(spec).explain(1)).splitlines()[2].split(" 0.000 ")[1].split()[:4] == ["32", "0", "0", "0"]


def test_explain_of_a_batch_that_is_cut_tells_of_both_parts():
    model, batch = Model(SPEC), 2 * LANES + 1
    (first, many), (second, one) = model.layouts(batch)
    explanation = model.explain(batch)
    assert [(part.layout, part.images) for part in explanation.parts] == [(first.name, many), (second.name, one)]
    assert [part.rows for part in explanation.parts] == [model.plan(first).facts, model.plan(second).facts]
    assert explanation.bytes == model.plan(first).bytes + model.plan(second).bytes == model.packed_bytes(batch)
    text = str(explanation)
    assert text.startswith(f"batch {batch}, in 2 parts, {explanation.bytes:,} bytes of packed weights\n")
    for part in explanation.parts:
        assert f"\n{part.images} of the images, layout {part.layout}, {part.bytes:,} bytes of packed weights\n" in text
        assert all(facts.kernel in text for facts in part.rows)
    assert [part["images"] for part in json.loads(explanation.json())["parts"]] == [many, one]


def test_progress_is_told_each_layer():
    told = []
    build(SPEC, draft(SPEC, IMAGES), told.append)
    assert told == ["node a", "node f", "node p"]


@given(models(), st.sampled_from(LAYOUTS))
def test_the_same_model_gives_the_same_plan(spec, layout):
    first, again = (build(spec, draft(spec, layout)) for _ in range(2))
    for name in ("steps", "weights", "index"):
        assert getattr(first, name).tobytes() == getattr(again, name).tobytes()
    assert first.facts == again.facts
    assert first.arena_size == again.arena_size


# --- Layouts ---------------------------------------------------------------------------------------------------------


@given(st.integers(1, 300), st.integers(1, 4), st.integers(1, 4))
def test_every_number_of_a_tensor_has_its_own_place_in_it(c, h, w):
    for layout in LAYOUTS:
        block, pixel, size = layout.block(c), layout.pixel(c), layout.size((h, w, c))
        ci, p, lane = np.meshgrid(np.arange(c), np.arange(h * w), np.arange(layout.lanes), indexing="ij")
        places = ((ci // block) * h * w + p) * pixel + (ci % block) * layout.lanes + lane
        assert np.unique(places).size == places.size
        assert 0 <= places.min() <= places.max() < size
        assert pixel >= block * layout.lanes
        assert layout.lanes == 1 or block <= BLOCK


@given(st.integers(0, 100), st.integers(1, 40))
def test_rounding_up(n, multiple):
    assert round_up(n, multiple) % multiple == 0
    assert n <= round_up(n, multiple) < n + multiple


# --- Masks -----------------------------------------------------------------------------------------------------------


@given(strategies.conv_cases(), st.sampled_from([0.0, 0.2, 1.0]), st.sampled_from([1, 4, 16]))
def test_grouped_layers_are_written_out_as_absent_weights(case, density, tile):
    kernel = case.kernel()
    mask = np.random.default_rng(case.seed).random(kernel.shape) < density
    node = ("conv2d", "y", ["x"], case.options, {"kernel": masked(kernel, mask)})
    layer = to_layers(net({"x": (*case.size_hw, case.c_in)}, ["y"], node))[-1]
    kept, full = topology.of_layer(layer), topology.full_kernel(layer)
    for ci in range(case.c_in):
        for co in range(case.c_out):
            inside = ci // (case.c_in // case.groups) == co // (case.c_out // case.groups)
            at = (slice(None), slice(None), ci % (case.c_in // case.groups), co)
            assert_identical(kept.kept[:, :, ci, co], mask[at] & inside)
            assert_exact(full[:, :, ci, co], kernel[at] * (mask[at] & inside), np.float32)
    rows = kept.rows(tile)
    for t, found in enumerate(rows):
        assert_identical(found, kept.kept[..., t * tile : (t + 1) * tile].any(-1))
    assert kept.density == kept.kept.mean()


def test_the_census_counts_patterns():
    mask = np.zeros((1, 2, 3, 2), bool)
    mask[0, 0, :, 0] = True
    mask[0, :, 0, 1] = True
    assert topology.census(mask) == {(1, 0): 3, (0, 0): 2, (1, 1): 1}
    assert list(topology.census(mask)) == [(1, 0), (0, 0), (1, 1)]


@pytest.mark.parametrize("axis", [2, 3])
@pytest.mark.parametrize("group", [1, 2, 4, 8])
def test_shared_patterns_are_found(axis, group):
    groups = np.random.default_rng(group).random((3, 3, 8, 8)) < 0.5
    assert topology.shared_by(groups.repeat(group, axis), axis) == group
    assert topology.shared_by(np.full((3, 3, 256, 256), True), axis) == 64
    assert topology.shared_by(np.full((3, 3, 1, 1), True), axis) == 1


# --- Machines and tiles ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("machine", [AVX512, AVX2, NEON, GENERIC], ids=lambda machine: machine.name)
def test_the_widest_tiles_fit_the_registers(machine):
    for tile in images_tiles(machine):
        activations = tile.pixels[0] if tile.outputs > 1 else 0  # used once, they are read by the multiply-add itself
        assert tile.outputs * tile.pixels[0] + activations + 1 <= machine.registers
    for tile in channels_tiles(machine):
        assert tile.outputs * tile.pixels[0] + tile.outputs + 1 <= machine.registers


def dearest_first(tile, run):
    """Cycles of a run covered by the largest tiles that fit, with those of the calls."""
    cycles = 0.0
    for size, cost in zip(tile.pixels, tile.cycles, strict=True):
        count, run = divmod(run, size)
        cycles += count * (cost + CALL_CYCLES)
    return cycles


@given(st.integers(1, 200))
def test_tiles_cover_a_run_at_no_more_than_the_largest_first_would_cost(run):
    for tile in (*images_tiles(), *channels_tiles(), *scattered_tiles()):
        cover = tile.cover(run)
        assert sum(size * count for size, count in cover) == run
        assert [size for size, _ in cover] == sorted({size for size, _ in cover}, reverse=True)
        cost = dict(zip(tile.pixels, tile.cycles, strict=True))
        assert sum(count * (cost[size] + CALL_CYCLES) for size, count in cover) <= dearest_first(tile, run) + 1e-9


def test_a_run_is_covered_at_the_least_cost():
    tile = Tile(1, (8, 7, 1), (8.0, 7.0, 3.0))
    assert tile.cover(14) == [(7, 2)]
    assert tile.cover(15) == [(8, 1), (7, 1)]


@pytest.mark.parametrize(
    ("pixels", "cycles", "message"),
    [
        ((2, 3, 1), (1.0, 1.0, 1.0), "falling numbers of pixels that end in 1"),
        ((3, 3, 1), (1.0, 1.0, 1.0), "falling numbers of pixels that end in 1"),
        ((3, 2), (1.0, 1.0), "falling numbers of pixels that end in 1"),
        ((), (), "falling numbers of pixels that end in 1"),
        ((3, 1), (1.0,), "expected 2 costs, got 1"),
    ],
)
def test_a_wrong_tile_says_why(pixels, cycles, message):
    with pytest.raises(ValueError, match=message):
        Tile(1, pixels, cycles)


def test_a_machine_of_other_lanes_is_refused():
    with pytest.raises(ValueError, match="expected 4, 8 or 16 lanes, got 5"):
        Machine("odd", 5, 16)


@pytest.mark.parametrize(
    ("name", "features", "want"),
    [
        ("haswell", "+avx2,+fma,-avx512f", {"avx2", "fma"}),
        ("generic", None, set()),
        ("generic", "", set()),
    ],
)
def test_the_machine_is_the_compilers(monkeypatch, name, features, want):
    monkeypatch.setattr(numba_config, "CPU_NAME", name)
    monkeypatch.setattr(numba_config, "CPU_FEATURES", features)
    assert compiler_features() == want
