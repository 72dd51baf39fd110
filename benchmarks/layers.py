"""How close each convolution comes to what the machine allows: its share of the roofline.

The roof is the machine's own: a float32 matrix product by NumPy, and a copy of memory by every core, measured in turns
with the net. A layer can be no faster than its executed multiply-adds at the one rate, or its weights, inputs and
outputs at the other, whichever takes longer.
"""

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

import runtime
from benchmarks.floors import ROOFLINE, ROOFLINE_CHANNELS, Verdict
from benchmarks.measuring import How, Prepared, check
from benchmarks.results_file import micros
from benchmarks.tables import Table, name

ABOUT = "Share of the roofline that each convolution reaches."
PROBLEMS = (
    ("vgg16_cifar_d0.1", 64),
    ("vgg16_cifar_d0.1", 16),
    ("vgg16_cifar_d0.1", 1),
    ("resnet50_imagenet_d0.25", 8),
    ("resnet50_imagenet_d0.25", 1),
)
SIDE = 1024  # of the square matrices
COPIED = 64 * 2**20  # bytes a core: more than its caches
TRIES = 5  # of each rate, in a turn
REPEATS = 10  # profiled runs in a turn


def measure(how: How) -> Iterator[dict[str, Any]]:
    """Times of every layer, with the machine's rates."""
    for problem, batch in PROBLEMS[:1] if how.toy else PROBLEMS:
        if not how.only or problem in how.only:
            yield _measure(problem, 4 if how.toy else batch, how)


def _measure(problem: str, batch: int, how: How) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        prepared = Prepared(problem, Path(folder), how.toy)
        model = runtime.load(prepared.model("ours"))
        (x,) = prepared.inputs("ours", batch).values()
        check("ours", model.run(x, threads=how.threads), prepared.answer("ours", batch))
        flops, speeds, times = [], [], []
        for _ in range(how.rounds):
            flops.append(product_flops(64 if how.toy else SIDE))
            speeds.append(copy_speed(how.threads, 2**20 if how.toy else COPIED))
            profile = model.profile(x, threads=how.threads, repeats=REPEATS)
            times.append([layer.seconds for layer in profile.layers])
    rows = model.explain(batch).rows
    return {
        "problem": problem,
        "batch": batch,
        "threads": how.threads,
        "gflops": round(float(np.median(flops)) / 1e9, 1),
        "gbytes_s": round(float(np.median(speeds)) / 1e9, 1),
        "layers": [
            _layer(row, batch, micros(seconds)) for row, seconds in zip(rows, zip(*times, strict=True), strict=True)
        ],
    }


def _layer(row: Any, batch: int, times: list[float]) -> dict[str, Any]:
    moved = row.bytes + 4 * batch * (int(np.prod(row.shape)) + int(np.prod(row.out_shape)))
    shapes = [f"{'x'.join(map(str, shape))}" for shape in (row.shape, row.out_shape)]
    return {
        "name": row.layer,
        "kernel": row.kernel,
        "shape": " > ".join(shapes),
        **({} if row.density is None else {"density": round(row.density, 4)}),
        "macs_executed": row.macs_executed,
        "bytes": moved,
        "times_us": times,
    }


def product_flops(side: int) -> float:
    """Floating-point operations a second of NumPy's product of square float32 matrices, by all its threads."""
    a = np.ones((side, side), np.float32)
    out = np.empty_like(a)
    return 2 * side**3 / _best(lambda: np.matmul(a, a, out=out))


def copy_speed(threads: int, size: int) -> float:
    """Bytes a second, read and written, of so many threads that copy arrays of `size` bytes."""
    pairs = [(np.ones(size, np.uint8), np.ones(size, np.uint8)) for _ in range(threads)]
    with ThreadPoolExecutor(threads) as pool:
        return 2 * size * threads / _best(lambda: list(pool.map(lambda pair: np.copyto(*pair), pairs)))


def _best(run: Callable[[], object]) -> float:
    """Seconds of the fastest of a few calls: a rate of the machine is what nothing disturbed."""
    times = []
    for _ in range(TRIES):
        began = time.perf_counter()
        run()
        times.append(time.perf_counter() - began)
    return min(times)


def share(result: dict[str, Any], layer: dict[str, Any]) -> float:
    """Of the roofline: the time that the machine allows over the time that the layer takes."""
    work_us = 2 * layer["macs_executed"] * result["batch"] / (1e3 * result["gflops"])
    moving_us = layer["bytes"] / (1e3 * result["gbytes_s"])
    return max(work_us, moving_us) / float(np.median(layer["times_us"]))


def convolutions(result: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Layers whose share is held to a limit."""
    for layer in result["layers"]:
        inputs = layer["shape"].split(" > ")[0].split("x")
        if layer["macs_executed"] and len(inputs) == 3 and int(inputs[2]) >= ROOFLINE_CHANNELS and int(inputs[0]) > 1:
            yield layer


def verdicts(results: Sequence[dict[str, Any]]) -> Iterator[Verdict]:
    """The worst layer of each net and batch."""
    for result in results:
        limit = next(limit for batch, limit in ROOFLINE if result["batch"] >= batch)
        shares = {layer["name"]: share(result, layer) for layer in convolutions(result)}
        if shares:
            worst = min(shares, key=shares.__getitem__)
            kept = sum(value >= limit for value in shares.values())
            what = f"{name(result)}: roofline, {kept} of {len(shares)} layers; worst {worst}"
            yield Verdict(what, shares[worst], limit, "")


def table(results: Sequence[dict[str, Any]]) -> Table:
    """Layer by layer."""
    rows = []
    for result in results:
        for layer in result["layers"]:
            if not layer["macs_executed"]:
                continue
            time_us = float(np.median(layer["times_us"]))
            rate = 2 * layer["macs_executed"] * result["batch"] / (1e3 * time_us)
            net = name(result)
            cells = (f"{layer['density']:.3f}", f"{time_us:.0f}", f"{rate:.1f}", f"{share(result, layer):.2f}")
            rows.append((net, layer["name"], layer["shape"], *cells))
    return Table(("net, batch", "layer", "shape", "density", "us", "GFLOP/s", "of the roofline"), rows, left=3)
