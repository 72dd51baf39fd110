"""How time falls with threads: speed-up, efficiency, and Amdahl's law fitted to them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import nnls


@dataclass(frozen=True)
class Amdahl:
    """time(n) = one_s * (serial_share + (1 - serial_share) / n) (Amdahl 1967), with one_s on one thread."""

    one_s: float
    serial_share: float

    @property
    def limit(self) -> float:
        """The speed-up that no number of threads exceeds."""
        return float("inf") if self.serial_share == 0 else 1 / self.serial_share

    def seconds(self, threads: float) -> float:
        """The time that the law gives."""
        return self.one_s * (self.serial_share + (1 - self.serial_share) / threads)


def fit(threads: Sequence[int], seconds: Sequence[float]) -> Amdahl | None:
    """Amdahl's law nearest to the times, by least squares of the relative errors; None for fewer than two counts.

    A serial and a parallel part, neither below zero: where more threads are slower, all is serial.
    """
    if len(set(threads)) < 2:
        return None
    n, t = np.asarray(threads, np.float64), np.asarray(seconds, np.float64)
    (serial, parallel), _ = nnls(np.stack([1 / t, 1 / (n * t)], axis=1), np.ones(len(t)))
    share = round(float(serial / (serial + parallel)), 9)  # what is below is rounding
    return Amdahl(float(serial + parallel), share)


@dataclass(frozen=True)
class Point:
    """One thread count: seconds of a batch, speed-up over the fewest threads measured, and that per thread."""

    threads: int
    seconds: float
    speedup: float
    efficiency: float


def points(threads: Sequence[int], seconds: Sequence[float]) -> list[Point]:
    """The points of a scaling curve, by threads. Speed-up and efficiency are 1 at the fewest threads."""
    pairs = sorted(zip(threads, seconds, strict=True))
    least, slowest = pairs[0]
    return [Point(n, t, slowest / t, slowest / t * least / n) for n, t in pairs]
