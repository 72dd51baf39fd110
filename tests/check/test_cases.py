"""Cases: their ids, their arrays, and what the suite covers."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lhc_ref.check import shrink
from lhc_ref.check.cases import COUNTS, LEVELS, Case, too_large, valid
from lhc_ref.check.precision import FORMATS, Precision
from lhc_ref.check.reference import solve
from lhc_ref.check.suite import suite
from lhc_ref.errors import InputError


@given(st.sampled_from(LEVELS), st.integers(0, 99), st.booleans())
def test_an_id_is_its_case(level, seed, long):
    for case in suite(level, ("float32", "float16"), seed, long)[:: 7 if long else 3]:
        assert Case.parse(case.id) == case


@pytest.mark.parametrize(
    "text",
    [
        "",
        "tree:",
        "free:h",
        "free:h=x",
        "free:colour=3",
        "free:dtype=int8",
        "free:h=1,padding=valid",
        "free:scores=odd",
        "free:area=odd",
        "free:ci=-1",
        "free:gi=0",
        "free:n=0",
        "free:bias=2",
        "free:padding=1.0.2",
        "rigid:kh=5",
        "hetconv:ci=3",
        "hetconv:ci=2,kh=2",
        "lean:ci=3,groups=2",
        "lean:padding=valid",
        "nm:s=5,m=4",
        "csg:m=0",
        "regularizer:target=nan",
        "regularizer:layers=0",
    ],
)
def test_what_is_no_id(text):
    with pytest.raises(InputError, match="case: expected an id such as"):
        Case.parse(text)


@pytest.mark.parametrize(
    "text",
    [
        "free:h=100000000",
        "free:h=1024,w=1024,ci=64",
        "free:h=1024,w=1024,padding=100000.0.0.0",
        "free:kh=1024,ry=1024,kw=1024,rx=1024",
        "free:go=1000000000000",
        "csg:s=1024,m=1024",
        "csg:kh=3,kw=3,s=512,m=512",
        "regularizer:layers=1024",
    ],
)
def test_what_is_too_large(text):
    with pytest.raises(InputError, match=r"case: expected sizes up to 1024 and .* Take a smaller one"):
        Case.parse(text)


@given(st.sampled_from(LEVELS), st.data())
@settings(deadline=None)
def test_every_id_is_a_case_that_can_be_solved_or_an_error(level, data):
    """Whatever sizes somebody writes."""
    sizes = st.dictionaries(st.sampled_from(COUNTS), st.integers(-1, 5) | st.just(2000), max_size=5)
    text = ",".join(f"{name}={size}" for name, size in data.draw(sizes).items())
    try:
        case = Case.parse(f"{level}:{text}")
    except InputError:
        return
    assert solve(case, Precision.of("float32"))["y"].value.shape == (
        () if level == "regularizer" else case.arrays["dy"].shape
    )


@pytest.mark.parametrize("dtype", FORMATS)
def test_the_dtype_can_hold_a_cases_arrays(dtype):
    for level in LEVELS:
        for case in suite(level, (dtype,)):
            for name, array in case.arrays.items():
                assert np.array_equal(FORMATS[dtype].round(array), array, equal_nan=True), (case.id, name)


def test_the_same_case_has_the_same_arrays_and_another_seed_others():
    case = suite("free", seed=1)[0]
    again, other = Case.parse(case.id), replace(case, seed=case.seed + 1)
    assert all(np.array_equal(case.arrays[k], again.arrays[k]) for k in case.arrays)
    assert not np.array_equal(case.arrays["x"], other.arrays["x"])


@pytest.mark.parametrize("level", ["free", "rigid"])
def test_the_suite_covers_every_area(level):
    cases = suite(level, ("float32", "float64"))
    areas = {c.area for c in cases}
    assert areas == {"layer", "grouping", "enabled", "padding", "stride", "dilation", "dtype"}
    assert len({c.id for c in cases}) == len(cases)
    assert all(valid(c) and not too_large(c) for c in cases)
    assert any(c.ci % c.gi and c.co % c.go for c in cases)
    assert {c.scores for c in cases} >= ({"plain", "edges", "nan"} if level == "free" else {"plain", "edges", "ties"})


def test_rigid_scores_keep_away_from_the_edge_of_the_window():
    for case in suite("rigid", seed=2):
        scores = case.arrays["scores"]
        distance = np.abs(np.abs(scores - scores.mean(axis=0)) - 1)
        assert ((distance > 0.19) | ((distance == 0) & (case.scores == "edges"))).all()
        assert ((scores == scores.max(axis=0)).sum(axis=0) > 1).all() == (case.scores == "ties")


def test_shrinking_finds_the_smallest_case_that_fails():
    start = Case(n=3, h=7, w=6, ci=5, co=7, gi=2, go=3, sy=2, enabled="some", numbers="real", seed=99)
    small = shrink.smallest(start, lambda c: c.co > c.go > 1)
    assert (small.n, small.h, small.w, small.ci, small.gi, small.sy, small.enabled) == (1, 1, 1, 1, 1, 1, "all")
    assert (small.co, small.go) == (3, 2)
    assert valid(small)


def test_shrinking_gives_back_what_nothing_smaller_fails_like():
    start = Case(n=3, seed=99)
    assert shrink.smallest(start, lambda c: False) == start
