"""The check of linearity can fail: a cotangent that is not linear in `dy` is noticed, however the rest agrees."""

import numpy as np
import pytest

from lhc_ref import ops
from lhc_ref.gradcheck import GradientError
from tests.lhc_ref.derivatives import assert_linear

X = np.random.default_rng(0).standard_normal((3, 2))


def test_a_linear_one_passes():
    assert_linear(ops.sigmoid_vjp, X.shape, [X], {})


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (lambda dy: 1e-4 * abs(dy), AssertionError),  # a factor of -2 does not come out
        (lambda dy: 1e-4, AssertionError),
        (lambda dy: 1e-4 * np.median(dy), GradientError),  # the factor does, the sum of basis vectors does not
    ],
)
def test_others_are_noticed(change, error):
    def planted(dy, x):
        return (ops.sigmoid_vjp(dy, x)[0] + change(dy),)

    with pytest.raises(error):
        assert_linear(planted, X.shape, [X], {})
