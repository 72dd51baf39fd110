"""The machine's own limits, measured: how many multiply-adds a second, and how fast numbers come from each cache.

A kernel's roofline (Williams, Waterman, Patterson 2009): it cannot take less time than its multiply-adds at the first
rate, nor less than its data at the second. Rates are the best of a few tries, since a limit is what is never exceeded.
"""

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import types

from runtime.kernels.machine import LANES, MACHINE
from runtime.kernels.options import entry_kernel
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

# Why many and short: one of them falls between two disturbances. Not shorter: threads take some 50 us to start.
TRIES, TRY_S = 40, 4e-3
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


@entry_kernel
def read(worker, count, size, x, sums):  # type: ignore[no-untyped-def]
    """Add up a worker's own `size` elements `count` times."""
    first, at = worker * size, worker * len(READ) * LANES
    tile = scale_tile(load_tile(x, first, 0, LANES, ONE, READ), np.float32(0))
    for _ in range(count):
        for i in range(first, first + size, len(READ) * LANES):
            tile = add_tile(tile, load_tile(x, i, 0, LANES, ONE, READ))
    store_tile(tile, sums, at, 0, LANES, ONE, READ)


def measure(threads: int) -> Roof | None:
    """The roof of so many threads, in a second or two; None where nothing is compiled, so that there is no rate."""
    if not COMPILED:
        return None
    x = np.zeros(threads * CHAINS * LANES, np.float32)
    numbers = np.ones(threads * SIZES[-1] // 4, np.float32)
    sums = np.zeros(threads * len(READ) * LANES, np.float32)
    with ThreadPoolExecutor(threads) as pool:

        def all_workers(kernel: Callable, *rest: Any) -> Callable[[int], None]:
            return lambda count: wait_for([pool.submit(kernel, worker, count, *rest) for worker in range(threads)])

        def wait_for(futures: list[Future]) -> None:
            for future in futures:
                future.result()

        flops = 2.0 * x.size * _best_rate(all_workers(multiply, x), 1000)
        rates = tuple(
            (size, threads * size * _best_rate(all_workers(read, size // 4, numbers, sums), 1)) for size in SIZES
        )
    return Roof(threads, flops, rates)


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
