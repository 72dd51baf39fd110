"""Users' arrays are read and written where they lie, whatever their strides, and nothing beside them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lhc_ref.errors import InputError
from runtime.kernels.machine import LANES
from runtime.layout import LAYOUTS
from runtime.model import Model
from tests.runtime.nets import CANARY, GuardedModel, images, net
from tests.strategies import numbers, seeds
from tests.tolerances import assert_identical

ORDERS = {"nhwc": (0, 1, 2, 3), "nchw": (0, 3, 1, 2), "hcnw": (1, 3, 0, 2)}  # axes by their strides, the largest first
side_by_side = st.just([1, 1, 1, 1])
apart = st.lists(st.sampled_from([1, 1, 2, -1, -2]), min_size=4, max_size=4)


def place(shape, order, steps):
    """(whole, array): memory full of canaries, and an array of the shape in it, with a step along each axis."""
    room = [size * abs(step) for size, step in zip(shape, steps, strict=True)]
    whole = np.full([3, *(room[axis] for axis in order)], CANARY).view(np.float32)
    array = whole[1].transpose(np.argsort(order))[tuple(slice(None, None, step) for step in steps)]
    return whole, array


sizes = st.sampled_from([1, 2, 3, 7, LANES, LANES + 1])
channels = st.sampled_from([1, 3, LANES - 1, LANES + 5, 33, 70])


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.name)
@pytest.mark.parametrize("order_x", ORDERS)
@pytest.mark.parametrize("order_y", ORDERS)
@given(data=st.data())
def test_arrays_of_any_strides_are_read_and_written_in_place(layout, order_x, order_y, data):
    batch, shape = data.draw(st.sampled_from([1, 2, LANES, LANES + 3])), data.draw(st.tuples(sizes, sizes, channels))
    model = GuardedModel(net({"x": shape}, ["y"], ("relu", "y", ["x"])), layout, small_tasks=data.draw(st.booleans()))
    whole_x, x = place((batch, *shape), ORDERS[order_x], data.draw(side_by_side | apart))
    whole_y, y = place((batch, *shape), ORDERS[order_y], data.draw(side_by_side | apart))
    x[...] = numbers(data.draw(seeds), "x", x.shape)
    before, want = whole_x.copy(), np.array(whole_y)
    Model.run(model, x, threads=data.draw(st.integers(1, 3)), out=y)
    model._executor.arenas.check()
    assert_identical(np.ascontiguousarray(y), np.maximum(np.ascontiguousarray(x), 0))
    assert_identical(whole_x, before)
    y[...] = np.uint32(CANARY).view(np.float32)
    assert_identical(whole_y, want)


@pytest.mark.parametrize("batch", [1, 2 * LANES])
def test_an_output_may_lie_in_the_memory_of_an_input(batch):
    shape = (4, 4, 3)
    model = Model(net({"x": shape}, ["y"], ("relu", "y", ["x"])))
    memory = numbers(0, "x", (batch + 1, *shape))
    want = np.maximum(memory[:batch], 0)
    for out in (memory[:batch], memory[1:], memory[:batch, ::-1]):
        memory[...] = numbers(0, "x", memory.shape)
        assert_identical(np.array(model.run(memory[:batch], threads=1, out=out)), want)


def test_outputs_that_share_a_number_are_refused():
    shape = (4, 6, 3)
    model = Model(net({"x": shape}, ["y", "z"], ("relu", "y", ["x"]), ("sigmoid", "z", ["x"])))
    x, memory = images(2), np.zeros((2, 4, 6, 7), np.float32)
    for other in (slice(3), slice(0, 6, 2), slice(6, 3, -1)):
        out = {"y": memory[..., 1:4], "z": memory[..., other]}
        if other == slice(6, 3, -1):  # side by side
            made = model.run(x, out=out)
            assert_identical(np.array(made["y"]), np.maximum(x, 0))
            continue
        with pytest.raises(InputError, match=r"^out: expected arrays that share no memory, got 'y' and 'z' that do\."):
            model.run(x, out=out)
    with pytest.raises(InputError, match="share no memory"):
        model.run(x, out={"y": x, "z": x})


def test_an_output_at_any_address_is_written():
    x, bytes_ = images(3), np.zeros(1 + 3 * 4 * 6 * 3 * 4, np.uint8)
    out = bytes_[1:].view(np.float32).reshape(x.shape)
    assert not out.flags.aligned
    Model(net({"x": x.shape[1:]}, ["y"], ("relu", "y", ["x"]))).run(x, out=out)
    assert_identical(np.array(out), np.maximum(x, 0))
