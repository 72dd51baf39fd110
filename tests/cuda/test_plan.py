"""GPU plans: places that do not overlap, packed rows that stay in their arrays, tiles and their choice."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given

from runtime.cuda import pack as packing
from runtime.cuda.plan import build
from runtime.cuda.registry import conv_entries
from runtime.cuda.select import choose_conv, estimate_conv, work_of
from runtime.cuda.tiles import TILES, Tile
from runtime.layer import Layer, Window
from runtime.pack import PlanError
from runtime.spec import to_layers
from tests.model_strategies import models
from tests.runtime.nets import classifier, conv_spec, net, small_kernel


@given(models(max_nodes=6))
def test_values_alive_together_never_share_memory(spec):
    plan = build(spec, 2)
    alive = {}
    for number, launch in enumerate(plan.launches):
        for name in (launch.x, launch.other, launch.out):
            if name in plan.places:
                first, _ = alive.get(name, (number, number))
                alive[name] = first, number
    for one in alive:
        for other in alive:
            together = alive[one][0] <= alive[other][1] and alive[other][0] <= alive[one][1]
            (at, size), (there, length) = plan.places[one], plan.places[other]
            assert one == other or not together or at + size <= there or there + length <= at
            assert at + size <= plan.arena_size


def a_layer(density=0.5):
    return to_layers(conv_spec(small_kernel(1, (3, 3, 4, 6), density), (5, 4, 4), padding="same"))[0]


def runs_of(packed):
    """(tap's row, tap's column, channel, tile's first output) -> weights, of every row of every run."""
    found = {}
    for tile, first in enumerate(packed.outputs):
        for run in packed.runs[packed.starts[tile] : packed.starts[tile + 1]]:
            dy, dx, ahead, channels, at = map(int, run)
            for k in range(channels):
                place = dy, dx, ahead - (dy * 4 + dx) * 4 + k, int(first)
                assert place not in found
                found[place] = packed.weights.ravel()[at + k * packed.weights.shape[1] :][: packed.weights.shape[1]]
    return found


@pytest.mark.parametrize("density", [0.3, 1.0])
def test_packed_runs_give_the_kernel_back(density):
    layer, outputs = a_layer(density), 4
    packed = packing.pack(layer, outputs)
    kernel = np.zeros((3, 3, 4, 8), np.float32)
    for (dy, dx, channel, first), weights in runs_of(packed).items():
        kernel[dy, dx, channel, first : first + outputs] = weights
    assert np.array_equal(
        kernel[..., :6], layer.kernel if layer.mask is None else np.where(layer.mask, layer.kernel, 0)
    )
    rows = np.diff(np.append(packed.runs[:, 4], packed.weights.size)) // outputs
    of_tiles = np.add.reduceat(rows, packed.starts[:-1])
    assert np.array_equal(of_tiles, np.sort(of_tiles)[::-1])  # the longest first
    assert np.array_equal(rows, packed.runs[:, 3])


def test_runs_are_as_long_as_they_can_be():
    window = Window((1, 1))
    mask = np.zeros((1, 1, 70, 4), bool)
    mask[0, 0, [*range(3, 40), 50, 51]] = True
    kernel = np.ones((1, 1, 70, 4), np.float32)
    layer = Layer("conv2d", ("n",), "x", "y", (1, 1, 70), (1, 1, 4), window, kernel=kernel, mask=mask)
    packed = packing.pack(layer, 4)
    assert packed.runs[:, 2:4].tolist() == [[3, 29], [32, 8], [50, 2]]  # a block of 32 channels ends a run


@pytest.mark.parametrize(
    ("field", "change", "match"),
    [
        ("runs", lambda runs: runs + np.array([0, 0, 1, 0, 0], np.int32), "expected runs of channels"),
        ("runs", lambda runs: runs + np.array([0, 0, 0, 1, 0], np.int32), "expected runs of 1 to 32 channels in order"),
        ("runs", lambda runs: runs + np.array([0, 0, 0, 0, 4], np.int32), "expected runs of 1 to 32 channels in order"),
        ("starts", lambda starts: starts[:-1], "expected starts and weights"),
        ("starts", lambda starts: starts[::-1].copy(), "expected starts and weights"),
        ("weights", lambda weights: weights[:-1], "expected starts and weights"),
        ("outputs", lambda outputs: outputs * 0, "expected every 4 outputs in one tile"),
    ],
)
def test_runs_that_would_read_elsewhere_are_refused(field, change, match):
    layer = a_layer()
    packed = packing.pack(layer, 4)
    with pytest.raises(PlanError, match=match):
        packing.prove(replace(packed, **{field: change(getattr(packed, field))}), layer, 4)


@pytest.mark.parametrize(
    ("sizes", "match"),
    [((6, 4, 1), "outputs in fours"), ((16, 32, 1), "at most 48 KiB"), ((20, 4, 2), "at most 16 outputs")],
)
def test_tiles_that_cannot_be(sizes, match):
    with pytest.raises(ValueError, match=match):
        Tile(*sizes)


def big(density):
    """A layer of VGG16 whose kept blocks are groups of 32 inputs and 16 outputs."""
    mask = np.random.default_rng(0).random((3, 3, 8, 16)) < density
    mask = np.repeat(np.repeat(mask, 32, 2), 16, 3)
    kernel = np.ones((3, 3, 256, 256), np.float32)
    window = Window((3, 3), pad_top=1, pad_left=1)
    return Layer("conv2d", ("n",), "x", "y", (8, 8, 256), (8, 8, 256), window, kernel=kernel, mask=mask)


def test_more_warps_share_a_tile_where_there_is_less_to_do():
    splits = [choose_conv(big(0.1), conv_entries(), batch, 4).entry.tile.split for batch in (1, 256, 4096)]
    assert splits[0] > splits[1] >= splits[2] == 1


def test_an_estimate_counts_what_lies_outside_the_image_where_warps_skip_it_together():
    entry = conv_entries()[0]
    skipped, mixed = (estimate_conv(big(1.1), entry, batch, 4).seconds / batch for batch in (4096, 4064))
    assert skipped < 0.95 * mixed


@pytest.mark.parametrize("tile", TILES, ids=lambda tile: tile.name)
def test_an_estimate_grows_with_the_batch_and_counts_what_is_computed(tile):
    (entry,) = conv_entries((tile,))
    small, large = (estimate_conv(big(0.1), entry, batch, 4) for batch in (64, 256))
    assert small.seconds < large.seconds
    assert large.macs == 4 * small.macs >= 256 * 64 * big(0.1).mask.sum()


def test_facts_of_the_plan_are_of_its_storage():
    single, half = (build(classifier(), 8, storage) for storage in ("float32", "float16"))
    assert half.weights.nbytes * 2 == single.weights.nbytes
    assert all(facts.kernel.startswith("f16_") for facts in half.facts)
    assert [launch.entry for launch in half.launches] == [launch.entry for launch in single.launches]


def test_only_the_borders_use_the_users_arrays():
    plan = build(classifier(), 8)
    assert [len(launches) for launches in plan.stretches] == [1, len(plan.launches) - 2, 1]


def test_rows_count_by_the_share_of_pixels_for_which_they_are_inside():
    window = Window((3, 2), stride=(2, 1), dilation=(2, 3), pad_top=1, pad_left=2)
    kernel = np.ones((3, 2, 1, 4), np.float32)
    layer = Layer("conv2d", ("n",), "x", "y", (5, 6, 1), (2, 7, 4), window, kernel=kernel)
    inside = [0 <= 2 * oy - 1 + 2 * ky < 5 and 0 <= ox - 2 + 3 * kx < 6 for oy, ox, ky, kx in np.ndindex(2, 7, 3, 2)]
    work = work_of(layer, 4)
    assert work.rows.tolist() == [6]
    assert work.inside == pytest.approx([sum(inside) / 14])


def test_times_of_launches_are_of_layers_or_of_copies_before_or_after():
    plan = build(net({"x": (3,), "r": (3,)}, ["y"], ("add", "y", ["x", "r"])), 2)
    assert plan.seconds_of_layers([1, 2, 4, 8]) == ([4], (3, 8))
