"""What is done about the failures of a run: each is diagnosed, and shrunk to the smallest case that shows it."""

import time
from dataclasses import replace

import numpy as np

from lhc_ref.check import shrink as smaller
from lhc_ref.check.cases import Case
from lhc_ref.check.compare import Finding
from lhc_ref.check.diagnosis import PAIRS, diagnose
from lhc_ref.check.places import located
from lhc_ref.check.precision import FORMATS
from lhc_ref.check.process import Outcome, Target
from lhc_ref.check.runner import REPRODUCIBILITY, Plan, Results, check_case

SHRINKING_S = 15.0  # for all of a run's failures together


def shrink(results: Results, target: Target) -> None:
    """Give one failure of each level, area and tensor the id of the smallest case that fails in the same tensor."""
    plan, until = results.plan, time.monotonic() + SHRINKING_S
    if not smaller.available():
        return
    found: dict[tuple[str, str, str], Case] = {}
    for i, f in enumerate(results.findings):
        key = f.case.level, f.area, f.tensor
        if f.status != "failed" or key in found or f.area in REPRODUCIBILITY:
            continue
        tried: dict[Case, Finding | None] = {}  # the same answer for the same case, or Hypothesis calls it flaky

        def failure(case: Case, f: Finding = f, tried: dict[Case, Finding | None] = tried) -> Finding | None:
            if case not in tried:
                now, _ = check_case(plan, target, case) if time.monotonic() < until else ([], None)
                alike = (g for g in now if g.status == "failed" and g.tensor == f.tensor and _kind(g) == _kind(f))
                tried[case] = next(alike, None)
            return tried[case]

        # Often one case shows several tensors wrong: begin with what another failure was shrunk to.
        start = next((c for c in found.values() if c.level == f.case.level and failure(c)), f.case)
        found[key] = start if start != f.case else smaller.smallest(f.case, lambda c: failure(c) is not None)
        now = failure(found[key])
        if now is not None and found[key] != f.case:
            results.findings[i] = replace(now, area=f.area, case=f.case, smallest=found[key].id, diagnosis=f.diagnosis)


def _kind(f: Finding) -> str:
    """What kind of failure: a raised one shrinks to a raised one of the same type, numbers to numbers."""
    return " ".join(f.why.split()[:2]) if f.got is None else "numbers"


UNSTEADY = {
    "determinism": "repeated calls differ: noise, dropout, or a state that changes from call to call",
    "batch": "an image's answer depends on the others of its batch: statistics over the batch",
}
STALE = "the answer depends on earlier calls: alone, in a new process, this case passes (a stale cache or buffer)"


def explain(results: Results, target: Target | None = None, pairs: int = PAIRS) -> None:
    """Diagnose what failed: the findings of each level and tensor get the mistakes that reproduce its numbers.

    Parameters
    ----------
    results : its findings are replaced by diagnosed ones
    target : asked again, in a new process, what no mistake reproduces; None: it isn't
    pairs : how many pairs of mistakes may be tried
    """
    plan = results.plan
    precisions = {dtype: plan.precision(dtype) for dtype in FORMATS}
    for level in plan.targets:
        failed, passed = _calls(results, level, "failed"), _calls(results, level, "passed")
        if not failed:
            continue
        why = next((UNSTEADY[f.area] for f in results.of("failed") if f.case.level == level and _unsteady(f)), "")
        with np.errstate(invalid="ignore", over="ignore"):  # the target's infinities are compared as well
            named = diagnose(level, failed, passed, precisions, 0 if why else pairs)
        unnamed = [t for t, names in named.items() if not names]
        if unnamed and not why and target is not None and _stale(plan, target, *failed[unnamed[0]][0], unnamed[0]):
            why = STALE
        for tensor in unnamed:
            hints = () if why else located(tensor, failed[tensor], passed.get(tensor, []), precisions)
            named[tensor] = (why,) if why else tuple(hints)
        for i, f in enumerate(results.findings):
            if f.status == "failed" and f.case.level == level and f.tensor in named and f.area not in REPRODUCIBILITY:
                results.findings[i] = replace(f, diagnosis=named[f.tensor])


def _unsteady(f: Finding) -> bool:
    return f.area in UNSTEADY and f.tensor != "call"


def _stale(plan: Plan, target: Target, case: Case, _: Outcome, tensor: str) -> bool:
    """Whether a case that failed passes as the first call of a new process."""
    target.close()
    findings, _ = check_case(plan, target, case)
    return any(f.tensor == tensor and f.status == "passed" for f in findings)


def _calls(results: Results, level: str, status: str) -> dict[str, list[tuple[Case, Outcome]]]:
    """tensor -> the calls whose check of it had this status, its array being there."""
    found: dict[str, list[tuple[Case, Outcome]]] = {}
    for f in results.findings:
        outcome = results.outcomes.get(f.case.id)
        if f.case.level == level and f.status == status and outcome is not None and f.tensor in outcome.arrays:
            if f.why.startswith("dtype"):
                continue
            found.setdefault(f.tensor, []).append((f.case, outcome))
    return found
