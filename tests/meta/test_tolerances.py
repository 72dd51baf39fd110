"""Each assertion is seen to raise, and each bound to hold against errors and to be tight enough to notice one."""

import numpy as np
import pytest
from hypothesis import given

from tests import oracle, strategies, tolerances
from tests.tolerances import assert_adjoint, assert_exact, assert_identical, assert_within, gamma

ones = np.ones((2, 3), dtype=np.float32)


def changed(at, value):
    a = ones.copy()
    a[at] = value
    return a


@pytest.mark.parametrize("check", [assert_exact, assert_identical, lambda g, w: assert_within(g, w, 0.5)])
class TestEveryAssertion:
    def test_passes_equal_arrays(self, check):
        check(ones, ones.copy())
        check(np.zeros((0, 3)), np.zeros((0, 3)))
        check(np.float32(2), np.float32(2))

    def test_names_the_place_and_both_numbers(self, check):
        with pytest.raises(AssertionError, match=r"1 of 6 .* at \(1, 2\): got .*3\.0.*, want .*1\.0"):
            check(changed((1, 2), 3), ones)

    def test_a_nan_fails_on_either_side(self, check):
        with pytest.raises(AssertionError, match=r"at \(0, 1\)"):
            check(changed((0, 1), np.nan), ones)
        with pytest.raises(AssertionError, match=r"at \(0, 1\)"):
            check(ones, changed((0, 1), np.nan))

    def test_shapes_must_match_without_broadcasting(self, check):
        for other in (ones[:1], ones[0], ones.reshape(3, 2)):
            with pytest.raises(AssertionError, match="shape"):
                check(other, ones)

    def test_dtypes_must_match(self, check):
        with pytest.raises(AssertionError, match="dtype: got float64, want float32"):
            check(ones.astype(np.float64), ones)

    def test_infinities_of_the_same_sign_only(self, check):
        check(changed((0, 0), np.inf), changed((0, 0), np.inf))
        with pytest.raises(AssertionError):
            check(changed((0, 0), np.inf), changed((0, 0), -np.inf))
        with pytest.raises(AssertionError):
            check(changed((0, 0), np.inf), ones)


def test_a_named_dtype_is_asked_of_got_alone():
    assert_exact(ones, ones.astype(np.float64), dtype=np.float32)
    assert_within(ones, ones.astype(np.float64), 0.0, dtype=np.float32)
    for check in (assert_exact, lambda g, w, dtype: assert_within(g, w, 0.0, dtype)):
        with pytest.raises(AssertionError, match="dtype: got float64, want float32"):
            check(ones.astype(np.float64), ones.astype(np.float64), dtype=np.float32)


def test_assert_exact_notices_the_last_bit_and_not_the_sign_of_zero():
    assert_exact(changed((0, 0), -0.0), changed((0, 0), 0.0))
    with pytest.raises(AssertionError):
        assert_exact(changed((0, 0), np.nextafter(np.float32(1), np.float32(2))), ones)
    with pytest.raises(AssertionError):  # a difference that float32 would hide
        assert_exact(ones, ones.astype(np.float64) + 1e-12, dtype=np.float32)


def test_assert_identical_sees_bits():
    assert_identical(changed((0, 0), np.nan), changed((0, 0), np.nan))
    with pytest.raises(AssertionError, match="in bits"):
        assert_identical(changed((0, 0), -0.0), changed((0, 0), 0.0))


def test_assert_within_is_inclusive_and_elementwise():
    assert_within(ones + np.float32(0.5), ones, 0.5)
    bound = np.zeros((2, 3))
    bound[1, 1] = 1.0
    assert_within(changed((1, 1), 2), ones, bound)
    with pytest.raises(AssertionError, match=r"at \(0, 0\).*error 1.000e\+00 > bound 0.000e\+00"):
        assert_within(changed((0, 0), 2), ones, bound)


def test_assert_within_shows_the_worst_by_ratio_to_its_bound():
    got, bound = ones.copy(), np.array([[1e-3] * 3, [10.0] * 3])
    got[0, 2], got[1, 0] = 1.5, 21.0
    with pytest.raises(AssertionError, match=r"2 of 6 .*worst at \(0, 2\)"):
        assert_within(got, ones, bound)


@pytest.mark.parametrize("bound", [np.nan, np.inf, -1.0])
def test_a_bound_that_checks_nothing_is_refused(bound):
    with pytest.raises(AssertionError, match="bound: expected finite"):
        assert_within(ones, ones, bound)


def test_assert_adjoint_raises():
    x, kernel = np.array([[1.0, 2.0]]), np.array([[1.0, 10.0], [3.0, 5.0]])
    dy = np.array([[1.0, 4.0]])
    y = x @ kernel
    assert_adjoint(y, dy, x, dy @ kernel.T)
    with pytest.raises(AssertionError, match="not adjoint"):
        assert_adjoint(y, dy, x, dy @ kernel)
    with pytest.raises(AssertionError, match="not adjoint"):
        assert_adjoint(y, dy, x, dy * np.nan)
    with pytest.raises(AssertionError, match="shapes"):
        assert_adjoint(y, dy[0], x, dy)


def test_gamma():
    assert gamma(0, np.float32) == 0
    assert gamma(1, np.float32) == 2.0**-24 / (1 - 2.0**-24)
    assert gamma(1000, np.float64) == 1000 * 2.0**-53 / (1 - 1000 * 2.0**-53)
    with pytest.raises(ValueError, match="k=2048 in float16"):
        gamma(2048, np.float16)


# --- Bounds: they hold for sums in either direction, and a scale error of 1e-5 breaks them ----------------------------


def conv2d_in_order(x, kernel, bias, options, reverse):
    """Convolution in float32, one rounded multiply-add at a time, taps forwards or backwards."""
    window = {name: options[name] for name in ("stride", "padding", "dilation")}
    sizes = x.shape[1:3], kernel.shape[:2]
    y = np.tile(bias, (len(x), *oracle.output_size(*sizes, **window), 1))
    taps = list(oracle.windows(*sizes, **window))
    for oy, ox, ky, kx, iy, ix in taps[::-1] if reverse else taps:
        for ci, co in oracle.group_slices(x.shape[3], kernel.shape[3], options["groups"]):
            for c in range(kernel.shape[2]):
                y[:, oy, ox, co] += x[:, iy, ix, ci][:, c : c + 1] * kernel[ky, kx, c, co]
    return y


@given(strategies.conv_cases())
def test_conv_bound_holds(case):
    x, kernel, bias = case.x(exact=False), case.kernel(exact=False), case.bias(exact=False)
    want, bound = oracle.conv2d(x, kernel, bias, **case.options), tolerances.conv_bound(x, kernel, bias, **case.options)
    for reverse in (False, True):
        assert_within(conv2d_in_order(x, kernel, bias, case.options, reverse), want, bound, dtype=np.float32)


def test_conv_bounds_notice_a_scale_error_of_1e_5():
    rng = np.random.default_rng(0)
    x, kernel = (rng.standard_normal(s).astype(np.float32) for s in ((2, 6, 6, 4), (3, 3, 4, 5)))
    dy = rng.standard_normal((2, 6, 6, 5)).astype(np.float32)
    want, wants = oracle.conv2d(x, kernel), oracle.conv2d_vjp(dy, x, kernel)
    bounds = tolerances.conv_bound(x, kernel), *tolerances.conv_vjp_bounds(dy, x, kernel)
    for exact, bound in zip((want, *wants), bounds, strict=True):
        assert_within(exact.astype(np.float32), exact, bound, dtype=np.float32)
        with pytest.raises(AssertionError, match="out of bounds"):
            assert_within((exact * (1 + 1e-5)).astype(np.float32), exact, bound, dtype=np.float32)


def test_other_bounds_notice_a_scale_error_of_1e_5():
    rng = np.random.default_rng(0)
    x, kernel = (rng.random(s).astype(np.float32) for s in ((4, 20), (20, 3)))
    cases = [
        (oracle.dense(x, kernel), tolerances.dense_bound(x, kernel)),
        (oracle.f64(x).mean(axis=0), tolerances.mean_bound(x, [0])),
        (oracle.softmax(x), tolerances.softmax_bound(x)),
    ]
    for want, bound in cases:
        assert_within(want.astype(np.float32), want, bound, dtype=np.float32)
        with pytest.raises(AssertionError, match="out of bounds"):
            assert_within((want * (1 + 1e-5)).astype(np.float32), want, bound, dtype=np.float32)


@given(strategies.dense_cases(max_size=40))
def test_softmax_bound_holds(case):
    x = case.logits(scale=8.0)
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    assert_within(e / e.sum(axis=-1, keepdims=True), oracle.softmax(x), tolerances.softmax_bound(x), dtype=np.float32)
