"""Chooses a tile for each convolution by a roofline of the device, and says why.

Nothing here has been measured: the figures are those of NVIDIA's data sheets, and the counts of instructions are read
off the kernel. A trial on a real device (`GpuModel.trial`) replaces the choice.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from runtime import topology
from runtime.cuda.registry import Entry
from runtime.spec import Layer


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


# NVIDIA H100 SXM data sheet: 132 multiprocessors, 67 TFLOP/s of float32 at 1.98 GHz, 3.35 TB/s. Reads from the second
# level: 5.5 TB/s, as microbenchmarks in the literature have it.
H100 = Machine("H100", 132, 1.98e9, 3.35e12, 5.5e12)

STAGE_INSTRUCTIONS = 10.0  # of a lane that stages one activation: three reads, two comparisons, address, load, store
OTHER_REGISTERS = 100  # of a thread beside its sums: tests/cuda/resources.json
CHUNK_LATENCY = 1200.0  # cycles from the first load of a chunk of rows to the last of its products, with nothing beside
LAUNCH_S = 3e-6  # from one kernel to the next on a stream that is kept filled


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


def tensor_bytes(layer: Layer, batch: int, number_bytes: int) -> int:
    """Bytes of activations that a layer reads and writes once."""
    moved = int(np.prod(layer.shape)) + int(np.prod(layer.out_shape)) * (2 if layer.other else 1)
    return batch * moved * number_bytes


def estimate_plain(layer: Layer, batch: int, number_bytes: int, machine: Machine = H100) -> Estimate:
    """A layer that is bound by memory."""
    moved = tensor_bytes(layer, batch, number_bytes)
    return Estimate(0.0, 0.0, moved / machine.memory_bytes_per_s, 0, moved)


def estimate_conv(layer: Layer, entry: Entry, batch: int, number_bytes: int, machine: Machine = H100) -> Estimate:
    """A convolution with a tile: instructions of its blocks, waves over the device, traffic of both levels. O(mask)."""
    tile = entry.tile
    assert tile is not None, "a convolution kernel has a tile"
    rows = topology.of_layer(layer).rows(tile.outputs).sum((1, 2, 3))
    pixels = batch * layer.out_shape[0] * layer.out_shape[1]
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
    cycles = each * mean_rows * row_cycles + waves * (mean_rows / tile.depth + 1) * CHUNK_LATENCY
    staged = int(rows.sum()) * groups * (tile.pixels + tile.outputs)
    moved = tensor_bytes(layer, batch, number_bytes) + int(rows.sum()) * (tile.outputs * number_bytes + 12)
    return Estimate(
        cycles / machine.clock_hz,
        staged * number_bytes / machine.cache_bytes_per_s,
        moved / machine.memory_bytes_per_s,
        int(rows.sum()) * tile.outputs * pixels,
        moved,
    )


def choose_conv(
    layer: Layer, entries: Sequence[Entry], batch: int, number_bytes: int, machine: Machine = H100
) -> Choice:
    """The tile with the least predicted time; the first of equals. Deterministic: no device is asked."""
    found = tuple((entry, estimate_conv(layer, entry, batch, number_bytes, machine)) for entry in entries)
    entry, best = min(found, key=lambda pair: pair[1].seconds)
    others = ", ".join(
        f"{one.tile.name} {estimate.seconds * 1e6:,.0f}" for one, estimate in found if one.tile and one is not entry
    )
    why = f"{reason(best, machine)}; other tiles {others} us" if others else reason(best, machine)
    return Choice(entry, best, why, found)


def reason(estimate: Estimate, machine: Machine = H100) -> str:
    """What an estimate says."""
    rate = 2e-12 * estimate.macs / estimate.seconds
    work = f", {2e-9 * estimate.macs:,.2f} GFLOP at {rate:,.1f} TFLOP/s" if estimate.macs else ""
    return (
        f"{estimate.seconds * 1e6:,.0f} us predicted for {machine.name}, bound by {estimate.bound}: "
        f"{estimate.bytes / 1e6:,.2f} MB{work}"
    )
