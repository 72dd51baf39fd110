"""Which known mistakes reproduce the user's numbers? One, else two at once; for all tensors, else for each."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import combinations, product

import numpy as np

from lhc_ref.check.cases import Case
from lhc_ref.check.mistakes import Mistake, mistakes
from lhc_ref.check.precision import Precision
from lhc_ref.check.process import Outcome
from lhc_ref.check.reference import Answer, solve
from lhc_ref.check.steps import CORRECT, Steps
from lhc_ref.errors import LhcError

FAILING, PASSING = 14, 60  # how many calls of each kind a mistake has to reproduce, tensor by tensor
PAIRS = 8000  # how many pairs are tried, all tensors together: some 10 s, and the same on every machine
MOST = 6  # names in one diagnosis

Call = tuple[Case, Outcome]


class Evidence:
    """One tensor's calls, failed and passed, and what mistakes would have answered, computed once (`answers`)."""

    def __init__(
        self, failed: Sequence[Call], passed: Sequence[Call], precision_of: Mapping[str, Precision], answers: dict
    ) -> None:
        self.failed, self.passed, self.precision_of = failed, passed, precision_of
        self._answers: dict[tuple[str, str], Answer | None] = answers

    def answer(self, name: str, steps: Steps, case: Case) -> Answer | None:
        """What these steps answer; None where they cannot."""
        key = name, case.id
        if key not in self._answers:
            precision = replace(self.precision_of[case.dtype], exact=False)
            try:
                with np.errstate(all="ignore"):
                    self._answers[key] = solve(case, precision, steps)
            except (LhcError, ValueError, IndexError):
                self._answers[key] = None
        return self._answers[key]

    def right(self, case: Case) -> Answer:
        found = self.answer("", CORRECT, case)
        return found if found is not None else {}

    def reproduces(self, mistake: Mistake, tensor: str, calls: Iterable[Call]) -> bool:
        """Whether it gives the user's numbers in all these calls."""
        return all(self._alike(mistake, tensor, *call) for call in calls)

    def _alike(self, mistake: Mistake, tensor: str, case: Case, outcome: Outcome) -> bool:
        answer = self.answer(mistake.name, mistake.steps, case)
        if answer is None or tensor not in answer:
            return False
        return near(outcome.arrays[tensor], answer, tensor, self.precision_of[case.dtype])

    def differs(self, mistake: Mistake, tensor: str, case: Case) -> bool:
        """Whether this tensor shows the mistake at all in a case."""
        answer, right = self.answer(mistake.name, mistake.steps, case), self.right(case)
        if answer is None or tensor not in answer:
            return False
        return not near(answer[tensor].value, right, tensor, self.precision_of[case.dtype])


def near(got: np.ndarray, answer: Answer, tensor: str, precision: Precision) -> bool:
    """Within the budget of what a mistake answers, and a few roundings of its largest number: mistakes mix elements."""
    e = answer[tensor]
    if got.shape != e.value.shape:
        return False
    with np.errstate(invalid="ignore", over="ignore"):
        both_nan = np.isnan(got) & np.isnan(e.value)
        slack = e.budget + 8 * precision.storage.u * np.abs(e.value).max(initial=0, where=np.isfinite(e.value))
        return bool((both_nan | (np.abs(got - e.value) <= slack)).all())


def diagnose(
    level: str,
    failed: Mapping[str, list[Call]],
    passed: Mapping[str, list[Call]],
    precision_of: Mapping[str, Precision],
    pairs: int = PAIRS,
) -> dict[str, tuple[str, ...]]:
    """Names of the mistakes that reproduce each tensor.

    Parameters
    ----------
    failed, passed : tensor -> calls in which it was wrong, in which it was right
    precision_of : by dtype
    pairs : how many pairs of mistakes may be tried

    Returns
    -------
    tensor -> mistakes, the most economic explanation first: those that explain every tensor, else those that explain
    this one, else pairs, else a constant factor. Empty where nothing known does.
    """
    budget = iter(range(pairs))
    innocent = [t for t in passed if t not in failed]
    answers: dict[tuple[str, str], Answer | None] = {}
    evidence = {
        t: Evidence(_chosen(calls, FAILING), _chosen(passed.get(t, []), PASSING), precision_of, answers)
        for t, calls in failed.items()
    }
    known = mistakes(level)
    single = {t: _singles(known, t, innocent, e) for t, e in evidence.items()}
    everywhere = [m for m in known if all(m in found for found in single.values())]
    if everywhere:
        return dict.fromkeys(failed, tuple(m.name for m in everywhere[:MOST]))
    found = list(dict.fromkeys(m for one in single.values() for m in one))
    named: dict[str, tuple[str, ...]] = {}
    for tensor, e in evidence.items():
        names = [m.name for m in single[tensor]] or _factor(tensor, e)
        if not names and pairs:
            names = [m.name for m in _pairs(known, found, tensor, innocent, e, budget)]
        named[tensor] = tuple(names[:MOST])
    return named


def _accuses(mistake: Mistake, innocent: Sequence[str], evidence: Evidence) -> bool:
    """Whether it would show in a tensor that is right everywhere."""
    returned = [(t, case) for t in innocent for case, outcome in evidence.failed[:4] if t in outcome.arrays]
    return any(evidence.differs(mistake, t, case) for t, case in returned)


def _chosen(calls: Sequence[Call], count: int) -> list[Call]:
    """Small calls first, of as many areas as there are, in the format with the finest budget."""
    ordered = sorted(
        calls, key=lambda c: (c[0].dtype in ("float16", "bfloat16"), c[0].n * c[0].h * c[0].w * c[0].ci * c[0].co)
    )
    chosen: list[Call] = []
    while ordered and len(chosen) < count:
        seen: set[tuple[str, str]] = set()
        for call in list(ordered):
            kind = call[0].area, call[0].numbers
            if kind not in seen and len(chosen) < count:
                seen.add(kind)
                chosen.append(call)
                ordered.remove(call)
    return chosen


def _singles(known: Sequence[Mistake], tensor: str, innocent: Sequence[str], evidence: Evidence) -> list[Mistake]:
    calls = [*evidence.failed, *evidence.passed]
    found = [m for m in known if evidence.reproduces(m, tensor, calls)]
    shown = [m for m in found if any(evidence.differs(m, tensor, case) for case, _ in evidence.failed)]
    return [m for m in shown if not _accuses(m, innocent, evidence)]


def _pairs(
    known: Sequence[Mistake],
    explaining: Sequence[Mistake],
    tensor: str,
    innocent: Sequence[str],
    evidence: Evidence,
    budget: Iterator[int],
) -> list[Mistake]:
    """Pairs of mistakes that the tensor shows: with one that explains another tensor, else of common ones."""
    active = [m for m in known if any(evidence.differs(m, tensor, c) for c, _ in evidence.failed)]
    active = [m for m in active if not _accuses(m, innocent, evidence)]
    common = [m for m in active if m.common]
    calls = [*evidence.failed, *evidence.passed]
    for pairs in (product([m for m in explaining if m in active], active), combinations(common, 2)):
        found = []
        for (one, two), _ in zip(pairs, budget, strict=False):
            both = one.with_(two)
            if both is not None and evidence.reproduces(both, tensor, calls):
                found.append(both)
        if found:
            return found
    return []


def _factor(tensor: str, evidence: Evidence) -> list[str]:
    """ "dx is 1.0001 times what it should be", where one constant does it in all failed calls."""
    factor = None
    for case, outcome in evidence.failed:
        got, want = outcome.arrays[tensor].astype(np.float64), evidence.right(case)[tensor].value
        if got.shape != want.shape or not np.isfinite(got).all() or not (want**2).sum() > 0:
            return []
        if factor is None:
            factor = float((got * want).sum() / (want**2).sum())
        scaled = {tensor: evidence.right(case)[tensor]._replace(value=factor * want)}
        if not near(got, scaled, tensor, evidence.precision_of[case.dtype]):
            return []
    return [] if factor is None else [f"{tensor} is {factor:.7g} times what it should be"]
