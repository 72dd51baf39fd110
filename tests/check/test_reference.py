"""The answers that layers are held to: against the definition, and against a layer written independently."""

from dataclasses import replace

import numpy as np
import pytest

from lhc_ref.check.cases import LEVELS, Case
from lhc_ref.check.compare import wrong
from lhc_ref.check.precision import Precision
from lhc_ref.check.protocol import typed
from lhc_ref.check.reference import solve
from lhc_ref.check.suite import suite
from tests import oracle
from tests.check import numpy_layer

F64 = Precision.of("float64")
LAYERS = {"csg": numpy_layer.csg, "lean": numpy_layer.lean, "regularizer": numpy_layer.penalty}


@pytest.mark.parametrize("level", ["free", "rigid"])
def test_lhc_layers_against_the_definition(level):
    for case in suite(level, ("float64",), seed=3):
        a, answer = case.arrays, solve(case, F64)
        options = {"group_in": case.gi, "group_out": case.go, "enabled": a["enabled"].astype(bool), **case.window}
        want = oracle.lhc_vjp(a["dy"], a["x"], a["kernel"], a["scores"], a.get("bias"), **options)
        want["y"] = oracle.lhc(a["x"], a["kernel"], a["scores"], a.get("bias"), **options)
        want["mask"] = oracle.lhc_mask(a["scores"], case.ci, case.co, case.gi, case.go, a["enabled"])
        if not case.bias:
            del want["dbias"]
        assert set(want) == set(answer)
        for name, value in want.items():
            assert not wrong(value, answer[name]).any(), (case.id, name)


@pytest.mark.parametrize("level", LEVELS)
def test_all_levels_against_a_layer_written_independently(level):
    for case in suite(level, ("float64",), seed=4):
        given = typed(case.arrays, "float64")
        if level == "regularizer":
            given = {"masks": [a.astype(float) for k, a in given.items() if k != "dy"], "dy": given["dy"]}
        got, answer = LAYERS.get(level, numpy_layer.layer)(given, case.geometry), solve(case, F64)
        assert set(got) == set(answer)
        for name, e in answer.items():
            assert np.shape(got[name]) == e.value.shape == e.budget.shape
            assert not wrong(np.asarray(got[name]), e).any(), (case.id, name)


@pytest.mark.parametrize("level", LEVELS)
def test_a_factor_of_one_and_a_ten_thousandth_is_seen_in_every_tensor(level):
    """In float32, in every integer case but those whose tensor is zero."""
    precision = Precision.of("float32")
    for case in suite(level, seed=5):
        for name, e in solve(case, precision).items():
            scaled = (e.value * (1 + 1e-4)).astype(np.float32).astype(np.float64)
            if case.numbers == "integer" and e.value.any():
                assert wrong(scaled, e).any(), (case.id, name)


def test_integers_have_no_budget_where_nothing_is_rounded():
    answer = solve(Case(ci=3, co=4, n=2, seed=1), Precision.of("float32"))
    for name in ("y", "mask", "dx", "dkernel", "dbias"):
        assert not answer[name].budget.any()
    slope_is_one = np.abs(Case(ci=3, co=4, n=2, seed=1).arrays["scores"]) < 1
    assert not answer["dscores"].budget[slope_is_one].any()
    assert answer["dscores"].budget[~slope_is_one].any()


@pytest.mark.parametrize("algorithm", ["fft", "winograd"])
def test_fast_algorithms_have_normwise_budgets_that_hold_and_still_see_a_dropped_tap(algorithm):
    precision = Precision.of("float32", algorithm=algorithm)
    case = Case(numbers="real", n=1, h=8, w=8, ci=3, co=4, seed=2)
    e = solve(case, precision)["y"]
    assert (e.budget > solve(case, Precision.of("float32"))["y"].budget).all()
    if algorithm == "fft":
        a, kernel = case.arrays, case.arrays["kernel"] * solve(case, F64)["mask"].value
        transform = [np.fft.rfft2(np.asarray(v, np.float32), s=(16, 16), axes=(1, 2)).astype(np.complex64)
                     for v in (a["x"], kernel.transpose(3, 0, 1, 2)[:, ::-1, ::-1])]  # fmt: skip
        product = np.einsum("bhwi,ohwi->bhwo", *transform).astype(np.complex64)
        y = np.fft.irfft2(product, s=(16, 16), axes=(1, 2)).astype(np.float32)[:, 1:9, 1:9]
        assert not wrong((y + a["bias"].astype(np.float32)).astype(np.float64), e).any()
    without = replace(case, seed=3)
    assert wrong(solve(without, F64)["y"].value, e).any()
