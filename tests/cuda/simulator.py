"""numba's simulator with threads that take turns: hundreds of times faster than its polling, and in any order.

One simulated thread runs at a time, from one barrier to the next. With another order of threads or blocks, a read that
no barrier holds back sees what the first order hid. That a barrier is not reached by all threads of a block, which
hangs a GPU, is an error here.
"""

import threading
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from types import SimpleNamespace
from unittest.mock import patch

import numpy as np
from numba.cuda.simulator import kernel as simulated
from numba.cuda.simulator.kernel import BlockManager, BlockThread

Order = Callable[[Sequence], Sequence]


class Turn(BlockThread):
    """A thread that runs when it is told to, and stops at barriers."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.go, self.back, self.done = threading.Semaphore(0), threading.Semaphore(0), False

    def run(self):
        self.go.acquire()
        try:
            if not self.abort:
                with np.errstate(invalid="ignore", divide="ignore"):  # a GPU does not warn either
                    super().run()
        finally:  # a thread that is told to stop at a barrier leaves by SystemExit
            self.done = True
            self.back.release()

    def syncthreads(self):
        self.back.release()
        self.go.acquire()
        if self.abort:
            raise SystemExit

    def take(self):
        """Run up to the next barrier or the end."""
        self.go.release()
        self.back.acquire()


class Turns(BlockManager):
    """Runs one block."""

    order: Order = staticmethod(lambda items: items)

    def run(self, grid_point, *args):
        threads = [
            Turn(lambda: self._f(*args), self, grid_point, point, self._debug) for point in np.ndindex(*self._block_dim)
        ]
        for thread in threads:
            thread.start()
        try:
            while not threads[0].done:
                for thread in self.order(threads):
                    thread.take()
                    if thread.exception:
                        raise thread.exception[0].with_traceback(thread.exception[1])
                if len({thread.done for thread in threads}) > 1:
                    raise AssertionError(f"block {grid_point}: a barrier that some threads have not reached")
        finally:
            for thread in threads:
                if not thread.done:
                    thread.abort = True
                    thread.take()


@contextmanager
def turns(order: Order = lambda items: items):
    """Simulate with threads that take turns, threads and blocks in the given order."""
    manager = type("Ordered", (Turns,), {"order": staticmethod(order)})
    indices = SimpleNamespace(**{**vars(np), "ndindex": lambda *shape: order(list(np.ndindex(*shape)))})
    with patch.object(simulated, "BlockManager", manager), patch.object(simulated, "np", indices):
        yield
