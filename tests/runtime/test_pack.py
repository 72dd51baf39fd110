"""What packing promises the kernels, and that `prove` refuses each way of breaking it."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime import pack as packing
from runtime.kernels.machine import LANES
from runtime.kernels.tiles import Tile
from runtime.layer import Layer, Window
from runtime.layout import CHANNELS, IMAGES, LAYOUTS
from runtime.pack import PlanError, pack, pack_depthwise, prove, row_offsets
from runtime.spec import to_layers
from runtime.windows import RUN_HEAD, RUN_SIGHT, axis_taps, column_runs, sights, valid_taps
from tests import oracle, strategies
from tests.runtime.nets import masked, net
from tests.tolerances import assert_exact, assert_identical

layouts = st.sampled_from(LAYOUTS)
TILE = Tile(1, (2, 1), (1.8, 1.0))
tiles = st.sampled_from([TILE, Tile(1, (1,), (1.0,)), Tile(1, (7, 4, 1), (5.0, 3.0, 1.0))])


def tile_for(data, layout, case):
    """A number of output channels that tiles may have in a layout."""
    fitting = [n for n in (1, 4, 8, LANES, 2 * LANES) if layout.fits(case.c_out, n)]
    return data.draw(st.sampled_from(fitting))


def conv_layer(case, density=None):
    """The layer of a drawn convolution; a density gives it a mask. Of a strided pointwise one, the convolution."""
    kernel = case.kernel(exact=False)
    if density is not None:
        kernel = masked(kernel, np.random.default_rng([case.seed, 1]).random(kernel.shape) < density)
    node = ("conv2d", "y", ["x"], case.options, {"kernel": kernel, "bias": case.bias(exact=False)})
    return to_layers(net({"x": case.x().shape[1:]}, ["y"], node))[-1]


def all_rows(packed, tile_channels):
    """(tile, tap, row offset, its weights) of every packed row."""
    weights = packed.weights.reshape(-1, tile_channels)
    for tile, starts in enumerate(packed.starts):
        for tap in range(len(starts) - 1):
            for row in range(starts[tap], starts[tap + 1]):
                yield tile, tap, packed.rows[row], weights[row]


@given(strategies.conv_cases(), st.one_of(st.none(), strategies.densities), layouts, st.data())
def test_every_kept_weight_is_in_one_row_and_no_other(case, density, layout, data):
    tile_channels = tile_for(data, layout, case)
    layer = conv_layer(case, density)
    packed = pack(layer, layout, TILE, tile_channels)
    place = {int(offset): np.unravel_index(n, row_offsets(layer, layout).shape)
             for n, offset in enumerate(row_offsets(layer, layout).reshape(-1))}  # fmt: skip
    kh, kw = layer.window.size
    c_in, c_out = layer.shape[2], layer.out_shape[2]
    found = np.zeros((kh * kw, c_in, packed.tiles * tile_channels), np.float32)
    written = np.zeros(found.shape, bool)
    for tile, tap, offset, weights in all_rows(packed, tile_channels):
        ci = place[int(offset)][2] if len(place) == kh * kw * c_in else None
        if ci is None:
            continue  # dilation makes two taps of tiny images meet: the offset alone does not name the channel
        outputs = slice(tile * tile_channels, (tile + 1) * tile_channels)
        assert not written[tap, ci, outputs].any()
        written[tap, ci, outputs], found[tap, ci, outputs] = True, weights
    if len(place) == kh * kw * c_in:
        want = np.zeros(found.shape, np.float32)
        kernel = layer.kernel.reshape(kh * kw, -1, c_out)
        kept = np.ones(kernel.shape, bool) if layer.mask is None else layer.mask.reshape(kernel.shape)
        for ci, co in oracle.group_slices(c_in, c_out, layer.groups):
            want[:, ci, co] = (kernel * kept)[:, :, co]
        assert_identical(found, want)
    assert_identical(packed.bias, np.r_[layer.bias, np.zeros(packed.bias.size - c_out, np.float32)])


@given(strategies.conv_cases(max_channels=40), layouts, st.data())
def test_rows_come_in_order_and_only_where_a_weight_is_kept(case, layout, data):
    tile_channels = tile_for(data, layout, case)
    layer = conv_layer(case, 0.2)
    packed = pack(layer, layout, TILE, tile_channels)
    kernel = np.zeros((*layer.kernel.shape[:3], packed.tiles * tile_channels), bool)
    kernel[..., : layer.out_shape[2]] = layer.mask
    per_tap = np.diff(packed.starts, axis=1)
    if layer.groups == 1:
        union = kernel.reshape(*kernel.shape[:3], packed.tiles, tile_channels).any(-1)
        assert_exact(per_tap, union.sum(2).reshape(-1, packed.tiles).T.astype(per_tap.dtype))
    for starts in packed.starts:
        for tap in range(len(starts) - 1):
            assert (np.diff(packed.rows[starts[tap] : starts[tap + 1]]) > 0).all()


@given(strategies.conv_cases(max_channels=2))
def test_valid_taps_are_those_that_meet_a_pixel(case):
    layer = conv_layer(case)
    window = layer.window
    seen = {(oy, ox, ky, kx) for oy, ox, ky, kx, _, _ in
            oracle.windows(case.size_hw, case.kernel_hw, case.stride, case.padding, case.dilation)}  # fmt: skip
    reach = [
        valid_taps(layer.out_shape[i], layer.shape[i], window.stride[i], window.dilation[i],
                   (window.pad_top, window.pad_left)[i], window.size[i])
        for i in (0, 1)
    ]  # fmt: skip
    found = {
        (oy, ox, ky, kx)
        for oy, (y0, y1) in enumerate(reach[0])
        for ox, (x0, x1) in enumerate(reach[1])
        for ky in range(y0, y1)
        for kx in range(x0, x1)
    }
    assert found == seen


@given(strategies.conv_cases(max_channels=2), tiles)
def test_runs_cover_every_column_once_with_the_taps_that_it_sees(case, tile):
    layer = conv_layer(case)
    window, columns = layer.window, layer.out_shape[1]
    found = []
    for ox, count, size, low, high, lead, tail in column_runs(layer, tile).tolist():
        assert size in tile.pixels
        assert count % size == 0
        assert ox == len(found)
        for column in range(count):
            begin, end = low + (lead and column == 0), high - (tail and column == count - 1)
            found.append(set(range(begin, end)))
    taps = range(window.size[1])
    places = [[ox * window.stride[1] - window.pad_left + k * window.dilation[1] for k in taps] for ox in range(columns)]
    assert found == [{k for k in taps if 0 <= row[k] < layer.shape[1]} for row in places]


@pytest.mark.parametrize("columns", [1, 2, 3, 4, 7, 16])
def test_columns_at_both_edges_share_a_run_with_those_between(columns):
    """Or in tests of many drawn cases none might be merged."""
    layer = replace(DEEP, shape=(1, columns, LANES), out_shape=(1, columns, LANES))
    one_size = Tile(1, (columns, 1) if columns > 1 else (1,), (1.0,) * min(columns, 2))
    sights = [0, 3, 1, 1] if columns > 1 else [1, 2, 0, 0]
    assert column_runs(layer, one_size).tolist() == [[0, columns, columns, *sights]]


def test_a_tap_is_left_out_at_one_end_of_a_run_alone():
    """A kernel of one tap over one pixel between two of padding: neither end sees it, and a tile leaves out one end."""
    window = Window((1, 1), pad_left=1)
    layer = Layer("conv2d", ("c",), "x", "y", (1, 1, 1), (1, 3, 1), window, kernel=np.ones((1, 1, 1, 1), np.float32))
    runs = column_runs(layer, Tile(1, (3, 2, 1), (3.0, 2.0, 1.0)))
    assert runs.tolist() == [[0, 2, 2, 0, 1, 1, 0], [2, 1, 1, 0, 0, 0, 0]]


@given(st.integers(1, 9), st.integers(1, 4), st.data())
def test_runs_of_pooled_columns_say_what_each_column_of_a_window_sees(windows, wide, data):
    pad = data.draw(st.integers(0, 2))
    columns = windows * wide
    window = Window((3, 3), pad_top=1, pad_left=pad)
    shape = (4, columns + 2 - 2 * pad, 1) if columns + 2 > 2 * pad else (4, 1, 1)
    layer = Layer("conv2d", ("c",), "x", "y", shape, (2, windows, 1), window, kernel=np.ones((3, 3, 1, 1), np.float32),
                  pool=(2, wide))  # fmt: skip
    want = valid_taps(columns, shape[1], 1, 1, pad, 3).tolist()
    found = []
    for run in column_runs(layer, TILE).tolist():
        for column in range(run[1]):
            for at in range(RUN_HEAD, len(run), RUN_SIGHT):
                low, high, lead, tail = run[at : at + RUN_SIGHT]
                found.append([low + (lead and column == 0), high - (tail and column == run[1] - 1)])
    assert [r if r[0] < r[1] else [] for r in found] == [r if r[0] < r[1] else [] for r in want]


def kind(seen):
    """0 where all of some positions see a tap, 1 where the first alone does not, 2 where the last does not; else
    None.
    """
    return {(): 0, (0,): 1, (len(seen) - 1,): 2}.get(tuple(np.flatnonzero(~seen))) if len(seen) > 1 else None


@given(strategies.conv_cases(), st.integers(2, 4))
def test_sights_tell_which_lines_and_columns_see_each_tap(case, lines):
    layer = conv_layer(case)
    positions = [[(low <= np.arange(size)) & (np.arange(size) < high) for low, high in axis_taps(layer, axis)]
                 for axis, size in enumerate(layer.window.size)]  # fmt: skip
    down, across = (np.array(seen) for seen in positions)  # [positions, taps]
    if len(across) < 2 or len(down) % lines:
        return
    columns, want = [kind(seen) for seen in across.T], []
    for first in range(0, len(down), lines):
        rows = [kind(seen) for seen in down[first : first + lines].T]
        want.append([None if None in (y, x) else 3 * y + x for y in rows for x in columns])
    found = sights(layer, lines)
    assert (found is None) == any(None in band for band in want)
    if found is not None:
        assert found.tolist() == want


def test_sights_of_windows_that_miss_one_line_and_of_those_that_miss_two():
    three, five = (conv_layer(replace(CASE, size_hw=(4, 4), kernel_hw=(size, size))) for size in (3, 5))
    assert sights(three, 4).tolist() == [[4, 3, 5, 1, 0, 2, 7, 6, 8]]
    assert sights(three, 2).tolist() == [[4, 3, 5, 1, 0, 2, 1, 0, 2], [1, 0, 2, 1, 0, 2, 7, 6, 8]]
    assert sights(five, 4) is None


def test_a_depthwise_layer_has_every_tap_and_its_own_channel():
    c, kernel = LANES + 3, np.arange(9 * (LANES + 3), dtype=np.float32).reshape(3, 3, 1, -1)
    layer = replace(DEEP, kernel=kernel)
    packed = pack_depthwise(layer, CHANNELS, TILE)
    assert packed.tiles == 2
    weights = packed.weights.reshape(2, 9, LANES).transpose(1, 0, 2).reshape(9, -1)
    assert_identical(weights, np.pad(kernel.reshape(9, c), ((0, 0), (0, LANES - 3))))
    assert_identical(packed.starts, np.array([np.arange(10), np.arange(9, 19)], np.int32))


# --- prove -----------------------------------------------------------------------------------------------------------

CASE = strategies.ConvCase(1, (4, 5), (3, 3), 3, 9, (1, 1), "same", (1, 1), 1, 3)


def changed(array, at, by):
    array = array.copy()
    array[at] += by
    return array


def bad(field, make):
    return lambda packed: replace(packed, **{field: make(getattr(packed, field))})


BROKEN = {
    "a row far beyond the image": ("reads", bad("rows", lambda a: changed(a, 7, 10**6))),
    "a row before the image": ("reads", bad("rows", lambda a: changed(a, 0, -1))),
    "a first start that is not zero": ("row starts", bad("starts", lambda a: changed(a, (0, 0), 1))),
    "starts that fall": ("row starts", bad("starts", lambda a: changed(a, (0, 4), -10))),
    "a tile that begins before the last one ends": ("row starts", bad("starts", lambda a: changed(a, (1, 0), -1))),
    "starts beyond the rows": ("row starts", bad("starts", lambda a: changed(a, (-1, -1), 1))),
    "a missing row": ("row starts", bad("rows", lambda a: a[:-1])),
    "a missing weight": ("row starts", bad("weights", lambda a: a[:-1])),
    "runs that begin late": ("runs", bad("runs", lambda a: changed(a, (0, 0), 1))),
    "runs with a gap": ("runs", bad("runs", lambda a: changed(a, (1, 0), 1))),
    "runs that overlap": ("runs", bad("runs", lambda a: changed(a, (0, 1), 1))),
    "runs that end early": ("runs", bad("runs", lambda a: changed(a, (-1, 1), -1))),
    "runs that end late": ("runs", bad("runs", lambda a: changed(a, (-1, 1), 1))),
    "a tile wider than its run": ("runs", bad("runs", lambda a: changed(a, (-1, 2), 1))),
    "taps before the window": ("runs", bad("runs", lambda a: changed(a, (0, 3), -1))),
    "taps beyond the window": ("runs", bad("runs", lambda a: changed(a, (-1, 4), 3))),
    "taps of the padding at the left": ("runs", bad("runs", lambda a: changed(a, (0, 5), -1))),
    "taps of the padding at the right": ("runs", bad("runs", lambda a: changed(a, (-1, 6), -1))),
    "no run": ("runs", bad("runs", lambda a: a[:0])),
    "rows that see more taps": ("the taps of", bad("row_taps", lambda a: changed(a, (0, 0), -1))),
    "a row without its taps": ("the taps of", bad("row_taps", lambda a: a[:-1])),
    "starts of more taps": ("row starts", bad("starts", lambda a: np.pad(a, ((0, 0), (0, 1)), mode="edge"))),
    "a missing bias": ("bias", bad("bias", lambda a: a[:-1])),
    "fewer tiles than outputs": ("bias", lambda p: first_tiles(p, 1)),
    "more tiles than the block of outputs holds": ("bias", lambda p: one_tile_more(p)),
}


def first_tiles(packed, count):
    starts = packed.starts[:count]
    rows = int(starts[-1, -1])
    return replace(
        packed,
        weights=packed.weights[: rows * 8],
        bias=packed.bias[: count * 8],
        rows=packed.rows[:rows],
        starts=starts,
    )


def one_tile_more(packed):
    """An empty tile more, with its bias."""
    end = np.full((1, packed.starts.shape[1]), packed.starts[-1, -1])
    return replace(packed, bias=np.r_[packed.bias, packed.bias[:8]], starts=np.r_[packed.starts, end])


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.name)
@pytest.mark.parametrize("name", BROKEN)
def test_prove_refuses(name, layout):
    layer = conv_layer(CASE)
    packed = pack(layer, layout, TILE, 8)
    prove(packed, layer, layout, TILE, 8)
    what, break_it = BROKEN[name]
    with pytest.raises(PlanError, match=rf"^plan of node y: expected {what}.*, got .+\.$"):
        prove(break_it(packed), layer, layout, TILE, 8)


@given(strategies.conv_cases(), layouts, st.data())
def test_prove_refuses_exactly_the_rows_that_leave_the_image(case, layout, data):
    """Any single row moved by any distance: refused if and only if some read of it falls outside the buffer."""
    layer = conv_layer(case, 0.5)
    packed = pack(layer, layout, TILE, 4)
    if not packed.rows.size:
        return
    at = data.draw(st.integers(0, packed.rows.size - 1))
    size = layout.size(layer.shape)
    moved = changed(packed.rows, at, data.draw(st.integers(-size - 2, size + 2)))
    tap = next(tap for n, (_, tap, _, _) in enumerate(all_rows(packed, 4)) if n == at)
    ky, kx = divmod(tap, layer.window.size[1])
    pads = ((layer.window.pad_top, layer.window.pad_left), (layer.window.stride, layer.window.dilation))
    outside = False
    for oy in range(layer.out_shape[0]):
        for ox in range(layer.out_shape[1]):
            y0, x0 = (o * s - p for o, s, p in zip((oy, ox), pads[1][0], pads[0], strict=True))
            y, x = (f + k * d for f, k, d in zip((y0, x0), (ky, kx), pads[1][1], strict=True))
            if 0 <= y < layer.shape[0] and 0 <= x < layer.shape[1]:
                first = int(moved[at]) + (y0 * layer.shape[1] + x0) * layout.pixel(layer.shape[2])
                outside |= first < 0 or first + layout.lanes > size
    never = not any_run(layer, ky, kx)
    broken = replace(packed, rows=moved)
    if outside:
        with pytest.raises(PlanError, match="reads"):
            prove(broken, layer, layout, TILE, 4)
    elif not never:
        prove(broken, layer, layout, TILE, 4)


def any_run(layer, ky, kx):
    """Whether some output position executes a tap."""
    window = layer.window
    return all(
        any(
            0 <= o * window.stride[i] - (window.pad_top, window.pad_left)[i] + k * window.dilation[i] < layer.shape[i]
            for o in range(layer.out_shape[i])
        )
        for i, k in ((0, ky), (1, kx))
    )


DEEP = Layer(
    "conv2d",
    ("d",),
    "x",
    "y",
    (4, 5, LANES + 3),
    (4, 5, LANES + 3),
    Window((3, 3), pad_top=1, pad_left=1),
    kernel=np.ones((3, 3, 1, LANES + 3), np.float32),
    groups=LANES + 3,
)


@pytest.mark.parametrize("by", [-1, 1, 10**6])
def test_prove_refuses_depthwise_rows_that_leave_the_image(by):
    """The last tile reads to the very end of the image, so one element more is one too many."""
    packed = pack_depthwise(DEEP, CHANNELS, TILE)
    prove(packed, DEEP, CHANNELS, TILE, LANES, depthwise=True)
    for at in range(packed.rows.size):
        tap, tile = at % 9, at // 9
        corner = (tap == 0 and tile == 0) if by < 0 else (tap == 8 and tile == 1) or by > 1
        moved = replace(packed, rows=changed(packed.rows, at, by))
        if corner:
            with pytest.raises(PlanError, match="reads"):
                prove(moved, DEEP, CHANNELS, TILE, LANES, depthwise=True)


def test_offsets_beyond_32_bits_are_refused():
    shape = (40_000, 40_000, 1)
    kernel = np.ones((2, 1, 1, 1), np.float32)
    window = Window((2, 1), dilation=(39_999, 1))
    layer = Layer("conv2d", ("huge",), "x", "y", shape, (1, 40_000, 1), window, kernel=kernel)
    with pytest.raises(PlanError, match=r"^plan: expected offsets within 32 bits, got up to \d{10,}\. Use smaller"):
        pack(layer, IMAGES, TILE, 1)


def test_the_plan_error_is_ours():
    assert issubclass(PlanError, packing.LhcError)
