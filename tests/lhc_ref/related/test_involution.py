"""Involution by its definition's loops, the kernels that pixels ask for, derivatives."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lhc_ref import ops
from lhc_ref.errors import InputError
from lhc_ref.related.involution import involution, involution_groups, involution_kernels, involution_vjp
from lhc_ref.tape import apply
from tests import oracle
from tests.lhc_ref.derivatives import assert_derivatives, assert_tape_derivatives
from tests.strategies import numbers, pairs, seeds
from tests.tolerances import assert_adjoint, assert_exact

dtypes = pytest.mark.parametrize("dtype", [np.float32, np.float64])
odd = st.tuples(st.sampled_from([1, 3, 5]), st.sampled_from([1, 3]))


def by_definition(x, kernels, size, stride):
    """A sum over taps for every pixel and channel, pixels outside the image being zero."""
    n, h, w, c = x.shape
    oh, ow = kernels.shape[1:3]
    groups = kernels.shape[3] // (size[0] * size[1])
    y = np.zeros((n, oh, ow, c))
    pads = tuple((k // 2, k // 2) for k in size)
    for oy, ox, ky, kx, iy, ix in oracle.windows((h, w), size, stride, pads):
        for ci in range(c):
            group = ci // (c // groups)
            place = (group * size[0] + ky) * size[1] + kx
            y[:, oy, ox, ci] += oracle.f64(x)[:, iy, ix, ci] * kernels[:, oy, ox, place]
    return y


@dtypes
@given(odd, pairs, pairs, st.integers(1, 3), st.integers(1, 3), seeds)
def test_it_is_the_definition_and_adjoint(dtype, size, stride, more, groups, channels, seed):
    h, w = (s * m for s, m in zip(stride, more, strict=True))
    x = numbers(seed, "x", (2, h, w, groups * channels), dtype)
    kernels = numbers(seed, "kernels", (2, *more, groups * size[0] * size[1]), dtype)
    y = involution(x, kernels, size=size, stride=stride)
    assert_exact(y, by_definition(x, kernels, size, stride), dtype)
    dy = numbers(seed, "dy", y.shape, dtype)
    dx, dkernels = involution_vjp(dy, x, kernels, size=size, stride=stride)
    assert (dx.dtype, dkernels.dtype) == (dtype, dtype)
    assert_adjoint(y, dy, x, dx)
    assert_adjoint(y, dy, kernels, dkernels)


def test_the_same_kernel_everywhere_is_a_depthwise_convolution():
    x, taps = numbers(0, "x", (1, 4, 5, 4), np.float64), numbers(0, "taps", (3, 3, 2), np.float64)
    kernels = np.broadcast_to(taps.transpose(2, 0, 1).reshape(-1), (1, 4, 5, 18)).copy()
    depthwise = taps.repeat(2, axis=2)[:, :, None]
    assert_exact(involution(x, kernels, size=3), oracle.conv2d(x, depthwise, groups=4))


@pytest.mark.parametrize(("c", "groups"), [(3, 1), (16, 1), (31, 1), (32, 2), (64, 4)])
def test_groups(c, groups):
    assert involution_groups(c) == groups


@dtypes
@pytest.mark.parametrize("stride", [1, 2])
def test_kernels_are_made_from_the_pooled_pixels(dtype, stride):
    """Even images: means of one or four small integers are exact. N shifts by 1."""
    x, reduce, span = (
        numbers(0, role, shape, dtype)
        for role, shape in (("x", (2, 4, 6, 4)), ("reduce", (1, 1, 4, 2)), ("span", (1, 1, 2, 9)))
    )

    def shift(z):
        return apply(ops.bias_add, z, np.ones(2, dtype))

    kernels = involution_kernels(x, reduce, span, stride=stride, normalize=shift)
    pooled = oracle.average_pool(x, (stride, stride), (stride, stride))
    want = oracle.conv2d(oracle.relu(oracle.conv2d(pooled, reduce) + 1), span)
    assert_exact(kernels, want, dtype)
    assert involution(x, kernels, size=3, stride=stride).shape == (2, 4 // stride, 6 // stride, 4)
    plain = involution_kernels(x, reduce, span, stride=stride)
    assert_exact(plain, oracle.conv2d(oracle.relu(oracle.conv2d(pooled, reduce)), span), dtype)


def test_an_odd_image_gives_as_many_kernels_as_pixels_of_the_output():
    x = np.ones((1, 5, 3, 2))
    kernels = involution_kernels(x, np.ones((1, 1, 2, 1)), np.ones((1, 1, 1, 9)), stride=2)
    assert involution(x, kernels, size=3, stride=2).shape == (1, 3, 2, 2)


def test_derivatives():
    rng = np.random.default_rng(0)
    args = [rng.normal(size=(1, 4, 3, 4)), rng.normal(size=(1, 2, 3, 18))]
    assert_derivatives(involution, involution_vjp, args, options={"size": 3, "stride": (2, 1)})


def test_derivatives_through_the_kernels_own_making():
    """x in [2, 3], W1 in +-[0.5, 1] by output: what enters ReLU is at least 2 a channel from zero and moves by 3/16."""
    rng = np.random.default_rng(0)
    x, reduce = rng.uniform(2, 3, (1, 2, 4, 2)), rng.uniform(0.5, 1, (1, 1, 2, 2)) * np.array([1, -1])
    span = rng.normal(size=(1, 1, 2, 9))

    def whole(x, reduce, span):
        kernels = involution_kernels(x, reduce, span, stride=2)
        return apply(involution, x, kernels, size=3, stride=2)

    assert_tape_derivatives(whole, [x, reduce, span])


X, KERNELS = np.zeros((1, 3, 3, 4)), np.zeros((1, 3, 3, 18))


@pytest.mark.parametrize(
    ("thing", "call"),
    [
        ("x", lambda: involution(X[0], KERNELS, size=3)),
        ("kernels", lambda: involution(X, KERNELS[0], size=3)),
        ("kernels", lambda: involution(X, KERNELS[:, :2], size=3)),
        ("kernels", lambda: involution(X, KERNELS[..., :17], size=3)),
        ("kernels", lambda: involution(X[..., :3], KERNELS, size=3)),
        ("kernels", lambda: involution(X, KERNELS.astype(np.float32), size=3)),
        ("size", lambda: involution(X, KERNELS, size=(3, 2))),
        ("stride", lambda: involution(X, KERNELS, size=3, stride=0)),
        ("dy", lambda: involution_vjp(X[:, :2], X, KERNELS, size=3)),
    ],
)
def test_wrong_input_is_named(thing, call):
    with pytest.raises(InputError, match=r": expected .+, got .+\. .+\.$") as caught:
        call()
    assert str(caught.value).startswith(f"{thing}: ")
