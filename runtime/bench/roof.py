"""The machine's own limits, measured: how many multiply-adds a second, and how fast numbers come from each cache.

A kernel's roofline (Williams, Waterman, Patterson 2009): it cannot take less time than its multiply-adds at the first
rate, nor less than its data at the second. Rates are the best of a few tries, since a limit is what is never exceeded.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
from numba import types

from runtime import threads as threading_facts
from runtime.kernels.machine import LANES, MACHINE
from runtime.kernels.options import entry_kernel, parallel_kernel
from runtime.kernels.vector import (
    COMPILED,
    add_tile,
    fma_function,
    load_tile,
    map_tiles,
    marker,
    primitive,
    scale_tile,
    store_tile,
)

# Why many and short: one of them falls between two disturbances.
TRIES, TRY_S = 60, 2e-3
CHAINS = 12 if MACHINE.registers == 16 else 24  # independent sums, enough to hide latency, few enough for the registers
TILE, ONE = marker(CHAINS), marker(1)
READ = marker(8)  # vectors of one step of reading
SIZES = (16 * 2**10, 128 * 2**10, 1 * 2**20, 8 * 2**20, 64 * 2**20)
"""Bytes that each worker reads over and over: from the first cache to memory."""


@dataclass(frozen=True)
class Roof:
    """What a number of threads can reach: FLOP/s, and bytes/s by bytes that each worker reads over and over."""

    threads: int
    flops: float
    bytes_per_s: tuple[tuple[int, float], ...]

    def rate(self, worker_bytes: float) -> float:
        """Bytes/s for a worker that walks over so many bytes: that of the smallest size measured that holds them."""
        return next((rate for size, rate in self.bytes_per_s if size >= worker_bytes), self.bytes_per_s[-1][1])

    def seconds(self, flops: float, moved_bytes: float, worker_bytes: float) -> tuple[float, str]:
        """The least time of a layer, and what limits it: "multiply-adds" or "memory"."""
        compute, memory = flops / self.flops, moved_bytes / self.rate(worker_bytes)
        return (compute, "multiply-adds") if compute >= memory else (memory, "memory")


def _fma_tile(tile: Any, factor: float, addend: float) -> Any:
    return tuple(v * np.float32(factor) + np.float32(addend) for v in tile)


@primitive(_fma_tile)
def fma_tile(typing, tile, factor, addend):  # type: ignore[no-untyped-def]
    """Each value times one factor plus another number, rounded once."""

    def body(b: Any, value: Any, factor: Any, addend: Any) -> Any:
        return b.call(fma_function(b), [value, factor, addend])

    return tile(tile, types.float32, types.float32), map_tiles(len(tile), body)


@entry_kernel
def multiply(worker, count, x):  # type: ignore[no-untyped-def]
    """`count` multiply-adds of each vector of a tile that stays in registers."""
    at = worker * CHAINS * LANES
    tile = load_tile(x, at, 0, LANES, ONE, TILE)
    for _ in range(count):
        tile = fma_tile(tile, np.float32(0.5), np.float32(0.25))
    store_tile(tile, x, at, 0, LANES, ONE, TILE)


@parallel_kernel
def multiply_all(workers, count, x):  # type: ignore[no-untyped-def]
    """`multiply` by each worker."""
    for worker in numba.prange(workers):
        multiply(worker, count, x)


@entry_kernel
def read(worker, count, size, x, sums):  # type: ignore[no-untyped-def]
    """Add up a worker's own `size` elements `count` times."""
    first, at = worker * size, worker * len(READ) * LANES
    tile = scale_tile(load_tile(x, first, 0, LANES, ONE, READ), np.float32(0))
    for _ in range(count):
        for i in range(first, first + size, len(READ) * LANES):
            tile = add_tile(tile, load_tile(x, i, 0, LANES, ONE, READ))
    store_tile(tile, sums, at, 0, LANES, ONE, READ)


@parallel_kernel
def read_all(workers, count, size, x, sums):  # type: ignore[no-untyped-def]
    """`read` by each worker."""
    for worker in numba.prange(workers):
        read(worker, count, size, x, sums)


def measure(threads: int) -> Roof | None:
    """The roof of so many threads, in about a second; None where nothing is compiled, so that there is no rate."""
    if not COMPILED:
        return None
    x = np.zeros(threads * CHAINS * LANES, np.float32)

    def multiply_adds(count: int) -> None:
        threading_facts.run(threads, lambda n: multiply_all(n, count, x), lambda: multiply(0, count, x))

    flops = 2.0 * x.size * _best_rate(multiply_adds, 1000)
    numbers = np.ones(threads * SIZES[-1] // 4, np.float32)
    sums = np.zeros(threads * len(READ) * LANES, np.float32)
    rates = []
    for size in SIZES:
        elements = size // 4

        def walk(count: int, elements: int = elements) -> None:
            threading_facts.run(
                threads,
                lambda n: read_all(n, count, elements, numbers, sums),
                lambda: read(0, count, elements, numbers, sums),
            )

        rates.append((size, threads * size * _best_rate(walk, 1)))
    return Roof(threads, flops, tuple(rates))


def _best_rate(work: Callable[[int], None], count: int) -> float:
    """Units of work a second, the best of a few tries of at least TRY_S."""
    work(count)  # compiles, and touches the memory
    while True:
        began = time.perf_counter()
        work(count)
        if time.perf_counter() - began >= TRY_S:
            break
        count *= 2
    rates = []
    for _ in range(TRIES):
        began = time.perf_counter()
        work(count)
        rates.append(count / (time.perf_counter() - began))
    return max(rates)
