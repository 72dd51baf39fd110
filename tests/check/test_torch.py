"""PyTorch: a correct layer has no failures, planted faults are caught and named (`make test-frameworks`)."""

import os

import pytest

from lhc_ref.check import runner
from lhc_ref.check.adapters import Declaration
from lhc_ref.check.cases import LEVELS
from lhc_ref.check.process import Target
from tests.check import accepted, diagnose_mutants, familiar, later
from tests.check.accepted import PROMISED
from tests.check.mutants import MUTANTS, NAMED_LATER

torch = pytest.importorskip(
    "torch", reason="PYTORCH IS NOT INSTALLED: layers in torch are not tested (make test-frameworks)"
)

MODULE = "tests.check.torch_layer"
OWN = {"free": "LhcConv2d", "rigid": "LhcConv2d", "masked": "masked_conv", "regularizer": "penalty"}
TARGETS = {k: f"{MODULE}:{OWN.get(k, k)}" for k in LEVELS}
DTYPES = ("float32", "float64", "bfloat16", "float16")
# A CPU without instructions for a half format: PyTorch then adds the taps of dx in that format.
HALVES = {"bfloat16": "_is_mkldnn_bf16_supported", "float16": "_is_mkldnn_fp16_supported"}
SUMS = {name: name for name, supported in HALVES.items() if not getattr(torch.ops.mkldnn, supported)()}


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    """The machine's other users keep their cores."""
    old = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = "1"
    yield
    if old is None:
        del os.environ["OMP_NUM_THREADS"]
    else:
        os.environ["OMP_NUM_THREADS"] = old


@pytest.fixture(scope="module")
def target():
    with Target("torch", Declaration("NCHW", "OIHW")) as found:
        yield found


def assert_no_failure(target, **options):
    results = runner.run(runner.Plan(TARGETS, DTYPES, SUMS, **options), target)
    failed = results.of("failed")
    assert not failed, (failed[0].case.id, failed[0].tensor, failed[0].why)
    assert {f.case.level for f in results.of("passed")} == set(TARGETS)
    assert not [f for f in results.of("not run") if f.area != "dtype"]


def test_a_correct_layer_has_no_failures(target):
    assert_no_failure(target)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(20))
def test_nor_has_it_in_the_long_suite(target, seed):
    assert_no_failure(target, seed=seed, long=True)


def test_a_function_of_torch_autograd(target):
    plan = runner.Plan({"masked": "tests.check.torch_function:MaskedConv"}, ("float32",))
    results = runner.run(plan, target)
    assert not results.of("failed")
    assert len([f for f in results.of("passed") if f.tensor == "dkernel"]) > 15


@pytest.fixture(scope="module")
def found():
    return {row.mutant.name: row for row in diagnose_mutants.rows([*MUTANTS, *familiar.MUTANTS, *later.MUTANTS])}


def test_there_are_enough_mutants():
    assert len(MUTANTS) >= 40
    assert sum("+" in m.name for m in MUTANTS) >= 5
    assert len({m.source() for m in MUTANTS}) == len({m.name for m in MUTANTS}) == len(MUTANTS)
    assert {m.name for m in MUTANTS} >= NAMED_LATER
    assert {m.name for m in later.MUTANTS} >= later.NAMED_AT_ONCE


@pytest.mark.long
def test_every_mutant_is_caught_and_most_are_named(found):
    assert [name for name, row in found.items() if not row.failures] == []
    assert sum(row.named for row in found.values()) >= 0.9 * len(found)
    assert {m.name for m in later.MUTANTS if not found[m.name].named} == {
        name for name, names in accepted.LATER.items() if not names
    }


@pytest.mark.long
@pytest.mark.parametrize("name", PROMISED.values(), ids=PROMISED)
def test_what_the_docs_promise_to_name_is_named(found, name):
    assert found[name].named, found[name].diagnosis


@pytest.mark.parametrize(
    "name",
    [
        "flipped",
        "single",
        "stale_mask",
        "rigid-ties",
        "bfloat16+enabled_leak",
        "centre_always_on",
        "pad_torch+slope_single",
    ],
)
def test_some_mutants_are_caught_and_named(name):
    (mutant,) = (m for m in (*MUTANTS, *familiar.MUTANTS, *later.MUTANTS) if m.name == name)
    (row,) = diagnose_mutants.rows([mutant])
    assert row.failures
    assert row.named, row.diagnosis
