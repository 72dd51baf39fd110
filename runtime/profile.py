"""Where the time of a run goes, layer by layer.

The workers of the ordinary engine read a monotonic clock after every step; nothing else differs from a run. A layer's
seconds are its share of the wall clock: where all workers share each step, from the end of the step before to the end
of its last task; where each worker takes images through the whole net, the sum over the workers, divided by their
number. The borders are copies between the user's layout and the plan's. The rest is what remains of the run's seconds
as the caller sees them: checks, buffers, starting and joining workers, and those that wait for others at the end.
"""

import json
import os
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from lhc_ref.modelfile import InputError
from runtime.plan import Plan

Sample = tuple[float, Sequence[tuple[Plan, np.ndarray]]]  # seconds of a run; each part's plan, seconds of its steps


@dataclass(frozen=True)
class LayerTime:
    """A layer, its kernel (several where a batch is cut into parts), its seconds, their share of the run, and the share
    of each part.
    """

    layer: str
    kernel: str
    seconds: float
    share: float
    shares: tuple[float, ...]


@dataclass(frozen=True)
class Profile:
    """Seconds of the wall clock, each the median over the repeats.

    Attributes
    ----------
    batch, threads, repeats : what was run, on at most how many threads, how often
    run_s : of a whole run as its caller sees it
    layers : in the order of `Explanation.rows`
    import_s, export_s : of copies between the user's layout and the plan's
    rest_s : of everything else
    """

    batch: int
    threads: int
    repeats: int
    run_s: float
    layers: tuple[LayerTime, ...]
    import_s: float
    export_s: float
    rest_s: float

    def json(self) -> str:
        """The profile as JSON."""
        return json.dumps(asdict(self), indent=1)

    def rows(self) -> list[tuple[str, str, float]]:
        """(name, kernel, seconds) of the layers, then of the borders and the rest."""
        layers = [(entry.layer, entry.kernel, entry.seconds) for entry in self.layers]
        return [*layers, ("import", "", self.import_s), ("export", "", self.export_s), ("rest", "", self.rest_s)]

    def __str__(self) -> str:
        width = max(len(name) for name, _, _ in self.rows())
        head = f"batch {self.batch}, {self.threads} threads: {self.run_s * 1e3:.3f} ms, median of {self.repeats} runs"
        lines = [
            f"{name.ljust(width)} {seconds * 1e6:11,.1f} us {seconds / self.run_s:7.1%}  {kernel}".rstrip()
            for name, kernel, seconds in self.rows()
        ]
        return "\n".join([head, *lines])


def require_clock() -> None:
    """Raise InputError where the compiled code has no clock to read."""
    if not hasattr(time, "clock_gettime"):
        raise InputError(
            f"profile: expected a POSIX system, whose clock compiled code can read, got {os.name!r}. "
            "Time whole runs instead."
        )


def summarize(batch: int, threads: int, samples: Sequence[Sample]) -> Profile:
    """The medians of several timed runs of one batch. A part's steps are its inputs, its layers and its outputs."""
    plans = [plan for plan, _ in samples[0][1]]
    by_part = np.array([[layer_steps(plan, steps) for plan, steps in parts] for _, parts in samples])
    layers, shares = np.median(by_part.sum(1), axis=0), np.median(by_part, axis=0).T
    imports, exports = (
        [sum(float(steps[[b.step for b in borders(plan)]].sum()) for plan, steps in parts) for _, parts in samples]
        for borders in (lambda plan: plan.inputs, lambda plan: plan.outputs)
    )
    run_s = float(np.median([seconds for seconds, _ in samples]))
    rest = [seconds - sum(float(steps.sum()) for _, steps in parts) for seconds, parts in samples]
    kernels = [" and ".join(dict.fromkeys(names)) for names in zip(*(_kernels(plan) for plan in plans), strict=True)]
    return Profile(
        batch,
        threads,
        len(samples),
        run_s,
        tuple(
            LayerTime(facts.layer, kernel, float(seconds), float(seconds) / run_s, tuple(map(float, of_parts / run_s)))
            for facts, kernel, seconds, of_parts in zip(plans[0].facts, kernels, layers, shares, strict=True)
        ),
        float(np.median(imports)),
        float(np.median(exports)),
        float(np.median(rest)),
    )


def layer_steps(plan: Plan, steps: np.ndarray) -> np.ndarray:
    """Those of the plan's layers, without its borders."""
    first = len(plan.inputs)
    return steps[first : first + len(plan.facts)]


def _kernels(plan: Plan) -> list[str]:
    return [facts.kernel for facts in plan.facts]
