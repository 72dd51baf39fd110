"""Symmetric padding and XSepConv: where the pixels go, the depthwise kernel that it is, weight count, derivatives."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lhc_ref.errors import InputError
from lhc_ref.related.xsepconv import symmetric_pad, symmetric_pad_vjp, xsepconv
from tests import oracle
from tests.lhc_ref.derivatives import assert_derivatives, assert_tape_derivatives
from tests.strategies import numbers, seeds
from tests.tolerances import assert_adjoint, assert_exact

dtypes = pytest.mark.parametrize("dtype", [np.float32, np.float64])
PADS = (((0, 1), (0, 1)), ((1, 0), (1, 0)), ((0, 1), (1, 0)), ((1, 0), (0, 1)))
sizes = st.tuples(st.integers(1, 2), st.integers(1, 4), st.integers(1, 4))


@dtypes
@given(sizes, st.integers(1, 2), seeds)
def test_padding_by_quarters_and_its_adjoint(dtype, size, quarter, seed):
    n, h, w = size
    x = numbers(seed, "x", (n, h, w, 4 * quarter), dtype)
    y = symmetric_pad(x)
    zeros = [np.pad(x, ((0, 0), *pads, (0, 0))) for pads in PADS]
    parts = [padded[..., i * quarter : (i + 1) * quarter] for i, padded in enumerate(zeros)]
    assert_exact(y, np.concatenate(parts, axis=3), dtype)
    dy = numbers(seed, "dy", y.shape, dtype)
    (dx,) = symmetric_pad_vjp(dy, x)
    assert dx.dtype == dtype
    assert_adjoint(y, dy, x, dx)


def test_an_image_of_one_pixel_goes_to_four_corners():
    y = symmetric_pad(np.arange(1.0, 5.0).reshape(1, 1, 1, 4))
    assert np.moveaxis(y[0], -1, 0).tolist() == [
        [[1, 0], [0, 0]],
        [[0, 0], [0, 2]],
        [[0, 3], [0, 0]],
        [[0, 0], [4, 0]],
    ]


@dtypes
@given(sizes, st.sampled_from([1, 3, 5]), seeds)
def test_it_is_three_depthwise_convolutions(dtype, size, k, seed):
    x = numbers(seed, "x", (*size, 4), dtype)
    shapes = {"row": (1, k, 1, 4), "column": (k, 1, 1, 4), "square": (2, 2, 1, 4)}
    row, column, square = (numbers(seed, role, shape, dtype) for role, shape in shapes.items())
    y = oracle.conv2d(oracle.conv2d(x, row, groups=4), column, groups=4)
    want = [oracle.conv2d(y[..., c : c + 1], square[..., c : c + 1], padding=padding) for c, padding in enumerate(PADS)]
    got = xsepconv(x, row, column, square)
    assert got.shape == x.shape
    assert_exact(got, np.concatenate(want, axis=3), dtype)


@pytest.mark.parametrize("k", [5, 7])
def test_weight_count(k):
    """2K + 4 a channel."""
    weights = np.zeros((1, k, 1, 8)), np.zeros((k, 1, 1, 8)), np.zeros((2, 2, 1, 8))
    assert sum(w.size for w in weights) == (2 * k + 4) * 8
    assert not xsepconv(np.ones((1, 2, 2, 8)), *weights).any()


def test_derivatives():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(1, 2, 3, 4))
    assert_derivatives(symmetric_pad, symmetric_pad_vjp, [x])
    weights = [rng.normal(size=shape) for shape in ((1, 3, 1, 4), (3, 1, 1, 4), (2, 2, 1, 4))]
    assert_tape_derivatives(xsepconv, [x, *weights])


X = np.zeros((1, 3, 3, 4))


@pytest.mark.parametrize(
    ("thing", "call"),
    [
        ("x", lambda: symmetric_pad(X[0])),
        ("x", lambda: symmetric_pad(X[..., :3])),
        ("dy", lambda: symmetric_pad_vjp(X, X)),
        ("kernel", lambda: xsepconv(X, np.zeros((1, 3, 2, 4)), np.zeros((3, 1, 1, 4)), np.zeros((2, 2, 1, 4)))),
    ],
)
def test_wrong_input_is_named(thing, call):
    with pytest.raises(InputError, match=r": expected .+, got .+\. .+\.$") as caught:
        call()
    assert str(caught.value).startswith(f"{thing}: ")
