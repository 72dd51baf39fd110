"""The guards are seen to catch: a write beyond the arena, a read beyond the weights, a value that nobody wrote."""

from dataclasses import replace

import numpy as np
import pytest

from runtime.kernels.machine import LANES
from runtime.kernels.vector import COMPILED
from runtime.layout import LAYOUTS
from tests.runtime.nets import GUARD, GuardedModel, conv_spec, definition
from tests.strategies import numbers
from tests.tolerances import assert_exact

both_layouts = pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.name)
SPEC = conv_spec(numbers(1, "kernel", (3, 3, 4, 8)), (3, 4, 4), numbers(1, "bias", (8,)), padding="same")
X = numbers(1, "x", (1, 3, 4, 4))
CONV, EXPORT = 1, 2


def broken(layout, step, field, make):
    """A model in whose plan one number of one step is another."""
    model = GuardedModel(SPEC, layout)
    plan = model.plan(layout)
    steps = plan.steps.copy()
    steps[step][field] = make(plan, steps[step])
    model._plans[layout.name] = replace(plan, steps=steps)
    return model


@both_layouts
def test_nothing_is_caught_where_nothing_is_wrong(layout):
    model = broken(layout, CONV, "out_at", lambda plan, step: step["out_at"])
    assert_exact(model.run(X), definition(SPEC, {"x": X})["y"], np.float32)


@both_layouts
@pytest.mark.parametrize("before", [False, True])
def test_a_write_outside_the_arena_is_caught(layout, before):
    def place(plan, step):
        return -GUARD // 2 if before else plan.arena_size + LANES

    model = broken(layout, CONV, "out_at", place)
    # Without compilation the twins catch it themselves, save at negative places, which NumPy counts from the end.
    with pytest.raises(AssertionError if COMPILED else (AssertionError, IndexError, ValueError)):
        model.run(X)


@both_layouts
@pytest.mark.parametrize(
    ("step", "field", "make"),
    [
        (CONV, "weights_at", lambda plan, step: plan.weights.size),
        (CONV, "weights_at", lambda plan, step: -100),
        (CONV, "bias_at", lambda plan, step: plan.weights.size - 1),
        (CONV, "x_at", lambda plan, step: step["out_at"]),
        (EXPORT, "x_at", lambda plan, step: plan.arena_size - LANES),
    ],
)
def test_a_read_of_what_nobody_wrote_is_seen_in_the_output(layout, step, field, make):
    model = broken(layout, step, field, make)
    if COMPILED:
        assert np.isnan(model.run(X)).any()
        return
    try:
        y = model.run(X)
    except IndexError:
        return
    with pytest.raises(AssertionError):
        assert_exact(y, definition(SPEC, {"x": X})["y"], np.float32)
