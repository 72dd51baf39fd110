"""How long it takes until a net gives its first answer: on a machine that knows the kernels, and on one that does not.

Each time in a new process. Where the kernels are not known, those of the net are compiled into an empty cache, once, in
the first run.
"""

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from benchmarks.floors import FIRST_LOAD_S, LOAD_S, Verdict
from benchmarks.measuring import How, Prepared, check, shown
from benchmarks.results_file import micros
from benchmarks.tables import Table, name
from runtime.bench.processes import EngineProcess

ABOUT = "Seconds until a net's first answer, kernels known and, once, unknown."
PROBLEMS = (("vgg16_cifar_d0.1", 64), ("resnet34_cifar_d0.1", 64), ("resnet50_imagenet_d0.25", 8))
KNOWN, UNKNOWN = "ours", "ours, nothing compiled"
PHASES = ("import", "load", "plan", "first run")
ROUNDS = 5


def measure(how: How) -> Iterator[dict[str, Any]]:
    """Phases of the median start of each net; the first net's also with an empty cache. Toy: not that."""
    for number, (problem, batch) in enumerate(PROBLEMS[:1] if how.toy else PROBLEMS):
        if how.only and problem not in how.only:
            continue
        with tempfile.TemporaryDirectory() as folder:
            prepared = Prepared(problem, Path(folder), how.toy)
            engines = {KNOWN: _entry(prepared, batch, how.threads, min(how.rounds, ROUNDS))}
            if number == 0 and not how.toy:
                with tempfile.TemporaryDirectory() as cache:
                    engines[UNKNOWN] = _entry(prepared, batch, how.threads, 1, {"NUMBA_CACHE_DIR": cache})
        yield {"problem": problem, "batch": batch, "threads": how.threads, "engines": engines}


def _entry(
    prepared: Prepared, batch: int, threads: int, rounds: int, environment: dict[str, str] | None = None
) -> dict[str, Any]:
    """Start so many processes one after the other; times are those of everything up to the first answer."""
    starts = []
    for _ in shown(range(rounds), f"starts with {prepared.name}"):
        with ExitStack() as running:
            process = EngineProcess("ours", prepared.folder, environment={**os.environ, **(environment or {})})
            running.callback(process.stop)
            facts, answers = process.load(prepared.model("ours"), prepared.inputs("ours", batch), threads=threads)
            (answer,) = answers.values()
            difference = check("ours", answer, prepared.answer("ours", batch))
            starts.append(facts)
    totals = [sum(facts["phases_s"].values()) for facts in starts]
    middle = starts[sorted(range(rounds), key=totals.__getitem__)[rounds // 2]]
    return {
        "version": middle["version"],
        "relative_difference": float(f"{difference:.2g}"),
        "phases_s": {phase: round(seconds, 4) for phase, seconds in middle["phases_s"].items()},
        "times_us": [micros([total]) for total in totals],
    }


def verdicts(results: Sequence[dict[str, Any]]) -> Iterator[Verdict]:
    """Loading and planning a net whose kernels are known; everything where they are not."""
    for result in results:
        phases = result["engines"][KNOWN]["phases_s"]
        yield Verdict(f"{name(result)}: load and plan", _planned_s(phases), LOAD_S, " s", at_most=True)
        if UNKNOWN in result["engines"]:
            first = sum(result["engines"][UNKNOWN]["phases_s"].values())
            yield Verdict(f"{name(result)}: the very first time", first, FIRST_LOAD_S, " s", at_most=True)


def _planned_s(phases: dict[str, float]) -> float:
    return phases["load"] + phases["plan"]


def table(results: Sequence[dict[str, Any]]) -> Table:
    """Seconds by phase."""
    rows = [
        (name(result), engine, *(f"{entry['phases_s'].get(p, 0):.2f}" for p in PHASES))
        for result in results
        for engine, entry in result["engines"].items()
    ]
    return Table(("net, batch", "kernels", *(f"{phase}, s" for phase in PHASES)), rows, left=2)
