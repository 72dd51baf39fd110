"""Circulant coupling: the shift it is, its dense kernel and its evaluation by transforms, which agree."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lhc_ref.conv import conv2d, conv2d_vjp
from lhc_ref.errors import InputError
from lhc_ref.related.circulant import (
    circulant_conv2d,
    circulant_conv2d_vjp,
    circulant_kernel,
    circulant_kernel_vjp,
    circulant_shape,
)
from tests import oracle
from tests.lhc_ref.derivatives import assert_derivatives
from tests.strategies import conv_cases, numbers, seeds
from tests.tolerances import assert_adjoint, assert_exact, assert_within, gamma

dtypes = pytest.mark.parametrize("dtype", [np.float32, np.float64])
blocks = st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(1, 5))


@dtypes
@given(st.integers(1, 6), seeds)
def test_a_channel_sees_the_others_shifted(dtype, c, seed):
    """`y[c] = sum_d theta[..., d] * x[(c - d) mod C]`, pixel by pixel with one tap."""
    x, theta = numbers(seed, "x", (1, 2, 2, c), dtype), numbers(seed, "theta", (1, 1, 1, 1, c), dtype)
    y = conv2d(x, circulant_kernel(theta))
    for co in range(c):
        want = sum(oracle.f64(theta)[0, 0, 0, 0, d] * x[..., (co - d) % c] for d in range(c))
        assert_exact(y[..., co], want, dtype)


@dtypes
@given(st.tuples(st.integers(1, 3), st.integers(1, 3)), blocks, seeds)
def test_the_dense_kernel_repeats_theta_round_each_block(dtype, size, parts, seed):
    p, q, b = parts
    theta = numbers(seed, "theta", (*size, *parts), dtype)
    kernel = circulant_kernel(theta)
    assert kernel.shape == (*size, p * b, q * b)
    for ci in range(p * b):
        for co in range(q * b):
            assert_exact(kernel[:, :, ci, co], theta[:, :, ci // b, co // b, (co % b - ci % b) % b])
    dy = numbers(seed, "dy", kernel.shape, dtype)
    (dtheta,) = circulant_kernel_vjp(dy, theta)
    assert dtheta.dtype == dtype
    assert_adjoint(kernel, dy, theta, dtheta)


def transform_bound(dtype, b, products, magnitude):
    """|transformed evaluation - exact|, where `magnitude` holds, b times over, the product of the blocks' 1-norms.

    A spectrum's every number is at most the 1-norm of what it came from, so every product of two spectra is at most the
    product of the 1-norms, and the inverse is a mean of sums of such products. A path through two transforms of length
    b <= 5 and back has at most 8 roundings a channel and 64 for twiddle factors, each time; a complex sum of products
    adds three a product.
    """
    return gamma(3 * (8 * b + 64) + 3 * products + 3, dtype) * magnitude / b


def every_pair(a, b):
    """[..., blocks*b] with each number replaced by the 1-norm of its block."""
    parts = abs(oracle.f64(a)).reshape(*a.shape[:-1], -1, b)
    return np.broadcast_to(parts.sum(axis=-1, keepdims=True), parts.shape).reshape(a.shape)


@dtypes
@given(conv_cases(max_groups=1), blocks)
def test_both_evaluations_agree(dtype, case, parts):
    p, q, b = parts
    options = {"stride": case.stride, "padding": case.padding, "dilation": case.dilation}
    theta = numbers(case.seed, "theta", (*case.kernel_hw, *parts), dtype, exact=False)
    x = numbers(case.seed, "x", (case.n, *case.size_hw, p * b), dtype, exact=False)
    kernel = circulant_kernel(theta)
    y = circulant_conv2d(x, theta, **options)
    taps = case.kernel_hw[0] * case.kernel_hw[1]
    norms = circulant_kernel(np.broadcast_to(abs(oracle.f64(theta)).sum(axis=-1, keepdims=True), theta.shape))
    bound = transform_bound(dtype, b, taps * p, oracle.conv2d(every_pair(x, b), norms, **options))
    assert_within(y, oracle.conv2d(x, kernel, **options), bound, dtype)

    dy = numbers(case.seed, "dy", y.shape, dtype, exact=False)
    dx, dtheta = circulant_conv2d_vjp(dy, x, theta, **options)
    dx_want, dkernel = oracle.conv2d_vjp(dy, x, kernel, **options)
    dx_bound, dkernel_bound = oracle.conv2d_vjp(every_pair(dy, b), every_pair(x, b), norms, **options)
    assert_within(dx, dx_want, transform_bound(dtype, b, taps * q, dx_bound), dtype)
    pixels = int(np.prod(dy.shape[:3]))
    dtheta_bound = transform_bound(dtype, b, pixels, circulant_kernel_vjp(dkernel_bound, oracle.f64(theta))[0])
    assert_within(dtheta, circulant_kernel_vjp(dkernel, oracle.f64(theta))[0], dtheta_bound, dtype)


def test_gradients_through_the_dense_kernel_are_exact_on_integers():
    theta, x = numbers(0, "theta", (3, 3, 1, 1, 5), np.float64), numbers(0, "x", (2, 4, 4, 5), np.float64)
    kernel = circulant_kernel(theta)
    y = conv2d(x, kernel)
    dy = numbers(0, "dy", y.shape, np.float64)
    dx, dkernel = conv2d_vjp(dy, x, kernel)
    assert_adjoint(y, dy, x, dx)
    assert_adjoint(y, dy, theta, circulant_kernel_vjp(dkernel, theta)[0])


def test_derivatives():
    rng = np.random.default_rng(0)
    x, theta = rng.normal(size=(1, 3, 4, 4)), rng.normal(size=(3, 2, 2, 1, 2))
    assert_derivatives(circulant_kernel, circulant_kernel_vjp, [theta])
    options = {"stride": (1, 2), "padding": ((1, 0), (0, 1)), "dilation": (1, 2)}
    assert_derivatives(circulant_conv2d, circulant_conv2d_vjp, [x, theta], options=options)
    x, theta = rng.normal(size=(1, 2, 2, 3)), rng.normal(size=(1, 1, 1, 1, 3))  # an odd block
    assert_derivatives(circulant_conv2d, circulant_conv2d_vjp, [x, theta])


@pytest.mark.parametrize(("block", "count"), [(64, 9 * 64), (8, 9 * 64 * 64 // 8), (1, 9 * 64 * 64)])
def test_weight_counts(block, count):
    assert int(np.prod(circulant_shape(3, 64, 64, block=block))) == count


X, THETA = np.zeros((1, 3, 3, 4)), np.zeros((3, 3, 2, 3, 2))


@pytest.mark.parametrize(
    ("thing", "call"),
    [
        ("x", lambda: circulant_conv2d(X[0], THETA)),
        ("theta", lambda: circulant_conv2d(X, THETA[0])),
        ("theta", lambda: circulant_conv2d(X, THETA[:, :, :1])),
        ("theta", lambda: circulant_conv2d(X, THETA[:, :, :, :0])),
        ("theta", lambda: circulant_conv2d(X, THETA.astype(np.float32))),
        ("theta", lambda: circulant_kernel(THETA[0])),
        ("image", lambda: circulant_conv2d(X[:, :2], THETA, padding="valid")),
        ("dy", lambda: circulant_conv2d_vjp(X, X, THETA)),
        ("dy", lambda: circulant_kernel_vjp(X, THETA)),
        ("block", lambda: circulant_shape(3, 6, 4, block=4)),
    ],
)
def test_wrong_input_is_named(thing, call):
    with pytest.raises(InputError, match=r": expected .+, got .+\. .+\.$") as caught:
        call()
    assert str(caught.value).startswith(f"{thing}: ")
