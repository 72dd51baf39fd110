"""Convolution against the definition: exact on integers, within derived bounds on real numbers, and its errors."""

import numpy as np
import pytest
from hypothesis import example, given

from lhc_ref import conv
from lhc_ref.errors import InputError
from lhc_ref.gradcheck import check_vjp, compare_vjp
from tests import oracle
from tests.strategies import ConvCase, conv_cases
from tests.tolerances import assert_adjoint, assert_exact, assert_within, conv_bound, conv_vjp_bounds

DTYPES = (np.float32, np.float64)
dtypes = pytest.mark.parametrize("dtype", DTYPES)

ONE_PIXEL = ConvCase(1, (1, 1), (3, 3), 2, 3, (2, 2), "same", (1, 1), 1, 0)
ASYMMETRIC = ConvCase(2, (5, 4), (3, 2), 2, 2, (2, 3), ((0, 2), (3, 0)), (1, 2), 2, 1)
DEPTHWISE = ConvCase(1, (7, 6), (3, 3), 3, 6, (1, 1), "same", (2, 2), 3, 2)


def cases(test):
    """Drawn cases, and three that are always there."""
    for case in (ONE_PIXEL, ASYMMETRIC, DEPTHWISE):
        test = example(case)(test)
    return given(conv_cases())(test)


@dtypes
@cases
def test_equals_the_definition_on_integers(dtype, case):
    x, kernel, dy = case.x(dtype), case.kernel(dtype), case.dy(dtype)
    y = conv.conv2d(x, kernel, **case.options)
    assert_exact(y, oracle.conv2d(x, kernel, **case.options), dtype)
    dx, dkernel = conv.conv2d_vjp(dy, x, kernel, **case.options)
    want_dx, want_dkernel = oracle.conv2d_vjp(dy, x, kernel, **case.options)
    assert_exact(dx, want_dx, dtype)
    assert_exact(dkernel, want_dkernel, dtype)


@dtypes
@cases
def test_within_the_rounding_bound_on_real_numbers(dtype, case):
    x, kernel, dy = (make(dtype, exact=False) for make in (case.x, case.kernel, case.dy))
    bound = conv_bound(x, kernel, **case.options)
    assert_within(conv.conv2d(x, kernel, **case.options), oracle.conv2d(x, kernel, **case.options), bound, dtype)
    results = conv.conv2d_vjp(dy, x, kernel, **case.options)
    wants = oracle.conv2d_vjp(dy, x, kernel, **case.options)
    for got, want, limit in zip(results, wants, conv_vjp_bounds(dy, x, kernel, **case.options), strict=True):
        assert_within(got, want, limit, dtype)


@cases
def test_is_adjoint_and_linear_in_the_cotangent(case):
    x, kernel, dy = case.x(np.float64), case.kernel(np.float64), case.dy(np.float64)
    y = conv.conv2d(x, kernel, **case.options)
    dx, dkernel = conv.conv2d_vjp(dy, x, kernel, **case.options)
    assert_adjoint(y, dy, x, dx)
    assert_adjoint(y, dy, kernel, dkernel)
    other = dy[..., ::-1] + 1
    results = conv.conv2d_vjp(2 * dy - 3 * other, x, kernel, **case.options)
    for got, d, o in zip(results, (dx, dkernel), conv.conv2d_vjp(other, x, kernel, **case.options), strict=True):
        assert_exact(got, 2 * d - 3 * o)


@given(conv_cases())
def test_padding_and_output_size_are_the_definitions(case):
    arguments = case.size_hw, case.kernel_hw
    want = oracle.resolve_padding(case.padding, *arguments, case.stride, case.dilation)
    assert conv.resolve_padding(case.padding, *arguments, case.stride, case.dilation) == want
    options = {"stride": case.stride, "padding": case.padding, "dilation": case.dilation}
    assert conv.output_size(*arguments, **options) == case.output_hw


@pytest.mark.parametrize(
    ("size", "stride", "pads", "outputs"),
    [(4, 1, (1, 1), 4), (4, 2, (0, 1), 2), (5, 2, (1, 1), 3), (1, 2, (1, 1), 1), (7, 3, (1, 1), 3), (6, 3, (0, 0), 2)],
)
def test_same_padding_is_tensorflows(size, stride, pads, outputs):
    assert conv.resolve_padding("same", (size, size), (3, 3), stride) == (pads, pads)
    assert conv.output_size((size, size), (3, 3), stride=stride) == (outputs, outputs)


@pytest.mark.parametrize("numbers", [1, 20, 100, 400])
@pytest.mark.parametrize(
    "case", [ASYMMETRIC, DEPTHWISE, ConvCase(5, (6, 5), (3, 3), 2, 3, (2, 1), "same", (1, 1), 1, 3)]
)
def test_the_size_of_a_block_changes_nothing(monkeypatch, numbers, case):
    x, kernel, dy = case.x(), case.kernel(), case.dy()
    want = conv.conv2d(x, kernel, **case.options), *conv.conv2d_vjp(dy, x, kernel, **case.options)
    monkeypatch.setattr(conv, "BLOCK_NUMBERS", numbers)
    got = conv.conv2d(x, kernel, **case.options), *conv.conv2d_vjp(dy, x, kernel, **case.options)
    for a, b in zip(got, want, strict=True):
        assert_exact(a, b)


def test_one_integer_stands_for_two_and_lists_for_tuples():
    case = ASYMMETRIC
    x, kernel = case.x(), case.kernel()
    want = conv.conv2d(x, kernel, stride=(2, 2), dilation=(1, 1), padding=((1, 0), (2, 1)), groups=2)
    assert_exact(conv.conv2d(x, kernel, stride=2, dilation=1, padding=[[1, 0], [2, 1]], groups=2), want)


def test_an_empty_batch_is_a_batch():
    x, kernel, dy = np.zeros((0, 5, 4, 2)), np.ones((3, 3, 2, 3)), np.zeros((0, 5, 4, 3))
    assert conv.conv2d(x, kernel).shape == dy.shape
    dx, dkernel = conv.conv2d_vjp(dy, x, kernel)
    assert dx.shape == x.shape
    assert_exact(dkernel, np.zeros(kernel.shape))


def test_arguments_stay_as_they_are_and_need_not_be_contiguous():
    case = ConvCase(2, (6, 6), (3, 3), 4, 4, (1, 1), "valid", (1, 1), 1, 5)
    x, kernel, dy = case.x().swapaxes(1, 2), case.kernel()[::-1], case.dy()[..., ::-1]
    kept = [a.copy() for a in (x, kernel, dy)]
    for a in (x, kernel, dy):
        a.flags.writeable = False
    assert_exact(conv.conv2d(x, kernel, padding="valid"), oracle.conv2d(x, kernel, padding="valid"), np.float32)
    results = conv.conv2d_vjp(dy, x, kernel, padding="valid")
    for got, want in zip(results, oracle.conv2d_vjp(dy, x, kernel, padding="valid"), strict=True):
        assert_exact(got, want, np.float32)
    for a, before in zip((x, kernel, dy), kept, strict=True):
        assert_exact(a, before)


def real(case):
    return case.x(np.float64, exact=False), case.kernel(np.float64, exact=False)


@pytest.mark.parametrize("mode", ["projection", "jacobian", "taylor"])
@pytest.mark.parametrize("case", [ONE_PIXEL, ASYMMETRIC, DEPTHWISE])
def test_derivative_by_differences(mode, case):
    check_vjp(conv.conv2d, conv.conv2d_vjp, real(case), options=case.options, mode=mode)


@pytest.mark.parametrize("mode", ["projection", "jacobian", "taylor"])
@pytest.mark.parametrize("wrong", [0, 1])
def test_a_scale_error_is_caught(mode, wrong):
    def planted(dy, x, kernel, **options):
        cotangents = list(conv.conv2d_vjp(dy, x, kernel, **options))
        cotangents[wrong] = cotangents[wrong] * (1 + 1e-4)
        return tuple(cotangents)

    report = compare_vjp(conv.conv2d, planted, real(ASYMMETRIC), options=ASYMMETRIC.options, mode=mode)
    assert {row.name for row in report.rows if row.verdict == "wrong"} == {("dx", "dkernel")[wrong]}


X, KERNEL = np.zeros((1, 5, 5, 4), np.float32), np.zeros((3, 3, 4, 6), np.float32)


@pytest.mark.parametrize(
    ("thing", "x", "kernel", "options"),
    [
        ("x", X.astype(int), KERNEL, {}),
        ("x", X.astype(np.float16), KERNEL, {}),
        ("x", X[0], KERNEL, {}),
        ("x", X.tolist(), KERNEL, {}),
        ("kernel", X, KERNEL[0], {}),
        ("kernel", X, KERNEL.astype(np.float64), {}),
        ("kernel", X, KERNEL[:, :, :3], {}),
        ("kernel", X, KERNEL, {"groups": 2}),
        ("x, kernel", X, KERNEL[:0], {}),
        ("groups", X, KERNEL, {"groups": 3}),
        ("groups", X, KERNEL, {"groups": 0}),
        ("groups", X, KERNEL, {"groups": 1.0}),
        ("stride", X, KERNEL, {"stride": 0}),
        ("stride", X, KERNEL, {"stride": (1, 2, 3)}),
        ("stride", X, KERNEL, {"stride": 1.5}),
        ("dilation", X, KERNEL, {"dilation": (1, -1)}),
        ("padding", X, KERNEL, {"padding": "SAME"}),
        ("padding", X, KERNEL, {"padding": 1}),
        ("padding", X, KERNEL, {"padding": ((1, 1),)}),
        ("padding (left, right)", X, KERNEL, {"padding": ((1, 1), (0, -1))}),
        ("padding (top, bottom)", X, KERNEL, {"padding": ((1,), (0, 1))}),
        ("image", X, KERNEL, {"padding": "valid", "dilation": 3}),
    ],
)
def test_wrong_input_is_named(thing, x, kernel, options):
    with pytest.raises(InputError, match=r": expected .+, got .+\. .+\.$") as caught:
        conv.conv2d(x, kernel, **options)
    assert str(caught.value).startswith(f"{thing}: ")


@pytest.mark.parametrize(
    "dy", [np.zeros((1, 5, 5, 5), np.float32), np.zeros((1, 5, 5, 6)), np.zeros((5, 6), np.float32)]
)
def test_a_wrong_cotangent_is_named(dy):
    with pytest.raises(InputError, match=r"^dy: expected float32\[1, 5, 5, 6\] to go with x and kernel, got float"):
        conv.conv2d_vjp(dy, X, KERNEL)
