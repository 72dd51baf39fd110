"""The checker itself: right derivatives pass, planted errors are caught and located, nothing is decided by vacuity."""

import numpy as np
import pytest

from lhc_ref import gradcheck, ops
from lhc_ref.errors import InputError, LhcError
from lhc_ref.gradcheck import GradientError, check_vjp, compare_vjp

modes = pytest.mark.parametrize("mode", ["projection", "jacobian", "taylor"])
X = np.random.default_rng(0).standard_normal((3, 4))


def smooth(x):
    return np.exp(x / 2) * x


def smooth_vjp(dy, x):
    return (dy * np.exp(x / 2) * (1 + x / 2),)


def planted(change):
    return lambda dy, x: (change(smooth_vjp(dy, x)[0]),)


@modes
def test_a_right_derivative_passes(mode):
    report = check_vjp(smooth, smooth_vjp, [X], mode=mode)
    assert report.ok
    assert all(row.name == "dx" for row in report.rows)


@modes
@pytest.mark.parametrize("size", [1e-2, 1e-4, 1e-6, -1e-6])
def test_a_wrong_scale_is_caught(mode, size):
    with pytest.raises(
        GradientError, match=r"(?s)expected the derivative of smooth, got\nwrong +dx .+analytic .+numeric"
    ):
        check_vjp(smooth, planted(lambda dx: dx * (1 + size)), [X], mode=mode)


@pytest.mark.parametrize("mode", ["projection", "jacobian"])
@pytest.mark.parametrize("index", [(0, 0), (1, 2), (2, 3)])
def test_the_worst_element_is_found(mode, index):
    def one_wrong(dx):
        dx = dx.copy()
        dx[index] *= 1 + 1e-4
        return dx

    for row in compare_vjp(smooth, planted(one_wrong), [X], mode=mode).rows:
        assert (row.verdict, row.at.split(" of output")[0]) == ("wrong", str(index))
        assert abs(row.analytic - row.numeric * (1 + 1e-4)) <= 2 * row.budget


@modes
@pytest.mark.parametrize(
    "change", [np.negative, lambda dx: dx[::-1], lambda dx: dx * 0, lambda dx: dx * np.nan, lambda dx: dx + 1e-7]
)
def test_other_errors_are_caught(mode, change):
    assert not compare_vjp(smooth, planted(change), [X], mode=mode).ok


def test_each_argument_is_named_and_can_be_chosen():
    a, b = X, X[::-1].copy()

    def wrong_b(dy, a, b):
        return dy * b, dy * a * (1 + 1e-4)

    report = compare_vjp(ops.multiply, wrong_b, [a, b], projections=1)
    assert [(row.name, row.verdict) for row in report.rows] == [("da", "ok"), ("db", "wrong")]
    assert check_vjp(ops.multiply, wrong_b, [a, b], wrt=[0]).ok


def test_budgets_are_near_rounding_and_say_so():
    (row,) = compare_vjp(smooth, smooth_vjp, [X], projections=1).rows
    assert abs(row.analytic - row.numeric) <= row.budget < 1e-9 * abs(smooth_vjp(np.ones_like(X), X)[0]).sum()
    assert "budget" in str(row)


def test_a_kink_inside_the_stencil_is_not_taken_for_a_derivative():
    x = np.array([0.01, -1.0, 1.0])
    for mode in ("projection", "jacobian"):
        assert not compare_vjp(ops.relu, ops.relu_vjp, [x], mode=mode).ok
    assert check_vjp(ops.relu, ops.relu_vjp, [x], step=0.002).ok


def test_a_vacuous_budget_decides_nothing():
    noise = np.random.default_rng(0)

    def noisy(x):
        return x + 1e-3 * noise.standard_normal(x.shape)

    with pytest.raises(GradientError, match="undecided"):
        check_vjp(noisy, lambda dy, x: (dy,), [X])


def test_functions_without_slope_pass_and_scalars_too():
    assert check_vjp(lambda x: 0 * x, lambda dy, x: (0 * dy,), [X], mode="jacobian").ok
    assert check_vjp(lambda x: x * x, lambda dy, x: (2 * x * dy,), [np.array(3.0)], mode="jacobian").ok


def test_the_formulas_are_of_orders_eight_and_six():
    t = np.arange(-4, 5)
    for weights, order in ((gradcheck.ORDER_8, 8), (gradcheck.ORDER_6, 6)):
        moments = [round(float(weights @ t**k), 9) for k in range(order + 2)]
        assert moments[: order + 1] == [0, 1] + [0] * (order - 1)
        assert moments[order + 1] != 0


@pytest.mark.parametrize(
    ("thing", "call"),
    [
        ("mode", lambda: compare_vjp(smooth, smooth_vjp, [X], mode="guess")),
        ("f", lambda: compare_vjp(smooth, smooth_vjp, [X.astype(np.float32)])),
        ("wrt", lambda: compare_vjp(smooth, smooth_vjp, [X], wrt=[1])),
        ("wrt", lambda: compare_vjp(smooth, lambda dy, x: (None,), [X])),
        ("dx", lambda: compare_vjp(smooth, lambda dy, x: (dy[0],), [X])),
        ("dx", lambda: compare_vjp(smooth, lambda dy, x: (dy.astype(np.float32),), [X])),
    ],
)
def test_wrong_input_is_named(thing, call):
    with pytest.raises(InputError, match=rf"^{thing}: expected .+, got .+\. .+\.$"):
        call()


def test_its_error_is_one_of_ours():
    assert issubclass(GradientError, LhcError)
