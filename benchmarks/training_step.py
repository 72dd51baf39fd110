"""Times a float32 training step beside PyTorch's: ``python -m benchmarks.training_step``.

VGG16 for CIFAR-10, batch 64: forward, backward and update with Nesterov momentum, by the reference with ordinary and
with LHC convolutions, and by PyTorch in its two layouts, each in a process of its own (`benchmarks.environments` makes
PyTorch's). Loss and gradients of the first images are compared with the reference in float64 before anything is timed.
The engines take turns; raw times and the memory of a step are kept as JSON.
"""

import argparse
import itertools
import json
import os
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import machine
from benchmarks.environments import python_of
from benchmarks.peers import train_worker
from benchmarks.run import median_ms
from benchmarks.training import ONE_THREAD
from lhc_ref import ops
from lhc_ref.files import atomic_write_text
from lhc_ref.layers import Conv2d, Dense, Operator
from lhc_ref.models import make_net
from lhc_ref.nets import Net
from runtime.bench.machine import busy_cores
from runtime.bench.processes import EngineError, Process

WORKER = Path(train_worker.__file__)
ROOT = Path(__file__).parent.parent
MODEL = "vgg16"
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
FACTOR, MEMORY_BYTES = 2.5, 3 * 2**30  # what we want to hold


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
    """Largest relative difference of the loss and of a gradient; ValueError where it is no rounding error."""
    if answer.shape != expected.answer.shape:
        raise ValueError(f"{engine}: expected {expected.answer.size} numbers, got {answer.size}.")
    worst = 0.0
    for start, stop in itertools.pairwise([0, *expected.ends]):
        right = expected.answer[start:stop]
        difference = np.linalg.norm(answer[start:stop] - right) / max(np.linalg.norm(right), TINY)
        worst = max(worst, float(difference) if np.isfinite(difference) else float("inf"))
    if not worst <= TOLERATED:
        raise ValueError(f"{engine}: expected the reference's gradients, got a relative difference of {worst:.1e}.")
    return worst


def measure(engines: list[str], width: float, batch: int, threads: int, rounds: int, steps: int) -> dict[str, Any]:
    """Time the engines in turns."""
    given = problem(width, batch)
    expected = {conv: reference(given, conv) for conv in {ENGINES[engine][1] for engine in engines}}
    results: dict[str, Any] = {}
    environment = {**os.environ, **dict.fromkeys(ONE_THREAD, str(threads))}
    with tempfile.TemporaryDirectory() as name, ExitStack() as running:
        folder, workers = Path(name), []
        for engine in engines:
            kind, conv = ENGINES[engine]
            path, answer = folder / f"{conv}.npz", folder / f"{engine}.npy"
            np.savez(path, conv=conv, **given)
            own = {**environment, "PYTHONPATH": str(ROOT) if kind == "ours" else ""}
            python = python_of(kind.removesuffix("-channels-last"))
            command = [str(python), str(WORKER), kind, str(path), str(threads), str(answer)]
            worker = Process(engine, command, folder / f"{engine}.err", own)
            running.callback(worker.stop)
            workers.append(worker)
            facts = worker.reply()
            difference = check(engine, np.load(answer), expected[conv])
            results[engine] = {**facts, "relative_difference": difference, "times_s": []}
        for _ in range(rounds):
            for worker in workers:
                results[worker.name]["times_s"].append(worker.ask(steps))
    return {"model": MODEL, "width": width, "batch": batch, "threads": threads, "engines": results}


def lines(result: dict[str, Any]) -> list[str]:
    """The result as text, with ratio and memory against what we want to hold."""
    times = {engine: median_ms(entry) for engine, entry in result["engines"].items()}
    text = [
        f"a training step of {result['model']} x {result['width']:g}, batch {result['batch']}, "
        f"{result['threads']} threads"
    ]
    for engine, entry in result["engines"].items():
        memory = (
            f"{entry['peak_bytes'] / 2**20:,.0f} MiB in all, {entry['step_growth_bytes'] / 2**20:,.0f} MiB for the step"
        )
        text.append(f"    {engine:<20} {times[engine]:8.1f} ms   {memory}")
    peers = {engine: t for engine, t in times.items() if engine.startswith("torch")}
    if peers and "ours" in times:
        best = min(peers, key=lambda engine: peers[engine])
        ratio = times["ours"] / peers[best]
        text.append(f"    {ratio:.2f} times {best}'s, at most {FACTOR}: {'met' if ratio <= FACTOR else 'NOT met'}")
    if "ours" in times:
        peak = result["engines"]["ours"]["peak_bytes"]
        text.append(f"    memory below {MEMORY_BYTES / 2**30:g} GiB: {'met' if peak < MEMORY_BYTES else 'NOT met'}")
    return text


def main(argv: list[str] | None = None) -> int:
    """Measure and print; exit code 1 where a gradient is wrong or an engine fails."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.training_step", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--out", type=Path, default=Path("build/benchmarks/training_step.json"))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=3, help="in a round, for each engine")
    parser.add_argument("--engines", nargs="*", choices=ENGINES, default=[*ENGINES])
    parser.add_argument("--toy", action="store_true", help="a narrow net and a small batch: shows that everything runs")
    arguments = parser.parse_args(argv)
    width, batch = (1 / 16, 4) if arguments.toy else (1.0, arguments.batch)
    there = [e for e in arguments.engines if python_of(ENGINES[e][0].removesuffix("-channels-last")) is not None]
    for engine in arguments.engines:
        if engine not in there:
            print(f"{engine}: not measured, its environment is missing. Make it: python -m benchmarks.environments")
    try:
        result = measure(there, width, batch, arguments.threads, arguments.rounds, arguments.steps)
    except (EngineError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    print("\n".join(lines(result)), flush=True)
    report = {
        "machine": machine.facts(),
        "busy_cores": busy_cores(),
        "command": ["benchmarks.training_step", *(argv or sys.argv[1:])],
        "results": [result],
    }
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    atomic_write_text(arguments.out, json.dumps(report, indent=1))
    print(f"written: {arguments.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
