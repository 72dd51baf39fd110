"""Runs the suite against a target and gathers what was found."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from lhc_ref.check.cases import LEVELS, Case
from lhc_ref.check.compare import Finding, judge
from lhc_ref.check.precision import FORMATS, Precision
from lhc_ref.check.process import Outcome, Target
from lhc_ref.check.reference import Answer, solve
from lhc_ref.check.suite import suite
from lhc_ref.errors import ConfigError

MOST_DEAD = 3  # calls that end the process before any is answered, until a level is given up


@dataclass(frozen=True)
class Plan:
    """What is to be checked.

    Attributes
    ----------
    targets : level -> `package.module:object`; a level that is not there is reported as not run
    dtypes : storage formats, the first for most of the suite
    accumulate : storage format -> the one that sums are kept in, where it is not `Precision.of`'s
    algorithm : of the convolution
    seed, long : of the suite
    cases : ids of single cases instead of the suite
    """

    targets: Mapping[str, str]
    dtypes: tuple[str, ...] = ("float32", "float64")
    accumulate: Mapping[str, str] = field(default_factory=dict)
    algorithm: str = "direct"
    seed: int = 0
    long: bool = False
    cases: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for level in self.targets:
            if level not in LEVELS:
                raise ConfigError(f"level: expected one of {', '.join(LEVELS)}, got {level!r}. Use one of these.")
        for name in self.targets.values():
            if ":" not in name or "/" in name or ".py:" in name:
                raise ConfigError(
                    f"target: expected PACKAGE.MODULE:OBJECT, got {name!r}. Of the file layers.py: layers:NAME."
                )
        for dtype in self.dtypes:
            self.precision(dtype)
        for text in self.cases:
            if Case.parse(text).level not in self.targets:
                raise ConfigError(f"case {text}: expected a level that is declared, got another. Declare it: --levels.")

    def precision(self, dtype: str) -> Precision:
        return Precision.of(dtype, self.accumulate.get(dtype), self.algorithm)

    def chosen(self) -> list[Case]:
        """The cases, level by level."""
        if self.cases:
            return [Case.parse(text) for text in self.cases]
        levels = [level for level in LEVELS if level in self.targets]
        return [case for level in levels for case in suite(level, self.dtypes, self.seed, self.long)]


@dataclass
class Results:
    """All findings of a run, and the answers they are about, for diagnosis."""

    plan: Plan
    findings: list[Finding] = field(default_factory=list)
    outcomes: dict[str, Outcome] = field(default_factory=dict)  # by case id

    def of(self, status: str) -> list[Finding]:
        return [f for f in self.findings if f.status == status]


def run(plan: Plan, target: Target, results: Results | None = None) -> Results:
    """Every check of the plan. The target's failures are findings; nothing it does ends the run.

    Parameters
    ----------
    results : to be filled and returned, for who wants to see them when the run is interrupted

    Raises
    ------
    ConfigError : a target cannot be imported, or does none of the cases.
    """
    results = Results(plan) if results is None else results
    for name in dict.fromkeys(plan.targets.values()):
        loaded = target.load(name)
        if loaded.status != "ok":
            todo = "Check the name and its path" if loaded.status == "missing" else "Mend that first"
            raise ConfigError(f"{name}: expected an importable target, got {loaded.text}. {todo}.")
    cases = plan.chosen()
    dead = dict.fromkeys(plan.targets, 0.0)
    for case in cases:
        if dead[case.level] >= MOST_DEAD:
            text = f"not called: the first {MOST_DEAD} calls crashed or timed out"
            findings, outcome = judge(case, Outcome("unsupported", text=text), {}), Outcome("unsupported", text=text)
        else:
            findings, outcome = check_case(plan, target, case)
            dead[case.level] += 1 if outcome.status in ("crashed", "timed out") else -np.inf
        results.findings += findings
        results.outcomes[case.id] = outcome
    _anything(results)
    for level in LEVELS:
        if level in plan.targets and level != "regularizer" and dead[level] < MOST_DEAD:
            results.findings += reproducibility(plan, target, [c for c in cases if c.level == level])
    if not plan.cases:
        results.findings += list(not_declared(plan))
    return results


def _anything(results: Results) -> None:
    """That nothing failed because nothing could be asked for must not look like success."""
    asked = [f for f in results.findings if f.status != "not run"]
    if results.findings and not asked:
        names, why = ", ".join(dict.fromkeys(results.plan.targets.values())), results.findings[0].why
        raise ConfigError(f"{names}: expected cases that it can be asked for, got none: {why}. See docs/check.md.")


def check_case(plan: Plan, target: Target, case: Case) -> tuple[list[Finding], Outcome]:
    """The checks of one case."""
    outcome = target.call(plan.targets[case.level], case)
    return judge(case, outcome, expected(plan, case)), outcome


def expected(plan: Plan, case: Case) -> Answer:
    """The reference's answer to a case, with the plan's budgets."""
    return solve(case, plan.precision(case.dtype))


def not_declared(plan: Plan) -> Iterator[Finding]:
    """Levels and dtypes that nothing was said about."""
    for level in LEVELS:
        if level not in plan.targets:
            yield Finding(level, Case(level), "call", "not run", "level not declared")
    for dtype in FORMATS:
        if dtype not in plan.dtypes:
            level = next(iter(plan.targets))
            yield Finding("dtype", Case(level, dtype=dtype), "call", "not run", f"{dtype} not declared")


# --- Reproducibility, apart from correctness -------------------------------------------------------------------------

MANY_THREADS = 4
REPRODUCIBILITY = ("determinism", "threads", "batch")


def reproducibility(plan: Plan, target: Target, cases: Sequence[Case]) -> list[Finding]:
    """Repeated calls, one thread against many, a batch against its images one by one."""
    real = [c for c in cases if c.numbers == "real" and c.dtype == plan.dtypes[0]]
    if not real:
        return []
    case = replace(max(real, key=lambda c: c.ci * c.co * c.h * c.w), n=3, area="layer")
    name = plan.targets[case.level]
    first = target.call(name, case)
    if first.status != "ok":
        return [Finding("determinism", case, "call", "not run", f"the first call {first.status}: {first.text}")]
    found = [_repeated(case, first, [target.call(name, case) for _ in range(3)])]
    one, many = target.call(name, case, threads=1), target.call(name, case, threads=MANY_THREADS)
    found.append(_alike("threads", case, one, many, expected(plan, case)))
    if many.status == "ok":
        target.call(name, case, threads=1)
    singles = [target.call(name, case, rows=slice(i, i + 1)) for i in range(case.n)]
    found.append(_alike("batch", case, first, _joined(singles), expected(plan, case)))
    return found


def _repeated(case: Case, first: Outcome, others: Sequence[Outcome]) -> Finding:
    for other in others:
        for name, array in first.arrays.items():
            if name not in other.arrays or not _same_bits(array, other.arrays[name]):
                return Finding("determinism", case, name, "failed", "a repeated call gives other bits")
    return Finding("determinism", case, "all", "passed", "four calls give the same bits")


def _same_bits(a: np.ndarray, b: np.ndarray) -> bool:
    return a.shape == b.shape and a.dtype == b.dtype and a.tobytes() == b.tobytes()


def _alike(area: str, case: Case, one: Outcome, other: Outcome, answer: Answer) -> Finding:
    """Two ways to the same numbers: same bits, or apart by no more than both budgets together."""
    for outcome in (one, other):
        if outcome.status != "ok":
            status = "not run" if outcome.status == "unsupported" else "failed"
            return Finding(area, case, "call", status, f"{outcome.status}: {outcome.text}")
    shapes = {name: e.value.shape for name, e in answer.items()}
    alike = [name for name in shapes if all(_shape(o, name) == shapes[name] for o in (one, other))]
    if not alike:
        return Finding(area, case, "call", "not run", "no output of the right shape to compare")
    largest = 0.0
    for name in alike:
        difference = _difference(one.arrays[name], other.arrays[name])
        largest = max(largest, float(difference.max(initial=0)))
        if not (difference <= 2 * answer[name].budget).all():
            text = f"differs by up to {difference.max():.3g}, more than twice the budget"
            return Finding(area, case, name, "failed", text)
    text = "the same bits" if largest == 0 else f"differs by up to {largest:.2g}, within the budget"
    return Finding(area, case, "all", "passed", text)


def _shape(outcome: Outcome, name: str) -> tuple[int, ...] | None:
    return outcome.arrays[name].shape if name in outcome.arrays else None


def _difference(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """|a - b|; 0 where both are the same infinity or NaN, infinite where one is NaN."""
    with np.errstate(invalid="ignore", over="ignore"):
        same = (a == b) | ((a != a) & (b != b))
        wide = np.result_type(a, b, np.float64)
        return np.nan_to_num(np.where(same, 0, np.abs(a.astype(wide) - b.astype(wide))), nan=np.inf, posinf=np.inf)


def _joined(singles: Sequence[Outcome]) -> Outcome:
    """Single images' answers as one: y and dx side by side, the other cotangents (sums over the batch) left out."""
    for single in singles:
        if single.status != "ok":
            return single
    tails = {name: {(_shape(s, name) or (0,))[1:] for s in singles} for name in ("y", "dx")}
    names = [name for name, found in tails.items() if len(found) == 1 and () not in found]
    return Outcome("ok", {name: np.concatenate([s.arrays[name] for s in singles]) for name in names})
