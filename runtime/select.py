"""Chooses a kernel for each layer by a deterministic cost model, and says why."""

from dataclasses import dataclass

import numpy as np

from runtime import topology
from runtime.kernels.machine import LANES
from runtime.kernels.registry import Entry, entries_for
from runtime.kernels.step import Kernel
from runtime.kernels.tiles import Tile
from runtime.kernels.vector import BLOCK
from runtime.layout import Layout
from runtime.pack import column_runs, row_taps
from runtime.spec import FUNCTIONS, Layer

TILE_OVERHEAD_CYCLES = 45.0  # a tile's call, bias, activation and store, beside its rows; AVX-512 server core
VISIT_SHARE = 0.6  # of that overhead, for one more visit of a pixel tile to an output channel
NEAR_BYTES = 256 * 1024  # of activations that a scattered tile walks over again and again; measured on 1 MB of L2
CACHED_BYTES = 12 * 2**20  # activations of one image group beyond this are taken to come from memory,
MEMORY_BYTES_PER_CYCLE = (
    2.0  # at this rate for one core; measured 1-3 on a shared server with 32 MB of third-level cache
)
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


@dataclass(frozen=True, eq=False)
class Geometry:
    """How often each rectangle of taps is executed: output rows by their taps, and column runs."""

    row_taps: np.ndarray  # i32[kinds, 2]
    row_counts: np.ndarray  # how many rows of the convolution see them
    runs: np.ndarray  # as in Packed

    @classmethod
    def of(cls, layer: Layer) -> "Geometry":
        """Geometry of a convolution layer. O(output rows + columns)."""
        kinds, counts = np.unique(row_taps(layer), axis=0, return_counts=True)
        return cls(kinds, counts, column_runs(layer))

    def sum(self, per_tap: np.ndarray, pixel_cost: list[float]) -> float:
        """Sum over rows and runs of (taps in reach, weighted by per_tap[kh, kw]) times the run's pixel cost, for each
        column of a pooling's window.
        """
        total = 0.0
        for (y0, y1), count in zip(self.row_taps, self.row_counts, strict=True):
            for run, cost in zip(self.runs, pixel_cost, strict=True):
                for x0, x1 in run[2:].reshape(-1, 2):
                    total += int(count) * float(per_tap[y0:y1, x0:x1].sum()) * cost
        return total

    def pixels(self) -> list[float]:
        """Pixels of each run."""
        return [float(run[1]) for run in self.runs]

    @property
    def pool_columns(self) -> int:
        """Columns of a pooling's window, or 1."""
        return (self.runs.shape[1] - 2) // 2


def executed_macs(layer: Layer) -> int:
    """Multiply-adds of one image with existing weights only and without taps in the padding."""
    per_tap = topology.of_layer(layer).kept.sum((2, 3))
    geometry = Geometry.of(layer)
    return round(geometry.sum(per_tap, geometry.pixels()))


def memory_cycles(layer: Layer, layout: Layout) -> float:
    """Cycles that a layer waits for memory: none while its activations stay in a cache shared by the cores."""
    moved = 4 * (layout.size(layer.shape) + layout.size(layer.out_shape) * (2 if layer.other else 1))
    return moved / MEMORY_BYTES_PER_CYCLE if moved > CACHED_BYTES else 0.0


def _tile_cost(geometry: Geometry, tiles: int, tile: Tile) -> float:
    calls = sum(sum(tile.split(int(run[1]))) for run in geometry.runs) * geometry.pool_columns
    return float(geometry.row_counts.sum()) * calls * tiles * TILE_OVERHEAD_CYCLES


def _candidate(layer: Layer, entry: Entry, tile_channels: int, traffic: float) -> Candidate:
    assert entry.tile is not None, "a convolution kernel has a tile"
    rows = topology.of_layer(layer).rows(tile_channels)
    geometry, tiles = Geometry.of(layer), rows.shape[0]
    costs = [entry.tile.cycles_for(int(count)) for count in geometry.runs[:, 1]]
    per_tap, full = rows.sum((0, 3)), np.full(rows.shape[1:3], tiles * rows.shape[3])
    overhead = _tile_cost(geometry, tiles, entry.tile) + traffic
    return Candidate(
        entry,
        geometry.sum(per_tap, costs) + overhead,
        geometry.sum(full, costs) + overhead,
        round(geometry.sum(per_tap, geometry.pixels())) * tile_channels,
    )


def part_channels(layer: Layer, tile: Tile) -> int:
    """Input channels whose pixels, for one tile, stay near the core."""
    h, w, c = layer.shape
    reach = [(size - 1) * d + 1 for size, d in zip(layer.window.size, layer.window.dilation, strict=True)]
    longest = int(column_runs(layer)[:, 1].max())
    pixels = next(size for size in tile.pixels if size <= longest)
    lines = min(layer.window.size[0], h) * min(w, pixels - 1 + reach[1])
    return min(c, max(8, NEAR_BYTES // (4 * LANES * lines) // 8 * 8))


def _scattered(layer: Layer, layout: Layout, traffic: float) -> tuple[Candidate, ...]:
    """The candidate that runs each output channel by itself, where it can: whole blocks of inputs, a stride of one
    column.
    """
    entries = entries_for(Kernel.CONV_SCATTERED, layout.name)
    if not entries or layer.shape[2] < BLOCK or layer.window.stride[1] != 1 or layer.pool != (1, 1):
        return ()
    tile = entries[0].tile
    assert tile is not None, "a convolution kernel has a tile"
    parts = -(-layer.shape[2] // part_channels(layer, tile))
    base = _candidate(layer, entries[0], 1, traffic)
    visits = _tile_cost(Geometry.of(layer), layer.out_shape[2], tile) * (parts * VISIT_SHARE - 1.0)
    return (Candidate(base.entry, base.cycles + visits, base.dense_cycles + visits, base.computed_macs),)


def tile_channels(entry: Entry) -> int:
    """Output channels of a convolution kernel's tile."""
    assert entry.tile is not None, "a convolution kernel has a tile"
    return entry.tile.outputs * (LANES if entry.kernel in (Kernel.CONV_CHANNELS, Kernel.DEPTHWISE) else 1)


def is_depthwise(layer: Layer) -> bool:
    """Whether every output channel reads just the input channel of its own number."""
    return layer.groups > 1 and layer.groups == layer.shape[2] == layer.out_shape[2]


def _conv_candidates(layer: Layer, layout: Layout) -> tuple[Candidate, ...]:
    kernel = Kernel.CONV_IMAGES if layout.lanes > 1 else Kernel.CONV_CHANNELS
    fitting = [e for e in entries_for(kernel, layout.name) if layout.fits(layer.out_shape[2], tile_channels(e))]
    traffic = memory_cycles(layer, layout)
    rows = (_candidate(layer, e, tile_channels(e), traffic) for e in fitting)
    return (*rows, *_scattered(layer, layout, traffic))


def _only(entry: Entry, cycles: float, computed_macs: int = 0) -> tuple[Candidate, ...]:
    return (Candidate(entry, cycles, cycles, computed_macs),)


def _candidates(layer: Layer, layout: Layout) -> tuple[tuple[Candidate, ...], str]:
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
    return _conv_candidates(layer, layout), ""


def short_name(entry: Entry) -> str:
    """What tells a convolution kernel from others: `rows_6x4` of `f32_conv2d_images_rows_6x4__cpu`."""
    return entry.name.split("__")[0].split("_", 3)[3]


def _reason(layer: Layer, best: Candidate, candidates: tuple[Candidate, ...]) -> str:
    density = topology.of_layer(layer).density
    gain = best.dense_cycles / max(best.cycles, 1.0)
    rest = ", ".join(f"{short_name(c.entry)} {c.cycles:,.0f}" for c in candidates if c is not best)
    tail = f"; {rest} cycles with other tiles" if rest else ""
    if density == 1.0:
        return f"no weight is missing: dense, {best.cycles:,.0f} cycles predicted{tail}"
    if gain < 1.05:
        return (
            f"density {density:.3f}, but the kept weights are scattered over the output tiles: sparse gains only "
            f"{gain:.2f}x, {best.cycles:,.0f} cycles predicted{tail}"
        )
    return f"density {density:.3f}: {best.cycles:,.0f} cycles predicted, {gain:.1f}x fewer than dense{tail}"


def choose(layer: Layer, layout: Layout) -> Choice:
    """The kernel for one layer in one layout. Deterministic; depends neither on threads nor on timing. O(weights)."""
    candidates, only = _candidates(layer, layout)
    best = min(candidates, key=lambda c: c.cycles)
    return Choice(best, only or _reason(layer, best, candidates), candidates)
