"""Transposed convolution: the definition's adjoint, exactly, and its derivatives."""

import numpy as np
import pytest
from hypothesis import given

from lhc_ref.conv import conv2d
from lhc_ref.conv_transpose import conv2d_transpose, conv2d_transpose_vjp
from lhc_ref.errors import InputError
from lhc_ref.gradcheck import check_vjp, compare_vjp
from tests import oracle
from tests.strategies import ConvCase, conv_cases
from tests.tolerances import assert_adjoint, assert_exact

STRIDED = ConvCase(2, (5, 6), (3, 2), 2, 4, (2, 3), ((1, 0), (0, 1)), (1, 2), 2, 0)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@given(conv_cases())
def test_is_the_adjoint_of_the_convolution(dtype, case):
    x, kernel, z = case.dy(dtype), case.kernel(dtype), case.x(dtype)
    y = conv2d_transpose(x, kernel, size=case.size_hw, **case.options)
    assert_exact(y, oracle.conv2d_vjp(x, z, kernel, **case.options)[0], dtype)
    assert_adjoint(conv2d(z, kernel, **case.options), x, z, y)
    dx, dkernel = conv2d_transpose_vjp(z, x, kernel, size=case.size_hw, **case.options)
    assert_exact(dx, oracle.conv2d(z, kernel, **case.options), dtype)
    assert_adjoint(y, z, kernel, dkernel)


@given(conv_cases())
def test_the_default_size_is_the_smallest_and_fits(case):
    options = {"stride": case.stride, "padding": case.padding, "dilation": case.dilation}
    pads = ((0, 0), (0, 0)) if isinstance(case.padding, str) else case.padding
    extents = [(k - 1) * d + 1 for k, d in zip(case.kernel_hw, case.dilation, strict=True)]
    if case.padding != "same" and any(e - sum(p) < 1 for e, p in zip(extents, pads, strict=True)):
        return  # the smallest image would be empty
    y = conv2d_transpose(case.dy(), case.kernel(), **case.options)
    size = y.shape[1:3]
    assert oracle.output_size(size, case.kernel_hw, **options) == case.output_hw
    if case.padding == "same":
        assert size == tuple(o * s for o, s in zip(case.output_hw, case.stride, strict=True))
    else:
        smaller = size[0] - 1, size[1] - 1
        assert all(
            a < b for a, b in zip(oracle.output_size(smaller, case.kernel_hw, **options), case.output_hw, strict=True)
        )


@pytest.mark.parametrize("mode", ["projection", "jacobian", "taylor"])
def test_derivatives(mode):
    x, kernel = STRIDED.dy(np.float64, exact=False), STRIDED.kernel(np.float64, exact=False)
    options = {"size": STRIDED.size_hw, **STRIDED.options}
    check_vjp(conv2d_transpose, conv2d_transpose_vjp, [x, kernel], options=options, mode=mode)

    def planted(dy, x, kernel, **options):
        return tuple(d * (1 + 1e-4) for d in conv2d_transpose_vjp(dy, x, kernel, **options))

    report = compare_vjp(conv2d_transpose, planted, [x, kernel], options=options, mode=mode)
    assert {row.verdict for row in report.rows} == {"wrong"}


X, KERNEL = np.zeros((1, 3, 3, 4)), np.zeros((3, 3, 2, 4))


@pytest.mark.parametrize(
    ("thing", "call"),
    [
        ("x", lambda: conv2d_transpose(X[0], KERNEL)),
        ("kernel", lambda: conv2d_transpose(X, KERNEL[0])),
        ("kernel", lambda: conv2d_transpose(X, KERNEL.astype(np.float32))),
        ("dy", lambda: conv2d_transpose(X[..., :2], KERNEL)),
        ("size", lambda: conv2d_transpose(X, KERNEL, size=(4, 4))),
        ("size", lambda: conv2d_transpose(X, KERNEL, size=(3, 0))),
        ("dy", lambda: conv2d_transpose_vjp(X, X, KERNEL)),
    ],
)
def test_wrong_input_is_named(thing, call):
    with pytest.raises(InputError, match=r": expected .+, got .+\. .+\.$") as caught:
        call()
    assert str(caught.value).startswith(f"{thing}: ")
