"""Measuring times that can be believed: interleaved runs, medians and their spread."""

import gc
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

WARM_UPS = 5
LEAST_ROUNDS = 25


@dataclass(frozen=True)
class Summary:
    """Of many times: the middle one, where the middle 90 % lie, and how many there are."""

    median_s: float
    low_s: float
    high_s: float
    count: int

    @classmethod
    def of(cls, times_s: Sequence[float]) -> "Summary":
        """Of at least one time; percentiles 5, 50 and 95, interpolated."""
        low, middle, high = np.percentile(times_s, (5, 50, 95))
        return cls(float(middle), float(low), float(high), len(times_s))


def interleaved(runs: Mapping[str, Callable[[], object]], seconds: float) -> dict[str, list[float]]:
    """Time several things in turn, A B C A B C ..., so that what disturbs the machine disturbs all alike.

    Parameters
    ----------
    runs : what to time, by name; each is called a few times beforehand
    seconds : how long to go on, at least 25 rounds

    Returns
    -------
    Seconds of each call, in order, by name.
    """
    for run in runs.values():
        for _ in range(WARM_UPS):
            run()
    samples: dict[str, list[float]] = {name: [] for name in runs}
    gc.collect()
    gc.disable()
    try:
        began, rounds = time.perf_counter(), 0
        while rounds < LEAST_ROUNDS or time.perf_counter() - began < seconds:
            for name, run in runs.items():
                start = time.perf_counter()
                run()
                samples[name].append(time.perf_counter() - start)
            rounds += 1
    finally:
        gc.enable()
    return samples


def median(samples: list[float]) -> float:
    """The middle one."""
    return statistics.median(samples)
