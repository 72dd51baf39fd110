"""What can be said of wrong numbers that no known mistake gives."""

from dataclasses import replace

import numpy as np

from lhc_ref.check.cases import Array
from lhc_ref.check.evidence import Evidence, near
from lhc_ref.check.precision import FORMATS, TF32, Format, Precision
from lhc_ref.check.reference import solve
from lhc_ref.check.steps import CORRECT, Steps

COARSER = (FORMATS["float32"], TF32, FORMATS["bfloat16"])


def observed(tensor: str, evidence: Evidence) -> list[str]:
    """The first that holds in all failed calls: an odd mask, a wrong mask used rightly, one factor."""
    return _other_values(tensor, evidence) or _own_mask(tensor, evidence) or _factor(tensor, evidence)


def coarser(tensor: str, evidence: Evidence) -> list[str]:
    """The finest arithmetic whose budgets hold in all failed calls: sums kept in the storage format, else others."""
    declared = [evidence.precision_of[case.dtype] for case, _ in evidence.failed]
    coarsest = max(declared, key=lambda p: p.storage.u)
    if coarsest.accumulate.u < coarsest.storage.u and all(p.storage == coarsest.storage for p in declared):
        name = coarsest.storage.name
        if _within(tensor, evidence, replace(coarsest, accumulate=coarsest.storage, exact=False)):
            return [f"right if sums are kept in {name} (where that is meant, declare it: --accumulate {name}={name})"]
    for format_ in COARSER:
        if format_.u > coarsest.storage.u and _within(
            tensor, evidence, Precision(format_, FORMATS["float32"], exact=False)
        ):
            return [f"right to the precision of {_name(format_)} alone: arithmetic in it, somewhere on the way"]
    return []


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
