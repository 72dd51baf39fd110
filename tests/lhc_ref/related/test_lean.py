"""The lean operator: one dense kernel that says the same, the published weight counts, derivatives."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lhc_ref.errors import InputError
from lhc_ref.related.lean import STENCILS, lean_conv2d, lean_conv2d_vjp, lean_shapes, stencil_kernel, stencil_kernel_vjp
from tests import oracle
from tests.lhc_ref.derivatives import assert_derivatives
from tests.strategies import numbers, pairs, seeds
from tests.tolerances import assert_adjoint, assert_exact, assert_within, conv_bound

dtypes = pytest.mark.parametrize("dtype", [np.float32, np.float64])
stencils = pytest.mark.parametrize("stencil", STENCILS)


def as_one_kernel(weights, pointwise, stencil):
    """The full 3x3 kernel: the stencil's taps inside the groups, the 1x1 added at the centre."""
    _, per_group, c_out = weights.shape
    c_in = pointwise.shape[2]
    kernel = np.zeros((3, 3, c_in, c_out))
    for ci in range(c_in):
        for co in range(c_out):
            group, place = divmod(ci, per_group)
            if co // (c_out * per_group // c_in) == group:
                kernel[:, :, ci, co][STENCILS[stencil]] = weights[:, place, co]
    kernel[1, 1] += pointwise[0, 0]
    return kernel


@dtypes
@stencils
@given(st.integers(1, 3), st.integers(1, 3), st.integers(1, 3), pairs, st.tuples(*[st.integers(1, 6)] * 2), seeds)
def test_it_is_one_sparse_convolution(dtype, stencil, groups, inputs, outputs, stride, size_hw, seed):
    weights_shape, pointwise_shape = lean_shapes(groups * inputs, groups * outputs, stencil=stencil, groups=groups)
    x = numbers(seed, "x", (2, *size_hw, groups * inputs), dtype)
    weights = numbers(seed, "weights", weights_shape, dtype)
    pointwise = numbers(seed, "pointwise", pointwise_shape, dtype)
    kernel, options = as_one_kernel(weights, pointwise, stencil), {"stride": stride, "padding": ((1, 1), (1, 1))}
    y = lean_conv2d(x, weights, pointwise, stencil=stencil, stride=stride)
    assert_exact(y, oracle.conv2d(x, kernel, **options), dtype)
    dy = numbers(seed, "dy", y.shape, dtype)
    dx, dweights, dpointwise = lean_conv2d_vjp(dy, x, weights, pointwise, stencil=stencil, stride=stride)
    assert_exact(dx, oracle.conv2d_vjp(dy, x, kernel, **options)[0], dtype)
    options = {"stencil": stencil, "stride": stride}
    assert_adjoint(lean_conv2d(x, weights, 0 * pointwise, **options), dy, weights, dweights)
    assert_adjoint(lean_conv2d(x, 0 * weights, pointwise, **options), dy, pointwise, dpointwise)
    assert (dweights.dtype, dpointwise.dtype) == (dtype, dtype)


@stencils
def test_float32_stays_within_the_rounding_of_its_sums(stencil):
    shapes = lean_shapes(6, 4, stencil=stencil, groups=2)
    x, weights, pointwise = (
        numbers(3, role, shape, exact=False)
        for role, shape in zip(("x", "weights", "pointwise"), ((2, 5, 5, 6), *shapes), strict=True)
    )
    kernel = as_one_kernel(abs(weights), abs(pointwise), stencil)
    y64 = lean_conv2d(*(a.astype(np.float64) for a in (x, weights, pointwise)), stencil=stencil)
    bound = conv_bound(x, kernel, padding=((1, 1), (1, 1)), dtype=np.float32)
    assert_within(lean_conv2d(x, weights, pointwise, stencil=stencil), y64, bound, np.float32)


@pytest.mark.parametrize(
    ("stencil", "groups", "count"),
    [
        ("4-point", 64, 4352),
        ("5-point", 64, 4416),
        ("9-point", 64, 4672),
        ("3-point row", 64, 3 * 64 + 64**2),
        ("5-point", 8, 5 * 64 * 8 + 64**2),
    ],
)
def test_the_published_weight_counts(stencil, groups, count):
    """`t*c*g + c^2` for t taps and g channels a group; a full 3x3 has 36,864."""
    assert sum(int(np.prod(shape)) for shape in lean_shapes(64, 64, stencil=stencil, groups=groups)) == count


def test_the_stencils_are_the_pictures():
    assert {name: int(taps.sum()) for name, taps in STENCILS.items()} == {
        "3-point row": 3, "3-point column": 3, "4-point": 4, "5-point": 5, "9-point": 9,
    }  # fmt: skip
    assert not STENCILS["4-point"][1, 1]
    assert_exact(STENCILS["3-point row"].T, STENCILS["3-point column"])
    weights = np.arange(1.0, 6.0)[:, None, None]
    assert stencil_kernel(weights, stencil="5-point")[:, :, 0, 0].tolist() == [[0, 1, 0], [2, 3, 4], [0, 5, 0]]


@stencils
def test_derivatives(stencil):
    rng = np.random.default_rng(0)
    shapes = lean_shapes(4, 2, stencil=stencil, groups=2)
    args = [rng.normal(size=shape) for shape in ((1, 3, 4, 4), *shapes)]
    assert_derivatives(lean_conv2d, lean_conv2d_vjp, args, options={"stencil": stencil, "stride": (1, 2)})
    assert_derivatives(stencil_kernel, stencil_kernel_vjp, args[1:2], options={"stencil": stencil})


X, WEIGHTS, POINTWISE = np.zeros((1, 3, 3, 4)), np.zeros((5, 2, 6)), np.zeros((1, 1, 4, 6))


@pytest.mark.parametrize(
    ("thing", "call"),
    [
        ("x", lambda: lean_conv2d(X[0], WEIGHTS, POINTWISE, stencil="5-point")),
        ("weights", lambda: lean_conv2d(X, WEIGHTS[0], POINTWISE, stencil="5-point")),
        ("weights", lambda: lean_conv2d(X, WEIGHTS, POINTWISE, stencil="4-point")),
        ("weights", lambda: lean_conv2d(X, np.zeros((5, 3, 6)), POINTWISE, stencil="5-point")),
        ("kernel", lambda: lean_conv2d(X, WEIGHTS, POINTWISE[:, :, :3], stencil="5-point")),
        ("stencil", lambda: lean_conv2d(X, WEIGHTS, POINTWISE, stencil="7-point")),
        ("dy", lambda: lean_conv2d_vjp(X, X, WEIGHTS, POINTWISE, stencil="5-point")),
        ("dy", lambda: stencil_kernel_vjp(X, WEIGHTS, stencil="5-point")),
        ("groups", lambda: lean_shapes(4, 6, stencil="5-point", groups=4)),
    ],
)
def test_wrong_input_is_named(thing, call):
    with pytest.raises(InputError, match=r": expected .+, got .+\. .+\.$") as caught:
        call()
    assert str(caught.value).startswith(f"{thing}: ")
