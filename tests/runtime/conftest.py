"""What the runtime's tests share. Every kernel is compiled once, before the first of them."""

import contextlib
from pathlib import Path

import numpy as np
import pytest

from runtime import execute
from runtime import threads as threads_of
from runtime.kernels.vector import COMPILED
from runtime.layout import LAYOUTS
from tests.runtime.nets import GuardedModel, conv_spec

try:
    import fcntl
except ImportError:  # not on every system; without it each process compiles for itself
    fcntl = None

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session", autouse=True)
def compiled():
    """Compile every kernel before the first test, in one process while the others wait for its cache. More workers than
    this machine may have cores for are tried everywhere.
    """
    if not COMPILED:
        return
    threads_of.machine_cores = lambda: 5
    spec = conv_spec(np.ones((1, 1, 1, 1), np.float32), (1, 1, 1))
    with _alone():
        for layout in LAYOUTS:
            for threads, groups in ((1, 1), (1, 2), (2, 1), (2, 2)):
                batch = groups * layout.lanes
                GuardedModel(spec, layout, small_tasks=True).run(np.ones((batch, 1, 1, 1), np.float32), threads=threads)


@pytest.fixture
def eager(monkeypatch):
    """Nets as small as those of the tests are not worth a second worker; here they are."""
    monkeypatch.setattr(execute, "STEP_CYCLES", 1e-9)


@contextlib.contextmanager
def _alone():
    """One process at a time."""
    folder = ROOT / ".pytest_cache"
    folder.mkdir(exist_ok=True)
    with open(folder / "compiling", "wb") as file:
        if fcntl is not None:
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
