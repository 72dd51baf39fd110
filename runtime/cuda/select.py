"""Chooses a tile for each convolution by a model of the device, and says why.

The model's figures were measured on an H200 (`python -m benchmarks.gpu`); other GPUs differ. A trial on a real device
(`GpuModel.trial`) replaces the choice.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from runtime import topology
from runtime.cuda.registry import Entry
from runtime.cuda.step import LANES
from runtime.layer import Layer


@dataclass(frozen=True)
class Machine:
    """What bounds a kernel."""

    name: str
    multiprocessors: int
    clock_hz: float
    memory_bytes_per_s: float
    cache_bytes_per_s: float  # of the second level


# 132 multiprocessors at 1.98 GHz, by NVIDIA's data sheet; a copy moves 4.3 TB/s of the 4.8 there. Reads from the second
# level: 5.5 TB/s, as microbenchmarks of the same chip in the literature have it.
H200 = Machine("H200", 132, 1.98e9, 4.3e12, 5.5e12)

LAUNCH_S = 1.5e-6  # from one kernel to the next in a graph

# Of the convolution, in cycles.
ROW_CYCLES = 36.0  # of a multiprocessor, a warp's 16 outputs of a row: twice what its multiply-adds alone would take
RUN_CYCLES = 36.0  # of a multiprocessor, to copy a run's weights and find its place
WARP_CYCLES, SHARING_CYCLES = 100.0, 250.0  # of a multiprocessor, to begin and end a warp, and to add shared sums up
ROWS_LATENCY, RUN_LATENCY = 900.0, 1100.0  # from loads to products: of four rows, and of a run's weights
START_LATENCY = 5000.0  # to begin a kernel's first warps and to end its last ones


@dataclass(frozen=True)
class Estimate:
    """Seconds of one layer and batch by each bound, and what would be counted if all were as predicted."""

    compute_s: float
    cache_s: float
    memory_s: float
    macs: int
    bytes: int

    @property
    def seconds(self) -> float:
        """The longest, and a launch."""
        return max(self.compute_s, self.cache_s, self.memory_s) + LAUNCH_S

    @property
    def bound(self) -> str:
        """What takes longest."""
        return max((self.compute_s, "instructions"), (self.cache_s, "second-level cache"), (self.memory_s, "memory"))[1]


@dataclass(frozen=True)
class Choice:
    """The chosen kernel of a layer, its estimate, the reason in words, and all that could run it."""

    entry: Entry
    estimate: Estimate
    why: str
    candidates: tuple[tuple[Entry, Estimate], ...]

    @classmethod
    def only(cls, entry: Entry, estimate: Estimate, why: str) -> "Choice":
        """Of a layer that one kernel alone can run."""
        return cls(entry, estimate, why, ((entry, estimate),))


def images_in_memory(batch: int) -> int:
    """Images that a batch takes the place of: filled up to whole lanes."""
    return -(-batch // LANES) * LANES


def tensor_bytes(layer: Layer, images: int, number_bytes: int) -> int:
    """Bytes of activations that a layer reads and writes once."""
    moved = int(np.prod(layer.shape)) + int(np.prod(layer.out_shape)) * (2 if layer.other else 1)
    return images * moved * number_bytes


def estimate_plain(layer: Layer, images: int, number_bytes: int, machine: Machine = H200) -> Estimate:
    """A layer that is bound by memory."""
    moved = tensor_bytes(layer, images, number_bytes)
    return Estimate(0.0, 0.0, moved / machine.memory_bytes_per_s, 0, moved)


@dataclass(frozen=True, eq=False)
class Work:
    """What each tile of a convolution keeps: rows, i64[tiles]; rows counted by the share of output pixels for which
    they are inside the image, f64[tiles]; and runs of adjacent channels, i64[tiles].
    """

    rows: np.ndarray
    inside: np.ndarray
    runs: np.ndarray


def work_of(layer: Layer, outputs: int) -> Work:
    """The work of tiles of so many output channels. O(mask)."""
    union = topology.of_layer(layer).rows(outputs)
    taps = union.sum(3)
    begins = union[..., 0].sum((1, 2)) + (union[..., 1:] & ~union[..., :-1]).sum((1, 2, 3))
    return Work(taps.sum((1, 2)), (taps * _inside(layer)).sum((1, 2)), begins)


def _inside(layer: Layer) -> np.ndarray:
    """f64[kh, kw]: the share of the output's pixels for which a tap is inside the image."""
    window, shares = layer.window, []
    pads = window.pad_top, window.pad_left
    for axis in range(2):
        first = np.arange(layer.out_shape[axis]) * window.stride[axis] - pads[axis]
        at = np.arange(window.size[axis])[:, None] * window.dilation[axis] + first
        shares.append(((at >= 0) & (at < layer.shape[axis])).mean(1))
    return np.outer(*shares)


def estimate_conv(
    layer: Layer, entry: Entry, batch: int, number_bytes: int, machine: Machine = H200, work: Work | None = None
) -> Estimate:
    """A convolution with a tile; `work` is that of the tile's outputs, computed here if it is not given. O(mask)."""
    tile = entry.tile
    assert tile is not None, "a convolution kernel has a tile"
    work = work_of(layer, tile.outputs) if work is None else work
    images = images_in_memory(batch)
    pixels, all_rows = images * layer.out_shape[0] * layer.out_shape[1], int(work.rows.sum())
    alike = images // LANES % tile.lanes == 0  # lanes of a warp have one pixel, and skip together what is outside
    rows = work.inside if alike else work.rows
    groups = -(-(pixels // LANES) // tile.lanes)
    warps = groups * len(rows) * tile.split
    issued = groups * float(rows.sum() * ROW_CYCLES * tile.outputs / 16 + work.runs.sum() * RUN_CYCLES)
    issued += warps * (WARP_CYCLES + SHARING_CYCLES * (tile.split > 1))
    loads = np.maximum(rows / 4, work.runs)
    waiting = float((loads * ROWS_LATENCY + work.runs * RUN_LATENCY).max()) / tile.split + START_LATENCY
    read = float(rows.sum()) * groups * tile.lanes * LANES
    moved = tensor_bytes(layer, images, number_bytes) + all_rows * (tile.outputs * number_bytes + 12)
    return Estimate(
        max(waiting, issued / machine.multiprocessors + waiting / 3) / machine.clock_hz,
        read * number_bytes / machine.cache_bytes_per_s,
        moved / machine.memory_bytes_per_s,
        all_rows * tile.outputs * pixels,
        moved,
    )


def choose_conv(
    layer: Layer, entries: Sequence[Entry], batch: int, number_bytes: int, machine: Machine = H200
) -> Choice:
    """The tile with the least predicted time; the first of equals. Deterministic: no device is asked."""
    work = {outputs: work_of(layer, outputs) for outputs in {entry.tile.outputs for entry in entries if entry.tile}}
    found = tuple(
        (entry, estimate_conv(layer, entry, batch, number_bytes, machine, work[entry.tile.outputs]))
        for entry in entries
        if entry.tile is not None
    )
    entry, best = min(found, key=lambda pair: pair[1].seconds)
    others = ", ".join(
        f"{one.tile.name} {estimate.seconds * 1e6:,.0f}" for one, estimate in found if one.tile and one is not entry
    )
    why = f"{reason(best, machine)}; other tiles {others} us" if others else reason(best, machine)
    return Choice(entry, best, why, found)


def reason(estimate: Estimate, machine: Machine = H200) -> str:
    """What an estimate says."""
    rate = 2e-12 * estimate.macs / estimate.seconds
    work = f", {2e-9 * estimate.macs:,.2f} GFLOP at {rate:,.1f} TFLOP/s" if estimate.macs else ""
    return (
        f"{estimate.seconds * 1e6:,.0f} us predicted for {machine.name}, bound by {estimate.bound}: "
        f"{estimate.bytes / 1e6:,.2f} MB{work}"
    )
