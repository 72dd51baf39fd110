"""Where the copies of scattered weights' inputs lie, what packing promises their kernel, and what is refused."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from runtime import patches, topology
from runtime.kernels.machine import LANES
from runtime.kernels.tiles import Tile
from runtime.kernels.vector import NEAR_SIZE
from runtime.pack import PlanError
from runtime.patches import Patch, pack_scattered, prove_scattered
from tests import strategies
from tests.runtime.test_pack import bad, changed, conv_layer
from tests.strategies import ConvCase
from tests.tolerances import assert_identical

ROW, TWO_ROWS = Tile(1, (4, 2, 1), (4.0, 2.5, 2.0)), Tile(1, (4, 2, 1), (6.0, 4.0, 3.0), rows=2)
tiles = st.sampled_from([ROW, TWO_ROWS])
cases = strategies.conv_cases().map(lambda case: replace(case, stride=(case.stride[0], 1)))
parts = st.sampled_from([(1, 0), (1, 2), (60 * LANES, 0), (NEAR_SIZE, 0)])  # elements, and rows of a list


def packed_layer(case, density, tile, part):
    """A drawn layer, its patch and its packed weights, the parts of the input as small as asked for."""
    layer, (part_size, list_rows) = conv_layer(case, density), part
    with pytest.MonkeyPatch.context() as here:
        here.setattr(patches, "PART_SIZE", part_size)
        here.setattr(patches, "LIST_ROWS", list_rows)
        patch = Patch.of(layer, tile)
    assume(patch.fits)
    return layer, patch, pack_scattered(layer, tile, patch)


def places(patch):
    """(channel, y, x) of each line of a patch; a line of padding may have several."""
    found = {}
    for channel in range(patch.channels):
        for y in range(patch.height):
            for x in range(patch.width):
                found.setdefault(channel * patch.channel + y * patch.row + x, []).append((channel, y, x))
    return found


@given(cases, tiles, parts)
def test_a_line_has_one_place_but_for_padding_of_the_whole_image(case, tile, part):
    layer, patch, _ = packed_layer(case, None, tile, part)
    (h, w, _), window = layer.shape, layer.window
    whole = places(patch)
    assert max(whole) + 1 == patch.lines <= NEAR_SIZE // LANES
    tops = [oy * window.stride[0] - window.pad_top for oy in range(0, layer.out_shape[0], tile.rows)]
    lefts, ox = [], 0
    for size, count in tile.cover(layer.out_shape[1]):
        lefts += [ox + size * n - window.pad_left for n in range(count)]
        ox += size * count
    for shared in (meant for meant in whole.values() if len(meant) > 1):
        for _, y, x in shared:
            assert not any(0 <= top + y < h and 0 <= left + x < w for top in tops for left in lefts)


@given(cases, st.one_of(st.none(), strategies.densities), tiles, parts)
def test_every_kept_weight_is_in_one_row_of_its_part(case, density, tile, part):
    layer, patch, packed = packed_layer(case, density, tile, part)
    kept, kernel = topology.of_layer(layer).kept, topology.full_kernel(layer)
    kh, kw, c_in, c_out = kept.shape
    want = []
    for part in range(patch.parts(layer)):
        for co in range(c_out):
            for ky in range(kh):
                for kx in range(kw):
                    for ci in range(part * patch.channels, min(c_in, (part + 1) * patch.channels)):
                        if kept[ky, kx, ci, co]:
                            y, x = ky * layer.window.dilation[0], kx * layer.window.dilation[1]
                            line = (ci - part * patch.channels) * patch.channel + y * patch.row + x
                            want.append((part * c_out + co, line * LANES, kernel[ky, kx, ci, co]))
    lists = np.repeat(np.arange(len(packed.starts) - 1), np.diff(packed.starts))
    assert list(zip(lists.tolist(), packed.rows.tolist(), packed.weights.tolist(), strict=True)) == want
    assert_identical(packed.bias, layer.bias)


def test_channels_share_padding_where_a_tile_is_the_image():
    layer = conv_layer(ConvCase(1, (2, 2), (3, 3), 64, 8, (1, 1), "same", (1, 1), 1, 3))
    patch = Patch.of(layer, Tile(1, (2, 1), (2.0, 1.5), rows=2))
    assert (patch.height, patch.width, patch.row, patch.channel) == (4, 4, 3, 9)
    assert patch.channels == min(64, 1 + (patches.PART_SIZE // LANES - 13) // 9)


def test_channels_lie_apart_where_tiles_have_neighbours():
    layer = conv_layer(ConvCase(1, (4, 5), (3, 3), 64, 8, (1, 1), "same", (1, 1), 1, 3))
    patch = Patch.of(layer, Tile(1, (2, 1), (2.0, 1.5), rows=2))
    assert (patch.height, patch.width, patch.row, patch.channel) == (4, 4, 4, 16)


@pytest.mark.parametrize(("density", "lists"), [(1.0, 0), (0.02, 1), (0.0, 2)])
def test_more_channels_lie_side_by_side_where_lists_are_short(density, lists):
    case = ConvCase(1, (32, 32), (3, 3), 2048, 1, (1, 1), "same", (1, 1), 1, 3)
    layer = replace(conv_layer(case), mask=np.arange(9 * 2048).reshape(3, 3, 2048, 1) % 50 < 50 * density)
    patch = Patch.of(layer, Tile(1, (1,), (1.0,)))
    near, most = (size // LANES // 9 for size in (patches.PART_SIZE, NEAR_SIZE))
    assert patch.channels == [near, min(most, max(near, -(-patches.LIST_ROWS * 50 // 9))), most][lists]


# --- prove -----------------------------------------------------------------------------------------------------------

CASE = ConvCase(1, (5, 7), (3, 3), 3, 9, (1, 1), "same", (1, 1), 1, 3)
BROKEN = {
    "a row before the patch": ("reads", bad("rows", lambda a: changed(a, 0, -1))),
    "a row beyond the patch": ("reads", bad("rows", lambda a: changed(a, -1, 1))),
    "a first start that is not zero": ("row starts", bad("starts", lambda a: changed(a, 0, 1))),
    "starts that fall": ("row starts", bad("starts", lambda a: changed(a, 3, 40))),
    "starts beyond the rows": ("row starts", bad("starts", lambda a: changed(a, -1, 1))),
    "a list fewer": ("row starts", bad("starts", lambda a: np.r_[a[:-2], a[-1]])),
    "a missing row": ("row starts", bad("rows", lambda a: a[:-1])),
    "a missing weight": ("row starts", bad("weights", lambda a: a[:-1])),
    "a missing bias": ("a bias", bad("bias", lambda a: a[:-1])),
    "runs that begin late": ("runs", bad("runs", lambda a: changed(a, (0, 0), 1))),
    "runs with a gap": ("runs", bad("runs", lambda a: changed(a, (1, 0), 1))),
    "runs that end early": ("runs", bad("runs", lambda a: a[:-1])),
    "a run of no column": ("runs", bad("runs", lambda a: np.r_[a, [[7, 0, 1]]])),
    "a tile that does not divide its run": ("runs", bad("runs", lambda _: np.array([[0, 5, 2], [5, 2, 2]], np.int32))),
    "a tile that there is not": ("runs", bad("runs", lambda a: changed(a, (0, 2), 4))),
    "no run": ("runs", bad("runs", lambda a: a[:0])),
}  # fmt: skip


@pytest.mark.parametrize("tile", [ROW, TWO_ROWS], ids=lambda tile: tile.name)
@pytest.mark.parametrize("name", BROKEN)
def test_prove_refuses(name, tile):
    layer = conv_layer(CASE)
    patch = Patch.of(layer, tile)
    packed = pack_scattered(layer, tile, patch)
    prove_scattered(packed, layer, tile, patch)
    what, break_it = BROKEN[name]
    with pytest.raises(PlanError, match=rf"^plan of node y: expected {what}.*, got .+\.$"):
        prove_scattered(break_it(packed), layer, tile, patch)


def test_packing_proves_its_ranges(monkeypatch):
    layer = conv_layer(CASE)
    patch = Patch.of(layer, ROW)
    monkeypatch.setattr(patches, "NEAR_SIZE", patch.lines * LANES - 1)
    with pytest.raises(PlanError, match="expected a patch of"):
        pack_scattered(layer, ROW, patch)


@pytest.mark.parametrize("tile", [ROW, TWO_ROWS], ids=lambda tile: tile.name)
def test_prove_refuses_a_patch_without_room(tile):
    layer = conv_layer(CASE)
    patch = Patch.of(layer, tile)
    wide = replace(patch, channels=NEAR_SIZE // LANES // patch.channel + 1)
    with pytest.raises(PlanError, match=rf"^plan of node y: expected a patch of {NEAR_SIZE} elements, got \d+\.$"):
        prove_scattered(pack_scattered(layer, tile, patch), layer, tile, wide)


@given(cases, strategies.densities, tiles, parts, st.data())
def test_prove_refuses_exactly_the_rows_that_leave_the_patch(case, density, tile, part, data):
    """Any single row moved by any distance, against what the largest tile reads of it."""
    layer, patch, packed = packed_layer(case, density, tile, part)
    assume(packed.rows.size)
    at = data.draw(st.integers(0, packed.rows.size - 1))
    size = patch.lines * LANES
    moved = changed(packed.rows, at, data.draw(st.integers(-size - 2, size + 2)))
    down = layer.window.stride[0] * patch.row
    rows, columns = min(tile.rows, layer.out_shape[0]), patches.widest(layer, tile)
    read = [int(moved[at]) + (y * down + x) * LANES for y in range(rows) for x in range(columns)]
    broken = replace(packed, rows=moved)
    if min(read) < 0 or max(read) + LANES > size:
        with pytest.raises(PlanError, match="reads"):
            prove_scattered(broken, layer, tile, patch)
    else:
        prove_scattered(broken, layer, tile, patch)
