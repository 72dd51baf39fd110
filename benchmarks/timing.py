"""Measuring times that can be believed: interleaved runs, medians, and the other load of the machine."""

import gc
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path

WARM_UPS = 5
LEAST_ROUNDS = 25


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


def busy_cores(seconds: float = 0.5) -> float:
    """How many cores others keep busy while this process sleeps; 0 where the system does not tell."""
    before, began = _busy_s(), time.perf_counter()
    time.sleep(seconds)
    return max(0.0, (_busy_s() - before) / (time.perf_counter() - began))


def _busy_s() -> float:
    """Seconds that all cores together have worked since the start; steps of 10 milliseconds."""
    try:
        fields = Path("/proc/stat").read_text().splitlines()[0].split()[1:]
    except OSError:
        return 0.0
    user, nice, system, _, _, irq, softirq, steal = map(int, fields[:8])
    return (user + nice + system + irq + softirq + steal) / 100
