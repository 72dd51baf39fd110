"""The tests are tested: with each planted fault in a copy of the packages, the tests that should notice it fail."""

import os
import shutil
import subprocess
import sys
from dataclasses import replace

import pytest

from tests.meta.faults_modelfile import MODELFILE
from tests.meta.faults_operators import OPERATORS
from tests.meta.faults_related import RELATED
from tests.meta.faults_runtime import RUNTIME
from tests.meta.faults_training import TRAINING
from tests.meta.mutants import ROOT, Mutant, mutate

MUTANTS = OPERATORS + RELATED + TRAINING + MODELFILE + RUNTIME
SPOILT = ("lhc_ref", "runtime", "tests")  # copied; what else the tests read is linked
PASSED, FAILED = 0, 1  # exit codes of pytest; anything else is an error in the run itself

by_name = {"argvalues": MUTANTS, "ids": [m.name for m in MUTANTS]}


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    """A copy of the packages and their tests, to spoil."""
    copy = tmp_path_factory.mktemp("mutants")
    for path in ROOT.iterdir():
        if path.name in SPOILT:
            shutil.copytree(path, copy / path.name, ignore=shutil.ignore_patterns("__pycache__"))
        elif not path.name.startswith("."):
            (copy / path.name).symlink_to(path)
    return copy


def run_tests(workplace, tests, compiled=False):
    """Exit code and output of the named tests in the copy."""
    command = [
        sys.executable,
        "-B",
        "-m",
        "pytest",
        "-x",
        "-q",
        "--no-header",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:xdist",
    ]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "COV_"))}
    environment |= {"PYTHONPATH": str(workplace), "HYPOTHESIS_PROFILE": "unshrunk"}
    environment |= {"NUMBA_DISABLE_JIT": "0" if compiled else "1", "NUMBA_CACHE_DIR": str(workplace / ".numba")}
    environment["HYPOTHESIS_STORAGE_DIRECTORY"] = str(workplace / ".hypothesis")
    done = subprocess.run(
        [*command, *tests], cwd=workplace, env=environment, capture_output=True, text=True, timeout=900, check=False
    )
    return done.returncode, done.stdout + done.stderr


def check_caught(workplace, mutant):
    path = workplace / mutant.path
    source = path.read_text(encoding="utf-8")
    try:
        path.write_text(mutate(source, mutant), encoding="utf-8")
        code, output = run_tests(workplace, mutant.tests, mutant.compiled)
    finally:
        path.write_text(source, encoding="utf-8")
    assert code != PASSED, f"{mutant.name} survived: {mutant.original!r} became {mutant.mutated!r} and nobody noticed"
    assert code == FAILED, f"{mutant.name}: expected a failing test, got pytest's exit code {code}:\n{output[-3000:]}"


@pytest.mark.parametrize("mutant", **by_name)
def test_each_mutant_is_up_to_date(mutant):
    """Its snippet occurs once, the change is valid and is a change, and its tests exist."""
    source = (ROOT / mutant.path).read_text(encoding="utf-8")
    compile(mutate(source, mutant), mutant.path, "exec")
    assert mutant.original != mutant.mutated
    for test in mutant.tests:
        assert (ROOT / test.partition("::")[0]).is_file(), test


def test_names_are_unique():
    assert len({m.name for m in MUTANTS}) == len(MUTANTS) >= 25


def test_a_snippet_that_does_not_occur_once_is_an_error():
    mutant = Mutant("m", "m.py", "a + b", "a - b", ())
    assert mutate("x = a+b # sum", mutant) == "x = a - b\n"
    for source in ("x = b + a", "x = a + b\ny = (a + b) * 2"):
        with pytest.raises(ValueError, match=r"expected its snippet once in m\.py, got [02] times"):
            mutate(source, mutant)
    source = "def f(a, b):\n    return a + b\n\ndef g(a, b):\n    return a + b"
    assert "a - b" in mutate(source, replace(mutant, within="g")).partition("def g")[2]


@pytest.mark.parametrize("mutant", [m for m in MUTANTS if m.quick], ids=lambda m: m.name)
def test_a_planted_fault_is_caught(workplace, mutant):
    check_caught(workplace, mutant)


@pytest.mark.long
@pytest.mark.parametrize("mutant", [m for m in MUTANTS if not m.quick], ids=lambda m: m.name)
def test_every_planted_fault_is_caught(workplace, mutant):
    check_caught(workplace, mutant)


@pytest.mark.long
@pytest.mark.parametrize(("tests", "compiled"), sorted({(m.tests, m.compiled) for m in MUTANTS}))
def test_the_unspoilt_copy_passes(workplace, tests, compiled):
    """So that a failure above is the mutant's doing."""
    code, output = run_tests(workplace, tests, compiled)
    assert code == PASSED, output[-3000:]
