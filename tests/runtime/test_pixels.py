"""A single image's pixels in the lanes: blocks, planes, packed weights, when the kernel is chosen, what is refused."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from runtime import pixels, select, topology
from runtime.kernels.machine import LANES
from runtime.kernels.pixels import MEMORY_SIZE, SQUARE_SIZE
from runtime.kernels.registry import entries_for
from runtime.kernels.step import Kernel
from runtime.kernels.tiles import pixels_tiles
from runtime.layer import Layer, Window
from runtime.layout import CHANNELS
from runtime.pack import PlanError
from runtime.pixels import Block, block_of, pack_turned, prove_turned
from tests import strategies
from tests.runtime.test_pack import bad, changed, conv_layer
from tests.strategies import ConvCase
from tests.tolerances import assert_identical

tiles = st.sampled_from(pixels_tiles())
sizes = st.sampled_from([1, 60 * LANES, MEMORY_SIZE])  # elements of planes that are wanted near


def blocked_layer(case, density, tile, size):
    """A drawn layer and its block, the planes as small as asked for."""
    layer = conv_layer(case, density)
    with pytest.MonkeyPatch.context() as here:
        here.setattr(pixels, "PLANES_SIZE", size)
        here.setattr(pixels, "SINGLE_PLANES_SIZE", size)
        block = block_of(layer, tile)
    assert block is not None
    return layer, block


def blocks_of(layer, block):
    """(oy, ox) of the first pixel of each block."""
    oh, ow, _ = layer.conv_shape
    return [(oy, ox) for oy in range(0, oh, block.height) for ox in range(0, ow, block.width)]


@given(strategies.conv_cases(), st.one_of(st.none(), strategies.densities), tiles, sizes)
def test_every_tap_of_every_pixel_finds_its_input_or_padding(case, density, tile, size):
    """Where the kernel puts each pixel of a phase, and zeros, is where packed rows read it for each output."""
    layer, block = blocked_layer(case, density, tile, size)
    (h, w, _), window, (oh, ow, _) = layer.shape, layer.window, layer.conv_shape
    down, across = (pixels.shifts(layer, axis) for axis in (0, 1))
    for oy, ox in blocks_of(layer, block):
        top, left = oy * window.stride[0] - window.pad_top, ox * window.stride[1] - window.pad_left
        for y, x in np.ndindex(min(block.height, oh - oy), min(block.width, ow - ox)):
            for ky, kx in np.ndindex(window.size):
                q = (y + down[ky]) * block.row + x + across[kx]
                assert q < block.plane
                phase = [k * d % s for k, d, s in zip((ky, kx), window.dilation, window.stride, strict=True)]
                # The pixel that stands at place q of that phase's plane:
                at = [
                    first + step * n + p
                    for first, step, n, p in zip((top, left), window.stride, divmod(q, block.row), phase, strict=True)
                ]
                want = [
                    (o * s + k * d - pad)
                    for o, s, k, d, pad in zip(
                        (oy + y, ox + x),
                        window.stride,
                        (ky, kx),
                        window.dilation,
                        (window.pad_top, window.pad_left),
                        strict=True,
                    )
                ]
                inside, meant = (0 <= p[0] < h and 0 <= p[1] < w for p in (at, want))
                assert inside == meant
                assert not inside or at == want


@given(strategies.conv_cases(), st.one_of(st.none(), strategies.densities), tiles, sizes)
def test_every_kept_weight_is_in_one_row_of_its_tile(case, density, tile, size):
    layer, block = blocked_layer(case, density, tile, size)
    packed, kernel = pack_turned(layer, tile, block), topology.full_kernel(layer)
    rows, (kh, kw, c_in, c_out), outputs = topology.of_layer(layer).rows(tile.outputs), kernel.shape, tile.outputs
    (down, across), window = (pixels.shifts(layer, axis) for axis in (0, 1)), layer.window
    made, want = -(-c_out // LANES) * LANES, []
    whole = np.zeros((kh, kw, c_in, made), np.float32)
    whole[..., :c_out] = kernel
    for part in range(block.parts):
        channels = range(part * block.channels, min(c_in, (part + 1) * block.channels))
        for t in range(len(rows)):
            for ky, kx in np.ndindex(kh, kw):
                py, px = ky * window.dilation[0] % window.stride[0], kx * window.dilation[1] % window.stride[1]
                at = (py * window.stride[1] + px) * block.plane + down[ky] * block.row + across[kx]
                for ci in (ci for ci in channels if rows[t, ky, kx, ci]):
                    weights = tuple(whole[ky, kx, ci, t * outputs : (t + 1) * outputs].tolist())
                    want.append(
                        (part * made // outputs + t, at + (ci - part * block.channels) * block.channel, weights)
                    )
    lists = np.repeat(np.arange(len(packed.starts) - 1), np.diff(packed.starts))
    weights = map(tuple, packed.weights.reshape(-1, outputs).tolist())
    assert list(zip(lists.tolist(), packed.rows.tolist(), weights, strict=True)) == want
    assert_identical(packed.bias[:c_out], layer.bias)
    assert not packed.bias[c_out:].any()


@given(
    tile=tiles,
    c_in=st.integers(1, 4096),
    c_out=st.integers(1, 4096),
    size=st.tuples(st.integers(1, 300), st.integers(1, 300)),
    taps=st.sampled_from([(1, 1), (3, 3), (7, 7)]),
    stride=st.sampled_from([(1, 1), (2, 2)]),
    pool=st.sampled_from([(1, 1), (2, 2)]),
)
def test_a_block_has_room_in_a_tasks_memory(tile, c_in, c_out, size, taps, stride, pool):
    pad = taps[0] // 2
    convolved = tuple((n + 2 * pad - taps[0]) // s + 1 for n, s in zip(size, stride, strict=True))
    assume(min(convolved) >= pool[0])
    shape = tuple(n // p for n, p in zip(convolved, pool, strict=True))
    window = Window(taps, stride, pad_top=pad, pad_left=pad)
    layer = Layer("conv2d", ("c",), "x", "y", (*size, c_in), (*shape, c_out), window, pool=pool)
    block = Block.of(layer, tile, rows=100)
    assert block is not None
    assert block.memory <= MEMORY_SIZE
    assert block.height % pool[0] == block.width % pool[1] == 0
    assert 1 <= block.height <= layer.conv_shape[0]
    assert 1 <= block.width <= layer.conv_shape[1]
    assert (block.parts - 1) * block.channels < c_in <= block.parts * block.channels
    assert block.squares <= -(-c_out // LANES)


def test_whole_rows_of_an_image_share_their_padding():
    layer = conv_layer(ConvCase(1, (8, 8), (3, 3), 64, 64, (1, 1), "same", (1, 1), 1, 3), 0.2)
    block = block_of(layer, pixels_tiles()[0])
    assert (block.width, block.row) == (8, 9)
    assert block.vectors == math.ceil(((block.height - 1) * 9 + 8) / LANES)


def test_channels_lie_in_different_sets_of_the_cache():
    layer = conv_layer(ConvCase(1, (32, 32), (3, 3), 64, 64, (1, 1), "same", (1, 1), 1, 3), 0.2)
    for tile in pixels_tiles():
        assert block_of(layer, tile).channel // LANES % 2 == 1


@pytest.mark.parametrize("tile", pixels_tiles(), ids=lambda tile: tile.name)
def test_one_vector_of_output_channels_is_work_for_two_threads_if_it_is_enough(tile):
    for size, shared in ((16, True), (4, False)):
        layer = masked_layer((size, size, 64), LANES, 0.1, 1)
        assert (block_of(layer, tile).height < size) == shared


# --- When it is chosen -----------------------------------------------------------------------------------------------


def masked_layer(shape, c_out, density, group_out, taps=(3, 3), **fields):
    """A layer whose output channels share patterns in groups."""
    pad = taps[0] // 2
    rng = np.random.default_rng(5)
    mask = np.repeat(rng.random((*taps, shape[2], c_out // group_out)) < density, group_out, axis=3)
    window = Window(taps, pad_top=pad, pad_left=pad)
    out_shape = (*shape[:2], c_out)
    return Layer(
        "conv2d", ("c",), "x", "y", shape, out_shape, window, kernel=mask.astype(np.float32), mask=mask, **fields
    )


@pytest.mark.parametrize(
    ("layer", "chosen"),
    [
        (masked_layer((64, 64, 64), 64, 0.2, LANES // 2), True),  # patterns narrower than a vector
        (masked_layer((32, 32, 64), 64, 0.1, 1), True),  # no patterns
        (masked_layer((8, 8, 256), 256, 0.1, LANES), False),  # patterns of a vector, whole lines in registers
        (masked_layer((14, 14, 384), 64, 0.2, LANES, (1, 1)), False),  # few multiply-adds for what is turned
    ],
    ids=["half vectors", "unstructured", "whole vectors", "pointwise"],
)
def test_is_chosen_where_a_vector_of_outputs_shares_no_pattern(layer, chosen):
    choice = select.choose(layer, CHANNELS)
    assert (choice.entry.kernel == Kernel.CONV_PIXELS) == chosen
    assert choice.chosen.dense_cycles > choice.cycles


def test_is_no_candidate_where_no_weight_is_missing_or_a_sum_is_pooled():
    layer = masked_layer((8, 8, 16), 16, 0.2, 8)
    pooled = replace(layer, out_shape=(4, 4, 16), pool=(2, 2), unpooled=(8, 8, 16))
    grouped = replace(layer, mask=None, groups=2, kernel=layer.kernel[:, :, :8])
    for found, is_one in (
        (layer, True),
        (pooled, True),
        (grouped, True),
        (replace(layer, mask=None), False),
        (replace(pooled, other="r"), False),
    ):
        kernels = [candidate.entry.kernel for candidate in select.choose(found, CHANNELS).candidates]
        assert (Kernel.CONV_PIXELS in kernels) == is_one


def test_computes_the_rows_of_its_tiles_at_every_pixel():
    layer = masked_layer((5, 7, 16), 24, 0.2, 8)
    rows = topology.of_layer(layer)
    for entry in entries_for(Kernel.CONV_PIXELS, "channels"):
        (found,) = [c for c in select.choose(layer, CHANNELS).candidates if c.entry == entry]
        outputs = entry.tile.outputs
        assert found.computed_macs == rows.rows(outputs).sum() * outputs * 35


# --- prove -----------------------------------------------------------------------------------------------------------

CASE = ConvCase(1, (5, 7), (3, 3), 3, 9, (1, 1), "same", (1, 1), 1, 3)
BROKEN = {
    "a row before the planes": ("reads", bad("rows", lambda a: changed(a, 0, -1000))),
    "a row beyond the planes": ("reads", bad("rows", lambda a: changed(a, -1, 10**6))),
    "a first start that is not zero": ("row starts", bad("starts", lambda a: changed(a, 0, 1))),
    "starts that fall": ("row starts", bad("starts", lambda a: changed(a, 1, 4000))),
    "starts beyond the rows": ("row starts", bad("starts", lambda a: changed(a, -1, 1))),
    "a list fewer": ("row starts", bad("starts", lambda a: np.r_[a[:-2], a[-1]])),
    "a missing row": ("row starts", bad("rows", lambda a: a[:-1])),
    "a missing weight": ("row starts", bad("weights", lambda a: a[:-1])),
    "a missing bias": ("a bias", bad("bias", lambda a: a[:-1])),
}
SMALLER = {
    "planes without room for a channel": ("room for", lambda block: {"size": block.size - 1}),
    "channels that lie in one another": ("room for", lambda block: {"channel": block.plane - LANES}),
    "too few channels": ("parts of 3 channels", lambda block: {"channels": 0, "size": 10**4}),
    "a part too many": ("row starts", lambda block: {"parts": 2}),
    "channels of half a vector": ("parts of 3 channels", lambda block: {"channels": LANES // 2}),
    "planes that leave no room for sums": (f"{MEMORY_SIZE} elements", lambda block: {"size": MEMORY_SIZE}),
}


@pytest.mark.parametrize("tile", pixels_tiles(), ids=lambda tile: tile.name)
@pytest.mark.parametrize("name", [*BROKEN, *SMALLER])
def test_prove_refuses(name, tile):
    layer = conv_layer(CASE, 0.5)
    block = block_of(layer, tile)
    packed = pack_turned(layer, tile, block)
    prove_turned(packed, layer, tile, block)
    what, break_it = BROKEN.get(name) or SMALLER[name]
    broken = (break_it(packed), block) if name in BROKEN else (packed, replace(block, **break_it(block)))
    with pytest.raises(PlanError, match=rf"^plan of node y: expected {what}.*, got .+\.$"):
        prove_turned(broken[0], layer, tile, broken[1])


def test_prove_refuses_blocks_that_cut_a_poolings_window():
    layer = conv_layer(CASE, 0.5)
    tile = pixels_tiles()[0]
    block = block_of(layer, tile)
    packed, pooled = pack_turned(layer, tile, block), replace(layer, pool=(2, 2))
    with pytest.raises(PlanError, match=r"expected blocks of whole windows of 2 x 2, got others\.$"):
        prove_turned(packed, pooled, tile, replace(block, height=3))


def test_a_tasks_memory_holds_each_vector_of_sums_that_waits():
    layer = conv_layer(ConvCase(1, (8, 8), (3, 3), 64, 64, (1, 1), "same", (1, 1), 1, 3), 0.2)
    block = block_of(layer, pixels_tiles()[0])
    most = pixels.TOGETHER
    for parts, squares, waiting in ((1, 2, 2), (1, most + 1, most), (2, 2, 2), (2, most + 1, most + 1)):
        memory = replace(block, squares=squares, parts=parts).memory
        assert memory == LANES + block.size + waiting * block.vectors * SQUARE_SIZE
