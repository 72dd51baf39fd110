"""Chooses a layout for each net and a tile for each convolution by a model of the device, and says why.

The model's figures were measured on an H200 (`python -m benchmarks.gpu`); other GPUs differ. A trial on a real device
(`GpuModel.trial`) replaces the choice.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from runtime import topology
from runtime.cuda.registry import HWCN, NHWC, Entry
from runtime.cuda.step import LANES
from runtime.cuda.tiles import ImagesTile, Tile
from runtime.spec import Layer, Shape


@dataclass(frozen=True)
class Machine:
    """What bounds a kernel. Rates are a multiprocessor's in a clock cycle, or the device's in a second."""

    name: str
    multiprocessors: int
    clock_hz: float
    memory_bytes_per_s: float
    cache_bytes_per_s: float  # of the second level
    warp_instructions: float = 4.0  # issued in a cycle
    shared_reads: float = 1.0  # of a warp in a cycle
    registers: int = 65536
    shared_bytes: int = 227 * 1024


# 132 multiprocessors at 1.98 GHz, by NVIDIA's data sheet; a copy moves 4.3 TB/s of the 4.8 there. Reads from the second
# level: 5.5 TB/s, as microbenchmarks of the same chip in the literature have it.
H200 = Machine("H200", 132, 1.98e9, 4.3e12, 5.5e12)

# Of the convolution in NHWC.
STALLS = 3.8  # cycles for each that its instructions would take: VGG16 3.9, ResNet34 4.0, ResNet50 3.6
STAGE_INSTRUCTIONS = 10.0  # of a lane that stages one activation: three reads, two comparisons, address, load, store
OTHER_REGISTERS = 100  # of a thread beside its sums: tests/cuda/resources.json
CHUNK_LATENCY = 1200.0  # cycles from the first load of a chunk of rows to the last of its products, with nothing beside
LAUNCH_S = 1.5e-6  # from one kernel to the next in a graph

# Of the convolution with images innermost, in cycles.
ROW_CYCLES = 36.0  # of a multiprocessor, a warp's 16 outputs of a row: half of what its multiply-adds alone would take
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


def images_in_memory(batch: int, layout: str) -> int:
    """Images that a batch takes the place of: filled up to whole lanes where they are innermost."""
    return -(-batch // LANES) * LANES if layout == HWCN else batch


def tensor_bytes(layer: Layer, images: int, number_bytes: int) -> int:
    """Bytes of activations that a layer reads and writes once."""
    moved = int(np.prod(layer.shape)) + int(np.prod(layer.out_shape)) * (2 if layer.other else 1)
    return images * moved * number_bytes


def estimate_plain(layer: Layer, images: int, number_bytes: int, machine: Machine = H200) -> Estimate:
    """A layer that is bound by memory."""
    moved = tensor_bytes(layer, images, number_bytes)
    return Estimate(0.0, 0.0, moved / machine.memory_bytes_per_s, 0, moved)


def estimate_turn(shape: Shape, batch: int, number_bytes: int, machine: Machine = H200) -> Estimate:
    """The user's images turned into the layout with images innermost, or back."""
    moved = int(np.prod(shape)) * (4 * batch + number_bytes * images_in_memory(batch, HWCN))
    return Estimate(0.0, 0.0, moved / machine.memory_bytes_per_s, 0, moved)


def rows_by_tile(layer: Layer, outputs: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows of each output tile, those of taps outside the image counted by their share of the pixels as well; and
    runs of each tile, were all that are next to each other kept. O(mask).
    """
    union = topology.of_layer(layer).rows(outputs)
    inside = _inside(layer)
    taps = union.sum(3)
    begins = union[..., :1].sum(3) + (union[..., 1:] & ~union[..., :-1]).sum(3)
    return np.stack([taps.sum((1, 2)), (taps * inside).sum((1, 2))]), begins.sum((1, 2))


def _inside(layer: Layer) -> np.ndarray:
    """f64[kh, kw]: the share of the output's pixels for which a tap is inside the image."""
    window, shares = layer.window, []
    pads = window.pad_top, window.pad_left
    for axis in range(2):
        first = np.arange(layer.out_shape[axis]) * window.stride[axis] - pads[axis]
        at = np.arange(window.size[axis])[:, None] * window.dilation[axis] + first
        shares.append(((at >= 0) & (at < layer.shape[axis])).mean(1))
    return np.outer(*shares)


Rows = tuple[np.ndarray, np.ndarray]


def estimate_conv(
    layer: Layer, entry: Entry, batch: int, number_bytes: int, machine: Machine = H200, rows: Rows | None = None
) -> Estimate:
    """A convolution with a tile; `rows` are `rows_by_tile`, computed here if they are not given. O(mask)."""
    tile = entry.tile
    assert tile is not None, "a convolution kernel has a tile"
    images = images_in_memory(batch, entry.layout or NHWC)
    found = rows_by_tile(layer, tile.outputs) if rows is None else rows
    (all_rows, executed), runs = found
    pixels = images * layer.out_shape[0] * layer.out_shape[1]
    moved = tensor_bytes(layer, images, number_bytes) + int(all_rows.sum()) * (tile.outputs * number_bytes + 12)
    macs = int(all_rows.sum()) * tile.outputs * pixels
    if isinstance(tile, ImagesTile):
        alike = images // LANES % tile.lanes == 0  # lanes of a warp have one pixel, and skip together what is outside
        cycles, staged = _images_cycles(tile, executed if alike else all_rows, runs, pixels // LANES, machine)
    else:
        cycles, staged = _nhwc_cycles(tile, all_rows, pixels, machine)
    return Estimate(
        cycles / machine.clock_hz,
        staged * number_bytes / machine.cache_bytes_per_s,
        moved / machine.memory_bytes_per_s,
        macs,
        moved,
    )


def _nhwc_cycles(tile: Tile, rows: np.ndarray, pixels: int, machine: Machine) -> tuple[float, float]:
    """Cycles, and numbers read from the second level: instructions of all blocks, waves over the device."""
    groups = -(-pixels // tile.pixels)
    warps = tile.threads / 32
    products = warps * tile.thread_pixels * tile.thread_outputs
    reads = warps * (tile.thread_pixels + tile.thread_outputs)
    staging = (tile.pixels * STAGE_INSTRUCTIONS + tile.outputs * 6.0) / 32
    row_cycles = max((products + reads + staging) / machine.warp_instructions, reads / machine.shared_reads)
    in_registers = OTHER_REGISTERS + tile.thread_pixels * tile.thread_outputs
    resident = max(
        1,
        min(
            machine.shared_bytes // (tile.shared_bytes + 1024),
            machine.registers // (in_registers * tile.threads),
            2048 // tile.threads,
        ),
    )
    blocks = groups * len(rows)
    each = -(-blocks // machine.multiprocessors)
    mean_rows = float(np.ceil(rows / tile.depth).mean()) * tile.depth
    waves = each / min(resident, each)
    cycles = each * mean_rows * row_cycles * STALLS + waves * (mean_rows / tile.depth + 1) * CHUNK_LATENCY
    return cycles, float(rows.sum()) * groups * (tile.pixels + tile.outputs)


def _images_cycles(
    tile: ImagesTile, rows: np.ndarray, runs: np.ndarray, positions: int, machine: Machine
) -> tuple[float, float]:
    """Cycles, and numbers read from the second level: what all warps issue, or the longest warp's wait for memory."""
    groups = -(-positions // tile.lanes)
    warps = groups * len(rows) * tile.split
    issued = groups * float(rows.sum() * ROW_CYCLES * tile.outputs / 16 + runs.sum() * RUN_CYCLES)
    issued += warps * (WARP_CYCLES + SHARING_CYCLES * (tile.split > 1))
    loads = np.maximum(rows / 4, runs)
    waiting = float((loads * ROWS_LATENCY + runs * RUN_LATENCY).max()) / tile.split + START_LATENCY
    cycles = max(waiting, issued / machine.multiprocessors + waiting / 3)
    return cycles, float(rows.sum()) * groups * tile.lanes * LANES


def choose_conv(
    layer: Layer, entries: Sequence[Entry], batch: int, number_bytes: int, machine: Machine = H200
) -> Choice:
    """The tile with the least predicted time; the first of equals. Deterministic: no device is asked."""
    rows = {
        outputs: rows_by_tile(layer, outputs) for outputs in {entry.tile.outputs for entry in entries if entry.tile}
    }
    found = tuple(
        (entry, estimate_conv(layer, entry, batch, number_bytes, machine, rows[entry.tile.outputs]))
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
