from fractions import Fraction

import numpy as np
import pytest

from lhc_ref.errors import ConfigError, InputError
from lhc_ref.related.adam import Adam
from tests.tolerances import assert_exact, assert_within, gamma

dtypes = pytest.mark.parametrize("dtype", [np.float32, np.float64])


@dtypes
def test_a_constant_gradient_gives_constant_steps(dtype):
    """Then m^ = g and v^ = g^2 at every t: steps of `rate * g / (|g| + epsilon)`, here exact."""
    optimizer, weight = Adam(first=0.5, second=0.75, epsilon=2.0), np.array([1.0, -1.0, 3.0], dtype)
    for step in range(1, 4):
        optimizer.update({"w": weight}, {"w": np.array([2.0, -2.0, 0.0], dtype)}, 0.25)
        assert_exact(weight, np.array([1 - step / 8, -1 + step / 8, 3], dtype))
    assert weight.dtype == dtype


@dtypes
def test_any_gradients_give_the_formula(dtype):
    """Against sums over all gradients in exact fractions. A mean after t steps has at most 2t + 3 roundings a term and
    the square root halves those of the squares; the rest of an update has six, and each adds one to the weight."""
    first, second, epsilon, rate = 0.9, 0.99, 2**-10, 0.125
    optimizer, rng = Adam(first, second, epsilon), np.random.default_rng(0)
    weight = np.array([1.0, -2.0, 0.5], dtype)
    start, want, bound = weight.astype(float), np.zeros(3), np.zeros(3)
    gradients = rng.normal(size=(6, 3)).astype(dtype)
    b1, b2 = Fraction(first), Fraction(second)
    for t in range(1, 7):
        optimizer.update({"w": weight}, {"w": gradients[t - 1]}, rate)
        for i in range(3):
            g = [Fraction(float(value)) for value in gradients[:t, i]]
            m, size = (
                sum((1 - b1) * b1 ** (t - 1 - k) * f(g[k]) for k in range(t)) / (1 - b1**t) for f in (Fraction, abs)
            )
            v = sum((1 - b2) * b2 ** (t - 1 - k) * g[k] ** 2 for k in range(t)) / (1 - b2**t)
            deviation = float(v) ** 0.5 + epsilon
            want[i] += rate * float(m) / deviation
            bound[i] += gamma(4 * t + 16, dtype) * rate * float(size) / deviation
        total = bound + gamma(t + 1, dtype) * (abs(start) + abs(want) + bound)
        assert_within(weight, start - want, total, dtype)


def test_steps_are_counted_weight_by_weight():
    optimizer, weights = Adam(), {"a": np.ones(2), "b": np.ones(2)}
    optimizer.update(weights, {"a": np.ones(2)}, 0.5)
    optimizer.update(weights, {"a": np.ones(2), "b": np.ones(2)}, 0.5)
    assert (int(optimizer.state["steps.a"]), int(optimizer.state["steps.b"])) == (2, 1)
    assert sorted(optimizer.state) == ["mean.a", "mean.b", "square.a", "square.b", "steps.a", "steps.b"]


def test_state_put_back_goes_on_the_same():
    gradients = np.random.default_rng(0).normal(size=(4, 2))
    whole, half, weight, again = Adam(), Adam(), np.ones(2), np.ones(2)
    for g in gradients:
        whole.update({"w": weight}, {"w": g}, 0.1)
    for g in gradients[:2]:
        half.update({"w": again}, {"w": g}, 0.1)
    other = Adam()
    other.state = {name: array.copy() for name, array in half.state.items()}
    for g in gradients[2:]:
        other.update({"w": again}, {"w": g}, 0.1)
    assert_exact(again, weight)


def test_errors():
    with pytest.raises(ConfigError, match=r"first, second: expected numbers in \[0, 1\), got 1\.0, 0\.5\. "):
        Adam(1.0, 0.5)
    with pytest.raises(ConfigError, match=r"epsilon: expected a number > 0, got 0\.0\. "):
        Adam(epsilon=0.0)
    with pytest.raises(InputError, match="expected the name of a weight, got 'v'"):
        Adam().update({"w": np.ones(2)}, {"v": np.ones(2)}, 0.1)
    with pytest.raises(InputError, match="gradient of w: expected float64\\[2\\]"):
        Adam().update({"w": np.ones(2)}, {"w": np.ones(2, np.float32)}, 0.1)
