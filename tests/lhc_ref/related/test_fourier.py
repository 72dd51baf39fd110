"""Per-channel Fourier transforms against their sums, and their derivatives."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lhc_ref.errors import InputError
from lhc_ref.gradcheck import check_vjp, compare_vjp
from lhc_ref.related.fourier import fft2, fft2_vjp, inverse_fft2, inverse_fft2_vjp
from tests.strategies import numbers, seeds
from tests.tolerances import assert_within, gamma

dtypes = pytest.mark.parametrize("dtype", [np.float32, np.float64])
sizes = st.tuples(st.integers(1, 2), st.integers(1, 7), st.integers(1, 7), st.integers(1, 2))


def by_sums(x, sign=-1):
    """The transform's double sum, in complex128."""
    h, w = x.shape[1:3]
    rows, columns = (np.exp(sign * 2j * np.pi * np.outer(np.arange(k), np.arange(k)) / k) for k in (h, w))
    return np.einsum("uy,vx,byxc->buvc", rows, columns, x)


def bound(x, dtype):
    """Every output is a sum over all pixels with factors of modulus 1; no path through a fast transform of lengths up
    to 7 has more than 8 roundings a pixel (two complex products) and 64 (twiddle factors, both axes)."""
    pixels = x.shape[1] * x.shape[2]
    return gamma(8 * pixels + 64, dtype) * abs(x).sum(axis=(1, 2), keepdims=True)


@dtypes
@given(sizes, seeds)
def test_transform_is_its_double_sum_and_the_inverse_goes_back(dtype, shape, seed):
    x = numbers(seed, "x", shape, dtype, exact=False)
    z, want = fft2(x), by_sums(x)
    limit = bound(x, dtype) * np.ones(shape)
    for part, w in enumerate((want.real, want.imag)):
        assert_within(z[..., part], w, limit, dtype)
    back = inverse_fft2(z)
    assert_within(back, x.astype(np.float64), 3 * limit, dtype)


@dtypes
@given(sizes, seeds)
def test_inverse_is_the_real_part_of_its_double_sum(dtype, shape, seed):
    z = numbers(seed, "z", (*shape, 2), dtype, exact=False)
    complex_z = z[..., 0].astype(np.complex128) + 1j * z[..., 1]
    want = by_sums(complex_z, sign=1).real / (shape[1] * shape[2])
    assert_within(inverse_fft2(z), want, bound(complex_z, dtype) / (shape[1] * shape[2]) * np.ones(shape), dtype)


@pytest.mark.parametrize("mode", ["projection", "jacobian", "taylor"])
@pytest.mark.parametrize(
    ("f", "vjp", "shape"), [(fft2, fft2_vjp, (2, 3, 4, 2)), (inverse_fft2, inverse_fft2_vjp, (1, 3, 4, 2, 2))]
)
def test_derivatives(f, vjp, shape, mode):
    args = [np.random.default_rng(0).standard_normal(shape)]
    check_vjp(f, vjp, args, mode=mode)
    report = compare_vjp(f, lambda dy, x: (vjp(dy, x)[0] * (1 + 1e-4),), args, mode=mode)
    assert {row.verdict for row in report.rows} == {"wrong"}


@pytest.mark.parametrize(
    ("thing", "call"),
    [
        ("x", lambda: fft2(np.zeros((2, 3)))),
        ("image", lambda: fft2(np.zeros((1, 0, 3, 1)))),
        ("z", lambda: inverse_fft2(np.zeros((1, 2, 3, 1)))),
        ("z", lambda: inverse_fft2(np.zeros((1, 2, 3, 1, 3)))),
        ("image", lambda: inverse_fft2(np.zeros((1, 2, 0, 1, 2)))),
        ("dy", lambda: fft2_vjp(np.zeros((1, 2, 3, 1)), np.zeros((1, 2, 3, 1)))),
        ("dy", lambda: inverse_fft2_vjp(np.zeros((1, 2, 3, 1, 2)), np.zeros((1, 2, 3, 1, 2)))),
    ],
)
def test_wrong_input_is_named(thing, call):
    with pytest.raises(InputError, match=r": expected .+, got .+\. .+\.$") as caught:
        call()
    assert str(caught.value).startswith(f"{thing}: ")
