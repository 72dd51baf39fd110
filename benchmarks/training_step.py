"""Times a float32 training step beside PyTorch's: ``python -m benchmarks.sweep training-step``.

VGG16 for CIFAR-10, batch 64: forward, backward and update with Nesterov momentum, by the reference with ordinary and
with LHC convolutions, and by PyTorch in its two layouts, each in a process of its own (`benchmarks.environments` makes
PyTorch's). Loss and gradients of the first images are compared with the reference in float64 before anything is timed.
The engines take turns; raw times and the memory of a step are kept as JSON.
"""

import itertools
import json
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.environments import python_of
from benchmarks.floors import TRAINING_BYTES, TRAINING_STEP, Verdict
from benchmarks.measuring import How, WrongAnswerError, shown
from benchmarks.peers import train_worker
from benchmarks.results_file import medians_us, micros
from benchmarks.tables import Table, name
from benchmarks.training import ONE_THREAD
from lhc_ref import ops
from lhc_ref.layers import Conv2d, Dense, Operator
from lhc_ref.models import make_net
from lhc_ref.nets import Net
from runtime.bench.processes import Process

WORKER = Path(train_worker.__file__)
ROOT = Path(__file__).parent.parent
MODEL = "vgg16"
OURS = "ours"
ABOUT = "A training step beside PyTorch's."
ENGINES = {
    "ours": ("ours", "standard"),
    "ours-lhc": ("ours", "lhc-free"),
    "torch": ("torch", "standard"),
    "torch-channels-last": ("torch-channels-last", "standard"),
}
"""Name -> engine of the worker, convolution."""

CHECKED_IMAGES = 4
# Largest relative difference of a gradient (norms over all its numbers) that still is rounding: float32 has 6e-8, and
# 15 layers with sums of up to 4608 products and ReLUs that rounding flips come to far less; a wrong derivative to more.
TOLERATED = 1e-3
TINY = 1e-30  # for a gradient that is zero
BATCH, ROUNDS, STEPS = 64, 5, 2  # steps in a round, for each engine


def twin(net: Net) -> list[list[str]]:
    """The layers as the worker reads them."""
    kinds = {ops.relu: "relu", ops.max_pool: "max_pool", ops.global_average_pool: "average"}
    found = []
    for layer in net.layers:
        if isinstance(layer, Operator):
            found.append([kinds[layer.primal]])
        elif isinstance(layer, Conv2d | Dense):
            found.append(["conv" if isinstance(layer, Conv2d) else "dense", layer.name])
    return found


def problem(width: float, batch: int) -> dict[str, Any]:
    """Everything an engine needs, by name, but for the choice of convolution."""
    net = make_net(MODEL, width=width)
    rng = np.random.default_rng(1)
    images = rng.standard_normal((batch, *net.image_shape)).astype(np.float32)
    facts = {"model": MODEL, "width": width, "net": json.dumps(twin(net)), "checked": min(CHECKED_IMAGES, batch)}
    return {**facts, "images": images, "labels": rng.integers(0, 10, batch), **net.weights}


@dataclass(frozen=True)
class Reference:
    """What an engine has to answer, f64[1 + weights], and where loss and each gradient end in it."""

    answer: np.ndarray
    ends: np.ndarray


def reference(given: dict[str, Any], conv: str) -> Reference:
    """The answer in float64."""
    whole = {**given, "conv": conv, "images": given["images"].astype(np.float64)}
    loss, gradients = train_worker.ours(whole, 1)[1](given["checked"])
    sizes = [gradient.size for _, gradient in sorted(gradients.items())]
    return Reference(train_worker.answer_of(loss, gradients), np.cumsum([1, *sizes]))


def check(engine: str, answer: np.ndarray, expected: Reference) -> float:
    """Largest relative difference of the loss and of a gradient; WrongAnswerError where it is no rounding error."""
    if answer.shape != expected.answer.shape:
        raise WrongAnswerError(f"{engine}: expected {expected.answer.size} numbers, got {answer.size}.")
    worst = 0.0
    for start, stop in itertools.pairwise([0, *expected.ends]):
        right = expected.answer[start:stop]
        difference = np.linalg.norm(answer[start:stop] - right) / max(np.linalg.norm(right), TINY)
        worst = max(worst, float(difference) if np.isfinite(difference) else float("inf"))
    if not worst <= TOLERATED:
        raise WrongAnswerError(
            f"{engine}: expected the reference's gradients, got a relative difference of {worst:.1e}. "
            "Nothing is timed that is wrong."
        )
    return worst


def measure(how: How) -> Iterator[dict[str, Any]]:
    """One result: the engines' steps in turns."""
    width, batch, rounds, steps = (1 / 16, 4, 1, 1) if how.toy else (1.0, BATCH, ROUNDS, STEPS)
    engines = [engine for engine in ENGINES if engine.split("-")[0] in how.engines]
    given = problem(width, batch)
    expected = {conv: reference(given, conv) for conv in {ENGINES[engine][1] for engine in engines}}
    entries: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name, ExitStack() as running:
        workers = []
        for engine in shown(engines, "engines start"):
            entries[engine], worker = _start(engine, given, expected, Path(name), how.threads)
            running.callback(worker.stop)
            workers.append(worker)
        for _ in shown(range(rounds), f"{MODEL}, batch {batch}"):
            for worker in workers:
                entries[worker.name]["times_us"].append(micros(worker.ask(steps)))
    yield {"problem": f"{MODEL} x {width:g}", "batch": batch, "threads": how.threads, "engines": entries}


def _start(
    engine: str, given: dict[str, Any], expected: Mapping[str, Reference], folder: Path, threads: int
) -> tuple[dict[str, Any], Process]:
    """Start an engine's process and check its gradients; its entry of the result, and the process."""
    kind, conv = ENGINES[engine]
    path, answer = folder / f"{conv}.npz", folder / f"{engine}.npy"
    np.savez(path, conv=conv, **given)
    variables = dict.fromkeys(ONE_THREAD, str(threads)) | {"PYTHONPATH": str(ROOT) if kind == "ours" else ""}
    command = [str(python_of(kind.split("-")[0])), str(WORKER), kind, str(path), str(threads), str(answer)]
    worker = Process(engine, command, folder / f"{engine}.err", {**os.environ, **variables})
    try:
        facts = worker.reply()
        difference = check(engine, np.load(answer), expected[conv])
    except BaseException:
        worker.stop()
        raise
    entry = {
        "version": facts["version"],
        "relative_difference": float(f"{difference:.2g}"),
        "memory_bytes": {"peak": facts["peak_bytes"], "step": facts["step_growth_bytes"]},
        "times_us": [],
    }
    return entry, worker


def verdicts(results: Sequence[dict[str, Any]]) -> Iterator[Verdict]:
    """A step against the faster layout of PyTorch, and the memory of the process."""
    for result in results:
        times = medians_us(result)
        peers = [engine for engine in times if engine.startswith("torch")]
        if peers and OURS in times:
            best = min(peers, key=lambda engine: times[engine])
            yield Verdict(f"training step over that of {best}", times[OURS] / times[best], TRAINING_STEP, at_most=True)
        if OURS in times:
            peak = result["engines"][OURS]["memory_bytes"]["peak"]
            yield Verdict("memory of a training process", peak / 2**30, TRAINING_BYTES / 2**30, " GiB", at_most=True)


def table(results: Sequence[dict[str, Any]]) -> Table:
    """Milliseconds a step, and memory."""
    rows = []
    for result in results:
        for engine, time_us in medians_us(result).items():
            memory = result["engines"][engine]["memory_bytes"]
            sizes = (f"{memory[kind] / 2**20:,.0f}" for kind in ("peak", "step"))
            rows.append((name(result), engine, f"{time_us / 1e3:.4g}", *sizes))
    return Table(("net, batch", "engine", "ms a step", "MiB in all", "MiB for the step"), rows, left=2)
