"""Settings for every test: how many examples Hypothesis draws and when, and where compiled kernels are kept."""

import hashlib
import os
from pathlib import Path

from hypothesis import Phase, settings

# No deadline: the first example of a test may compile a kernel. `long` draws far more, and not the same each time.
settings.register_profile("quick", deadline=None, derandomize=True, max_examples=40)
settings.register_profile("long", deadline=None, max_examples=1000)
# Where a failure is expected and its smallest example is of no interest.
settings.register_profile("unshrunk", settings.get_profile("quick"), phases=[Phase.explicit, Phase.generate])
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))


def keep_compiled_kernels_apart() -> None:
    """Give each state of the kernels' sources a compile cache of its own, and Numba more threads than machines have.

    Numba asks only whether the file of the cached function has changed, not the files it calls into: after a change of
    one kernel file it would go on running the old code.
    """
    root = Path(__file__).resolve().parents[1]
    sources = sorted((root / "runtime" / "kernels").glob("*.py"))
    state = hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()[:16]
    folder = Path(os.environ.get("NUMBA_CACHE_DIR") or root / ".pytest_cache" / "numba")
    os.environ["NUMBA_CACHE_DIR"] = str(folder if folder.name == state else folder / state)
    os.environ.setdefault("NUMBA_NUM_THREADS", "5")


# Why here, not in pytest_configure: Numba reads its variables when a conftest further down imports it, which is before.
keep_compiled_kernels_apart()
