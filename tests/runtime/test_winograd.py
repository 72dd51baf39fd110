"""Winograd's transform: matrices, a task's memory, packed weights, when it is chosen, and the bound on its error."""

import pickle
from dataclasses import replace

import numba
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import runtime
from lhc_ref.errors import InputError
from lhc_ref.evaluate import evaluate_with_bounds
from lhc_ref.modelfile import save
from runtime import cli, select, winograd
from runtime.kernels.machine import LANES
from runtime.kernels.options import OPTIONS
from runtime.kernels.registry import entries_for
from runtime.kernels.step import Kernel
from runtime.kernels.vector import COMPILED, load_tile, marker, store_tile
from runtime.kernels.winograd import MEMORY_SIZE, transform_input, transform_output
from runtime.layer import Layer, Window
from runtime.layout import CHANNELS, IMAGES
from runtime.pack import PlanError
from tests import oracle
from tests.runtime.nets import GuardedModel, conv_spec, definition, masked, net
from tests.strategies import numbers, seeds
from tests.tolerances import assert_exact, assert_within, winograd_bound

INPUT = np.array([[1, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, 1, 0, -1]])
OUTPUT = np.array([[1, 1, 1, 0], [0, 1, -1, -1]])
ENTRIES = [(entry, layout) for layout in (IMAGES, CHANNELS) for entry in entries_for(Kernel.CONV_WINOGRAD, layout.name)]
every_entry = pytest.mark.parametrize(("entry", "layout"), ENTRIES, ids=lambda value: value.name)
FOUR, TWO, ONE = marker(4), marker(2), marker(1)


def run_input(x, out):
    store_tile(transform_input(load_tile(x, 0, 4 * LANES, LANES, FOUR, FOUR)), out, 0, 4 * LANES, LANES, FOUR, FOUR)


def run_output(x, out):
    store_tile(transform_output(load_tile(x, 0, 4 * LANES, LANES, FOUR, FOUR)), out, 0, 2 * LANES, LANES, TWO, TWO)


def conv_layer(c_in, c_out, size_hw=(6, 6), pad=1, **fields):
    made = tuple(n + 2 * pad - 2 for n in size_hw)
    kernel = numbers(3, "kernel", (3, 3, c_in, c_out), exact=False)
    window = Window((3, 3), pad_top=pad, pad_left=pad)
    layer = Layer("conv2d", ("c",), "x", "y", (*size_hw, c_in), (*made, c_out), window, kernel=kernel)
    return replace(layer, **fields)


@pytest.mark.parametrize(("program", "matrix"), [(run_input, INPUT), (run_output, OUTPUT)])
def test_the_transforms_are_their_matrices(program, matrix):
    x = np.random.default_rng(1).integers(-9, 10, (4, 4, LANES)).astype(np.float32)
    out = np.full((len(matrix), len(matrix), LANES), np.nan, np.float32)
    run = numba.njit(**OPTIONS)(program) if COMPILED else program
    run(x.reshape(-1), out.reshape(-1))
    assert_exact(out, np.einsum("ik,jl,klv->ijv", matrix, matrix, x), np.float32)


def test_two_outputs_of_four_inputs_are_the_definition():
    for tap, place in np.ndindex(3, 4):
        g, d = np.eye(3)[tap], np.eye(4)[place]
        assert_exact(OUTPUT @ ((winograd.WEIGHTS @ g) * (INPUT @ d)), np.array([d[i : i + 3] @ g for i in (0, 1)]))


# --- A task's memory -------------------------------------------------------------------------------------------------


@every_entry
@given(
    c_in=st.integers(1, 4096),
    c_out=st.integers(1, 4096),
    size=st.tuples(st.integers(1, 300), st.integers(2, 300)),
)
def test_every_layer_has_room_in_a_tasks_memory(entry, layout, c_in, c_out, size):
    made, kernel = select.tile_channels(entry), np.broadcast_to(np.float32(1), (3, 3, c_in, c_out))
    layer = Layer("conv2d", ("c",), "x", "y", (*size, c_in), (*size, c_out), Window((3, 3)), kernel=kernel)
    blocking = winograd.Blocking.of(layer, layout, entry.tile, made)
    products, edge = 16 * entry.tile.pixels[0] * entry.tile.outputs * LANES, 16 * LANES
    waiting = blocking.windows * blocking.tiles * entry.tile.outputs * 4 * LANES if blocking.parts > 1 else 0
    assert products + edge + 16 * blocking.size + waiting <= MEMORY_SIZE
    assert (blocking.parts - 1) * blocking.channels < c_in <= blocking.parts * blocking.channels
    assert 1 <= blocking.tiles <= -(-c_out // made)
    assert 1 <= blocking.windows <= max(entry.tile.pixels[0], winograd.NEAR_WINDOWS)
    last = (blocking.channels - 1) * blocking.channel + (blocking.windows - 1) * blocking.stride
    assert last + LANES <= blocking.size + (0 if layout.lanes > 1 else LANES)
    assert blocking.size // LANES % 2 == 1


@every_entry
@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"weights": np.zeros(5, np.float32)}, "expected row starts that cover"),
        ({"starts": np.array([1, 40], np.int32)}, "expected row starts that cover"),
        ({"bias": np.zeros(5, np.float32)}, "expected a bias for 64 channels, got 5"),
        ({"rows": 10**6}, "expected reads within 0.."),
        ({"rows": -1}, "expected reads within 0.."),
    ],
)
def test_what_would_leave_its_memory_is_refused(entry, layout, change, said):
    made, layer = select.tile_channels(entry), conv_layer(40, 64)
    blocking = winograd.Blocking.of(layer, layout, entry.tile, made)
    packed = winograd.pack_transformed(layer, layout, entry.tile, made, blocking)
    if "rows" in change:
        change = {"rows": packed.rows + np.int32(change["rows"])}
    with pytest.raises(PlanError, match=f"plan of c: {said}"):
        winograd.prove_transformed(replace(packed, **change), layer, layout, entry.tile, made, blocking)


@every_entry
@pytest.mark.parametrize(
    ("change", "said"),
    [({"parts": 2}, "expected parts of 40 channels, got 2 of"), ({"windows": 10**5}, "reads within")],
)
def test_a_blocking_that_does_not_hold_a_layer_is_refused(entry, layout, change, said):
    made, layer = select.tile_channels(entry), conv_layer(40, 64)
    blocking = winograd.Blocking.of(layer, layout, entry.tile, made)
    packed = winograd.pack_transformed(layer, layout, entry.tile, made, blocking)
    with pytest.raises(PlanError, match=said):
        winograd.prove_transformed(packed, layer, layout, entry.tile, made, replace(blocking, **change))


@every_entry
def test_another_layer_is_refused(entry, layout):
    made, layer = select.tile_channels(entry), conv_layer(8, 64)
    blocking = winograd.Blocking.of(layer, layout, entry.tile, made)
    packed = winograd.pack_transformed(layer, layout, entry.tile, made, blocking)
    other = replace(layer, window=Window((3, 3), (2, 2)))
    with pytest.raises(PlanError, match="expected a 3x3 convolution whose tiles fit in blocks, got another"):
        winograd.prove_transformed(packed, other, layout, entry.tile, made, blocking)
    more = replace(blocking, parts=1, tiles=10**6)
    assert more.elements(entry.tile) == blocking.elements(entry.tile)  # no sums wait where there is one part
    with pytest.raises(PlanError, match=f"expected {MEMORY_SIZE} elements, got"):
        winograd.prove_transformed(packed, layer, layout, entry.tile, made, replace(blocking, size=10**6 + 1))


@pytest.mark.parametrize(
    "fields",
    [
        {"window": Window((3, 3), (1, 2))},
        {"window": Window((3, 3), dilation=(2, 1))},
        {"window": Window((3, 1))},
        {"pool": (2, 1)},
        {"pool": (2, 2), "other": "r"},
        {"out_shape": (1, 1, 8)},
    ],
)
def test_what_it_does_not_run(fields):
    assert winograd.fits(conv_layer(8, 8))
    assert winograd.fits(conv_layer(8, 8, pool=(2, 2)))
    assert not winograd.fits(conv_layer(8, 8, **fields))


# --- When it is chosen -----------------------------------------------------------------------------------------------


def grouped(c_in, c_out, density, seed=0):
    """A kernel whose patterns are shared by 32 inputs and 16 outputs."""
    mask = np.random.default_rng(seed).random((3, 3, c_in // 32, c_out // 16)) < density
    return masked(np.ones((3, 3, c_in, c_out), np.float32), mask.repeat(32, 2).repeat(16, 3))


@pytest.mark.parametrize("layout", [IMAGES, CHANNELS], ids=lambda layout: layout.name)
def test_dense_layers_run_so_and_sparse_ones_do_not(layout):
    shape = (16, 16, 128)
    dense = conv_spec(np.ones((3, 3, 128, 128), np.float32), shape, padding="same")
    (facts,) = GuardedModel(dense, layout).plan(layout).facts
    assert "_winograd_" in facts.kernel
    assert facts.why.startswith("no weight is missing: all weights by Winograd's transform, ")
    assert facts.macs_computed == 16 * 8 * 8 * 128 * 128 < facts.macs_executed
    assert GuardedModel(dense, layout).transformed(1) == {"node y"}
    (facts,) = GuardedModel(conv_spec(grouped(128, 128, 0.85), shape, padding="same"), layout).plan(layout).facts
    assert facts.why.startswith(
        f"density {facts.density:.3f}, too dense to gain by skipping: all weights by Winograd's"
    )
    sparse = GuardedModel(conv_spec(grouped(128, 128, 0.2), shape, padding="same"), layout)
    (facts,) = sparse.plan(layout).facts
    assert "_winograd_" not in facts.kernel
    assert any("_winograd_" in candidate.kernel for candidate in facts.candidates)
    assert sparse.transformed(1) == frozenset()


@pytest.mark.parametrize("layout", [IMAGES, CHANNELS], ids=lambda layout: layout.name)
def test_input_channels_without_weights_are_left_out(layout):
    """Filters that were pruned whole, and grouped layers: a tile reads the channels that any of its outputs keeps."""
    kernel, kept = numbers(1, "k", (3, 3, 128, 128)), np.ones((3, 3, 128, 128), bool)
    kept[:, :, ::2] = False
    pruned = conv_spec(masked(kernel, kept), (12, 12, 128), padding="same")
    grouped_ = conv_spec(numbers(2, "k", (3, 3, 64, 128)), (12, 12, 128), padding="same", groups=2)
    x = numbers(3, "x", (2, 12, 12, 128))
    for spec in (pruned, grouped_):
        model = GuardedModel(spec, layout)
        (facts,) = model.plan(layout).facts
        assert "_winograd_" in facts.kernel
        assert facts.why.startswith("density 0.500: whole 3x3 kernels by Winograd's transform, ") or spec is grouped_
        assert facts.macs_computed == 16 * 6 * 6 * 64 * 128
        assert_exact(model.run(x), definition(spec, {"x": x})["y"], np.float32)
    bad = x.copy()
    bad[..., ::2] = np.nan
    assert_exact(GuardedModel(pruned, layout).run(bad), definition(pruned, {"x": x})["y"], np.float32)


def test_a_user_may_do_without(tmp_path, capsys):
    path, shape = tmp_path / "net.lhc", (16, 16, 64)
    save(path, conv_spec(numbers(1, "k", (3, 3, 64, 64), exact=False), shape, padding="same"))
    x = numbers(2, "x", (1, *shape), exact=False)
    fast, plain = runtime.load(path), runtime.load(path, winograd=False)
    again = pickle.loads(pickle.dumps(plain))
    assert fast.transformed(1) == {"node y"}
    for model in (plain, again, plain.as_stored()):
        assert model.transformed(1) == frozenset()
        assert not any("winograd" in c.kernel for c in model.explain(1).rows[0].candidates)
    assert not np.array_equal(fast.run(x), plain.run(x))
    assert np.array_equal(again.run(x), plain.run(x))
    for option, count in (([], 1), (["--no-winograd"], 0)):
        assert cli.main(["info", str(path), "--batch", "1", *option]) == 0
        assert capsys.readouterr().out.count("f32_conv2d_channels_winograd_") == count


def test_a_trial_with_it_serves_a_net_without(tmp_path):
    path, times = tmp_path / "net.lhc", tmp_path / "times.json"
    save(path, conv_spec(numbers(1, "k", (3, 3, 32, 32)), (4, 4, 32), padding="same"))
    model = runtime.load(path)
    model.trial(1, repeats=1)
    model.save_trial(times)
    row = runtime.load(path, trial=times, winograd=False).explain(1).rows[0]
    assert "us measured" in row.why
    assert not any("winograd" in candidate.kernel for candidate in row.candidates)


# --- What it computes ------------------------------------------------------------------------------------------------


@every_entry
@pytest.mark.parametrize("fields", [{}, {"pool": True}, {"residual": True}], ids=["plain", "pooled", "residual"])
def test_parts_of_the_input_channels_sum_up_exactly(entry, layout, fields):
    """Every channel count that makes the last part smaller, with sums that wait between parts."""
    for c_in, h, w in ((1, 4, 5), (LANES + 1, 5, 6), (2 * LANES + 3, 4, 7)):
        shape, kernel = (h, w, c_in), numbers(c_in, "kernel", (3, 3, c_in, 40))
        nodes = [("conv2d", "a", ["x"], {"padding": "same"}, {"kernel": kernel, "bias": numbers(1, "b", (40,))})]
        if "pool" in fields:
            nodes.append(("max_pool", "y", ["a"], {"size": (2, 2), "stride": (2, 2), "padding": "valid"}))
        else:
            nodes.append(("add", "y", ["a", "r"]) if "residual" in fields else ("relu", "y", ["a"]))
        inputs = {"x": numbers(2, "x", (2, *shape))}
        if "residual" in fields:
            inputs["r"] = numbers(3, "r", (2, h, w, 40))
        spec = net({name: x.shape[1:] for name, x in inputs.items()}, ["y"], *nodes)
        model = GuardedModel(spec, layout, entry, small_tasks=True)
        got = model.run(inputs, threads=2)
        if layout.fits(40, select.tile_channels(entry)):
            steps = model.plan(layout).steps
            assert steps[steps["kernel"] == Kernel.CONV_WINOGRAD]["parts"].max() > 1 or c_in <= LANES // layout.lanes
        assert_exact(got, definition(spec, inputs)["y"], np.float32)


def test_an_infinite_input_makes_nan_or_infinity_where_it_is_seen():
    x = np.ones((1, 6, 6, 1), np.float32)
    x[0, 2, 3, 0] = np.inf
    spec = conv_spec(np.ones((3, 3, 1, 16), np.float32), x.shape[1:], padding="same")
    with np.errstate(invalid="ignore"):
        got = GuardedModel(spec, CHANNELS, entries_for(Kernel.CONV_WINOGRAD, "channels")[-1]).run(x)
    seen = np.zeros((6, 6), bool)
    seen[1:4, 2:5] = True
    assert not np.isfinite(got[0][seen]).any()
    assert_exact(got[0][~seen], definition(spec, {"x": np.ones_like(x)})["y"][0][~seen], np.float32)


# --- The bound -------------------------------------------------------------------------------------------------------


@given(seed=seeds, c_in=st.integers(1, 4), size=st.tuples(st.integers(2, 5), st.integers(2, 5)))
def test_the_references_bound_holds_where_the_tests_own_does(seed, c_in, size):
    """Both say what each input counts for: the reference at the larger of its two places, so never less."""
    kernel, x = numbers(seed, "kernel", (3, 3, c_in, 3), exact=False), numbers(seed, "x", (2, *size, c_in), exact=False)
    bias = numbers(seed, "bias", (3,), exact=False)
    spec = conv_spec(kernel, x.shape[1:], bias, padding="same")
    names = ["node y"]
    exactly, found = winograd_bound(x, kernel, bias), evaluate_with_bounds(spec, {"x": x}, winograd=names)["y"]
    assert (found.bound >= exactly * (1 - 2 / (c_in + 9))).all()  # the tests' counts a rounding of a residual too
    assert (found.bound >= evaluate_with_bounds(spec, {"x": x})["y"].bound).all()
    assert_within(oracle.conv2d(x, kernel, bias), found.value, 1e-9, np.float64)


def test_only_what_the_transform_runs_has_another_bound():
    x, kernel = numbers(1, "x", (1, 6, 6, 4), exact=False), numbers(1, "k", (3, 3, 4, 4), exact=False)
    for options, other in (({}, True), ({"stride": (2, 1)}, False), ({"dilation": (1, 2)}, False)):
        spec = conv_spec(kernel, x.shape[1:], padding="same", **options)
        plain, found = (evaluate_with_bounds(spec, {"x": x}, winograd=names)["y"].bound for names in ([], ["node y"]))
        assert (found > plain).any() == other
    with pytest.raises(InputError, match=r"winograd: expected names of the graph's nodes, got 'nobody'\. Leave it out"):
        evaluate_with_bounds(spec, {"x": x}, winograd=["nobody"])
