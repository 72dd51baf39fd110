"""One case's answer against the reference: for each tensor passed or failed, and where it is worst."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lhc_ref.check.cases import Case
from lhc_ref.check.process import Outcome
from lhc_ref.check.reference import Expected

AREA_OF_TENSOR = {"y": "forward", "mask": "mask"}
AREA_OF_LEVEL = {"regularizer": "regularizer"}


@dataclass(frozen=True)
class Finding:
    """One check: of one tensor, or of the call as a whole (`tensor` "call").

    Attributes
    ----------
    status : "passed", "failed", "not run", "expected failure"
    why : what is wrong, in words
    at, got, want, budget, derivation : the worst element, where there is one
    diagnosis : the known mistakes that reproduce the numbers
    smallest : the id of the smallest failing case found
    """

    area: str
    case: Case
    tensor: str
    status: str
    why: str = ""
    at: tuple[int, ...] = ()
    got: float | None = None
    want: float | None = None
    budget: float | None = None
    derivation: str = ""
    diagnosis: tuple[str, ...] = field(default=())
    smallest: str = ""


def area_of(case: Case, tensor: str) -> str:
    """What a check counts for: the case's area, or where that is plain, the tensor's own."""
    return AREA_OF_TENSOR.get(tensor, tensor) if case.area == "layer" else case.area


def judge(case: Case, outcome: Outcome, expected: dict[str, Expected]) -> list[Finding]:
    """All checks of one call."""
    if outcome.status == "unsupported":
        return [Finding(case.area if case.area != "layer" else "forward", case, "call", "not run", outcome.text)]
    if outcome.status != "ok":
        area = case.area if case.area != "layer" else "forward"
        return [Finding(area, case, "call", "failed", f"{outcome.status}: {outcome.text}")]
    if "y" in outcome.arrays and outcome.arrays["y"].shape != expected["y"].value.shape:
        # Cotangents of an output of another shape were not asked for: that they are missing says nothing more.
        expected = {name: e for name, e in expected.items() if name in outcome.arrays}
    return [_judge_tensor(case, name, outcome, e) for name, e in expected.items()]


def wrong(got: np.ndarray, expected: Expected) -> np.ndarray:
    """Where a tensor is outside its budget; NaN is, unless it is what is expected."""
    with np.errstate(invalid="ignore", over="ignore"):
        same = (got == expected.value) | (np.isnan(got) & np.isnan(expected.value))
        return ~(same | (np.abs(got - expected.value) <= expected.budget))


def _judge_tensor(case: Case, name: str, outcome: Outcome, expected: Expected) -> Finding:
    area = area_of(case, name)
    if name not in outcome.arrays:
        return Finding(area, case, name, "not run", "the target does not return it")
    array = outcome.arrays[name]
    if array.shape != expected.value.shape:
        want = list(expected.value.shape)
        return Finding(area, case, name, "failed", f"shape: expected {want}, got {list(array.shape)}")
    dtype = outcome.dtypes.get(name, case.dtype)
    if dtype != case.dtype and not (name == "mask" and dtype in ("bool", "uint8")) and not _carried(case, dtype):
        return Finding(area, case, name, "failed", f"dtype: expected {case.dtype}, got {dtype}")
    got = array.astype(np.float64)
    bad = wrong(got, expected)
    if not bad.any():
        return Finding(area, case, name, "passed")
    at = worst(got, expected, bad)
    why = f"{int(bad.sum())} of {bad.size} elements are outside their budget"
    if np.isnan(got).any() and not np.isnan(expected.value).any():
        why += f", {int(np.isnan(got).sum())} of them NaN"
    place = tuple(int(i) for i in at)
    numbers: dict[str, Any] = {
        "got": float(got[at]), "want": float(expected.value[at]), "budget": float(expected.budget[at])
    }  # fmt: skip
    return Finding(area, case, name, "failed", why, place, **numbers, derivation=expected.derivation)


def worst(got: np.ndarray, expected: Expected, bad: np.ndarray) -> tuple:
    """The index of the largest error in units of its budget, then in absolute size."""
    with np.errstate(invalid="ignore", over="ignore"):
        error = np.abs(got - expected.value)
        error = np.where(np.isnan(error), np.inf, error)
        scale = np.maximum(expected.budget, 1e-300)
        ratio = np.where(bad, np.minimum(error / scale, 1e300) + np.minimum(error, 1e300) * 1e-12, -1.0)
    return np.unravel_index(int(np.argmax(ratio)), ratio.shape)


def _carried(case: Case, dtype: str) -> bool:
    """bfloat16 crosses the border as float32 where NumPy is the framework."""
    return case.dtype == "bfloat16" and dtype == "float32"
