"""The oracle's functions and moves against NumPy's own, or numbers worked out by hand."""

import numpy as np

from tests import oracle

X = np.arange(-12, 12, dtype=np.float64).reshape(1, 2, 3, 4) / 4


def test_functions_of_single_numbers():
    assert np.array_equal(oracle.clip(X, -1, 2), np.clip(X, -1, 2))
    assert np.array_equal(oracle.leaky_relu(X, 0.5), np.where(X > 0, X, X / 2))
    slope = np.array([0, 1, -1, 0.5])
    assert np.array_equal(oracle.prelu(X, slope), np.maximum(X, 0) + np.minimum(X, 0) * slope)
    assert np.array_equal(oracle.scale(X, slope, slope + 1), X * slope + slope + 1)
    assert np.array_equal(oracle.scale(X, slope), X * slope)
    assert oracle.sigmoid(np.zeros((1, 1))).tolist() == [[0.5]]
    assert oracle.sigmoid(np.array([[np.log(3)]])).round(15).tolist() == [[0.75]]
    assert oracle.tanh(np.array([[0, np.log(2)]])).round(15).tolist() == [[0, 0.6]]
    assert oracle.hard_sigmoid(np.array([[-9.0, 1, 9]]), 0.25, 0.5).tolist() == [[0, 0.75, 1]]
    assert oracle.hard_swish(np.array([[-4.0, -3, 0, 3, 5]])).tolist() == [[0, 0, 0, 3, 5]]


def test_two_values():
    pixel = X[:, :1, :1]
    assert np.array_equal(oracle.mul(X, X), X * X)
    assert np.array_equal(oracle.mul(X, pixel), X * pixel)
    assert np.array_equal(oracle.sub(X, pixel), X - pixel)
    assert np.array_equal(oracle.div(X, pixel), X / pixel)
    assert np.array_equal(oracle.concat(X, pixel * 0 + X, X[..., :1]), np.concatenate([X, X, X[..., :1]], -1))


def test_moves():
    assert np.array_equal(
        oracle.pad(X, ((1, 2), (0, 3)), 7), np.pad(X, ((0, 0), (1, 2), (0, 3), (0, 0)), constant_values=7)
    )
    assert np.array_equal(oracle.upsample(X, (2, 3)), np.kron(X, np.ones((1, 2, 3, 1))))
    assert np.array_equal(oracle.cut(X, (0, 1, 0), (2, 3, 4), (1, 1, 3)), X[:, :, 1:3, ::3])
    moved = oracle.rearrange(X, (2, 3, 4), (2, 0, 1), (24,))
    assert np.array_equal(moved, X.transpose(0, 3, 1, 2).reshape(1, 24))
    assert np.array_equal(oracle.rearrange(X, (6, 4), (1, 0), (4, 3, 2)), X.reshape(6, 4).T.reshape(1, 4, 3, 2))
