import numpy as np
import pytest

from lhc_ref.errors import ConfigError, InputError
from lhc_ref.optim import SGD
from tests.tolerances import assert_exact


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_three_steps_are_the_formula(dtype):
    """Powers of two and small integers: every number is exact. `v = m*v - rate*g`, `w += m*v - rate*g`."""
    optimizer, weight = SGD(momentum=0.5), np.array([8.0, -4.0], dtype)
    v, w = np.zeros(2), np.array([8.0, -4.0])
    for gradient, rate in (([2.0, 4.0], 0.5), ([-4.0, 8.0], 0.25), ([0.0, 2.0], 0.5)):
        g = np.array(gradient)
        optimizer.update({"w": weight}, {"w": g.astype(dtype)}, rate)
        v = 0.5 * v - rate * g
        w = w + 0.5 * v - rate * g
        assert_exact(weight, w.astype(dtype))
        assert_exact(optimizer.velocity["w"], v.astype(dtype))


def test_without_momentum_it_is_gradient_descent():
    weight = np.array([1.0])
    SGD(momentum=0.0).update({"w": weight}, {"w": np.array([2.0])}, 0.25)
    assert_exact(weight, np.array([0.5]))


def test_a_weight_without_gradient_stays():
    optimizer, weights = SGD(), {"a": np.ones(2), "b": np.ones(2)}
    optimizer.update(weights, {"a": np.ones(2)}, 0.5)
    assert_exact(weights["b"], np.ones(2))
    assert list(optimizer.velocity) == ["a"]


def test_errors():
    with pytest.raises(ConfigError, match=r"momentum: expected a number in \[0, 1\), got 1.0"):
        SGD(momentum=1.0)
    with pytest.raises(InputError, match="expected the name of a weight, got 'v'"):
        SGD().update({"w": np.ones(2)}, {"v": np.ones(2)}, 0.1)
    with pytest.raises(InputError, match="gradient of w: expected float64\\[2\\]"):
        SGD().update({"w": np.ones(2)}, {"w": np.ones(2, np.float32)}, 0.1)
