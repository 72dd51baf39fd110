"""Has it become slower? ``python -m benchmarks.compare OLD.json NEW.json [--repeats FILE ...]``.

Two runs of one program never take the same time. How far they differ is estimated from

- the rounds of each run: the scatter of their medians gives the uncertainty of the middle one;
- repeated runs: whatever was measured several times unchanged. Those are the other engines whose version is the same in
  both files, and further runs of the old version that are given with --repeats.

A change is told from noise where it exceeds three standard deviations: of 370 comparisons without a change one does so
by chance. Exit code 0: nothing is slower. 1: something is. 2: the files cannot be compared.
"""

import argparse
import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks import problems, results_file
from benchmarks.results_file import Document
from benchmarks.tables import Table
from lhc_ref import command
from lhc_ref.errors import InputError

SIGMAS = 3.0
LEAST_ROUNDS = 3  # that tell a scatter
MOVED = 2.0  # times as far from core to core: another die
SAME_MACHINE = ("cpu", "vectors", "lanes", "cores", "threads")
OURS = "ours"
Key = tuple[str, int, int, str]  # problem, batch, threads, engine


@dataclass(frozen=True)
class Change:
    """One engine's time on one net, old and new, with the standard deviation of the logarithm of their ratio."""

    key: Key
    old_us: float
    new_us: float
    deviation: float

    @property
    def log_ratio(self) -> float:
        return math.log(self.new_us / self.old_us)

    @property
    def verdict(self) -> str:
        if abs(self.log_ratio) <= SIGMAS * self.deviation:
            return "no change"
        return "SLOWER" if self.log_ratio > 0 else "faster"


def rounds(document: Document) -> dict[Key, np.ndarray]:
    """Logarithms of the rounds' medians, by what was timed."""
    return {
        (result["problem"], result.get("batch", 0), result.get("threads", 0), engine): np.log(
            [np.median(times) for times in entry["times_us"]]
        )
        for result in document["results"]
        for engine, entry in result.get("engines", {}).items()
    }


def versions(document: Document) -> dict[str, str]:
    """Of each engine."""
    return {
        engine: entry["version"]
        for result in document["results"]
        for engine, entry in result.get("engines", {}).items()
        if "version" in entry
    }


def deviation_of_median(logs: np.ndarray) -> float:
    """Standard deviation of the middle of several rounds.

    The scatter is 1.4826 times the median distance from the middle, which one disturbed round cannot move; a median of
    n has 1.2533 / sqrt(n) of it (both for normal numbers).
    """
    return float(1.2533 * 1.4826 * np.median(abs(logs - np.median(logs))) / math.sqrt(len(logs)))


def deviation_between_runs(old: Document, new: Document, repeats: Sequence[Document]) -> tuple[float, int]:
    """Standard deviation of the logarithm of one run's time from run to run, and from how many pairs of runs it is.

    A pair of runs of the same thing differs by sqrt(2) of it. Pooled over everything that is the same in a pair.
    """
    same = [key for key in rounds(old) if not key[3].startswith(OURS)]
    known_old, known_new = versions(old), versions(new)
    same = [key for key in same if known_old.get(key[3]) == known_new.get(key[3])]
    differences = list(_differences(rounds(old), rounds(new), same))
    for repeat in repeats:
        differences += _differences(rounds(old), rounds(repeat), list(rounds(old)))
    if not differences:
        return 0.0, 0
    return float(np.sqrt(np.mean(np.square(differences)) / 2)), len(differences)


def _differences(a: dict[Key, np.ndarray], b: dict[Key, np.ndarray], keys: Sequence[Key]) -> Iterator[float]:
    yield from (float(np.median(a[key]) - np.median(b[key])) for key in keys if key in a and key in b)


def changes(old: Document, new: Document, repeats: Sequence[Document]) -> list[Change]:
    """Every time of ours that is in both files.

    Raises
    ------
    InputError : other machines, or nothing in common.
    """
    for document in (new, *repeats):
        _require_same_machine(old, document)
    between, _ = deviation_between_runs(old, new, repeats)
    a, b = rounds(old), rounds(new)
    keys = [key for key in a if key in b and key[3].startswith(OURS)]
    if not keys:
        raise InputError(
            "compare: expected two files with times of the same nets, got none in both. Run the same benchmark."
        )
    if (least := min(len(logs[key]) for logs in (a, b) for key in keys)) < LEAST_ROUNDS:
        raise InputError(
            f"compare: expected at least {LEAST_ROUNDS} rounds, which tell the noise, got {least}. Run more."
        )
    found = []
    for key in keys:
        # Why the larger: the scatter between runs contains that within them.
        within = math.hypot(deviation_of_median(a[key]), deviation_of_median(b[key]))
        deviation = max(within, math.sqrt(2) * between)
        found.append(Change(key, math.exp(np.median(a[key])), math.exp(np.median(b[key])), deviation))
    return found


def moved_cores(old: Document, new: Document) -> Iterator[str]:
    """Cases before whose rounds the cores lay much nearer to each other in one file than in the other."""
    before, after = _core_ns(old), _core_ns(new)
    for case in before:
        if case in after and not 1 / MOVED <= after[case] / before[case] <= MOVED:
            problem, batch, threads = case
            yield (
                f"{problems.title(problem)}, {batch}, {threads} threads: cores {before[case]:.0f} ns apart in the old "
                f"run, {after[case]:.0f} ns in the new one, which may be the cause of a change. Run again."
            )


def _core_ns(document: Document) -> dict[tuple[str, int, int], float]:
    return {
        (result["problem"], result["batch"], result["threads"]): float(np.median(result["core_ns"]))
        for result in document["results"]
        if "core_ns" in result
    }


def _require_same_machine(old: Document, new: Document) -> None:
    differing = [name for name in SAME_MACHINE if old["machine"].get(name) != new["machine"].get(name)]
    if differing:
        texts = (f"{name} {old['machine'].get(name)} and {new['machine'].get(name)}" for name in differing)
        raise InputError(
            f"compare: expected two runs on one machine, got {', '.join(texts)}. Times of two machines tell nothing "
            "of a change: run both versions on one."
        )


def table(found: Sequence[Change]) -> Table:
    """Old and new, the change, and how large one must be to be told from noise."""
    rows = []
    for change in found:
        problem, batch, threads, engine = change.key
        name = f"{problems.title(problem)}, {batch}, {threads} threads" + (f", {engine}" if engine != OURS else "")
        times = (f"{change.old_us / 1e3:.3f}", f"{change.new_us / 1e3:.3f}")
        noise = math.exp(SIGMAS * change.deviation) - 1
        rows.append((name, *times, f"{math.exp(change.log_ratio) - 1:+.1%}", f"{noise:.1%}", change.verdict))
    return Table(("net, batch", "old, ms", "new, ms", "change", "noise", "verdict"), rows)


def main() -> int:
    """The command; gives the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.compare", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    parser.add_argument("--repeats", type=Path, nargs="+", default=[], help="further runs of the old version")
    options = parser.parse_args()
    old, new = results_file.load(options.old), results_file.load(options.new)
    repeats = [results_file.load(path) for path in options.repeats]
    found = changes(old, new, repeats)
    print(table(found).text())
    between, count = deviation_between_runs(old, new, repeats)
    if count:
        print(
            f"\nfrom run to run a time differs by {between:.1%} (standard deviation, from {count} times measured twice)"
        )
    else:
        print(
            "\nfrom run to run: not known, the files share no engine that did not change. The noise is that within the "
            "runs, too small where the machine is faster on one day than on another. --repeats tells."
        )
    print("".join(f"{line}\n" for line in moved_cores(old, new)), end="")
    slower = [change for change in found if change.verdict == "SLOWER"]
    print(f"{len(slower)} of {len(found)} slower" if slower else "nothing is slower")
    return int(bool(slower))


if __name__ == "__main__":
    sys.exit(command.run(main))
