"""N:M masks by their definition, and the two parts of their straight-through estimator."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lhc_ref import ops
from lhc_ref.errors import InputError
from lhc_ref.gradcheck import check_vjp, compare_vjp
from lhc_ref.related import nm
from lhc_ref.tape import Tape, apply
from tests.lhc_ref.derivatives import assert_derivatives
from tests.strategies import numbers, seeds
from tests.tolerances import assert_exact

dtypes = pytest.mark.parametrize("dtype", [np.float32, np.float64])
shapes = st.tuples(st.integers(1, 2), st.integers(1, 2), st.integers(1, 9), st.integers(1, 3))
choices = st.integers(1, 5).flatmap(lambda m: st.tuples(st.integers(1, m), st.just(m)))


def by_definition(kernel, n, m):
    """Group by group: the largest |w| first, the lower index first among equals."""
    mask = np.zeros(kernel.shape)
    kh, kw, c_in, c_out = kernel.shape
    for start in range(0, c_in, m):
        group = range(start, min(start + m, c_in))
        count = -(-n * len(group) // m)
        for ky, kx, co in np.ndindex(kh, kw, c_out):
            ranked = sorted(group, key=lambda ci: (-abs(kernel[ky, kx, ci, co]), ci))
            mask[ky, kx, ranked[:count], co] = 1
    return mask


@dtypes
@given(shapes, choices, seeds)
def test_mask_is_the_definition(dtype, shape, choice, seed):
    """The kernels hold nine different integers, so ties are everywhere."""
    n, m = choice
    kernel = numbers(seed, "kernel", shape, dtype)
    mask = nm.nm_mask(kernel, n=n, m=m)
    assert_exact(mask, by_definition(kernel, n, m), dtype)
    assert_exact(nm.nm_kernel(kernel, n=n, m=m), kernel * mask)
    if shape[2] % m == 0:
        assert_exact(
            mask.reshape(*shape[:2], -1, m, shape[3]).sum(axis=3),
            np.full((*shape[:2], shape[2] // m, shape[3]), n, dtype),
        )


def test_ties_and_a_short_last_group():
    kernel = np.array([1.0, -1, 1, 1, 3, -4, 2]).reshape(1, 1, 7, 1)
    assert nm.nm_mask(kernel, n=2, m=4).ravel().tolist() == [1, 1, 0, 0, 1, 1, 0]  # ceil(2 * 3 / 4) = 2 of the last 3
    assert nm.nm_mask(kernel, n=1, m=4).ravel().tolist() == [1, 0, 0, 0, 0, 1, 0]
    assert nm.nm_mask(kernel, n=4, m=4).all()
    assert nm.nm_mask(kernel, n=1, m=100).ravel().tolist() == [0, 0, 0, 0, 0, 1, 0]


@dtypes
@given(shapes, choices, seeds)
def test_estimator_is_the_published_formula_and_linear_but_for_its_constant(dtype, shape, choice, seed):
    """`g + decay * (1 - mask) * w`, with a decay that is a power of two so that all is exact."""
    n, m = choice
    kernel, a, b = (numbers(seed, role, shape, dtype) for role in ("kernel", "a", "b"))

    def pull(dy, decay=2.0**-12):
        return nm.nm_kernel_vjp(dy, kernel, n=n, m=m, decay=decay)[0]

    mask = nm.nm_mask(kernel, n=n, m=m)
    assert_exact(pull(a), a + (1 - mask) * kernel * dtype(2.0**-12))
    assert_exact(pull(a, decay=0.0), a)
    constant = pull(0 * a)
    assert_exact(pull(2 * a - b) - constant, 2 * (pull(a) - constant) - (pull(b) - constant))


def test_the_authors_decay():
    kernel = np.array([4.0, 1]).reshape(1, 1, 2, 1)
    assert nm.nm_kernel_vjp(0 * kernel, kernel, n=1, m=2)[0].ravel().tolist() == [0, 2e-4]


def test_both_parts_are_derivatives_of_what_is_declared():
    kernel = np.random.default_rng(0).normal(size=(2, 1, 5, 2))
    mask = nm.nm_mask(kernel, n=2, m=4)

    def estimator(dy, kernel):
        return nm.nm_kernel_vjp(dy, kernel, n=2, m=4, decay=0.0)

    def decay(dy, kernel):
        (dkernel,) = nm.nm_kernel_vjp(np.zeros_like(kernel), kernel, n=2, m=4, decay=0.5)
        return (dy * dkernel,)

    assert_derivatives(nm.nm_surrogate, estimator, [kernel])
    assert_derivatives(lambda w: nm.nm_penalty(w, mask, decay=0.5), decay, [kernel])
    check_vjp(lambda w: nm.nm_penalty(w, mask, decay=0.5), decay, [kernel], mode="jacobian")
    ignores_mask = compare_vjp(lambda w: nm.nm_penalty(w, 0 * mask, decay=0.5), decay, [kernel])
    assert not ignores_mask.ok


def test_on_the_tape_the_loss_and_the_penalty_meet():
    """d(loss + penalty) with the mask as a constant is what the tape gives for the loss alone."""
    kernel = numbers(0, "kernel", (1, 1, 6, 2), np.float64)
    other = numbers(0, "other", kernel.shape, np.float64)
    tape = Tape()
    w = tape.variable(kernel)
    y = apply(ops.multiply, apply(nm.nm_kernel, w, n=1, m=3, decay=0.25), other)
    (got,) = tape.gradients(y, [w], np.ones(kernel.shape))
    assert_exact(got, other + 0.25 * (1 - nm.nm_mask(kernel, n=1, m=3)) * kernel)


KERNEL = np.zeros((1, 1, 4, 1))


@pytest.mark.parametrize(
    ("thing", "call"),
    [
        ("kernel", lambda: nm.nm_mask(KERNEL[0], n=1, m=2)),
        ("kernel", lambda: nm.nm_kernel(KERNEL.astype(int), n=1, m=2)),
        ("n, m", lambda: nm.nm_mask(KERNEL, n=0, m=2)),
        ("n, m", lambda: nm.nm_mask(KERNEL, n=3, m=2)),
        ("dy", lambda: nm.nm_kernel_vjp(KERNEL[:, :, :2], KERNEL, n=1, m=2)),
    ],
)
def test_wrong_input_is_named(thing, call):
    with pytest.raises(InputError, match=r": expected .+, got .+\. .+\.$") as caught:
        call()
    assert str(caught.value).startswith(f"{thing}: ")
