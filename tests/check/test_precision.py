"""Formats and budgets: that they hold, that they are no wider than they should be, and what they refuse."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lhc_ref.check.precision import FORMATS, TF32, Precision, sum_budget
from lhc_ref.errors import InputError


@given(st.integers(0, 2**16), st.integers(1, 200), st.sampled_from(["float16", "float32"]))
def test_sums_in_the_format_stay_within_the_budget(seed, terms, dtype):
    rng = np.random.default_rng(seed)
    a = FORMATS[dtype].round(rng.standard_normal(terms)).astype(dtype)
    total = np.zeros((), dtype)
    for v in a:
        total = (total + v).astype(dtype)
    exact = float(a.astype(np.float64).sum())
    precision = Precision.of(dtype, dtype)
    assert abs(float(total) - exact) <= sum_budget(np.abs(a.astype(np.float64)).sum(), terms, 1, precision)


def test_what_underflows_is_in_the_budget():
    tiny = np.float32(2.0**-149)
    product, precision = float(tiny) * float(tiny), Precision.of("float32")
    assert np.float32(tiny * tiny) == 0
    assert sum_budget(np.float64(product), 1, 1, precision) >= product


def test_integers_are_exact_up_to_the_bits_of_the_format():
    precision = Precision.of("bfloat16")
    budget = sum_budget(np.array([2.0**8, 2.0**8 + 1, 2.0**24, 2.0**25]), 9, 1, precision, integers=True)
    assert budget[0] == 0
    assert 0 < budget[1] < 2  # one rounding to storage
    assert budget[3] > sum_budget(np.array(2.0**24), 9, 1, precision, integers=True)


def test_a_budget_that_says_nothing_is_infinite():
    assert sum_budget(np.float64(1), 2**12, 1, Precision.of("float16", "float16")) == np.inf


@given(st.floats(-1e4, 1e4).filter(lambda v: abs(v) > 1e-3))
def test_rounding_to_formats(value):
    values = np.array([value])
    assert FORMATS["float16"].round(values) == values.astype(np.float16)
    for format_ in (FORMATS["bfloat16"], TF32):
        rounded = format_.round(values)
        assert abs(rounded - value) <= format_.u * abs(value)
        assert format_.round(rounded) == rounded
    bits = FORMATS["bfloat16"].round(values).astype(np.float32).view(np.uint32)
    assert (bits & 0xFFFF == 0).all()


@pytest.mark.parametrize(
    ("arguments", "words"), [(("int8",), "dtype: expected"), (("float32", None, "lazy"), "algorithm: ")]
)
def test_unknown_names(arguments, words):
    with pytest.raises(InputError, match=words):
        Precision.of(*arguments)
