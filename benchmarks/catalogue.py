"""Every benchmark there is, by name."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks import files, floors, gradient_check, layers, loading, suites, tables, training_step
from benchmarks.floors import Verdict
from benchmarks.measuring import Case, How, measure_all
from benchmarks.tables import Table

Result = dict[str, Any]


def _no_limits(results: Sequence[Result]) -> Iterable[Verdict]:
    return ()


@dataclass(frozen=True)
class Benchmark:
    """What is measured, and how it is told.

    Attributes
    ----------
    about : one line for the help
    measure : gives the results one by one
    table : of results
    verdicts : of results: limits, and whether they are met
    """

    about: str
    measure: Callable[[How], Iterator[Result]]
    table: Callable[[Sequence[Result]], Table]
    verdicts: Callable[[Sequence[Result]], Iterable[Verdict]] = _no_limits


def _engines(
    cases: Callable[[How], Iterator[Case]],
    table: Callable[[Sequence[Result]], Table] = tables.by_engine,
    verdicts: Callable[[Sequence[Result]], Iterable[Verdict]] = _no_limits,
) -> Benchmark:
    """A benchmark that times engines beside each other."""
    about = (cases.__doc__ or "").strip()
    return Benchmark(about, lambda how: measure_all(list(cases(how)), how), table, verdicts)


BENCHMARKS = {
    "speed": _engines(suites.speed, tables.speed, floors.speed),
    "density": _engines(suites.density),
    "groups": _engines(suites.groups),
    "patterns": _engines(suites.patterns),
    "batch": _engines(suites.batch),
    "threads": _engines(suites.threads, verdicts=floors.scaling),
    "dense": _engines(suites.dense, verdicts=floors.dense),
    "families": _engines(suites.families, tables.against_fastest, floors.families),
    "memory": _engines(suites.memory, tables.memory, floors.memory),
    "layers": Benchmark(layers.ABOUT, layers.measure, layers.table, layers.verdicts),
    "loading": Benchmark(loading.ABOUT, loading.measure, loading.table, loading.verdicts),
    "files": Benchmark(files.ABOUT, files.measure, files.table),
    "gradient-check": Benchmark(gradient_check.ABOUT, gradient_check.measure, gradient_check.table),
    "training-step": Benchmark(training_step.ABOUT, training_step.measure, training_step.table, training_step.verdicts),
}
