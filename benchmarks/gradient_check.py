"""What `lhc_ref.gradcheck` costs: the seconds of a whole check, beside those of the derivative that it checks."""

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from benchmarks.measuring import How, shown
from benchmarks.results_file import median_us, micros
from benchmarks.tables import Table
from lhc_ref.conv import conv2d, conv2d_vjp
from lhc_ref.gradcheck import check_vjp

ABOUT = "What a check of a convolution's derivatives costs, beside the derivatives themselves."
SHAPES = ((1, 8, 8, 16), (4, 8, 8, 16), (4, 16, 16, 32), (8, 32, 32, 64))  # images, rows, columns, channels
ONCE = "forward and backward"
MODES = ("projection", "taylor")


def measure(how: How) -> Iterator[dict[str, Any]]:
    """Times of forward and backward pass and of each kind of check, in turns; float64, every check passing."""
    for shape in SHAPES[:1] if how.toy else SHAPES:
        runs = _runs(*shape)
        times: dict[str, list[list[float]]] = {name: [] for name in runs}
        for _ in shown(range(how.rounds), f"convolution of {shape}"):
            for name, run in runs.items():
                began = time.perf_counter()
                run()
                times[name].append(micros([time.perf_counter() - began]))
        engines = {name: {"times_us": rounds} for name, rounds in times.items()}
        n, h, w, c = shape
        what = f"3x3 convolution of {n}x{h}x{w}x{c} to {c} channels"
        yield {"problem": what, "batch": n, "threads": how.threads, "engines": engines}


def _runs(n: int, h: int, w: int, c: int) -> dict[str, Callable[[], object]]:
    rng = np.random.default_rng(0)
    args = rng.standard_normal((n, h, w, c)), rng.standard_normal((3, 3, c, c))
    dy, options = np.ones((n, h, w, c)), {"padding": "same"}
    return {
        ONCE: lambda: (conv2d(*args, **options), conv2d_vjp(dy, *args, **options)),
        "projection": lambda: check_vjp(conv2d, conv2d_vjp, args, options=options, mode="projection"),
        "taylor": lambda: check_vjp(conv2d, conv2d_vjp, args, options=options, mode="taylor"),
    }


def table(results: Sequence[dict[str, Any]]) -> Table:
    """Milliseconds, and each check as a multiple of the derivative."""
    rows = []
    for result in results:
        once, *checks = (median_us(result["engines"][name]) for name in (ONCE, *MODES))
        rows.append((result["problem"], f"{once / 1e3:.2f}", *(f"{t / 1e3:.1f} ({t / once:.0f}x)" for t in checks)))
    return Table(("what", "forward and backward, ms", *(f"check by {mode}, ms" for mode in MODES)), rows)
