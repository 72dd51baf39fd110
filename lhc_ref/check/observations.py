"""What can be said of wrong numbers that no known mistake gives."""

from dataclasses import replace

import numpy as np

from lhc_ref.check.cases import Array, Case
from lhc_ref.check.evidence import Call, Evidence, near
from lhc_ref.check.precision import FORMATS, TF32, Format, Precision
from lhc_ref.check.process import Outcome
from lhc_ref.check.reference import solve
from lhc_ref.check.steps import CORRECT, Steps

COARSER = (FORMATS["float32"], TF32, FORMATS["bfloat16"])


def observed(tensor: str, evidence: Evidence) -> list[str]:
    """The first that holds in all failed calls: an odd mask, a wrong mask used rightly, a factor, another step."""
    for observe in (_other_values, _own_mask, _factor, _decayed, _own_step, _own_slope):
        if found := observe(tensor, evidence):
            return found
    return []


def coarsest_of(evidence: Evidence) -> Precision:
    """Of those declared for the failed calls."""
    return max((evidence.precision_of[case.dtype] for case, _ in evidence.failed), key=lambda p: p.storage.u)


def coarser(tensor: str, evidence: Evidence) -> list[str]:
    """The finest arithmetic whose budgets hold in all failed calls: sums kept in the storage format, else others."""
    declared, coarsest = [evidence.precision_of[case.dtype] for case, _ in evidence.failed], coarsest_of(evidence)
    if coarsest.accumulate.u < coarsest.storage.u and all(p.storage == coarsest.storage for p in declared):
        name = coarsest.storage.name
        if _within(tensor, evidence, replace(coarsest, accumulate=coarsest.storage, exact=False)):
            return [f"right if sums are kept in {name} (where that is meant, declare it: --accumulate {name}={name})"]
    formats = (format_ for format_ in COARSER if format_.u > coarsest.storage.u)
    return next(([only_to(f)] for f in formats if _in_arithmetic_of(f, tensor, evidence)), [])


def budgets_of(format_: Format) -> Precision:
    """What arithmetic in a format may be off by, its sums kept in float32."""
    return Precision(format_, FORMATS["float32"], exact=False)


def _in_arithmetic_of(format_: Format, tensor: str, evidence: Evidence) -> bool:
    """Whether the failed calls are within its budgets, which leave nothing to integers that it can hold."""
    for case, outcome in evidence.failed:
        real = case.numbers == "real"
        p = budgets_of(format_) if real else Precision(format_, format_)
        slack = p if real else evidence.precision_of[case.dtype]
        if not near(outcome.arrays[tensor], solve(case, p), tensor, slack):
            return False
    return True


def only_to(format_: Format) -> str:
    """What is said of numbers within those budgets."""
    return f"right to the precision of {_name(format_)} alone: arithmetic in it, somewhere on the way"


def _name(format_: Format) -> str:
    return "TF32 or float16" if format_ is TF32 else format_.name


def _within(tensor: str, evidence: Evidence, precision: Precision | None = None) -> bool:
    """Whether the failed calls are right with the budgets of `precision`; None: the declared one, integers rounded."""
    for case, outcome in evidence.failed:
        p = precision or replace(evidence.precision_of[case.dtype], exact=False)
        if not near(outcome.arrays[tensor], solve(case, p), tensor, p):
            return False
    return True


def roundings(tensor: str, evidence: Evidence) -> list[str]:
    """Whether all failed calls are right but for roundings, which integers and masks should not have."""
    if not _within(tensor, evidence):
        return []
    return [
        "right but for roundings, where small integers and masks leave none: a mask of hard + soft - soft.detach(), "
        "or a fast algorithm of convolution (then declare it: --algorithm)"
    ]


def _other_values(tensor: str, evidence: Evidence) -> list[str]:
    """A mask that holds more than zeros and ones."""
    if tensor != "mask":
        return []
    odd = [v for _, outcome in evidence.failed for v in np.unique(outcome.arrays["mask"]) if v not in (0, 1)]
    return [f"the mask holds other values than 0 and 1, such as {odd[0]:.3g}"] if odd else []


def _with_mask(m: Array) -> Steps:
    return replace(CORRECT, enable=lambda *_: m, hetconv=lambda *_: m, nm=lambda *_: m)


def _own_mask(tensor: str, evidence: Evidence) -> list[str]:
    """Whether everything follows from the mask that the layer returned, which is wrong."""
    wrong = False
    for case, outcome in evidence.failed:
        made = outcome.arrays.get("mask")
        if tensor == "mask" or made is None or made.shape != (case.kh, case.kw, case.ci, case.co):
            return []
        m = made.astype(np.float64)
        precision = replace(evidence.precision_of[case.dtype], exact=False)
        if not near(outcome.arrays[tensor], solve(case, precision, _with_mask(m)), tensor, precision):
            return []
        wrong = wrong or not np.array_equal(m, evidence.right(case)["mask"].value)
    return ["right for the mask that the layer made: that alone is wrong"] if wrong else []


def _factor(tensor: str, evidence: Evidence) -> list[str]:
    """ "dx is 1.0001 times what it should be", where one constant does it in all failed calls."""
    factor = None
    for case, outcome in _finest_first(evidence):
        factor = _ratio(tensor, evidence, case, outcome) if factor is None else factor
        if factor is None or not _scaled(tensor, evidence, case, outcome, factor):
            return []
    return [] if factor is None else [f"{tensor} is {factor:.7g} times what it should be"]


def factors(tensor: str, evidence: Evidence) -> list[str]:
    """Whether each failed call, of several numbers, is a constant of its own times what it should be."""
    found = []
    for case, outcome in evidence.failed:
        if outcome.arrays[tensor].size < 2:
            continue
        factor = _ratio(tensor, evidence, case, outcome)
        if factor is None or not _scaled(tensor, evidence, case, outcome, factor):
            return []
        found.append(factor)
    if len(found) < 2:
        return []
    return [f"in each case {tensor} is one factor times what it should be, from {min(found):.4g} to {max(found):.4g}"]


def _ratio(tensor: str, evidence: Evidence, case: Case, outcome: Outcome) -> float | None:
    """The factor that fits best; None where there is none."""
    got, want = outcome.arrays[tensor].astype(np.float64), evidence.right(case)[tensor].value
    if got.shape != want.shape or not np.isfinite(got).all() or not (want**2).sum() > 0:
        return None
    return float((got * want).sum() / (want**2).sum())


def _scaled(tensor: str, evidence: Evidence, case: Case, outcome: Outcome, factor: float) -> bool:
    e = evidence.right(case)[tensor]
    if outcome.arrays[tensor].shape != e.value.shape:
        return False
    return near(
        outcome.arrays[tensor], {tensor: e._replace(value=factor * e.value)}, tensor, evidence.precision_of[case.dtype]
    )


def _decayed(tensor: str, evidence: Evidence) -> list[str]:
    """Whether dkernel holds a multiple of the kernel besides, the same in all failed calls."""
    decay = None
    for case, outcome in _finest_first(evidence):
        if tensor != "dkernel" or outcome.arrays[tensor].shape != case.arrays["kernel"].shape:
            return []
        e, kernel = evidence.right(case)[tensor], case.arrays["kernel"]
        more = outcome.arrays[tensor].astype(np.float64) - e.value
        decay = float((more * kernel).sum() / (kernel**2).sum()) if decay is None else decay
        held = {tensor: e._replace(value=e.value + decay * kernel)}
        if not near(outcome.arrays[tensor], held, tensor, evidence.precision_of[case.dtype]):
            return []
    return (
        [] if decay is None else [f"dkernel holds {decay:.4g} times the kernel besides: a weight decay in the layer?"]
    )


def _finest_first(evidence: Evidence) -> list[Call]:
    """The failed calls, so that constants are estimated from those with the least rounding."""
    return sorted(evidence.failed, key=lambda call: evidence.precision_of[call[0].dtype].storage.u)


def _own_step(tensor: str, evidence: Evidence) -> list[str]:
    """Whether a free mask follows from the scores by another step, which is then told."""
    if tensor != "mask":
        return []
    values: dict[float, set[float]] = {}
    for case, outcome in (*evidence.failed, *evidence.passed):
        made = outcome.arrays["mask"].astype(np.float64)
        if case.level != "free" or made.shape != (case.kh, case.kw, case.ci, case.co):
            return []
        on = case.arrays["enabled"].astype(bool)
        for score, value in zip(
            CORRECT.expand(case.arrays["scores"], case)[..., on].flat, made[..., on].flat, strict=True
        ):
            values.setdefault(float(score) if score == score else np.nan, set()).add(float(value))
    if any(len(found) > 1 for found in values.values()):
        return []
    opened = ", ".join(
        f"{score + 0.0:g}" for score in sorted(score for score, (value,) in values.items() if value == 1)
    )
    return [f"another step: of the scores that occur, on are {opened or 'none'}"]


def _own_slope(tensor: str, evidence: Evidence) -> list[str]:
    """Whether dscores of free patterns are right but for the step's slope, which is then told score by score."""
    if tensor != "dscores" or any(case.level != "free" for case, _ in evidence.failed):
        return []
    slopes: dict[float, float] = {}
    for dtype in dict.fromkeys(case.dtype for case, _ in evidence.failed):  # each rounds the slope in its own way
        rows = [_through(*call, evidence) for call in evidence.failed if call[0].dtype == dtype]
        scores, got, through, slack = (np.concatenate(column) for column in zip(*rows, strict=True))
        for score in np.unique(scores):
            here = (scores == score) & (through != 0)
            if here.sum() < 2:  # one number has a slope whatever it is
                continue
            slope = float((got[here] * through[here]).sum() / (through[here] ** 2).sum())
            if not (np.abs(got[here] - slope * through[here]) <= slack[here] * max(1.0, abs(slope))).all():
                return []
            slopes.setdefault(float(score), slope)
    if len(slopes) < 3:
        return []
    told = ", ".join(f"{slope:.3g} at {score + 0.0:g}" for score, slope in sorted(slopes.items()))
    return [f"another slope of the step, by the score: {told}"]


def _through(case: Case, outcome: Outcome, evidence: Evidence) -> tuple[Array, Array, Array, Array]:
    """Scores that are numbers, what dscores were, what passes the step with slope 1, and how far off that may be."""
    e, got = evidence.right(case)["dscores"], outcome.arrays["dscores"].astype(np.float64)
    if got.shape != e.value.shape:
        got = np.full(e.value.shape, np.nan)
    scores, u = case.arrays["scores"], evidence.precision_of[case.dtype].storage.u
    slope, keep = CORRECT.slope(scores), scores == scores
    through = e.value / slope
    slack = e.budget / slope + 8 * u * np.abs(through).max(initial=0)
    return scores[keep], got[keep], through[keep], slack[keep]
