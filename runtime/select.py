"""Chooses a kernel for each layer by a deterministic cost model, and says why."""

import math
from dataclasses import dataclass

import numpy as np

from runtime import pixels, topology, winograd
from runtime.costs import memory_cycles, with_weights
from runtime.kernels.machine import LANES
from runtime.kernels.registry import Entry, entries_for
from runtime.kernels.step import RUN_HEAD, RUN_SIGHT, Kernel
from runtime.kernels.tiles import Tile
from runtime.kernels.winograd import FREQUENCIES
from runtime.layer import FUNCTIONS, Layer
from runtime.layout import Layout
from runtime.patches import Patch
from runtime.windows import column_runs, column_taps, row_taps, seen, sights

TILE_OVERHEAD_CYCLES = 45.0  # a tile's call, bias, activation and store, beside its rows; AVX-512 server core
# Of scattered weights; fitted to 3x3 layers of densities .05 to .3 on an AMD Zen 5 core, for AVX-512 and for AVX2:
VISIT_CYCLES = 6.0  # a list's end,
SUM_CYCLES = LANES / 8  # and each of a tile's sums, from and to memory
COPY_CYCLES = 2.0  # one line into a patch
# Of whole lines in registers: each pixel of a row, a row, and the begin and end of a tap's rows; AMD Zen 5, AVX-512.
WHOLE_PIXEL_CYCLES, WHOLE_ROW_CYCLES, WHOLE_TAP_CYCLES = 0.58, 0.7, 15.0
FAMILIES = {
    "max_pool": Kernel.MAX_POOL,
    "average_pool": Kernel.AVERAGE_POOL,
    "add": Kernel.ADD,
    "activate": Kernel.ACTIVATE,
    "softmax": Kernel.SOFTMAX,
    "flatten": Kernel.FLATTEN,
    "move": Kernel.GATHER,
    **dict.fromkeys(FUNCTIONS, Kernel.MAP),
}


@dataclass(frozen=True)
class Candidate:
    """A kernel with its predicted cost for one image group, the same kernel's cost if no weight were missing, and the
    seconds that a trial measured, if there was one.
    """

    entry: Entry
    cycles: float
    dense_cycles: float
    computed_macs: int
    measured_s: float | None = None


@dataclass(frozen=True)
class Choice:
    """The chosen kernel of a layer, the reason in words, and all that could run it with their predicted cycles."""

    chosen: Candidate
    why: str
    candidates: tuple[Candidate, ...]

    @property
    def entry(self) -> Entry:
        """The chosen kernel."""
        return self.chosen.entry

    @property
    def cycles(self) -> float:
        """What is predicted for it."""
        return self.chosen.cycles


def executed_macs(layer: Layer) -> int:
    """Multiply-adds of one image with existing weights only and without taps in the padding."""
    return int((topology.count_by_tap(topology.of_layer(layer).kept) * _positions(layer)).sum())


def _positions(layer: Layer) -> np.ndarray:
    """i64[kh, kw]: how many positions of the window see each tap."""
    height, width = layer.window.size
    return seen(row_taps(layer), height)[:, None] * seen(column_taps(layer), width)


def tile_channels(entry: Entry) -> int:
    """Output channels of a convolution kernel's tile."""
    assert entry.tile is not None, "a convolution kernel has a tile"
    of_vectors = entry.layouts == ("channels",) and entry.kernel != Kernel.CONV_PIXELS
    return entry.tile.outputs * (LANES if of_vectors else 1)


@dataclass(frozen=True, eq=False)
class Walk:
    """How register tiles of one kind walk over a layer's pixels, for one output tile.

    tap_cycles : f64[kh, kw], cycles of one row of each tap over all pixels
    calls : register tiles
    """

    tap_cycles: np.ndarray
    calls: int

    @classmethod
    def of(cls, layer: Layer, tile: Tile) -> "Walk":
        """The walk over a convolution. O(output rows + columns)."""
        runs = column_runs(layer, tile)
        tiles = runs[:, 1] // runs[:, 2]
        cost = dict(zip(tile.pixels, tile.cycles, strict=True))
        cycles = np.array([count * cost[size] for count, size in zip(tiles, runs[:, 2], strict=True)])
        low, high = (runs[:, RUN_HEAD + bound :: RUN_SIGHT, None] for bound in (0, 1))
        each = np.arange(layer.window.size[1])
        across = (((low <= each) & (each < high)).sum(1) * cycles[:, None]).sum(0)
        rows = row_taps(layer)
        calls = len(rows) * int(tiles.sum()) * layer.pool[1]
        return cls(seen(rows, layer.window.size[0])[:, None] * across, calls)


def _walk(layer: Layer, entry: Entry) -> Walk:
    assert entry.tile is not None, "a convolution kernel has a tile"
    return Walk.of(layer, entry.tile)


def _candidate(layer: Layer, entry: Entry, tile_channels: int, walk: Walk, traffic: float) -> Candidate:
    rows = topology.of_layer(layer).rows(tile_channels)
    tiles, _, _, c_in = rows.shape
    overhead = walk.calls * tiles * TILE_OVERHEAD_CYCLES + traffic
    of_taps = topology.count_by_tap(rows.transpose(1, 2, 3, 0))
    return Candidate(
        entry,
        with_weights(float((of_taps * walk.tap_cycles).sum()), of_taps.sum() * tile_channels) + overhead,
        with_weights(tiles * c_in * walk.tap_cycles.sum(), tiles * c_in * of_taps.size * tile_channels) + overhead,
        int((of_taps * _positions(layer)).sum()) * tile_channels,
    )


def _scattered(layer: Layer, entry: Entry, traffic: float) -> Candidate:
    """The candidate that runs each output channel by itself."""
    assert entry.tile is not None, "a convolution kernel has a tile"
    tile, patch, (oh, ow, c_out) = entry.tile, Patch.of(layer, entry.tile), layer.out_shape
    cost, cover, bands = dict(zip(tile.pixels, tile.cycles, strict=True)), tile.cover(ow), -(-oh // tile.rows)
    row_cycles = bands * sum(count * cost[size] for size, count in cover)
    tiles, sums = bands * sum(count for _, count in cover), bands * tile.rows * ow
    visits = patch.parts(layer) * c_out * (tiles * VISIT_CYCLES + sums * SUM_CYCLES)
    overhead = visits + tiles * layer.shape[2] * patch.height * patch.width * COPY_CYCLES + traffic
    kept = topology.of_layer(layer).kept
    rows = int(kept.sum())
    return Candidate(entry, rows * row_cycles + overhead, kept.size * row_cycles + overhead, rows * sums)


def _is_whole(layer: Layer, entry: Entry) -> bool:
    """Whether a kernel's tiles are bands of whole lines of a layer, of which a tap misses at most those at an edge."""
    assert entry.tile is not None, "a convolution kernel has a tile"
    (h, w, _), lines = layer.conv_shape, entry.tile.rows
    fits = w == entry.tile.pixels[0] and h % lines == 0 and lines % layer.pool[0] == 0
    return fits and sights(layer, lines) is not None


def _whole(layer: Layer, entry: Entry, traffic: float) -> Candidate:
    """The candidate that holds whole lines in registers."""
    assert entry.tile is not None, "a convolution kernel has a tile"
    bands = layer.conv_shape[0] // entry.tile.rows
    rows = topology.of_layer(layer).rows(LANES)
    tiles, _, _, c_in = rows.shape
    pixels = _positions(layer)
    of_taps, cycles = (
        topology.count_by_tap(rows.transpose(1, 2, 3, 0)),
        WHOLE_PIXEL_CYCLES * pixels + bands * WHOLE_ROW_CYCLES,
    )
    overhead = tiles * bands * (TILE_OVERHEAD_CYCLES + WHOLE_TAP_CYCLES * pixels.size) + traffic
    return Candidate(
        entry,
        with_weights(float((of_taps * cycles).sum()), of_taps.sum() * LANES) + overhead,
        with_weights(tiles * c_in * cycles.sum(), tiles * c_in * of_taps.size * LANES) + overhead,
        int((of_taps * pixels).sum()) * LANES,
    )


def _can_scatter(layer: Layer, entry: Entry) -> bool:
    """Whether a kernel of scattered weights runs a layer: a stride of one column, windows that fit in a patch, and rows
    of tiles that are whole but for a last one of a single row.
    """
    assert entry.tile is not None, "a convolution kernel has a tile"
    rows = entry.tile.rows
    whole = rows <= 2 or layer.out_shape[0] % rows == 0
    return whole and layer.window.stride[1] == 1 and layer.pool == (1, 1) and Patch.of(layer, entry.tile).fits


def _transformed(layer: Layer, layout: Layout, entry: Entry, traffic: float) -> Candidate:
    """The candidate by Winograd's transform, which multiplies by all weights of an input channel or by none."""
    assert entry.tile is not None, "a convolution kernel has a tile"
    made = tile_channels(entry)
    kept = winograd.kept_channels(layer, made)
    cycles, dense_cycles = (
        winograd.cycles(layer, layout, entry.tile, made, rows) + traffic for rows in (int(kept.sum()), kept.size)
    )
    computed = FREQUENCIES * math.prod(winograd.positions(layer)) * int(kept.sum()) * made
    return Candidate(entry, cycles, dense_cycles, computed)


def _turned(layer: Layer, entry: Entry, traffic: float) -> Candidate | None:
    """The candidate with pixels in the lanes, if there is room for a block of them."""
    tile, topo = entry.tile, topology.of_layer(layer)
    assert tile is not None, "a convolution kernel has a tile"
    rows = topo.rows(tile.outputs)
    kept, (oh, ow, _) = int(rows.sum()), layer.conv_shape
    block = pixels.Block.of(layer, tile, kept)
    if block is None:
        return None
    cycles = block.cycles + traffic
    return Candidate(entry, cycles, cycles + (rows.size - kept) * block.row_cycles, kept * tile.outputs * oh * ow)


def is_depthwise(layer: Layer) -> bool:
    """Whether every output channel reads just the input channel of its own number."""
    return layer.groups > 1 and layer.groups == layer.shape[2] == layer.out_shape[2]


def _conv_candidates(layer: Layer, layout: Layout, transforms: bool) -> tuple[Candidate, ...]:
    kernel = Kernel.CONV_IMAGES if layout.lanes > 1 else Kernel.CONV_CHANNELS
    fitting = [e for e in entries_for(kernel, layout.name) if layout.fits(layer.out_shape[2], tile_channels(e))]
    traffic = memory_cycles(layer, layout)
    rows = (_candidate(layer, e, tile_channels(e), _walk(layer, e), traffic) for e in fitting)
    scattered = (e for e in entries_for(Kernel.CONV_SCATTERED, layout.name) if _can_scatter(layer, e))
    whole = (e for e in entries_for(Kernel.CONV_WHOLE, layout.name) if _is_whole(layer, e))
    sparse = layer.mask is not None or layer.groups > 1  # pixels in the lanes gain nothing elsewhere
    turned = entries_for(Kernel.CONV_PIXELS, layout.name) if sparse and pixels.fits(layer) else []
    transforms = transforms and winograd.fits(layer)
    transformed = entries_for(Kernel.CONV_WINOGRAD, layout.name) if transforms else []
    return (
        *rows,
        *(_scattered(layer, e, traffic) for e in scattered),
        *(_whole(layer, e, traffic) for e in whole),
        *(found for e in turned if (found := _turned(layer, e, traffic)) is not None),
        *(
            _transformed(layer, layout, e, traffic)
            for e in transformed
            if layout.fits(layer.out_shape[2], tile_channels(e))
        ),
    )


def _only(entry: Entry, cycles: float, computed_macs: int = 0) -> tuple[Candidate, ...]:
    return (Candidate(entry, cycles, cycles, computed_macs),)


def _candidates(layer: Layer, layout: Layout, transforms: bool) -> tuple[tuple[Candidate, ...], str]:
    """All kernels that could run a layer, in the order of preference on ties; why there is one alone, if so."""
    vectors = layout.size(layer.conv_shape) / LANES
    taps = layer.window.size[0] * layer.window.size[1]
    if layer.op != "conv2d":
        entry = entries_for(FAMILIES[layer.op], layout.name)[0]
        return _only(entry, vectors * taps), "the only kernel for this operator"
    if is_depthwise(layer) and layout.lanes == 1:
        entry = entries_for(Kernel.DEPTHWISE, layout.name)[0]
        h, w, c_out = layer.conv_shape
        only = _only(entry, vectors * (taps + TILE_OVERHEAD_CYCLES / 8), c_out * h * w * taps)
        return only, "depthwise: one input channel for each output channel, channels in the lanes"
    return _conv_candidates(layer, layout, transforms), ""


def short_name(entry: Entry) -> str:
    """What tells a convolution kernel from others: `rows_6x4` of `f32_conv2d_images_rows_6x4__cpu`."""
    return entry.name.split("__")[0].split("_", 3)[3]


def _reason(layer: Layer, best: Candidate, candidates: tuple[Candidate, ...]) -> str:
    density = topology.of_layer(layer).density
    gain = best.dense_cycles / max(best.cycles, 1.0)
    rest = ", ".join(f"{short_name(c.entry)} {c.cycles:,.0f}" for c in candidates if c is not best)
    tail = f"; {rest} cycles with other tiles" if rest else ""
    if best.entry.kernel == Kernel.CONV_WINOGRAD:
        whole = f"by Winograd's transform, {best.cycles:,.0f} cycles predicted"
        if gain >= 1.05:
            return f"density {density:.3f}: whole 3x3 kernels {whole}, {gain:.1f}x fewer than with all of them{tail}"
        missing = "no weight is missing" if density == 1.0 else f"density {density:.3f}, too dense to gain by skipping"
        return f"{missing}: all weights {whole}{tail}"
    if density == 1.0:
        return f"no weight is missing: dense, {best.cycles:,.0f} cycles predicted{tail}"
    if gain < 1.05:
        return (
            f"density {density:.3f}, but the kept weights are scattered over the output tiles: sparse gains only "
            f"{gain:.2f}x, {best.cycles:,.0f} cycles predicted{tail}"
        )
    return f"density {density:.3f}: {best.cycles:,.0f} cycles predicted, {gain:.1f}x fewer than dense{tail}"


def choose(layer: Layer, layout: Layout, transforms: bool = True) -> Choice:
    """The kernel for one layer in one layout; `transforms`: Winograd's may be it. Deterministic; depends neither on
    threads nor on timing. O(weights).
    """
    candidates, only = _candidates(layer, layout, transforms)
    best = min(candidates, key=lambda c: c.cycles)
    return Choice(best, only or _reason(layer, best, candidates), candidates)
