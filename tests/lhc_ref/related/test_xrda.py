from math import exp

import numpy as np
import pytest

from lhc_ref.errors import ConfigError, InputError
from lhc_ref.related.xrda import XRDA
from tests.tolerances import assert_exact, assert_within, gamma

dtypes = pytest.mark.parametrize("dtype", [np.float32, np.float64])
PLAIN = {"momentum_time": 0.0, "size_time": 0.0, "weight_decay": 0.0, "factor": 1.0}
GRADIENTS = np.array([[2.0, -4.0, 0.5], [-1.0, 1.0, 0.5], [4.0, 0.5, -0.5]])


@dtypes
def test_without_averaging_it_is_proximal_gradient_descent(dtype):
    """`w <- soft(w - s*g, lam*s)`, all numbers exact."""
    optimizer, weight, w = XRDA(0.5, **PLAIN), np.array([1.0, -2.0, 0.25], dtype), np.array([1.0, -2.0, 0.25])
    for g in GRADIENTS:
        optimizer.update({"w": weight}, {"w": g.astype(dtype)}, 0.25)
        z = w - 0.25 * g
        w = np.sign(z) * np.maximum(abs(z) - 0.125, 0)
        assert_exact(weight, w.astype(dtype))
    assert (weight == 0).any()


@dtypes
def test_with_full_averaging_it_is_dual_averaging(dtype):
    """`w <- soft(-s * sum of g, lam*s*t)`: where the weights started is forgotten."""
    optimizer, weight = XRDA(0.5, averaging=1.0, **PLAIN), np.array([1.0, -2.0, 0.25], dtype)
    for t in range(1, 4):
        optimizer.update({"w": weight}, {"w": GRADIENTS[t - 1].astype(dtype)}, 0.25)
        z = -0.25 * GRADIENTS[:t].sum(axis=0)
        assert_exact(weight, (np.sign(z) * np.maximum(abs(z) - 0.125 * t, 0)).astype(dtype))


@dtypes
def test_all_terms_together_are_the_formula(dtype):
    """Number by number. `size` is what the same sums reach without cancellation: every step has at most 24 roundings of
    it, and one of the thresholds, whose terms are all positive, at most 24 of itself."""
    lam, av, ts, bts, decay, factor, s = 0.01, 0.25, 3.0, 5.0, 0.0625, 20.0, 0.5
    optimizer = XRDA(lam, averaging=av, momentum_time=ts, size_time=bts, weight_decay=decay, factor=factor)
    start = np.array([1.0, -0.001, 0.3], dtype)
    weight, w = start.copy(), start.astype(float)
    a, b, z, v, size_z, size_v = (np.zeros(3) for _ in range(6))
    size_w = abs(w)
    for step in range(1, 6):
        g = np.random.default_rng(step).normal(size=3).astype(dtype)
        optimizer.update({"w": weight}, {"w": g}, s)
        for i in range(3):
            a[i] = a[i] * exp(-s / bts) + (1 - exp(-s / bts)) * abs(w[i])
        for i in range(3):
            b[i] = av * b[i] + s * factor / (1 + (factor - 1) * a[i] / max(a))
            v[i] = v[i] * exp(-s / ts) + (1 - exp(-s / ts)) * (float(g[i]) + decay * w[i])
            z[i] = av * z[i] + (1 - av) * w[i] - s * v[i]
            w[i] = max(abs(z[i]) - lam * b[i], 0) * (1 if z[i] > 0 else -1)
        size_v = size_v * exp(-s / ts) + (1 - exp(-s / ts)) * (abs(g.astype(float)) + decay * size_w)
        size_z = av * size_z + (1 - av) * size_w + s * size_v
        size_w = size_z + lam * b
        # The thresholds depend on the weights' own errors through a / max(a), of which they have a share of lam * b.
        assert_within(weight, w, gamma(24 * step**2, dtype) * (size_w + lam * b * size_w.max() / a), dtype)
    assert {"size.w", "threshold.w", "dual.w", "velocity.w"} == set(optimizer.state)


def test_small_weights_are_thresholded_more():
    """A weight that is far below the largest has nearly `factor` times its threshold."""
    optimizer = XRDA(1.0, momentum_time=0, size_time=0, weight_decay=0, factor=9.0)
    weight = np.array([16.0, 2.0, -2.0])
    optimizer.update({"w": weight}, {"w": np.zeros(3)}, 1.0)
    assert weight.tolist() == [15, 0, 0]  # thresholds 9/9 = 1 and 9/(1 + 8/8) = 4.5


def test_only_the_named_weights_become_sparse():
    weights = {"kernel": np.array([0.1]), "bias": np.array([0.1])}
    XRDA(1.0, sparse={"kernel"}, **PLAIN).update(weights, {name: np.zeros(1) for name in weights}, 1.0)
    assert (weights["kernel"].tolist(), weights["bias"].tolist()) == ([0], [0.1])


def test_weights_that_are_all_zero_have_no_threshold():
    weight = np.zeros(2)
    XRDA(1.0, **PLAIN).update({"w": weight}, {"w": np.array([-1.0, 0.0])}, 1.0)
    assert weight.tolist() == [1, 0]


def test_defaults_are_the_authors_example():
    optimizer = XRDA()
    assert (optimizer.lam, optimizer.momentum_time, optimizer.size_time) == (1e-6, 9.5, 9.5)
    assert (optimizer.weight_decay, optimizer.averaging, optimizer.factor) == (5e-4, 0, 500)


@pytest.mark.parametrize(
    "wrong",
    [
        {"lam": -1.0},
        {"averaging": 1.5},
        {"momentum_time": -1.0},
        {"size_time": float("nan")},
        {"weight_decay": -1e-3},
        {"factor": 0.5},
    ],
)
def test_errors(wrong):
    (name,) = wrong
    with pytest.raises(ConfigError, match=rf"^{name}: expected a number in \[.+\], got .+\. .+\.$"):
        XRDA(**{"lam": 1.0} | wrong)
    with pytest.raises(InputError, match="expected the name of a weight, got 'v'"):
        XRDA().update({"w": np.ones(2)}, {"v": np.ones(2)}, 0.1)
