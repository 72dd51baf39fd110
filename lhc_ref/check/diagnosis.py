"""Which known mistakes reproduce the user's numbers? One, else two at once; for all tensors, else for each."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations, product

from lhc_ref.check.evidence import Call, Evidence
from lhc_ref.check.mistakes import Mistake, mistakes
from lhc_ref.check.observations import COARSER, budgets_of, coarser, coarsest_of, observed, only_to, roundings
from lhc_ref.check.precision import Precision
from lhc_ref.check.reference import Answer

FAILING, PASSING = 14, 60  # how many calls of each kind a mistake has to reproduce, tensor by tensor
PAIRS = 8000  # how many pairs are tried, all tensors together: some 10 s, and the same on every machine
MOST = 6  # names in one diagnosis


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
    this one; else what follows from the layer's own mask, or a constant factor; else pairs; else coarser arithmetic.
    Roundings where there should be none are told before all that. Empty where nothing known does.
    """
    budget = iter(range(pairs))
    innocent = [t for t in passed if t not in failed]
    answers: dict[tuple[str, str], Answer | None] = {}
    evidence = {
        t: Evidence(_chosen(calls, FAILING), _chosen(passed.get(t, []), PASSING), precision_of, answers)
        for t, calls in failed.items()
    }
    known = mistakes(level)
    rounded = {t: roundings(t, e) for t, e in evidence.items()}
    single = {t: [] if rounded[t] else _singles(known, t, innocent, e) for t, e in evidence.items()}
    everywhere = [m for m in known if all(m in found for found in single.values())]
    if everywhere:
        return dict.fromkeys(failed, tuple(m.name for m in everywhere[:MOST]))
    found = list(dict.fromkeys(m for one in single.values() for m in one))
    named: dict[str, tuple[str, ...]] = {}
    for tensor, e in evidence.items():
        whole = Evidence(failed[tensor], passed.get(tensor, []), precision_of, answers)
        names = rounded[tensor] or [m.name for m in single[tensor]] or observed(tensor, whole)
        if not names and pairs:
            names = [m.name for m in _pairs(known, found, tensor, innocent, e, budget)]
        names = names or coarser(tensor, e) or _coarser_singles(known, tensor, innocent, e)
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


def _coarser_singles(known: Sequence[Mistake], tensor: str, innocent: Sequence[str], evidence: Evidence) -> list[str]:
    """Mistakes that coarser arithmetic hides: the numbers are theirs to its precision alone."""
    for format_ in COARSER:
        if format_.u > coarsest_of(evidence).storage.u:
            budgets = dict.fromkeys(evidence.precision_of, budgets_of(format_))
            blurred = Evidence(evidence.failed, evidence.passed, budgets, {})
            if found := [m for m in _singles(known, tensor, (), blurred) if not _accuses(m, innocent, evidence)]:
                return [f"{m.name}, and {only_to(format_)}" for m in found]
    return []


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
    shown = [case for case, _ in evidence.failed]
    for pairs in (product([m for m in explaining if m in active], active), combinations(common, 2)):
        found = []
        for (one, two), _ in zip(pairs, budget, strict=False):
            both = one.with_(two)
            if (
                both is not None
                and evidence.reproduces(both, tensor, calls)
                and any(evidence.differs(both, tensor, case) for case in shown)
            ):
                found.append(both)
        if found:
            return found
    return []
