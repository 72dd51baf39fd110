"""The tape: chains, sharing, several results of one value, determinism, and what is not computed."""

import gc
import weakref

import numpy as np
import pytest

from lhc_ref import conv, mask, ops
from lhc_ref.errors import InputError
from lhc_ref.gradcheck import check_vjp, tape_vjp
from lhc_ref.tape import VJPS, Tape, apply, define_vjp
from tests.tolerances import assert_exact, assert_identical

rng = np.random.default_rng


def parameters(dtype=np.float64):
    """Of `net`, and its input: images [2, 6, 5, 3]."""
    draw = rng(0).standard_normal
    shapes = [(2, 6, 5, 3), (3, 3, 3, 4), (3, 3, 2, 2), (4,), (4,), (4, 3)]
    return [draw(shape).astype(dtype) for shape in shapes]


def net(x, kernel, scores, gamma, beta, head, *, labels=(2, 0)):
    """A convolution with a mask, batch norm, a residual, pooling and a loss."""
    made = apply(mask.free_mask, scores, c_in=3, c_out=4, group_in=2, group_out=2)
    y = apply(conv.conv2d, x, apply(ops.multiply, kernel, made))
    y = apply(ops.batch_norm, y, gamma, beta)
    y = apply(ops.add, y, apply(ops.scale, y, factor=0.5))
    y = apply(ops.average_pool, y)
    logits = apply(ops.dense, apply(ops.global_average_pool, y), head)
    return apply(ops.softmax_cross_entropy, logits, np.array(labels))


def gradients(arrays):
    tape = Tape()
    variables = [tape.variable(a) for a in arrays]
    return tape.gradients(net(*variables), variables)


def test_a_whole_net_agrees_with_differences():
    arrays = parameters()
    everything = tape_vjp(net)
    check_vjp(net, everything, arrays, wrt=[0, 1, 3, 4, 5])  # the scores act by a step: not differenced


def test_without_variables_the_operators_just_run():
    arrays = parameters()
    tape = Tape()
    recorded = net(*(tape.variable(a) for a in arrays))
    plain = net(*arrays)
    assert isinstance(plain, np.ndarray | np.generic)
    assert_exact(recorded.value, plain)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_dtype_stays(dtype):
    arrays = parameters(dtype)
    assert net(*arrays).dtype == dtype
    for got, a in zip(gradients(arrays), arrays, strict=True):
        assert (got.dtype, got.shape) == (dtype, a.shape)


def test_the_same_program_gives_the_same_bits():
    first = gradients(parameters(np.float32))
    for _ in range(3):
        for a, b in zip(first, gradients(parameters(np.float32)), strict=True):
            assert_identical(a, b)


def test_a_value_used_twice_collects_both_cotangents():
    tape = Tape()
    x = tape.variable(np.array([2.0, 3.0]))
    square = apply(ops.multiply, x, x)
    y = apply(ops.add, apply(ops.multiply, square, x), square)  # x^3 + x^2
    (dx,) = tape.gradients(y, [x], np.ones(2))
    assert dx.tolist() == [16, 33]


def test_inner_values_and_constants():
    tape = Tape()
    x, unused = tape.variable(np.array([1.0, -2.0])), tape.variable(np.zeros((2, 2)))
    inner = apply(ops.scale, x, factor=3)
    y = apply(ops.relu, apply(ops.add, inner, np.ones(2)))
    dinner, dx, dunused, dy = tape.gradients(y, [inner, x, unused, y], np.array([5.0, 7.0]))
    assert dinner.tolist() == [5, 0]
    assert dx.tolist() == [15, 0]
    assert dunused.tolist() == [[0, 0], [0, 0]]
    assert dy.tolist() == [5, 7]


def test_later_steps_do_not_disturb_and_gradients_can_be_asked_again():
    tape = Tape()
    x = tape.variable(np.array([3.0]))
    y = apply(ops.multiply, x, x)
    apply(ops.scale, y, factor=100)
    for _ in range(2):
        assert tape.gradients(y, [x], np.ones(1))[0].tolist() == [6]


def test_cotangents_nobody_asked_for_are_not_computed(monkeypatch):
    calls = []

    def dx(*args, **options):
        calls.append("dx")
        return conv.conv2d_dx(*args, **options)

    monkeypatch.setitem(VJPS, conv.conv2d, (dx, conv.conv2d_dkernel))
    images, kernel = rng(0).standard_normal((1, 4, 4, 2)), rng(1).standard_normal((3, 3, 2, 2))
    tape = Tape()
    k = tape.variable(kernel)
    (dkernel,) = tape.gradients(apply(conv.conv2d, images, k), [k], np.ones((1, 4, 4, 2)))
    assert calls == []
    tape = Tape()
    x, k = tape.variable(images), tape.variable(kernel)
    assert_exact(tape.gradients(apply(conv.conv2d, x, k), [x, k], np.ones((1, 4, 4, 2)))[1], dkernel)
    assert calls == ["dx"]


def test_accumulation_does_not_write_into_shared_cotangents():
    """`add` hands the same array to both of its arguments."""
    tape = Tape()
    a, b = tape.variable(np.ones(2)), tape.variable(np.ones(2))
    y = apply(ops.add, apply(ops.add, a, b), a)
    dy = np.array([1.0, 10.0])
    da, db = tape.gradients(y, [a, b], dy)
    assert (da.tolist(), db.tolist(), dy.tolist()) == ([2, 20], [1, 10], [1, 10])


def test_a_dropped_tape_is_freed_at_once():
    """Without waiting for the garbage collector: a step's activations are large."""
    x = np.ones(3)
    tape = Tape()
    y = apply(ops.relu, apply(ops.add, tape.variable(x), x))
    inner = weakref.ref(y.value)
    gc.disable()
    try:
        del tape, y
        assert inner() is None
    finally:
        gc.enable()


def test_new_operators_join_the_table(monkeypatch):
    def cube(x):
        return x**3

    monkeypatch.setattr("lhc_ref.tape.VJPS", dict(VJPS))
    tape = Tape()
    x = tape.variable(np.array([2.0]))
    with pytest.raises(InputError, match=r"^cube: expected an operator with a derivative, got none"):
        apply(cube, x)
    define_vjp(cube, lambda dy, x: (3 * x**2 * dy,))
    assert tape.gradients(apply(cube, x), [x], np.ones(1))[0].tolist() == [12]
    with pytest.raises(InputError, match=r"^cube: expected a new operator, got one in the table"):
        define_vjp(cube, lambda dy, x: (dy,))


def test_every_vjp_of_the_table_is_the_one_named_after_its_operator():
    ours = {primal: vjp for primal, vjp in VJPS.items() if primal.__module__.startswith("lhc_ref.")}
    assert ops.relu in ours
    for primal, vjp in ours.items():
        names = [primal.__name__ + end for end in (("_dx", "_dkernel") if isinstance(vjp, tuple) else ("_vjp",))]
        assert [f.__name__ for f in (vjp if isinstance(vjp, tuple) else (vjp,))] == names


def test_wrong_cotangents_of_an_operator_are_named(monkeypatch):
    monkeypatch.setitem(VJPS, ops.relu, lambda dy, x: (dy.astype(np.float32),))
    tape = Tape()
    x = tape.variable(np.ones(2))
    with pytest.raises(InputError, match=r"^cotangent of relu: expected float64\[2\] .+, got float32\[2\]"):
        tape.gradients(apply(ops.relu, x), [x], np.ones(2))


def test_wrong_input_is_named():
    tape, other = Tape(), Tape()
    x, z = tape.variable(np.ones(2)), other.variable(np.ones(2))
    with pytest.raises(InputError, match=r"^value: expected a float32 or float64 array, got int64\[2\]"):
        tape.variable(np.ones(2, int))
    with pytest.raises(InputError, match=r"^add: expected variables of one tape, got 2 tapes"):
        apply(ops.add, x, z)
    with pytest.raises(InputError, match=r"^y: expected a scalar, got float64\[2\]"):
        tape.gradients(x, [x])
    with pytest.raises(InputError, match=r"^dy: expected float64\[2\] to go with y, got float64\[3\]"):
        tape.gradients(x, [x], np.ones(3))
    with pytest.raises(InputError, match=r"^gradients: expected variables of this tape, got "):
        tape.gradients(x, [z], np.ones(2))
