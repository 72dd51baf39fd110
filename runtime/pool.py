"""Threads that stay between runs and share them: started when first needed, one pool for all models of a process.

A run never waits for a thread that has not begun to work for it, so a busy machine costs no more than the cores it
takes. Each Python thread that runs a model invites whoever is free; a forked child starts with no threads and makes its
own.
"""

import atexit
import os
import threading
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from runtime.kernels import engine, team

SEATS = 255
WAIT_NS = 3_000_000  # of a worker, looking out, before it sleeps; after some tens of us it lets others have its core
NAP_S = 0.5e-3  # of a worker in vain, where it cannot sleep until it is rung
STACK_BYTES = 2**21  # of a worker: kernels take up to 600 KB, and a program may have set fewer for its own threads


class Pool:
    """Up to SEATS workers.

    cores : each worker stays on one of these, from the second one on; None: wherever the system puts it.
    """

    def __init__(self, cores: Sequence[int] | None = None) -> None:
        self.cores = cores
        self._board = team.new_board(SEATS)
        self._workers: list[threading.Thread] = []
        self._lock = threading.Lock()
        self._closed = False
        self._lingering: list[tuple] = []

    def run(self, workers: int, apart: bool, shared: tuple[Any, ...]) -> None:
        """Run a net on the calling thread and up to workers - 1 others.

        Parameters
        ----------
        apart : whether each worker takes whole groups of images through the net
        shared : what `engine.work` takes
        """
        if workers - 1 > len(self._workers):
            self._start(workers - 1)
        if self._lingering:
            self._lingering = [kept for kept in self._lingering if _users(kept)]
        if team.share(self._board, len(self._workers), workers, apart, shared):
            self._lingering.append(shared)  # Why: a worker that found nothing to do may not have left yet.

    def _start(self, count: int) -> None:
        """Start workers until there are `count`, or as many as there may be."""
        with self._lock:
            while len(self._workers) < min(count, SEATS) and not self._closed:
                seat = len(self._workers)
                worker = threading.Thread(target=self._serve, args=(seat,), name=f"lhc worker {seat}", daemon=True)
                try:
                    with _stacks_of(STACK_BYTES):
                        worker.start()
                except RuntimeError as error:  # a limit on the number of threads
                    self._closed = True
                    warnings.warn(
                        f"threads: expected to start {count}, got {len(self._workers)}: {error}. Running on "
                        f"{len(self._workers) + 1}; raise the limit on processes, or ask for fewer.",
                        RuntimeWarning,
                        stacklevel=4,
                    )
                    return
                self._workers.append(worker)

    def _serve(self, seat: int) -> None:
        if self.cores is not None:
            os.sched_setaffinity(0, {self.cores[(seat + 1) % len(self.cores)]})
        while not team.serve(self._board, seat, WAIT_NS):
            time.sleep(NAP_S)

    def close(self) -> None:
        """Stop the workers and wait for them; later runs go on without."""
        with self._lock:
            self._closed = True
            workers, self._workers = self._workers, []
        team.stop(self._board, len(workers))
        for worker in workers:
            worker.join()


@contextmanager
def _stacks_of(size: int) -> Iterator[None]:
    """Threads that start meanwhile have a stack of so many bytes."""
    before = threading.stack_size(size)
    try:
        yield
    finally:
        threading.stack_size(before)


def _users(shared: tuple[Any, ...]) -> int:
    counters: np.ndarray = shared[8]
    return int(counters[-engine.COUNTER_STRIDE])


# --- The pools of this process ---------------------------------------------------------------------------------------

_pools: dict[tuple[int, ...] | None, Pool] = {}  # by the cores that their workers stay on
_pools_lock = threading.Lock()


def run(workers: int, apart: bool, shared: tuple[Any, ...], pin: str | None) -> None:
    """`Pool.run` on the pool for `pin`: None, or "core" for each thread to stay on a core of its own, the calling one
    until the run ends.
    """
    if pin is None:
        _pool(None).run(workers, apart, shared)
        return
    with _on_first_core() as cores:
        _pool(cores).run(workers, apart, shared)


def _pool(cores: tuple[int, ...] | None) -> Pool:
    with _pools_lock:
        if cores not in _pools:
            _pools[cores] = Pool(cores)
        return _pools[cores]


@contextmanager
def _on_first_core() -> Iterator[tuple[int, ...]]:
    """The calling thread stays on the first of its cores; gives them all."""
    before = os.sched_getaffinity(0)
    cores = tuple(sorted(before))
    os.sched_setaffinity(0, {cores[0]})
    try:
        yield cores
    finally:
        os.sched_setaffinity(0, before)


def _close_all() -> None:
    for pool in list(_pools.values()):
        pool.close()


def _after_fork() -> None:
    """In a child there are no workers, and a lock that another thread held stays locked."""
    global _pools_lock
    _pools_lock = threading.Lock()
    _pools.clear()


atexit.register(_close_all)  # Why: a worker must not read the board when the interpreter frees it.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
