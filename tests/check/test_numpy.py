"""The correct layer in plain NumPy: no failure, in any seed of the long suite."""

import pytest

from lhc_ref.check import runner
from lhc_ref.check.adapters import Declaration
from lhc_ref.check.process import Target

MODULE = "tests.check.numpy_layer"
TARGETS = {
    **dict.fromkeys(("free", "rigid", "masked", "hetconv", "nm"), f"{MODULE}:layer"),
    "csg": f"{MODULE}:csg", "lean": f"{MODULE}:lean", "regularizer": f"{MODULE}:penalty",
}  # fmt: skip


@pytest.fixture(scope="module")
def target():
    with Target("numpy", Declaration()) as found:
        yield found


def assert_no_failure(target, **options):
    results = runner.run(runner.Plan(TARGETS, ("float32", "float64"), **options), target)
    failed = results.of("failed")
    assert not failed, (failed[0].case.id, failed[0].tensor, failed[0].why)
    assert {f.case.level for f in results.of("passed")} == set(TARGETS)
    assert {f.area for f in results.of("not run")} == {"dtype", "threads"}


def test_a_correct_layer_has_no_failures(target):
    assert_no_failure(target)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(20))
def test_nor_has_it_in_the_long_suite(target, seed):
    assert_no_failure(target, seed=seed, long=True)
