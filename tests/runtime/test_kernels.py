"""Every registered kernel against the oracle, forced one by one through pack and engine, in guarded buffers of NaN."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime import select
from runtime.kernels.registry import REGISTRY
from runtime.kernels.step import Kernel
from runtime.kernels.vector import COMPILED
from tests.runtime.kernel_cases import CONVS, LAYOUTS, ROWS, LayerCase, fit, needs_mask, output_channels
from tests.runtime.nets import GuardedModel, definition
from tests.strategies import ConvCase
from tests.tolerances import assert_exact, assert_within

ROUNDING = (*CONVS, Kernel.AVERAGE_POOL, Kernel.ADD, Kernel.SOFTMAX, Kernel.MAP)
NAMES = [(entry.name, layout) for entry in REGISTRY.values() for layout in entry.layouts]
every_kernel = pytest.mark.parametrize(("name", "layout"), NAMES)
every_rounding_kernel = pytest.mark.parametrize(
    ("name", "layout"), [n for n in NAMES if REGISTRY[n[0]].kernel in ROUNDING]
)
every_conv = pytest.mark.parametrize("name", [name for name, entry in REGISTRY.items() if entry.kernel in CONVS])


def test_every_kernel_is_registered_and_has_a_row():
    assert set(ROWS) == set(Kernel)
    assert {entry.kernel for entry in REGISTRY.values()} == set(Kernel)
    assert all(name == entry.name and entry.layouts for name, entry in REGISTRY.items())
    assert {layout for entry in REGISTRY.values() for layout in entry.layouts} == set(LAYOUTS)


def solve(problem, entry, layout, small_tasks):
    """Run the problem with the entry's kernel and compare with the definition."""
    model = GuardedModel(problem.spec, layout, entry, small_tasks)
    got = model.run(problem.inputs)
    ran = model.plan(layout)
    assert entry.kernel in ran.steps["kernel"]
    if entry.kernel in CONVS:
        assert entry.name in [facts.kernel for facts in ran.facts]
    want = definition(problem.spec, problem.inputs)["y"]
    if problem.bound is None:
        assert_exact(got, want, np.float32)
    else:
        assert_within(got, want, problem.bound, np.float32)


@every_kernel
@given(data=st.data())
def test_equals_the_definition_on_integers(name, layout, data):
    entry, layout = REGISTRY[name], LAYOUTS[layout]
    solve(data.draw(ROWS[entry.kernel](layout, True, entry)), entry, layout, data.draw(st.booleans()))


@every_rounding_kernel
@given(data=st.data())
def test_within_the_rounding_bound_on_real_numbers(name, layout, data):
    entry, layout = REGISTRY[name], LAYOUTS[layout]
    solve(data.draw(ROWS[entry.kernel](layout, False, entry)), entry, layout, data.draw(st.booleans()))


# --- Corner cases by name --------------------------------------------------------------------------------------------


def corner(entry, size_hw=(3, 5), kernel_hw=(3, 3), stride=(1, 1), padding="same", dilation=(1, 1), **fused):
    """A small layer for an entry's tile; `fused` are fields of LayerCase."""
    c_out = fused.pop("c_out", output_channels(entry)[1][0])
    groups = c_out if entry.kernel == Kernel.DEPTHWISE else 1
    conv = ConvCase(1, size_hw, kernel_hw, groups if groups > 1 else 3, c_out, stride, padding, dilation, groups, 7)
    conv = fit(entry, conv)
    plain = {
        "density": 0.5,
        "group_in": 1,
        "group_out": 1,
        "empty_outputs": 0,
        "bias": True,
        "residual": False,
        "relu": False,
    }
    if needs_mask(entry) and fused.get("density", 0.5) in (None, 1.0) and not fused.get("empty_outputs"):
        fused["density"] = 0.9
    return LayerCase(conv, **plain | fused)


CORNERS = {
    "one pixel": {"size_hw": (1, 1)},
    "padding larger than the kernel": {"size_hw": (2, 2), "padding": ((5, 4), (6, 4))},
    "only padding at the start": {"padding": ((2, 0), (2, 0))},
    "windows without a real pixel": {
        "size_hw": (1, 1),
        "kernel_hw": (2, 2),
        "dilation": (3, 3),
        "padding": ((2, 2), (2, 2)),
    },
    "stride 2 and an odd size": {"size_hw": (5, 7), "stride": (2, 2)},
    "stride wider than the kernel": {"size_hw": (7, 7), "stride": (3, 3), "kernel_hw": (1, 1), "padding": "valid"},
    "dilated taps all in the padding": {"size_hw": (3, 3), "dilation": (3, 3)},
    "no weight": {"density": 0.0},
    "no weight, bias and residual": {"density": 0.0, "residual": True, "relu": True},
    "every weight under a mask": {"density": 1.0},
    "every weight without a mask": {"density": None},
    "an empty output": {"empty_outputs": 1},
    "residual without activation": {"residual": True},
    "residual and activation": {"residual": True, "relu": True},
    "a slope below zero": {"function": ("leaky_relu", {"slope": 0.5}, {})},
    "residual, function and activation": {
        "residual": True,
        "function": ("hard_sigmoid", {"alpha": 2.0, "beta": -1.0}, {}),
        "relu": True,
    },
}


@every_conv
@pytest.mark.parametrize("corner_name", CORNERS)
def test_corner(name, corner_name):
    entry = REGISTRY[name]
    solve(
        corner(entry, **CORNERS[corner_name]).problem(exact=True), entry, LAYOUTS[entry.layouts[0]], small_tasks=False
    )


@every_conv
def test_an_empty_tile(name):
    entry = REGISTRY[name]
    tile = select.tile_channels(entry)
    wide = [c for c in output_channels(entry)[0] if c > tile]
    case = corner(entry, c_out=wide[0], density=1.0, empty_outputs=tile)
    solve(case.problem(exact=True), entry, LAYOUTS[entry.layouts[0]], small_tasks=True)


@every_conv
def test_rows_of_every_length_up_to_twice_the_tile(name):
    entry = REGISTRY[name]
    lengths = range(1, 2 * entry.tile.pixels[0] + 2)
    for ow in lengths if COMPILED else (1, entry.tile.pixels[0], entry.tile.pixels[0] + 1):
        for padding, size in (("same", ow), ("valid", ow + 2)):
            case = corner(entry, (1, size) if padding == "same" else (3, size), padding=padding, residual=True)
            solve(case.problem(exact=True), entry, LAYOUTS[entry.layouts[0]], small_tasks=False)
