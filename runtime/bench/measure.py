"""Measures engines on one net: each in a process of its own, answers checked before any clock starts, all in turns."""

import math
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from runtime.bench import machine, pinning, scaling
from runtime.bench.engines import Pythons, kind, python_of
from runtime.bench.processes import EngineError, EngineProcess
from runtime.bench.subject import ForeignSubject, Subject
from runtime.bench.timing import Summary

SLOT_S = 0.25  # of calls of one engine before the next one's turn
LEAST_ROUNDS = 3
FAST_S = 1e-6  # no call is faster


class Bar(Protocol):
    """What tqdm gives."""

    def update(self, n: float = 1) -> object:
        """So much more is done."""


Progress = Callable[[int, str], AbstractContextManager[Bar]]


@dataclass(frozen=True)
class Setup:
    """How to measure.

    Attributes
    ----------
    engines, threads : what to measure, each engine with each number of threads
    scenario : "latency", one batch after the other; "throughput", several streams at the same time
    streams : of the throughput scenario; None: one for each thread
    time_s, warmup_s : of each engine with each number of threads
    pin : a word of `pinning.CHOICES`
    pythons : those of engines that are not in this one
    """

    engines: tuple[str, ...]
    threads: tuple[int, ...]
    scenario: str = "latency"
    streams: int | None = None
    time_s: float = 3.0
    warmup_s: float = 0.5
    pin: str = "none"
    pythons: Pythons = field(default_factory=dict)

    def streams_for(self, threads: int) -> int:
        """Streams at so many threads."""
        if self.scenario == "latency":
            return 1
        return threads if self.streams is None else min(self.streams, threads)


@dataclass
class Run:
    """One engine with one number of threads: its process, and what is known of it so far."""

    engine: str
    threads: int
    streams: int
    process: EngineProcess
    facts: dict[str, Any] = field(default_factory=dict)
    times_s: list[float] = field(default_factory=list)
    wall_s: float = 0.0
    calls: int = 1

    def take_turn(self) -> None:
        """Fill a slot with calls, and keep their times."""
        reply = self.process.time(self.calls)
        self.times_s += reply["times_s"]
        self.wall_s += reply["wall_s"]
        self.facts["memory_bytes"]["peak"] = reply["peak_bytes"]

    def summary(self, batch: int) -> dict[str, Any]:
        """The facts, with median, 5-95 % range and rates once there are times."""
        entry = {"engine": self.engine, "threads": self.threads, "streams": self.streams, **self.facts}
        if self.times_s:
            found = Summary.of(self.times_s)
            # Streams overlap: what counts for their speed is the wall clock.
            batch_s = found.median_s if self.streams == 1 else self.wall_s / len(self.times_s)
            entry |= {**asdict(found), "batch_s": batch_s, "images_per_s": batch / batch_s, "times_s": self.times_s}
        return entry


def measure(
    subject: Subject | ForeignSubject, setup: Setup, folder: Path, facts: dict[str, Any], progress: Progress
) -> None:
    """Fill `facts` with "runs", "failed", "scaling", "profile" and "dense_profile", and the machine's facts with other
    load and throttling meanwhile; on an interrupt they hold what was measured.

    Raises
    ------
    WrongAnswerError : before anything is timed.
    EngineError : ours fails. Others' failures are in "failed", by engine.
    """
    facts["failed"] = {}
    with ExitStack() as running:
        runs: list[Run] = []
        try:
            with progress(len(setup.engines) * len(setup.threads), "engines started") as bar:
                for engine in setup.engines:
                    for threads in setup.threads:
                        run = _start(subject, setup, engine, threads, folder, running, facts["failed"])
                        runs += [run] if run is not None else []
                        bar.update(1)
            with _watched(runs, facts):
                _time(runs, setup, facts["failed"], progress)
            for engine, key in (("ours", "profile"), ("ours-dense", "dense_profile")):
                mine = [run for run in runs if run.engine == engine and engine not in facts["failed"]]
                if mine:
                    facts[key] = _profile(max(mine, key=lambda run: run.threads))
        finally:
            facts["runs"] = [run.summary(subject.batch) for run in runs]
            facts["scaling"] = scaling_facts(facts["runs"])


@contextmanager
def _watched(runs: list[Run], facts: dict[str, Any]) -> Iterator[None]:
    """Add to the machine's facts what disturbed it in the block: cores that others kept busy, None where an engine's
    process ended and took the count of its own work with it; and seconds that a CPU quota held threads back.
    """
    own = {os.getpid(), *(run.process.pid for run in runs)}
    failed, throttled, load = len(facts["failed"]), machine.throttled_s(), machine.OtherLoad(own)
    try:
        yield
    finally:
        known = len(facts["failed"]) == failed
        facts["machine"]["busy_cores_meanwhile"] = load.cores(own) if known else None
        facts["machine"]["throttled_s"] = machine.throttled_s() - throttled


def _start(
    subject: Subject | ForeignSubject,
    setup: Setup,
    engine: str,
    threads: int,
    folder: Path,
    running: ExitStack,
    failed: dict[str, str],
) -> Run | None:
    """A process with the net loaded and its answer checked; None, and a word in `failed`, where it cannot run it."""
    if engine in failed:
        return None
    form, streams = subject.form_for(engine), setup.streams_for(threads)
    cores = pinning.cores_for(setup.pin, threads)
    own = folder / f"{engine}-{threads}"
    own.mkdir()
    python, variables = python_of(engine, setup.pythons), pinning.VARIABLES if cores else None
    process = EngineProcess(kind(engine), own, name=engine, python=python, environment=variables)
    running.callback(process.stop)
    try:
        facts, answers = process.load(
            form.path, form.inputs, threads=threads, streams=streams, cores=cores, options=form.options
        )
    except EngineError as error:
        if kind(engine) == "ours":
            raise
        failed[engine] = str(error)
        return None
    facts["answer"] = form.check(engine, answers)
    return Run(engine, threads, streams, process, facts)


def _time(runs: list[Run], setup: Setup, failed: dict[str, str], progress: Progress) -> None:
    """Warm up, then take turns, A B A B, until each has had its time."""
    slot_s = min(SLOT_S, setup.time_s / LEAST_ROUNDS)
    rounds = max(LEAST_ROUNDS, math.ceil(setup.time_s / slot_s))
    with progress(len(runs) * (rounds + 1), "turns") as bar:
        for run in runs:
            _guarded(run, failed, partial(_warm_up, run, setup.warmup_s, slot_s))
            bar.update(1)
        for _ in range(rounds):
            for run in runs:
                _guarded(run, failed, run.take_turn)
                bar.update(1)


def _guarded(run: Run, failed: dict[str, str], action: Callable[[], None]) -> None:
    """An engine that ends is told and left out; the others go on."""
    if run.engine in failed:
        return
    try:
        action()
    except EngineError as error:
        failed[run.engine] = str(error)


def _warm_up(run: Run, warmup_s: float, slot_s: float) -> None:
    """Run for that long; learns how many calls fill a slot."""
    spent = 0.0
    while True:
        reply = run.process.time(run.calls)
        spent += reply["wall_s"]
        each = max(reply["wall_s"] / run.calls, FAST_S)
        run.calls = max(1, int(slot_s / each))
        if spent >= warmup_s:
            return


def _profile(run: Run) -> dict[str, Any]:
    """Seconds of each layer; as many repeats as fit into a second."""
    each = Summary.of(run.times_s).median_s if run.times_s else 1.0
    return run.process.profile(max(5, min(100, int(1.0 / max(each, FAST_S)))))


def scaling_facts(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Of each engine with times at several thread counts: points, and Amdahl's fit."""
    found = {}
    for engine in dict.fromkeys(run["engine"] for run in runs):
        timed = [run for run in runs if run["engine"] == engine and "batch_s" in run]
        threads, seconds = [run["threads"] for run in timed], [run["batch_s"] for run in timed]
        law = scaling.fit(threads, seconds)
        if law is not None:
            points = [asdict(point) for point in scaling.points(threads, seconds)]
            found[engine] = {"points": points, **asdict(law), "limit": law.limit}
    return found
