"""How long one core takes to see what another wrote: a flag that two pinned threads hand back and forth.

Cores of one die answer in some tens of nanoseconds, those of other dies or sockets in hundreds, and what threads of a
net tell each other takes several such ways. A virtual machine does not say where its cores lie: this tells.
"""

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from threading import Barrier

import numpy as np

from runtime.kernels.atomic import load_acquire, store_release
from runtime.kernels.clock import POSIX, now_ns
from runtime.kernels.options import entry_kernel
from runtime.kernels.vector import COMPILED

ROUNDS = 500  # there and back, in a try
TRIES = 20  # the best counts: one of them falls between two disturbances
LINE = 16  # int64 values, two cache lines: the flag shares its own with nothing


@dataclass(frozen=True)
class Ping:
    """Nanoseconds one way from the first core that may be used to the nearest and the farthest other one."""

    nearest_ns: float
    farthest_ns: float


@entry_kernel
def hand_over(flag, first, rounds):  # type: ignore[no-untyped-def]
    """Wait for each number of one parity at flag[0] and write the next one, against another thread; nanoseconds."""
    began = now_ns()
    for i in range(first, 2 * rounds, 2):
        while load_acquire(flag, 0) != i:
            pass
        store_release(flag, 0, i + 1)
    return now_ns() - began


def measure() -> Ping | None:
    """From the first core to each other one, some milliseconds each.

    None where fewer than two cores may be used, the system cannot pin threads, or nothing is compiled.
    """
    if not (COMPILED and POSIX and hasattr(os, "sched_setaffinity")):
        return None
    first, *others = sorted(os.sched_getaffinity(0))
    if not others:
        return None
    hand_over(np.zeros(LINE, np.int64), 0, 0)  # compiles
    with ThreadPoolExecutor(2) as pool:
        found = [_one_way_ns(pool, first, other) for other in others]
    return Ping(min(found), max(found))


def _one_way_ns(pool: ThreadPoolExecutor, a: int, b: int) -> float:
    """Between two cores, by the two threads of a pool, which stay pinned."""
    times = []
    for _ in range(TRIES):
        flag, both = np.zeros(LINE, np.int64), Barrier(2)
        sides = [pool.submit(_side, flag, both, core, parity) for parity, core in enumerate((a, b))]
        times.append(min(side.result() for side in sides) / (2 * ROUNDS))
    return min(times)


def _side(flag: np.ndarray, both: Barrier, core: int, parity: int) -> int:
    """Why a barrier: the other side spins, and would for ever if this one could not go where it should."""
    try:
        os.sched_setaffinity(0, {core})  # of this thread alone
    except OSError:
        both.abort()
        raise
    both.wait()
    return int(hand_over(flag, parity, ROUNDS))
