"""How many cores there are for us, and running a parallel region safely whatever threading layer Numba has.

Facts that this module lives with: concurrent regions abort under ``workqueue``; a forked child must not enter a region
under GNU OpenMP or ``workqueue``; the number of threads is a property of the calling thread and has to be put back.
"""

import math
import os
import threading
import warnings
from collections.abc import Callable
from pathlib import Path

import numba
import numpy as np
from numba.core import config

from lhc_ref.modelfile import InputError

_lock = threading.Lock()
_state = {"orphan": False, "warned": False}  # orphan: forked from a process whose threads were running


def _after_fork() -> None:
    """In a child: threads that its parent had started are gone, and a lock that one of them held stays locked."""
    global _lock
    _lock = threading.Lock()
    _state.update(orphan=layer() != "none yet", warned=False)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def quota_cores() -> float:
    """Cores that the container's CPU quota allows; infinite without one."""
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()[:2]
    except (OSError, ValueError):
        try:
            quota = Path("/sys/fs/cgroup/cpu/cpu.cfs_quota_us").read_text().strip()
            period = Path("/sys/fs/cgroup/cpu/cpu.cfs_period_us").read_text().strip()
        except OSError:
            return math.inf
    return math.inf if quota in ("max", "-1") else int(quota) / int(period)


def available_cores() -> int:
    """Cores this process may use: affinity and CPU quota respected, at least 1."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, math.ceil(min(cores, quota_cores())))


def resolve(threads: int | None) -> int:
    """The number of workers for a request: None means every available core. Raises InputError for less than 1."""
    if threads is None:
        threads = available_cores()
    if not isinstance(threads, int | np.integer) or isinstance(threads, bool) or threads < 1:
        raise InputError(
            f"threads: expected a whole number of at least 1, got {threads!r}. Leave it out to use every core."
        )
    return 1 if config.DISABLE_JIT else min(int(threads), int(config.NUMBA_NUM_THREADS))


def layer() -> str:
    """Numba's threading layer: "omp", "tbb", "workqueue", or "none yet" before the first parallel run."""
    try:
        return numba.threading_layer()
    except ValueError:
        return "none yet"


def _may_enter() -> bool:
    """Whether this process may enter a parallel region: not in a child of one that had, save under tbb."""
    if not _state["orphan"] or layer() == "tbb":
        return True
    if not _state["warned"]:
        _state["warned"] = True
        warnings.warn(
            f"this process was forked after a parallel run, and Numba's {layer()} threads do not survive a fork: "
            "running on one thread. Start processes with 'spawn', or install tbb.",
            RuntimeWarning,
            stacklevel=4,
        )
    return False


def run(workers: int, parallel: Callable[[int], None], alone: Callable[[], None]) -> None:
    """Call ``parallel(workers)`` as one parallel region, or ``alone()`` where one worker is asked for or allowed."""
    if workers == 1 or not _may_enter():
        alone()
        return
    known = layer()
    if known in ("omp", "tbb"):
        _enter(workers, parallel)
    else:
        with _lock:  # workqueue aborts on concurrent regions; unknown before the first run
            _enter(workers, parallel)


def _enter(workers: int, parallel: Callable[[int], None]) -> None:
    before = numba.get_num_threads()
    numba.set_num_threads(workers)
    try:
        parallel(workers)
    finally:
        numba.set_num_threads(before)
