"""Diagnosis: a layer that makes a known mistake is told so, and a correct one or an unknown fault is not blamed."""

from dataclasses import replace

import numpy as np
import pytest

from lhc_ref.check.adapters import Declaration
from lhc_ref.check.compare import judge, wrong
from lhc_ref.check.failures import STALE, UNSTEADY, explain
from lhc_ref.check.mistakes import ALL, mistakes
from lhc_ref.check.precision import FORMATS, Precision
from lhc_ref.check.process import Outcome, Target
from lhc_ref.check.reference import solve
from lhc_ref.check.runner import Plan, Results, run
from lhc_ref.check.steps import CORRECT
from lhc_ref.check.suite import suite
from lhc_ref.errors import LhcError

DTYPES = ("float32", "float64")
COMMON = [m for m in ALL if m.common]


def results_of(level, steps, every=1):
    """The findings on a layer whose steps are these, in float32 and float64."""
    results = Results(Plan({level: "a:layer"}, DTYPES))
    for case in suite(level, DTYPES)[::every]:
        precision = Precision.of(case.dtype)
        try:
            with np.errstate(all="ignore"):
                answer = solve(case, precision, steps)
        except (LhcError, ValueError, IndexError):
            continue
        arrays = {k: e.value.astype(case.dtype) for k, e in answer.items()}
        if arrays["y"].shape != solve(case, precision)["y"].value.shape:
            arrays = {k: a for k, a in arrays.items() if k in ("y", "mask")}
        outcome = Outcome("ok", arrays, dict.fromkeys(arrays, case.dtype))
        results.findings += judge(case, outcome, solve(case, precision))
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
    assert [m.name for m in ALL if not any(shows(m, case) for level in m.levels for case in suite(level, DTYPES))] == []


def shows(mistake, case):
    try:
        with np.errstate(all="ignore"):
            precision = Precision.of(case.dtype)
            answer, right = solve(case, precision, mistake.steps), solve(case, precision)
    except (LhcError, ValueError, IndexError):
        return False
    pairs = [(answer[k].value, e) for k, e in right.items()]
    return any(value.shape != e.value.shape or wrong(value, e).any() for value, e in pairs)


def test_an_unknown_fault_is_not_given_a_name():
    results = results_of("free", CORRECT)
    for case_id, outcome in results.outcomes.items():
        y = outcome.arrays["y"] + np.random.default_rng(len(case_id)).standard_normal(outcome.arrays["y"].shape)
        y = y.astype(outcome.arrays["y"].dtype)
        results.outcomes[case_id] = Outcome("ok", {**outcome.arrays, "y": y}, outcome.dtypes)
    results.findings = [
        f
        for case in suite("free", DTYPES)
        for f in judge(case, results.outcomes[case.id], solve(case, Precision.of(case.dtype)))
    ]
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


# --- What is said without a known mistake ----------------------------------------------------------------------------


def said_of(results, tensor):
    explain(results, pairs=0)
    return {name for f in results.of("failed") if f.tensor == tensor for name in f.diagnosis}


def with_other(level, tensor, change, dtype="float32", every=4):
    """The findings on a right layer, one tensor changed."""
    results, precision = Results(Plan({level: "a:layer"}, (dtype,))), Precision.of(dtype)
    for case in suite(level, (dtype,))[::every]:
        answer = solve(case, precision)
        format_ = FORMATS[dtype]
        arrays = {k: format_.round(e.value).astype(format_.carrier) for k, e in answer.items()}
        arrays[tensor] = change(arrays[tensor].astype(np.float64), answer[tensor], case).astype(format_.carrier)
        outcome = Outcome("ok", arrays, dict.fromkeys(arrays, dtype))
        results.findings += judge(case, outcome, answer)
        results.outcomes[case.id] = outcome
    return results


def test_roundings_where_there_should_be_none():
    results = with_other("free", "y", lambda y, e, case: np.nextafter(y.astype(np.float32), np.float32(np.inf)))
    (text,) = said_of(results, "y")
    assert text.startswith("right but for roundings, where small integers and masks leave none")


def test_a_mask_that_is_not_of_zeros_and_ones_and_what_follows_from_it():
    leaky = replace(CORRECT, enable=lambda m, enabled: np.maximum(m, 0.125))
    results = results_of("free", leaky, every=4)
    assert said_of(results, "mask") == {"the mask holds other values than 0 and 1, such as 0.125"}
    assert said_of(results, "y") == {"right for the mask that the layer made: that alone is wrong"}


def test_an_unknown_wrong_mask_and_what_follows_from_it():
    results = results_of("free", replace(CORRECT, enable=lambda m, enabled: np.roll(m, 1)), every=4)
    assert said_of(results, "mask") == set()
    assert said_of(results, "dx") == {"right for the mask that the layer made: that alone is wrong"}


def test_coarser_arithmetic():
    coarse = Precision(FORMATS["bfloat16"], FORMATS["float32"], exact=False)

    def change(d, e, case):
        return d + (case.numbers == "real") * 0.8 * solve(case, coarse)["dkernel"].budget

    results = with_other("free", "dkernel", change)
    (text,) = said_of(results, "dkernel")
    assert text.startswith("right to the precision of bfloat16 alone")


def test_sums_in_the_storage_format():
    precision = Precision.of("float16", "float16")

    def change(y, e, case):
        wide = solve(case, replace(precision, exact=False))["y"].budget
        return y + 0.8 * np.where(np.isfinite(wide), wide, 0)

    (text,) = said_of(with_other("masked", "y", change, "float16"), "y")
    assert text == "right if sums are kept in float16 (where that is meant, declare it: --accumulate float16=float16)"


def test_a_factor():
    results = with_other("free", "dx", lambda dx, e, case: dx * 1.0001)
    assert said_of(results, "dx") == {"dx is 1.0001 times what it should be"}


def test_a_factor_for_each_case():
    results = with_other("free", "dx", lambda dx, e, case: dx / (case.ci + 1))
    assert said_of(results, "dx") == {"in each case dx is one factor times what it should be, from 0.125 to 0.3333"}


def test_a_weight_decay():
    results = with_other("free", "dkernel", lambda d, e, case: d + 1e-3 * case.arrays["kernel"])
    assert said_of(results, "dkernel") == {"dkernel holds 0.001 times the kernel besides: a weight decay in the layer?"}


def test_another_step_is_told():
    results = results_of("free", replace(CORRECT, step=lambda s: (np.abs(s) > 0.875) * 1.0), every=2)
    (text,) = said_of(results, "mask")
    assert text == "another step: of the scores that occur, on are -2, -1.125, -1, 1, 1.125, 2"


def test_another_slope_is_told():
    results = results_of("free", replace(CORRECT, slope=lambda s: np.exp(-abs(s))), every=2)
    (text,) = said_of(results, "dscores")
    assert text.startswith("another slope of the step, by the score: 0.135 at -2, 0.325 at -1.125, ")
    assert text.endswith(", 0.882 at 0.125, 0.607 at 0.5, 0.417 at 0.875, 0.368 at 1, 0.325 at 1.125, 0.135 at 2")


def test_a_mistake_that_coarser_arithmetic_hides():
    half = Precision(FORMATS["bfloat16"], FORMATS["float32"], exact=False)
    (mistake,) = (m for m in mistakes("free") if m.name == "`enabled` ignored in the gradient of the scores")

    def change(d, e, case):
        blurred = solve(case, half, mistake.steps)["dscores"]
        return blurred.value + 0.5 * blurred.budget

    (text,) = said_of(with_other("free", "dscores", change), "dscores")
    assert text.startswith(f"{mistake.name}, and right to the precision of bfloat16 alone")


def test_integers_tell_coarse_arithmetic_from_a_small_error():
    results = with_other("masked", "dkernel", lambda d, e, case: d + np.cos(np.arange(d.size)).reshape(d.shape) / 2**12)
    assert not any("precision" in text for text in said_of(results, "dkernel"))


@pytest.mark.parametrize(
    ("tensor", "where", "text"),
    [
        ("dx", lambda a, case: np.arange(a.shape[1])[:, None, None] == 0, "in the first row"),
        ("y", lambda a, case: np.full(a.shape, case.bias == 0), "without bias"),
        ("dkernel", lambda a, case: np.arange(a.shape[0])[:, None, None, None] == case.kh // 2, None),
        ("dscores", lambda a, case: np.abs(case.arrays["scores"]) == 0.875, "where |score| < 1"),
    ],
)
def test_where_numbers_are_wrong_that_nothing_explains(tensor, where, text):
    rng = np.random.default_rng(0)
    results = with_other("free", tensor, lambda a, e, case: a + where(a, case) * rng.normal(size=a.shape), every=2)
    assert said_of(results, tensor) == ({f"wrong only {text}"} if text else set())


@pytest.mark.parametrize(
    ("name", "tensor", "text"),
    [
        ("noisy", "y", UNSTEADY["determinism"]),
        ("centred", "y", UNSTEADY["batch"]),
        ("stale", "mask", STALE),
    ],
)
def test_layers_that_do_not_answer_the_same_each_time(name, tensor, text):
    with Target("numpy", Declaration()) as target:
        results = run(Plan({"free": f"tests.check.broken:{name}"}, ("float32",)), target)
        explain(results, target, pairs=0)
    assert text in {said for f in results.of("failed") if f.tensor == tensor for said in f.diagnosis}
