"""Masks: the spec's numbers, the definition on drawn cases, straight-through estimators against their surrogates."""

import numpy as np
import pytest
from hypothesis import given

from lhc_ref import mask
from lhc_ref.errors import InputError
from lhc_ref.gradcheck import check_vjp, compare_vjp
from tests import oracle
from tests.strategies import lhc_cases, numbers
from tests.tolerances import assert_adjoint, assert_exact

dtypes = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def sizes(case):
    return {"c_in": case.c_in, "c_out": case.c_out, "group_in": case.group_in, "group_out": case.group_out}


# --- The spec's numbers ----------------------------------------------------------------------------------------------


@dtypes
def test_step_and_its_slope_as_the_spec_says(dtype):
    scores = np.array([-2, -1, -0.5, 0, 0.5, 1, 2], dtype)
    assert_exact(mask.step(scores), np.array([0, 0, 0, 0, 1, 1, 1], dtype))
    assert_exact(mask.step_vjp(np.ones(7, dtype), scores)[0], np.array([0.1, 0.1, 1, 1, 1, 0.1, 0.1], dtype))


@dtypes
def test_not_a_number_switches_nothing_on(dtype):
    assert_exact(mask.step(np.array([np.nan, np.inf, -np.inf, -0.0], dtype)), np.array([0, 1, 0, 0], dtype))
    scores = np.zeros((15, 1, 2), dtype)
    scores[4, 0, 0], scores[7, 0, 1] = np.nan, 1
    rigid = mask.rigid_mask(scores, c_in=1, c_out=2, group_in=1, group_out=1)
    assert not rigid[..., 0].any()
    assert_exact(rigid[:, :, 0, 1], mask.PATTERNS[7].astype(dtype))


def test_patterns_are_the_authors_fifteen():
    assert_exact(mask.PATTERNS.astype(float), oracle.PATTERNS)
    assert mask.PATTERNS.sum(axis=(1, 2)).tolist() == [0, 1, 3, 3, 3, 3, 4, 4, 4, 4, 6, 6, 6, 6, 9]
    assert mask.PATTERNS.mean() == pytest.approx(0.459, abs=5e-4)  # the spec's initial density, as printed
    with pytest.raises(ValueError, match="read-only"):
        mask.PATTERNS[0, 0, 0] = True


@pytest.mark.parametrize("winner", range(15))
def test_each_pattern_can_win_and_the_first_maximum_does(winner):
    scores = np.full((15, 1, 1), -1.0)
    scores[winner:] = 3.0
    made = mask.rigid_mask(scores, c_in=1, c_out=1, group_in=1, group_out=1)
    assert_exact(made[:, :, 0, 0], mask.PATTERNS[winner].astype(float))


def test_all_fifteen_tied_is_the_first_pattern_where_the_authors_add_them_up():
    tied = np.zeros((15, 1, 1))
    assert not mask.rigid_mask(tied, c_in=1, c_out=1, group_in=1, group_out=1).any()
    assert mask.combine_patterns(tied + 1)[:, :, 0, 0].tolist() == [[5, 7, 5], [7, 14, 7], [5, 7, 5]]


# --- Against the definition ------------------------------------------------------------------------------------------


@dtypes
@given(lhc_cases())
def test_mask_and_its_vjp_are_the_definitions(dtype, case):
    """Scores are eighths and cotangents integers: all but the product with 0.1 is exact, and that rounds once."""
    scores, enabled = case.scores(dtype), case.enabled()
    made = mask.lhc_mask(scores, enabled, kind=case.kind, **sizes(case))
    assert_exact(made, oracle.lhc_mask(scores, case.c_in, case.c_out, **case.mask_options), dtype)
    assert set(np.unique(made)) <= {0, 1}
    dmask = numbers(case.seed, "dmask", made.shape, dtype)
    dscores, none = mask.lhc_mask_vjp(dmask, scores, enabled, kind=case.kind, **sizes(case))
    assert none is None
    groups = case.group_in, case.group_out
    collected = oracle.lhc_mask_vjp(dmask, 0 * scores, *groups, enabled)  # scores of 0 have slope 1
    slope = oracle.step_slope(scores) if case.kind == "free" else oracle.one_hot_slope(scores)
    assert_exact(dscores, collected.astype(dtype) * slope.astype(dtype))


@given(lhc_cases())
def test_expansion_is_adjoint_to_the_sum_over_groups(case):
    shape = (*case.kernel_hw, -(-case.c_in // case.group_in), -(-case.c_out // case.group_out))
    patterns = numbers(case.seed, "patterns", shape, np.float64)
    made = mask.expand_groups(patterns, **sizes(case))
    assert_exact(made, oracle.expand(patterns, **sizes(case)))
    dy = numbers(case.seed, "dy", made.shape, np.float64)
    (dpatterns,) = mask.expand_groups_vjp(dy, patterns, **sizes(case))
    assert_exact(dpatterns, oracle.expand_vjp(dy, case.group_in, case.group_out))
    assert_adjoint(made, dy, patterns, dpatterns)


def test_a_short_last_group_collects_only_what_was_kept():
    options = {"c_in": 5, "c_out": 3, "group_in": 3, "group_out": 2}
    patterns = np.zeros((1, 1, 2, 2))
    (dpatterns,) = mask.expand_groups_vjp(np.ones((1, 1, 5, 3)), patterns, **options)
    assert dpatterns[0, 0].tolist() == [[6, 3], [4, 2]]


def test_channels_that_are_not_enabled_run_dense_and_pass_nothing_back():
    made, enabled = np.zeros((3, 3, 2, 3)), np.array([True, False, True])
    assert mask.apply_enabled(made, enabled).sum(axis=(0, 1, 2)).tolist() == [0, 18, 0]
    dmask, _ = mask.apply_enabled_vjp(np.ones(made.shape), made, enabled)
    assert dmask.sum(axis=(0, 1, 2)).tolist() == [18, 0, 18]


# --- Straight-through estimators -------------------------------------------------------------------------------------


def away_from_kinks(shape, seed=0):
    """Odd eighths: at least 1/8 from the kinks at -1 and 1, twice the distance that a check moves."""
    return (2 * np.random.default_rng(seed).integers(-12, 12, shape) + 1) / 8


def centre_of(scores):
    return scores.mean(axis=0)


def rigid_scores():
    """Columns whose mean is 0, so that the distance to the kinks is that of the scores."""
    scores = away_from_kinks((15, 2, 3))
    scores[7:14] = -scores[:7]
    scores[14] = 0
    return scores


@pytest.mark.parametrize("mode", ["projection", "jacobian", "taylor"])
def test_estimators_are_the_derivatives_of_their_surrogates(mode):
    check_vjp(mask.step_surrogate, mask.step_vjp, [away_from_kinks((4, 5))], mode=mode)
    scores = rigid_scores()
    centre = centre_of(scores)
    assert not centre.any()

    def surrogate(scores):
        return mask.rigid_one_hot_surrogate(scores, centre)

    check_vjp(surrogate, mask.rigid_one_hot_vjp, [scores], mode=mode)


@pytest.mark.parametrize("kind", ["free", "rigid"])
def test_the_whole_mask_is_the_surrogates_chain(kind):
    groups = {"c_in": 5, "c_out": 4, "group_in": 2, "group_out": 3}
    enabled = np.array([True, False, True, True])
    scores = away_from_kinks((3, 3, 3, 2)) if kind == "free" else rigid_scores().repeat(2, 1)[:, :3, :2]
    centre = centre_of(scores)

    def surrogate(scores):
        if kind == "free":
            patterns = mask.step_surrogate(scores)
        else:
            patterns = mask.combine_patterns(mask.rigid_one_hot_surrogate(scores, centre))
        return mask.apply_enabled(mask.expand_groups(patterns, **groups), enabled)

    def vjp(dy, scores):
        return mask.lhc_mask_vjp(dy, scores, enabled, kind=kind, **groups)[:1]

    check_vjp(surrogate, vjp, [scores], mode="jacobian")
    assert not compare_vjp(surrogate, lambda dy, s: (vjp(dy, s)[0] * (1 + 1e-4),), [scores]).ok


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_surrogates_keep_the_dtype_and_are_continuous_at_the_kinks(dtype):
    edges = np.array([-1, 1], dtype)
    assert_exact(mask.step_surrogate(edges), edges)
    assert mask.rigid_one_hot_surrogate(np.zeros((15, 1, 1), dtype), np.zeros((1, 1), dtype)).dtype == dtype


def test_vjps_are_linear_in_the_cotangent():
    a, b = (numbers(1, role, (3, 3, 5, 4), np.float64) for role in "ab")
    scores = np.zeros((3, 3, 3, 2))  # slope 1, so that integers stay integers
    groups = {"c_in": 5, "c_out": 4, "group_in": 2, "group_out": 3}
    enabled = np.array([True, False, True, True])

    def pull(dy):
        return mask.lhc_mask_vjp(dy, scores, enabled, kind="free", **groups)[0]

    assert_exact(pull(2 * a - 3 * b), 2 * pull(a) - 3 * pull(b))


# --- Errors ----------------------------------------------------------------------------------------------------------

FREE, RIGID, ENABLED = np.zeros((3, 3, 2, 2)), np.zeros((15, 2, 2)), np.ones(3, bool)
GROUPS = {"c_in": 4, "c_out": 3, "group_in": 2, "group_out": 2}


@pytest.mark.parametrize(
    ("thing", "scores", "enabled", "options"),
    [
        ("scores", FREE.astype(int), ENABLED, {}),
        ("patterns", FREE[0], ENABLED, {}),
        ("patterns", FREE[:, :, :1], ENABLED, {}),
        ("scores", RIGID[:9], ENABLED, {"kind": "rigid"}),
        ("scores", FREE, ENABLED, {"kind": "rigid"}),
        ("patterns", RIGID[:, :, :1], ENABLED, {"kind": "rigid"}),
        ("enabled", FREE, ENABLED[:2], {}),
        ("enabled", FREE, np.ones(3), {}),
        ("enabled", FREE, [True, True, True], {}),
        ("kind", FREE, ENABLED, {"kind": "loose"}),
        ("group_in", FREE, ENABLED, {"group_in": 0}),
        ("c_out", FREE, ENABLED, {"c_out": 2.5}),
    ],
)
def test_wrong_input_is_named(thing, scores, enabled, options):
    with pytest.raises(InputError, match=r": expected .+, got .+\. .+\.$") as caught:
        mask.lhc_mask(scores, enabled, **{"kind": "free"} | GROUPS | options)
    assert str(caught.value).startswith(f"{thing}: ")


@pytest.mark.parametrize("kind", ["free", "rigid"])
def test_a_wrong_cotangent_is_named(kind):
    scores = FREE if kind == "free" else RIGID
    with pytest.raises(InputError, match=r"^(dy|mask): expected .+, got .+\. .+\.$"):
        mask.lhc_mask_vjp(np.ones((3, 3, 4, 2)), scores, ENABLED[:2], kind=kind, **GROUPS)
    with pytest.raises(InputError, match=r"^dy: expected .+, got .+\. .+\.$"):
        mask.lhc_mask_vjp(np.ones((3, 3, 4, 3), np.float32), scores, ENABLED, kind=kind, **GROUPS)
