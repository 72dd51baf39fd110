"""Steps of differential equations: what they compute, the stability they claim, derivatives by the tape."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lhc_ref import ops
from lhc_ref.conv import conv2d
from lhc_ref.errors import InputError
from lhc_ref.gradcheck import compare_vjp, tape_vjp
from lhc_ref.related.circulant import circulant_kernel
from lhc_ref.related.implicit import implicit_diffusion
from lhc_ref.related.steps import OPERATORS, diffusion_reaction_step, imex_step, parabolic_step, step_shapes
from lhc_ref.tape import apply
from tests import oracle
from tests.lhc_ref.derivatives import assert_tape_derivatives
from tests.strategies import numbers, seeds
from tests.tolerances import assert_exact, gamma

dtypes = pytest.mark.parametrize("dtype", [np.float32, np.float64])
operators = pytest.mark.parametrize("operator", OPERATORS)
activations = pytest.mark.parametrize("activation", [ops.relu, None])
sizes = st.tuples(st.integers(1, 3), st.integers(1, 4))


def as_kernel(weights, operator):
    """(kernel, groups) of each form of K."""
    kernel = circulant_kernel(weights) if operator == "circulant" else weights
    return kernel, kernel.shape[3] if operator == "depthwise" else 1


def diffused(y, weights, operator, activation):
    """`K^T act(K y)` by the definition's loops."""
    kernel, groups = as_kernel(weights, operator)
    z = oracle.conv2d(y, kernel, groups=groups)
    z = z if activation is None else oracle.relu(z)
    return oracle.conv2d_vjp(z, y, kernel, groups=groups)[0]


# --- What they compute -----------------------------------------------------------------------------------------------


@dtypes
@operators
@activations
@given(sizes, seeds)
def test_parabolic_step_is_the_definition(dtype, operator, activation, size_hw, seed):
    y = numbers(seed, "y", (2, *size_hw, 3), dtype)
    weights = numbers(seed, "weights", step_shapes(3, operator=operator)[0], dtype)
    got = parabolic_step(y, weights, h=0.5, operator=operator, activation=activation)
    assert_exact(got, y - diffused(y, weights, operator, activation) / 2, dtype)


@dtypes
@operators
@given(sizes, seeds)
def test_diffusion_reaction_step_is_the_definition(dtype, operator, size_hw, seed):
    y = numbers(seed, "y", (2, *size_hw, 4), dtype)
    shapes = step_shapes(4, operator=operator, block=2)
    weights, reaction = (numbers(seed, str(len(shape)), shape, dtype) for shape in shapes)
    got = diffusion_reaction_step(y, weights, reaction, h=0.5, operator=operator)
    want = y - diffused(y, weights, operator, ops.relu) / 2 + oracle.relu(oracle.conv2d(y, reaction)) / 2
    assert_exact(got, want, dtype)


@dtypes
@operators
def test_imex_step_is_an_explicit_and_an_implicit_step(dtype, operator):
    x = numbers(0, "x", (1, 4, 4, 3), dtype)
    shape, _ = step_shapes(3, operator=operator)
    weights, stencil = numbers(0, "weights", shape, dtype), numbers(0, "stencil", (3, 3, 1, 3), dtype)
    v = (x + diffused(x, weights, operator, ops.relu) / 2).astype(dtype)
    assert_exact(imex_step(x, weights, stencil, h=0.5, operator=operator), implicit_diffusion(v, stencil, h=0.5))
    identity = imex_step(x, weights, 0 * stencil, h=0.5, operator=operator)
    assert_exact(identity, implicit_diffusion(v, 0 * stencil, h=0.5))


def test_normalizations_are_applied_where_the_formula_has_them():
    """N shifts by a constant: each activation then sees its own shift."""
    y = numbers(0, "y", (1, 3, 3, 2), np.float64)
    weights, reaction = numbers(0, "k", (3, 3, 2, 2), np.float64), numbers(0, "r", (1, 1, 2, 2), np.float64)

    def shift(amount):
        return lambda z: apply(ops.bias_add, z, np.full(2, amount))

    got = diffusion_reaction_step(
        y, weights, reaction, h=1, operator="full", normalize=shift(3.0), normalize_reaction=shift(-2.0)
    )
    z = oracle.relu(oracle.conv2d(y, weights) + 3)
    want = y - oracle.conv2d_vjp(z, y, weights)[0] + oracle.relu(oracle.conv2d(y, reaction) - 2)
    assert_exact(got, want)
    stencil = np.zeros((3, 3, 1, 2))
    got = imex_step(y[:, :2, :2], weights, stencil, h=1, normalize=shift(3.0), normalize_implicit=shift(-2.0))
    z = oracle.relu(oracle.conv2d(y[:, :2, :2], weights) + 3)
    assert_exact(got, y[:, :2, :2] + oracle.conv2d_vjp(z, y[:, :2, :2], weights)[0] - 2)


@pytest.mark.parametrize(
    ("operator", "block", "count"),
    [
        ("full", None, 9 * 64**2 + 64**2),
        ("depthwise", None, 9 * 64 + 64**2),
        ("circulant", None, 9 * 64 + 64**2),
        ("circulant", 8, 9 * 64**2 // 8 + 64**2),
    ],
)
def test_weight_counts_of_a_step(operator, block, count):
    assert sum(int(np.prod(shape)) for shape in step_shapes(64, operator=operator, block=block)) == count


# --- Stability -------------------------------------------------------------------------------------------------------


def as_matrix(weights, operator, shape):
    """K as a matrix [outputs, inputs] for images of this shape."""
    kernel, groups = as_kernel(weights, operator)
    basis = np.eye(int(np.prod(shape))).reshape(-1, *shape)
    return conv2d(basis, kernel, groups=groups).reshape(len(basis), -1).T


def rounding(matrix, h, *ys):
    """The norm of what rounding does to the steps of each y: at most so many roundings of all absolute terms."""
    absolute, k = abs(matrix), sum(matrix.shape) + 8
    return sum(np.linalg.norm(gamma(k, np.float64) * (abs(y) + h * absolute.T @ (absolute @ abs(y)))) for y in ys)


@operators
@activations
@given(sizes, st.sampled_from([0.25, 1.0, 1.75, 2 - 2**-20]), seeds)
def test_a_parabolic_step_never_expands_within_its_limit(operator, activation, size_hw, product, seed):
    """`h * |K|^2 <= 2`, for random pairs and for pairs along the direction that K stretches most."""
    shape = (*size_hw, 2)
    weights = numbers(seed, "weights", step_shapes(2, operator=operator)[0], np.float64, exact=False)
    matrix = as_matrix(weights, operator, shape)
    _, stretches, directions = np.linalg.svd(matrix)
    h = product / stretches[0] ** 2
    a = numbers(seed, "a", (3, matrix.shape[1]), np.float64, exact=False)
    b = np.stack([numbers(seed, "b", matrix.shape[1], np.float64, exact=False), a[1] + directions[0], a[2] / 2])
    steps = [
        parabolic_step(y.reshape(-1, *shape), weights, h=h, operator=operator, activation=activation) for y in (a, b)
    ]
    for pair in range(3):
        after = np.linalg.norm(steps[0][pair] - steps[1][pair])
        assert after <= np.linalg.norm(a[pair] - b[pair]) + rounding(matrix, h, a[pair], b[pair])


@operators
@given(sizes, st.sampled_from([2.5, 4.0]), seeds)
def test_without_activation_it_expands_beyond_its_limit(operator, size_hw, product, seed):
    """Along the direction that K stretches most the factor is `|1 - h |K|^2|`, here above 1."""
    shape = (*size_hw, 2)
    weights = numbers(seed, "weights", step_shapes(2, operator=operator)[0], np.float64, exact=False)
    matrix = as_matrix(weights, operator, shape)
    _, stretches, directions = np.linalg.svd(matrix)
    h = product / stretches[0] ** 2
    step = parabolic_step(directions[0].reshape(1, *shape), weights, h=h, operator=operator, activation=None)
    assert np.linalg.norm(step) > np.linalg.norm(directions[0]) + rounding(matrix, h, directions[0])


@given(st.integers(1, 4), seeds)
def test_relu_can_be_stable_beyond_the_limit(pixels, seed):
    """K = [1; -1], h = 1.5: `h * |K|^2 = 3 > 2`, and the step is y -> -y/2."""
    y = numbers(seed, "y", (2, 1, pixels, 1), np.float64)
    step = parabolic_step(y, np.array([1.0, -1.0]).reshape(1, 1, 1, 2), h=1.5)
    assert_exact(step, -y / 2)


# --- Derivatives -----------------------------------------------------------------------------------------------------

SIGNS = np.array([1.0, -1.0])


def away_from_kinks(shapes, seed=0):
    """y in [2, 3]; weights in [0.5, 1], those of every second output negative. A sum over m taps is then at least m
    from zero, and moves by at most 3*m/16 where a check moves y or the weights by 1/16."""
    rng = np.random.default_rng(seed)
    return rng.uniform(2, 3, (1, 3, 2, 2)), *(rng.uniform(0.5, 1, shape) * SIGNS for shape in shapes)


@pytest.mark.parametrize("operator", ["full", "depthwise"])
def test_derivatives_of_parabolic_and_reaction_steps(operator):
    y, weights, reaction = away_from_kinks(step_shapes(2, operator=operator))
    assert_tape_derivatives(lambda y, k: parabolic_step(y, k, h=0.25, operator=operator), [y, weights])
    assert_tape_derivatives(
        lambda y, k, r: diffusion_reaction_step(y, k, r, h=0.25, operator=operator), [y, weights, reaction]
    )


def test_derivatives_of_circulant_steps():
    """Blocks of one channel are a full kernel, those of two have no activation here: their sums have no one sign."""
    y, weights, reaction = away_from_kinks(step_shapes(2, operator="full"))
    theta = weights[..., None]
    assert_tape_derivatives(lambda y, k: parabolic_step(y, k, h=0.25, operator="circulant"), [y, theta])
    theta = np.random.default_rng(1).normal(size=(3, 3, 1, 1, 2))

    def step(y, k, r):
        return diffusion_reaction_step(y, k, r, h=0.25, operator="circulant", activation=None)

    assert_tape_derivatives(step, [y, theta, reaction])


def test_derivatives_of_the_imex_step():
    x, weights, _ = away_from_kinks(step_shapes(2, operator="full"))
    stencil = np.random.default_rng(2).normal(size=(3, 3, 1, 2))
    assert_tape_derivatives(lambda x, k, s: imex_step(x, k, s, h=0.25), [x, weights, stencil])


def test_derivatives_through_batch_norm():
    """Over m values a normalised one is at most sqrt(m - 1) = 2.24; shifts of +-4 keep all away from zero."""
    rng = np.random.default_rng(3)
    y, weights = rng.normal(size=(1, 3, 2, 2)), rng.normal(size=(3, 3, 2, 2))
    gamma_, beta = rng.uniform(0.5, 1, 2), 4 * SIGNS

    def step(y, weights, gamma_, beta):
        return parabolic_step(y, weights, h=0.25, normalize=lambda z: apply(ops.batch_norm, z, gamma_, beta))

    assert_tape_derivatives(step, [y, weights, gamma_, beta])


def test_an_untied_transpose_is_noticed():
    """A step that takes K^T from another kernel than K has another derivative."""
    y, weights, _ = away_from_kinks(step_shapes(2, operator="full"))

    def tied(y, k):
        return parabolic_step(y, k, h=0.25)

    def vjp(dy, y, k):
        return tape_vjp(lambda y: parabolic_step(y, k[::-1], h=0.25))(dy, y)[0], None

    assert not compare_vjp(tied, vjp, [y, weights]).ok


Y, K, R = np.zeros((1, 3, 3, 2)), np.zeros((3, 3, 2, 2)), np.zeros((1, 1, 2, 2))


@pytest.mark.parametrize(
    ("thing", "call"),
    [
        ("h", lambda: parabolic_step(Y, K, h=0)),
        ("h", lambda: parabolic_step(Y, K, h=-1)),
        ("h", lambda: diffusion_reaction_step(Y, K, R, h=-1, operator="full")),
        ("h", lambda: imex_step(Y, K, K[:, :, :1], h=-1)),
        ("operator", lambda: parabolic_step(Y, K, h=1, operator="half")),
        ("operator", lambda: step_shapes(2, operator="half")),
        ("kernel", lambda: parabolic_step(Y, K, h=1, operator="depthwise")),
        ("theta", lambda: parabolic_step(Y, K, h=1, operator="circulant")),
        ("block", lambda: step_shapes(4, operator="circulant", block=3)),
    ],
)
def test_wrong_input_is_named(thing, call):
    with pytest.raises(InputError, match=r": expected .+, got .+\. .+\.$") as caught:
        call()
    assert str(caught.value).startswith(f"{thing}: ")
