"""A trial: measured seconds of every kernel that could run a layer, in the place of predicted cycles.

It holds for one net, by its bytes, and for one machine and these sources. With it the choice is fixed again: it knows
the threads that were timed, and never those of a run.
"""

import json
import math
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import llvmlite.binding as llvm
import numpy as np
from numba.core import config

from lhc_ref import modelfile
from lhc_ref.files import atomic_write_text
from lhc_ref.modelfile import InputError, ModelSpec
from runtime.execute import Executor
from runtime.kernels.machine import LANES
from runtime.kernels.options import SOURCES, source_stamp
from runtime.plan import Draft, build
from runtime.profile import layer_steps
from runtime.select import Candidate, Choice, short_name

FORMAT = 1
ANEW = "Make it anew: lhc-run trial."


@dataclass(frozen=True)
class Timed:
    """What was timed in one layout: images, threads, timed runs, and of each layer, in order, its name and the median
    seconds of its kernels by their names.
    """

    batch: int
    threads: int
    repeats: int
    layers: tuple[tuple[str, Mapping[str, float]], ...]

    def __post_init__(self) -> None:
        for name in ("batch", "threads", "repeats"):
            value = getattr(self, name)
            if type(value) is not int or value < 1:
                raise ValueError(f"{name} {value!r}")
        for layer, seconds in self.layers:
            if not isinstance(layer, str) or not seconds:
                raise ValueError(f"layer {layer!r} without times")
            for kernel, value in seconds.items():
                if type(value) is not float or not 0 <= value < math.inf:
                    raise ValueError(f"seconds {value!r} of {kernel}")


@dataclass(frozen=True)
class Trial:
    """The hash of a net, the machine and sources, and what was timed, by the names of layouts."""

    net: str
    machine: Mapping[str, object]
    layouts: Mapping[str, Timed]

    def require(self, spec: ModelSpec, what: str) -> None:
        """Raise InputError unless it is of this net and of this machine."""
        for name, value in here().items():
            if self.machine.get(name) != value:
                raise InputError(
                    f"{what}: expected a trial made with {name} {value!r}, got {self.machine.get(name)!r}. {ANEW}"
                )
        if self.net != modelfile.fingerprint(spec):
            raise InputError(f"{what}: expected a trial of this net, got one of a net with other bytes. {ANEW}")

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write it as JSON, whole or not at all."""
        atomic_write_text(path, json.dumps({"format": FORMAT, **asdict(self)}, indent=1, allow_nan=False) + "\n")


def here() -> dict[str, object]:
    """What a trial depends on beside the net."""
    return {
        "sources": f"{source_stamp(Path(__file__).parent)[:16]}-{SOURCES[:16]}",
        "processor": config.CPU_NAME or llvm.get_host_cpu_name(),
        "lanes": LANES,
        "cores": os.cpu_count(),
    }


def read(path: str | os.PathLike[str]) -> Trial:
    """Read what `Trial.save` wrote; raises InputError for anything else."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        said = error.strerror or str(error)
        raise InputError(f"{path}: expected a file of lhc-run trial, got '{said}'. Check the path.") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: expected JSON of lhc-run trial, got bytes that are no text. {ANEW}") from error
    try:
        return _parsed(json.loads(text))
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
        said = f"{type(error).__name__}: {error}"
        raise InputError(f"{path}: expected JSON of lhc-run trial, got '{said}'. {ANEW}") from error


def _parsed(facts: dict) -> Trial:
    if facts["format"] != FORMAT:
        raise ValueError(f"format {facts['format']!r}")
    layouts = {
        name: Timed(**{**entry, "layers": tuple((layer, dict(seconds)) for layer, seconds in entry["layers"])})
        for name, entry in facts["layouts"].items()
    }
    return Trial(facts["net"], dict(facts["machine"]), layouts)


def measure(spec: ModelSpec, made: Draft, batch: int, threads: int, repeats: int) -> Timed:
    """Time every candidate of every layer, on random numbers: a plan for each number of a candidate, and runs that
    take turns, after one of each that is not timed.
    """
    most = max(len(choice.candidates) for choice in made.choices)
    plans = [build(spec, _forced(made, number)) for number in range(most)]
    rng, executor, shapes = np.random.default_rng(0), Executor(), modelfile.infer_shapes(spec)
    inputs = {entry.name: rng.standard_normal((batch, *entry.shape), np.float32) for entry in spec.inputs}
    outputs = {name: np.empty((batch, *shapes[name]), np.float32) for name in spec.outputs}
    samples: list[dict[str, list[float]]] = [{} for _ in made.layers]
    for turn in range(repeats + 1):
        for plan in plans:
            steps = executor.run(plan, inputs, outputs, slice(0, batch), threads, timed=True)
            if turn == 0:
                continue
            for layer, facts, seconds in zip(samples, plan.facts, layer_steps(plan, steps), strict=True):
                layer.setdefault(facts.kernel, []).append(float(seconds))
    layers = [
        (facts.layer, {kernel: float(np.median(times)) for kernel, times in layer.items()})
        for facts, layer in zip(plans[0].facts, samples, strict=True)
    ]
    return Timed(batch, threads, repeats, tuple(layers))


def _forced(made: Draft, number: int) -> Draft:
    """The draft with the candidate of that number wherever there is one."""
    choices = [
        replace(choice, chosen=choice.candidates[number]) if number < len(choice.candidates) else choice
        for choice in made.choices
    ]
    return replace(made, choices=choices)


def decide(made: Draft, timed: Timed) -> Draft:
    """The draft with the fastest candidate of each layer, the predicted one of equals."""
    if len(made.layers) != len(timed.layers):
        raise InputError(f"trial: expected times of {len(made.layers)} layers, got {len(timed.layers)}. {ANEW}")
    choices = [
        _fastest(choice, seconds, timed) for choice, (_, seconds) in zip(made.choices, timed.layers, strict=True)
    ]
    return replace(made, choices=choices)


def _fastest(choice: Choice, seconds: Mapping[str, float], timed: Timed) -> Choice:
    names = sorted(candidate.entry.name for candidate in choice.candidates)
    if not seconds.keys() >= set(names):  # more than these: a net loaded without Winograd's transform
        raise InputError(f"trial: expected times of {names}, got {sorted(seconds)}. {ANEW}")
    candidates = tuple(replace(c, measured_s=seconds[c.entry.name]) for c in choice.candidates)
    predicted = candidates[choice.candidates.index(choice.chosen)]
    best = min(candidates, key=lambda c: (seconds[c.entry.name], c is not predicted))
    return Choice(best, _reason(best, predicted, candidates, timed), candidates)


def _reason(best: Candidate, predicted: Candidate, candidates: tuple[Candidate, ...], timed: Timed) -> str:
    def microseconds(candidate: Candidate) -> str:
        return f"{1e6 * (candidate.measured_s or 0.0):,.1f}"

    head = f"{microseconds(best)} us measured for batch {timed.batch} on {timed.threads} threads"
    if len(candidates) == 1:
        return f"{head}; the only kernel that can run it"
    rest = ", ".join(f"{short_name(c.entry)} {microseconds(c)}" for c in candidates if c is not best)
    forecast = "as predicted" if best is predicted else f"{short_name(predicted.entry)} was predicted"
    return f"{head}; {rest} us with other tiles; {forecast}"
