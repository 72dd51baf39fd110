"""Times engines beside each other on one net and batch, after every answer was compared with float64.

Each engine works in a process and an environment of its own, and they take turns, A B C A B C, so that what disturbs
the machine disturbs all alike. Dense engines run the twin with zeros for the missing weights, DeepSparse also one
without zeros.
"""

import itertools
import math
import tempfile
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from tqdm import tqdm

import runtime
from benchmarks import problems
from benchmarks.environments import python_of
from benchmarks.results_file import micros
from lhc_ref import modelfile
from lhc_ref.errors import LhcError
from lhc_ref.evaluate import evaluate
from runtime.bench import onnx_twin, ping
from runtime.bench.processes import EngineError, EngineProcess
from runtime.bench.twins import dense_twin
from runtime.commands.running import SLOW_S

Thing = TypeVar("Thing")

# Largest difference from the float64 reference over the largest value that still counts as the same net.
TOLERATED = {"openvino-bf16": 0.1}
TOLERATED_F32 = 1e-4
# Why not all images different: the reference takes seconds an image from 224x224 on. Why these numbers: they divide no
# vector width and hardly a batch, so that an image which ends up in another's place is seen.
DIFFERENT_IMAGES = {32: 5, 256: 3}
APART = 2.0  # times as far as before: on another die
PAUSE_S = 1.0  # between two looks at where the cores lie
MAX_CALLS = 20  # that are kept of a turn
DENSE_TWIN = "-dense"  # of an engine's name: it runs the twin without zeros


class WrongAnswerError(LhcError):
    """An engine whose outputs are not those of the net."""


@dataclass(frozen=True)
class Case:
    """One net and batch, on so many threads, by these engines; some may refuse it, as they lack an operator."""

    problem: str
    batch: int
    threads: int
    engines: tuple[str, ...]
    may_refuse: tuple[str, ...] = ()


@dataclass(frozen=True)
class How:
    """How to measure.

    Attributes
    ----------
    rounds : turns of each engine
    seconds : that a turn shall take, of which half is not kept: it brings caches and threads back
    toy : small nets, to see that everything runs
    threads : of every case that does not say otherwise
    engines : to measure; those without an environment are left out
    only : names of problems to measure; all where empty
    patience_s : how long a round waits for cores that lie farther apart than they did before
    """

    rounds: int
    seconds: float
    toy: bool
    threads: int
    engines: tuple[str, ...]
    only: tuple[str, ...] = ()
    patience_s: float = 0.0


class Prepared:
    """A net's files and right answers, for all cases of it."""

    def __init__(self, name: str, folder: Path, toy: bool) -> None:
        self.name, self.folder = name, folder
        self.spec = modelfile.validate(problems.find(name, toy).make())
        (entry,), (self.output,) = self.spec.inputs, self.spec.outputs
        count = next((n for size, n in DIFFERENT_IMAGES.items() if entry.shape[0] <= size), 1)
        rng = np.random.default_rng(0)
        self.images = rng.standard_normal((count, *entry.shape)).astype(np.float32)

    @cached_property
    def _dense(self) -> modelfile.ModelSpec:
        return modelfile.validate(dense_twin(self.spec))

    def model(self, engine: str) -> Path:
        """The file that an engine loads; written at first use."""
        suffix = "lhc" if engine == "ours" else f"{'dense' if engine.endswith(DENSE_TWIN) else 'sparse'}.onnx"
        path = self.folder / f"{self.name}.{suffix}"
        if not path.exists():
            if engine == "ours":
                modelfile.save(path, self.spec)
            else:
                onnx_twin.write(path, self._dense if engine.endswith(DENSE_TWIN) else self.spec)
        return path

    def inputs(self, engine: str, batch: int) -> dict[str, np.ndarray]:
        """What an engine reads: the different images again and again."""
        x = self.images[np.arange(batch) % len(self.images)]
        x = x if engine == "ours" else np.ascontiguousarray(x.transpose(0, 3, 1, 2))
        return {self.spec.inputs[0].name: x}

    def answer(self, engine: str, batch: int) -> np.ndarray:
        """f64[batch, ...] that an engine has to give."""
        known = self._dense_answers if engine.endswith(DENSE_TWIN) else self._answers
        answer = known[np.arange(batch) % len(known)]
        return answer.transpose(0, 3, 1, 2) if answer.ndim == 4 and engine != "ours" else answer

    @cached_property
    def _answers(self) -> np.ndarray:
        return evaluate(self.spec, {self.spec.inputs[0].name: self.images})[self.output]

    @cached_property
    def _dense_answers(self) -> np.ndarray:
        return evaluate(self._dense, {self.spec.inputs[0].name: self.images})[self.output]


def check(engine: str, answer: np.ndarray, expected: np.ndarray) -> float:
    """Largest difference over the largest value; WrongAnswerError where that is no rounding error."""
    if answer.shape != expected.shape:
        raise WrongAnswerError(f"{engine}: expected outputs {list(expected.shape)}, got {list(answer.shape)}.")
    difference = float(np.abs(answer - expected).max() / np.abs(expected).max())
    if not difference <= TOLERATED.get(engine, TOLERATED_F32):
        raise WrongAnswerError(
            f"{engine}: expected the reference's outputs, got a relative difference of {difference:.1e}. "
            "Nothing is timed that is wrong."
        )
    return difference


class Cores:
    """How far apart the cores lie: a virtual machine may move them to other dies, and back a minute later."""

    def __init__(self, patience_s: float) -> None:
        self.patience_s, self.nearest_ns = patience_s, math.inf

    def wait(self) -> list[float]:
        """Nanoseconds from core to core, once they lie as near as ever or patience is over; none where unknown."""
        end = time.monotonic() + self.patience_s
        while (way := ping.measure()) is not None:
            self.nearest_ns = min(self.nearest_ns, way.farthest_ns)
            if way.farthest_ns <= APART * self.nearest_ns or time.monotonic() >= end:
                return [round(way.farthest_ns, 1)]
            time.sleep(PAUSE_S)
        return []


def measure_all(cases: Sequence[Case], how: How) -> Iterator[dict[str, Any]]:
    """Measure cases in order; a result for each, as in the schema.

    Raises
    ------
    WrongAnswerError, EngineError : an engine's outputs are wrong, or it cannot run the net and is none that may refuse.
    """
    cores = Cores(how.patience_s)
    chosen = [case for case in cases if not how.only or case.problem in how.only]
    for name, group in itertools.groupby(chosen, lambda case: case.problem):
        with tempfile.TemporaryDirectory() as folder:
            prepared = Prepared(name, Path(folder), how.toy)
            for case in group:
                yield _measure(case, prepared, how, cores)


def shown(things: Collection[Thing], what: str) -> Iterator[Thing]:
    """The things, with a bar and the time that remains, on a terminal, where they take over 2 seconds."""
    yield from tqdm(things, desc=what, leave=False, disable=None, delay=SLOW_S)


def _measure(case: Case, prepared: Prepared, how: How, cores: Cores) -> dict[str, Any]:
    entries: dict[str, dict[str, Any]] = {}
    refused: dict[str, str] = {}
    core_ns: list[float] = []
    what = f"{case.problem}, batch {case.batch}"
    with ExitStack() as running:
        workers = []
        for engine in shown([e for e in case.engines if e in how.engines], f"{what}: engines start"):
            try:
                entries[engine], worker = _start(engine, case, prepared, running)
            except EngineError as error:
                if engine not in case.may_refuse:
                    raise
                refused[engine] = str(error)
            else:
                workers.append(worker)
        calls = {w.name: max(1, int(how.seconds / 2 / min(w.time(2)["times_s"]))) for w in workers}
        for _ in shown(range(how.rounds), what):
            core_ns += cores.wait()
            for worker in workers:
                if calls[worker.name] > 1:  # Why not else: a single long call warms itself up.
                    worker.time(calls[worker.name])
                reply = worker.time(min(MAX_CALLS, calls[worker.name]))
                entries[worker.name]["times_us"].append(micros(reply["times_s"]))
                entries[worker.name]["memory_bytes"]["peak"] = reply["peak_bytes"]
    measured = {"problem": case.problem, "batch": case.batch, "threads": case.threads, "engines": entries}
    return measured | ({"core_ns": core_ns} if core_ns else {}) | ({"refused": refused} if refused else {})


def _start(engine: str, case: Case, prepared: Prepared, running: ExitStack) -> tuple[dict[str, Any], EngineProcess]:
    """Start an engine's process and check its answer; its entry of the result, and the process."""
    kind = engine.removesuffix(DENSE_TWIN).removesuffix("-f32")
    worker = EngineProcess(kind, prepared.folder, name=engine, python=str(python_of(engine)))
    running.callback(worker.stop)
    model, inputs = prepared.model(engine), prepared.inputs(engine, case.batch)
    facts, answers = worker.load(model, inputs, threads=case.threads)
    (answer,) = answers.values()
    memory = dict(facts["memory_bytes"])
    if engine == "ours":
        memory |= {"packed": facts["packed_bytes"], "buffers": buffer_bytes(model, inputs, case.threads)}
    entry = {
        "version": facts["version"],
        "relative_difference": float(f"{check(engine, answer, prepared.answer(engine, case.batch)):.2g}"),
        "phases_s": {phase: round(seconds, 4) for phase, seconds in facts["phases_s"].items()},
        "memory_bytes": memory,
        "times_us": [],
    }
    return entry, worker


def buffer_bytes(model: Path, inputs: Mapping[str, np.ndarray], threads: int) -> int:
    """Memory that a run of ours plans for activations and keeps for the next run."""
    with runtime.load(model) as loaded:
        loaded.run(inputs, threads=threads)
        return loaded._executor.arenas.bytes
