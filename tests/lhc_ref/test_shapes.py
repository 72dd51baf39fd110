"""Operators that only move numbers: exact, adjoint, and their errors."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lhc_ref import ops
from lhc_ref.errors import InputError
from lhc_ref.gradcheck import check_vjp, compare_vjp
from lhc_ref.tape import Tape, apply
from tests.strategies import numbers, seeds
from tests.tolerances import assert_adjoint, assert_exact

shapes = st.lists(st.integers(1, 4), min_size=1, max_size=4).map(tuple)
dtypes = pytest.mark.parametrize("dtype", [np.float32, np.float64])


@dtypes
@given(shapes, st.data(), seeds)
def test_concat_puts_arrays_one_after_the_other(dtype, shape, data, seed):
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    lengths = data.draw(st.lists(st.integers(1, 3), min_size=1, max_size=3))
    arrays = []
    for i, length in enumerate(lengths):
        own = list(shape)
        own[axis] = length
        arrays.append(numbers(seed, f"array{i}", tuple(own), dtype))
    y = ops.concat(*arrays, axis=axis)
    dy = numbers(seed, "dy", y.shape, dtype)
    parts = ops.concat_vjp(dy, *arrays, axis=axis)
    start = 0
    for a, da in zip(arrays, parts, strict=True):
        where = np.arange(start, start + a.shape[axis])
        assert_exact(y.take(where, axis), a)
        assert_exact(da, dy.take(where, axis))
        start += a.shape[axis]
    assert start == y.shape[axis]


@dtypes
@given(shapes, st.data(), seeds)
def test_pad_is_a_border_and_its_transpose_a_crop(dtype, shape, data, seed):
    widths = tuple(data.draw(st.tuples(st.integers(0, 2), st.integers(0, 2))) for _ in shape)
    x = numbers(seed, "x", shape, dtype)
    y = ops.pad(x, widths=widths)
    want = np.zeros([s + sum(w) for s, w in zip(shape, widths, strict=True)], dtype)
    for index in np.ndindex(shape):
        want[tuple(i + w[0] for i, w in zip(index, widths, strict=True))] = x[index]
    assert_exact(y, want)
    dy = numbers(seed, "dy", y.shape, dtype)
    (dx,) = ops.pad_vjp(dy, x, widths=widths)
    assert dx.dtype == dtype
    assert_adjoint(y, dy, x, dx)
    assert (ops.pad(x, widths=((1, 0),) * x.ndim, value=7)[(0,) * x.ndim]) == 7


@dtypes
@given(shapes, seeds)
def test_reshape_keeps_c_order_and_goes_back(dtype, shape, seed):
    x = numbers(seed, "x", shape, dtype)
    y = ops.reshape(x, shape=(1, x.size))
    assert y[0].tolist() == [x[index] for index in np.ndindex(shape)]
    assert_exact(ops.reshape_vjp(y, x, shape=(1, x.size))[0], x)


def test_concat_on_the_tape():
    tape = Tape()
    a, b = tape.variable(np.ones((2, 1))), tape.variable(np.ones((2, 2)))
    y = apply(ops.concat, a, np.zeros((2, 1)), b)
    da, db = tape.gradients(y, [a, b], np.arange(8.0).reshape(2, 4))
    assert (da.tolist(), db.tolist()) == ([[0], [4]], [[2, 3], [6, 7]])


CASES = {
    "concat": (ops.concat, ops.concat_vjp, [(2, 3), (2, 1), (2, 2)], {}),
    "pad": (ops.pad, ops.pad_vjp, [(2, 3)], {"widths": ((1, 0), (2, 1)), "value": 3.0}),
    "reshape": (ops.reshape, ops.reshape_vjp, [(2, 3)], {"shape": (3, 2)}),
}


@pytest.mark.parametrize("mode", ["projection", "jacobian", "taylor"])
@pytest.mark.parametrize("name", CASES)
def test_derivatives(name, mode):
    f, vjp, sizes, options = CASES[name]
    args = [np.random.default_rng(i).standard_normal(size) for i, size in enumerate(sizes)]
    check_vjp(f, vjp, args, options=options, mode=mode)

    def planted(*args, **options):
        return tuple(d * (1 + 1e-4) for d in vjp(*args, **options))

    assert {row.verdict for row in compare_vjp(f, planted, args, options=options, mode=mode).rows} == {"wrong"}


A, B = np.zeros((2, 3)), np.zeros((2, 4))


@pytest.mark.parametrize(
    ("thing", "call"),
    [
        ("concat", lambda: ops.concat()),
        ("arrays[0]", lambda: ops.concat(A.astype(int), B)),
        ("arrays[1]", lambda: ops.concat(A, B.astype(np.float32))),
        ("arrays[1]", lambda: ops.concat(A, B, axis=0)),
        ("arrays[2]", lambda: ops.concat(A, B, B[0])),
        ("axis", lambda: ops.concat(A, B, axis=2)),
        ("dy", lambda: ops.concat_vjp(B, A, B)),
        ("shape", lambda: ops.reshape(A, shape=(2, 2))),
        ("shape", lambda: ops.reshape(A, shape=(2, -1))),
        ("dy", lambda: ops.reshape_vjp(A, A, shape=(3, 2))),
        ("widths", lambda: ops.pad(A, widths=((0, 1),))),
        ("widths", lambda: ops.pad(A, widths=((0, 1), (0, -1)))),
        ("dy", lambda: ops.pad_vjp(A, A, widths=((0, 1), (0, 0)))),
    ],
)
def test_wrong_input_is_named(thing, call):
    with pytest.raises(InputError, match=r": expected .+, got .+\. .+\.$") as caught:
        call()
    assert str(caught.value).startswith(f"{thing}: ")
