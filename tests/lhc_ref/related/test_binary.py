"""Binary convolution: signs, scales by blocks, gates; estimators against their surrogates."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lhc_ref import ops
from lhc_ref.conv import conv2d
from lhc_ref.errors import InputError
from lhc_ref.gradcheck import check_vjp, tape_vjp
from lhc_ref.related import binary
from lhc_ref.tape import apply
from tests import oracle
from tests.lhc_ref.derivatives import assert_derivatives, assert_tape_derivatives
from tests.strategies import conv_cases, numbers, seeds
from tests.tolerances import EXP_ULPS, assert_adjoint, assert_exact, assert_within, conv_bound, gamma, mean_bound

dtypes = pytest.mark.parametrize("dtype", [np.float32, np.float64])


@dtypes
def test_sign_and_its_estimator_at_the_special_values(dtype):
    x = np.array([-np.inf, -2, -1, -0.5, -0.0, 0, 0.5, 1, 1.25, np.inf], dtype)
    assert_exact(binary.sign(x), np.array([-1, -1, -1, -1, 1, 1, 1, 1, 1, 1], dtype))
    slopes = np.array([0, 0, 1, 1, 1, 1, 1, 1, 0, 0], dtype)
    assert_exact(binary.sign_vjp(np.ones_like(x), x)[0], slopes)
    assert binary.sign(np.array([np.nan], dtype)) == -1
    assert binary.sign_surrogate(x).dtype == dtype


def test_the_estimator_is_the_derivative_of_its_surrogate():
    """Odd eighths: at least 1/8 from the kinks at -1 and 1, twice the distance that a check moves."""
    x = (2 * np.random.default_rng(0).integers(-12, 12, (3, 4)) + 1) / 8
    assert_derivatives(binary.sign_surrogate, binary.sign_vjp, [x])


# --- Scales ----------------------------------------------------------------------------------------------------------


@st.composite
def blocks(draw):
    """A kernel's shape and a block that divides it, 0 for a whole axis now and then."""
    sizes = [(draw(st.integers(1, 3)), draw(st.integers(1, 3))) for _ in range(4)]
    shape = tuple(count * size for count, size in sizes)
    return shape, tuple(draw(st.sampled_from([size, 0])) if count == 1 else size for count, size in sizes)


@dtypes
@given(blocks(), seeds)
def test_a_scale_is_the_mean_of_its_block(dtype, case, seed):
    shape, block = case
    kernel = numbers(seed, "kernel", shape, dtype)
    scale = binary.block_scale(kernel, block=block)
    assert (scale.shape, scale.dtype) == (shape, dtype)
    whole = [b or length for b, length in zip(block, shape, strict=True)]
    for index in np.ndindex(*shape):
        start = [i // b * b for i, b in zip(index, whole, strict=True)]
        part = abs(oracle.f64(kernel))[tuple(slice(s, s + b) for s, b in zip(start, whole, strict=True))]
        assert scale[index] == (part.sum() / part.size).astype(dtype)  # an exact sum and one rounding
    if part.size in (1, 2, 4, 8, 16):  # then the means of integers are exact
        dy = numbers(seed, "dy", shape, dtype)
        (dkernel,) = binary.block_scale_vjp(dy, kernel, block=block)
        assert_adjoint(scale, dy, kernel, dkernel)  # of degree 1: the derivative applied to the kernel is the function


def test_one_scale_a_filter_is_that_of_xnor_net():
    kernel = numbers(0, "kernel", (3, 3, 4, 5), np.float64)
    want = np.broadcast_to(abs(kernel).reshape(36, 5).sum(axis=0) / 36, kernel.shape)
    assert_exact(binary.block_scale(kernel), want)
    assert_exact(binary.block_scale(kernel, block=(3, 3, 4, 1)), want)


def test_scales_shared_by_adjacent_positions_cross_the_filters():
    kernel = numbers(1, "kernel", (3, 4, 2, 8), np.float64)
    rows = binary.block_scale(kernel, block=(1, 4, 0, 0))
    assert [len(np.unique(rows[ky])) for ky in range(3)] == [1, 1, 1]
    assert rows[0, 0, 0, 0] == abs(kernel[0]).sum() / 64
    quads = binary.block_scale(kernel, block=(0, 0, 0, 4))
    assert quads[0, 0, 0].tolist() == [abs(kernel[..., :4]).sum() / 96] * 4 + [abs(kernel[..., 4:]).sum() / 96] * 4


@dtypes
@given(conv_cases(max_groups=1), st.booleans())
def test_binary_convolution_is_a_convolution_of_signs(dtype, case, scaled):
    x, kernel = case.x(dtype), case.kernel(dtype)
    options = {"stride": case.stride, "padding": case.padding}
    if oracle.output_size(case.size_hw, case.kernel_hw, **options) != case.output_hw:
        return  # only fits with its dilation
    signs = np.where(oracle.f64(kernel) >= 0, 1, -1)
    plain = oracle.conv2d(np.where(x >= 0, 1, -1), signs, **options)
    assert_exact(binary.binary_conv2d(x, kernel, block=None, **options), plain, dtype)
    scale = abs(oracle.f64(kernel)).mean(axis=(0, 1, 2))
    bound = 2 * conv_bound(np.ones(x.shape), scale * np.ones(kernel.shape), dtype=dtype, **options)
    assert_within(binary.binary_conv2d(x, kernel, **options), plain * scale, bound, dtype)


# --- Gates -----------------------------------------------------------------------------------------------------------


@dtypes
def test_channels_are_scaled_image_by_image(dtype):
    x, gates = numbers(0, "x", (2, 2, 3, 4), dtype), numbers(0, "gates", (2, 4), dtype)
    y = binary.scale_channels(x, gates)
    for b in range(2):
        for c in range(4):
            assert_exact(y[b, :, :, c], x[b, :, :, c] * gates[b, c])
    dy = numbers(0, "dy", y.shape, dtype)
    dx, dgates = binary.scale_channels_vjp(dy, x, gates)
    assert_adjoint(y, dy, x, dx)
    assert_adjoint(y, dy, gates, dgates)


@dtypes
def test_real_to_binary_is_its_formula(dtype):
    """The gate within the rounding of two small products and a sigmoid; all else is exact. N shifts by 1/2.

    Of the gate's two hidden units one is the other's negative, so that ReLU stops one of them.
    """
    x = numbers(0, "x", (2, 3, 3, 8), dtype, exact=False)
    kernel, slope = numbers(0, "kernel", (3, 3, 8, 8), dtype, exact=False), numbers(0, "slope", (8,), dtype)
    reduce, expand = numbers(0, "reduce", (8, 1), dtype), numbers(0, "expand", (2, 8), dtype)
    reduce = np.concatenate([reduce, -reduce], axis=1)
    squeezed = oracle.relu(oracle.dense(oracle.global_average_pool(x), reduce))
    logits = oracle.dense(squeezed, expand)
    gates = 1 / (1 + np.exp(-logits))
    got = binary.gate(x, reduce, expand)
    means = abs(oracle.f64(x)).mean(axis=(1, 2))
    error = mean_bound(x, (1, 2), dtype) @ abs(oracle.f64(reduce)) + gamma(9, dtype) * means @ abs(oracle.f64(reduce))
    error = error @ abs(oracle.f64(expand)) + gamma(3, dtype) * (squeezed @ abs(oracle.f64(expand)))
    assert_within(got, gates, error + gamma(4 * EXP_ULPS, dtype), dtype)

    def shift(z):
        return apply(ops.bias_add, z, np.full(8, 0.5, dtype))

    y = binary.real_to_binary(x, kernel, reduce, expand, slope, normalize=shift)
    signs = conv2d(binary.sign(x + dtype(0.5)), binary.sign(kernel)) * got[:, None, None]
    assert_exact(y, np.where(signs > 0, signs, slope * signs) + x)
    other = binary.real_to_binary(x, kernel, reduce, expand, slope, normalize=shift, shortcut=lambda x: 0 * x)
    assert_exact(other + x, y)


# --- Derivatives -----------------------------------------------------------------------------------------------------


def test_derivatives():
    rng = np.random.default_rng(0)
    kernel = rng.uniform(0.5, 1, (2, 2, 2, 4)) * rng.choice([-1, 1], (2, 2, 2, 4))  # away from 0, the kink of |w|
    for block in (binary.PER_FILTER, (1, 2, 0, 0), (0, 0, 0, 2)):
        assert_derivatives(binary.block_scale, binary.block_scale_vjp, [kernel], options={"block": block})
    args = [rng.normal(size=(2, 2, 3, 4)), rng.normal(size=(2, 4))]
    assert_derivatives(binary.scale_channels, binary.scale_channels_vjp, args)


def test_derivatives_of_the_gate():
    """Means in [2, 3], reduce in +-[0.5, 1]: what enters ReLU is at least 2 from zero and moves by at most 6/16."""
    rng = np.random.default_rng(1)
    x, reduce = rng.uniform(2, 3, (2, 2, 2, 2)), rng.uniform(0.5, 1, (2, 3)) * np.array([1, -1, 1])
    assert_tape_derivatives(binary.gate, [x, reduce, rng.normal(size=(3, 2))])


def test_binary_convolution_is_differentiated_through_its_surrogates():
    """At +-7/8, inside the kinks, against a smooth program of the same value: each sign moves as its surrogate does."""
    rng = np.random.default_rng(2)
    x, kernel = (7 / 8 * rng.choice([-1.0, 1.0], shape) for shape in ((1, 3, 3, 2), (3, 3, 2, 2)))

    x_0, kernel_0 = x.copy(), kernel.copy()

    def moved(a, a_0):
        return binary.sign(a_0) + binary.sign_surrogate(a) - binary.sign_surrogate(a_0)

    def surrogate(x, kernel):
        return conv2d(moved(x, x_0), binary.block_scale(kernel) * moved(kernel, kernel_0))

    assert_exact(surrogate(x, kernel), binary.binary_conv2d(x, kernel))
    check_vjp(surrogate, tape_vjp(binary.binary_conv2d), [x, kernel], mode="jacobian")


X, KERNEL = np.zeros((1, 3, 3, 4)), np.zeros((3, 3, 4, 6))


@pytest.mark.parametrize(
    ("thing", "call"),
    [
        ("x", lambda: binary.sign(X.astype(int))),
        ("dy", lambda: binary.sign_vjp(X[0], X)),
        ("kernel", lambda: binary.block_scale(KERNEL[0])),
        ("block", lambda: binary.block_scale(KERNEL, block=(0, 0, 0, 4))),
        ("block", lambda: binary.block_scale(KERNEL, block=(0, -1, 0, 1))),
        ("dy", lambda: binary.block_scale_vjp(X, KERNEL)),
        ("x", lambda: binary.scale_channels(X[0], np.zeros((1, 4)))),
        ("gates", lambda: binary.scale_channels(X, np.zeros((1, 3)))),
        ("dy", lambda: binary.scale_channels_vjp(X[:, :2], X, np.zeros((1, 4)))),
        ("kernel", lambda: binary.binary_conv2d(X[..., :3], KERNEL)),
    ],
)
def test_wrong_input_is_named(thing, call):
    with pytest.raises(InputError, match=r": expected .+, got .+\. .+\.$") as caught:
        call()
    assert str(caught.value).startswith(f"{thing}: ")
