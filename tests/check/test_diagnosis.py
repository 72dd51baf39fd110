"""Diagnosis: a layer that makes a known mistake is told so, and a correct one or an unknown fault is not blamed."""

import numpy as np
import pytest

from lhc_ref.check.compare import judge, wrong
from lhc_ref.check.mistakes import ALL, mistakes
from lhc_ref.check.precision import FORMATS, Precision
from lhc_ref.check.process import Outcome
from lhc_ref.check.reference import solve
from lhc_ref.check.runner import Plan, Results, explain
from lhc_ref.check.steps import CORRECT
from lhc_ref.check.suite import suite
from lhc_ref.errors import LhcError

F32 = Precision.of("float32")
COMMON = [m for m in ALL if m.common]


def results_of(level, steps, every=1):
    """The findings on a layer whose steps are these, in float32."""
    results = Results(Plan({level: "a:layer"}, ("float32",)))
    for case in suite(level)[::every]:
        try:
            with np.errstate(all="ignore"):
                answer = solve(case, F32, steps)
        except (LhcError, ValueError, IndexError):
            continue
        arrays = {k: FORMATS["float32"].round(e.value).astype(np.float32) for k, e in answer.items()}
        if arrays["y"].shape != solve(case, F32)["y"].value.shape:
            arrays = {k: a for k, a in arrays.items() if k in ("y", "mask")}
        outcome = Outcome("ok", arrays, dict.fromkeys(arrays, "float32"))
        results.findings += judge(case, outcome, solve(case, F32))
        results.outcomes[case.id] = outcome
    return results


def assert_named(mistake):
    for level in mistake.levels:
        results = results_of(level, mistake.steps)
        if results.of("failed"):
            break
    explain(results, pairs=0)
    assert mistake.name in {name for f in results.of("failed") for name in f.diagnosis}


@pytest.mark.parametrize("mistake", COMMON[::9], ids=lambda m: m.name)
def test_known_mistakes_are_named(mistake):
    assert_named(mistake)


@pytest.mark.long
@pytest.mark.parametrize("mistake", COMMON, ids=lambda m: m.name)
def test_every_known_mistake_is_named(mistake):
    assert_named(mistake)


@pytest.mark.parametrize("level", ["free", "rigid", "nm", "hetconv", "csg", "lean", "masked", "regularizer"])
def test_the_right_steps_have_nothing_to_explain(level):
    assert results_of(level, CORRECT).of("failed") == []


def test_names_are_unique_in_each_level():
    for level in ("free", "rigid", "nm", "hetconv", "csg", "lean", "masked", "regularizer"):
        names = [m.name for m in mistakes(level)]
        assert len(set(names)) == len(names)


def test_every_mistake_shows_in_the_suite():
    """Or it could never be diagnosed. What a level cannot show (a mask of all ones for no groups, say) is not its."""
    assert [m.name for m in ALL if not any(shows(m, case) for level in m.levels for case in suite(level))] == []


def shows(mistake, case):
    try:
        with np.errstate(all="ignore"):
            answer, right = solve(case, F32, mistake.steps), solve(case, F32)
    except (LhcError, ValueError, IndexError):
        return False
    pairs = [(answer[k].value, e) for k, e in right.items()]
    return any(value.shape != e.value.shape or wrong(value, e).any() for value, e in pairs)


def test_an_unknown_fault_is_not_given_a_name():
    results = results_of("free", CORRECT)
    for case_id, outcome in results.outcomes.items():
        y = outcome.arrays["y"] + np.random.default_rng(len(case_id)).standard_normal(outcome.arrays["y"].shape)
        results.outcomes[case_id] = Outcome("ok", {**outcome.arrays, "y": y.astype(np.float32)}, outcome.dtypes)
    results.findings = [
        f for case in suite("free") for f in judge(case, results.outcomes[case.id], solve(case, F32))
    ]  # fmt: skip
    explain(results, pairs=0)
    assert results.of("failed")
    assert all(f.diagnosis == () for f in results.of("failed"))


def test_two_mistakes_at_once():
    by_name = {m.name: m for m in mistakes("free")}
    one = by_name["gradient of the scores lacks the kernel as a factor"]
    two = by_name["wrong slope outside the window: 0 instead of 0.1"]
    results = results_of("free", one.with_(two).steps)
    explain(results)
    said = {name for f in results.of("failed") for name in f.diagnosis}
    assert any(one.name in text and two.name in text for text in said)
