"""Implicit diffusion: it solves its linear system, its multiplier is what the spec says, its derivatives."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lhc_ref.errors import InputError
from lhc_ref.related.implicit import implicit_diffusion, implicit_diffusion_vjp, implicit_multiplier
from tests.lhc_ref.derivatives import assert_derivatives
from tests.strategies import numbers, seeds
from tests.tolerances import assert_exact, assert_within, gamma

dtypes = pytest.mark.parametrize("dtype", [np.float32, np.float64])
sizes = st.tuples(st.integers(1, 5), st.integers(1, 5))
kernels = st.tuples(st.integers(1, 3), st.integers(1, 3))


def periodic_matrix(stencil, size_hw):
    """L of one channel as a matrix over the pixels: `(L v)[y, x] = sum l[ky, kx] * v[y + ky, x + kx]`, wrapped."""
    height, width = size_hw
    matrix = np.zeros((height, width, height, width))
    for y in range(height):
        for x in range(width):
            for ky in range(stencil.shape[0]):
                for kx in range(stencil.shape[1]):
                    matrix[y, x, (y + ky) % height, (x + kx) % width] += stencil[ky, kx]
    return matrix.reshape(height * width, height * width)


@dtypes
@given(sizes, kernels, st.sampled_from([0.125, 1.0, 8.0]), seeds)
def test_it_solves_its_linear_system_and_never_grows(dtype, size_hw, kernel_hw, h, seed):
    """`(1 + h L^T L) y = v`. The inverse's norm is at most 1 and the transforms' that of v, so the error of y is a
    number of roundings (8 a pixel and 64 a transform, three transforms) times the 1-norm of v and the condition."""
    v = numbers(seed, "v", (2, *size_hw, 2), dtype, exact=False)
    stencil = numbers(seed, "stencil", (*kernel_hw, 1, 2), dtype, exact=False)
    y = implicit_diffusion(v, stencil, h=h)
    pixels = size_hw[0] * size_hw[1]
    for c in range(2):
        matrix = periodic_matrix(stencil[:, :, 0, c].astype(float), size_hw)
        system = np.eye(pixels) + h * matrix.T @ matrix
        flat = v[..., c].reshape(2, pixels).astype(float)
        want = np.linalg.solve(system, flat.T).T.reshape(2, *size_hw)
        power = abs(stencil[:, :, 0, c]).astype(float).sum() ** 2
        bound = gamma(3 * (8 * pixels + 64), dtype) * (1 + h * power) * abs(flat).sum(axis=1)[:, None, None]
        assert_within(y[..., c], want, bound * np.ones(want.shape), dtype)
        assert (np.linalg.norm(want.reshape(2, -1), axis=1) <= np.linalg.norm(flat, axis=1)).all()


@dtypes
@given(sizes, kernels, st.sampled_from([0.125, 1.0, 8.0]), seeds)
def test_the_multiplier_lies_above_0_and_up_to_1(dtype, size_hw, kernel_hw, h, seed):
    stencil = numbers(seed, "stencil", (*kernel_hw, 1, 3), dtype, exact=False)
    multiplier = implicit_multiplier(stencil, size_hw=size_hw, h=h)
    assert (multiplier.shape, multiplier.dtype) == ((1, *size_hw, 3), dtype)
    assert (multiplier > 0).all()
    assert (multiplier <= 1).all()


@dtypes
def test_no_stencil_is_the_identity_and_a_single_tap_a_constant(dtype):
    v, stencil = numbers(0, "v", (2, 4, 4, 2), dtype), np.zeros((3, 3, 1, 2), dtype)
    assert_exact(implicit_multiplier(stencil, size_hw=(4, 4), h=3.0), np.ones((1, 4, 4, 2), dtype))
    assert_exact(implicit_diffusion(v, stencil, h=3.0), v)  # transforms of length 4 are exact on small integers
    stencil[0, 0] = 2, 1
    stencil[0, 0, 0, 1] = 1
    want = np.broadcast_to(1 / (1 + 3 * np.array([4, 1], dtype)), (1, 4, 4, 2))
    assert_exact(implicit_multiplier(stencil, size_hw=(4, 4), h=3.0), want)
    assert_exact(implicit_diffusion(v[..., 1:], stencil[..., 1:], h=3.0), v[..., 1:] / 4)


@pytest.mark.parametrize(("ky", "kx"), [(0, 0), (0, 2), (1, 1), (2, 1)])
def test_where_a_tap_stands_does_not_matter(ky, kx):
    stencil = np.zeros((3, 3, 1, 1))
    stencil[ky, kx] = 2.0
    multiplier = implicit_multiplier(stencil, size_hw=(5, 6), h=0.75)
    assert_within(multiplier, np.full((1, 5, 6, 1), 0.25), gamma(64, np.float64) * np.ones((1, 5, 6, 1)))


@pytest.mark.parametrize("size_hw", [(4, 5), (2, 1)])
def test_derivatives(size_hw):
    """The second image is smaller than the stencil, which wraps round it."""
    rng = np.random.default_rng(0)
    args = [rng.normal(size=(2, *size_hw, 2)), rng.normal(size=(3, 3, 1, 2))]
    assert_derivatives(implicit_diffusion, implicit_diffusion_vjp, args, options={"h": 0.5})


V, STENCIL = np.zeros((1, 3, 3, 2)), np.zeros((3, 3, 1, 2))


@pytest.mark.parametrize(
    ("thing", "call"),
    [
        ("v", lambda: implicit_diffusion(V[0], STENCIL, h=1)),
        ("stencil", lambda: implicit_diffusion(V, STENCIL[0], h=1)),
        ("stencil", lambda: implicit_diffusion(V, STENCIL[..., :1], h=1)),
        ("stencil", lambda: implicit_diffusion(V, np.zeros((3, 3, 2, 2)), h=1)),
        ("stencil", lambda: implicit_multiplier(np.zeros((3, 3, 2, 2)), size_hw=(3, 3), h=1)),
        ("h", lambda: implicit_diffusion(V, STENCIL, h=0)),
        ("h", lambda: implicit_diffusion(V, STENCIL, h=float("nan"))),
        ("image", lambda: implicit_diffusion(V[:, :0], STENCIL, h=1)),
        ("dy", lambda: implicit_diffusion_vjp(V[:, :2], V, STENCIL, h=1)),
    ],
)
def test_wrong_input_is_named(thing, call):
    with pytest.raises(InputError, match=r": expected .+, got .+\. .+\.$") as caught:
        call()
    assert str(caught.value).startswith(f"{thing}: ")
