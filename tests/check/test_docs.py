"""The examples of docs/check.md are run as they stand, each with its framework (`make test-frameworks`)."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.check import accepted, diagnose_mutants, familiar, later, mutants

ROOT = Path(__file__).parents[2]
DOCS = (ROOT / "docs" / "check.md").read_text(encoding="utf-8")
RUNS = {
    "torch": ("LhcConv2d", ["--framework", "torch"]),
    "numpy": ("hetconv", ["--levels", "hetconv"]),
    "jax": ("masked", ["--framework", "jax", "--levels", "masked"]),
    "keras": ("HetConv2D", ["--framework", "keras", "--levels", "hetconv"]),
    "ctypes": ("masked", ["--levels", "masked"]),
    "cupy": ("masked", ["--levels", "masked"]),
}
NOT_INSTALLED = "{} IS NOT INSTALLED: its example in the docs is not run (make test-frameworks)"


def example(framework, language="python"):
    (code,) = re.findall(rf"<!-- example {framework} -->\n```{language}\n(.*?)```", DOCS, re.S)
    return code


def installed(module):
    """Asked in a process of its own: some of these cannot be imported beside others."""
    return not subprocess.run([sys.executable, "-c", f"import {module}"], capture_output=True, check=False).returncode


def assert_correct(framework, folder, monkeypatch):
    (folder / "layers.py").write_text(example(framework), encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    name, options = RUNS[framework]
    command = [sys.executable, "-m", "lhc_ref.cli", "check", f"layers:{name}", "--json", "-", *options]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode in (0, 1), done.stderr
    report = json.loads(done.stdout)
    assert [f for f in report["findings"] if f["status"] == "failed"] == []
    areas = report["areas"][{"torch": "free"}.get(framework, options[-1])]
    assert areas["forward"]["passed"] >= 5
    assert not any("failed" in counts for counts in areas.values())
    if framework != "numpy":
        assert areas["dkernel"]["passed"] >= 5


def test_the_example_for_numpy_is_correct(tmp_path, monkeypatch):
    assert_correct("numpy", tmp_path, monkeypatch)


@pytest.mark.parametrize("framework", ["torch", "jax"])
def test_the_example_for_a_framework_is_correct(framework, tmp_path, monkeypatch):
    if not installed(framework):
        pytest.skip(NOT_INSTALLED.format(framework.upper()))
    assert_correct(framework, tmp_path, monkeypatch)


@pytest.mark.parametrize("backend", ["jax", "tensorflow"])
def test_the_example_for_keras_is_correct(backend, tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", backend)
    if not installed("keras"):
        pytest.skip(NOT_INSTALLED.format(f"KERAS WITH {backend.upper()}"))
    assert_correct("keras", tmp_path, monkeypatch)


def test_the_example_in_c_is_correct(tmp_path, monkeypatch):
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("NO C COMPILER: the example in C in the docs is not run")
    (tmp_path / "masked.c").write_text(example("c", "c"), encoding="utf-8")
    command = re.search(r"`cc (.*)`", DOCS)[1].split()
    subprocess.run([compiler, *command], cwd=tmp_path, check=True)
    assert_correct("ctypes", tmp_path, monkeypatch)


def test_the_example_for_cupy_is_correct_with_numpy_in_its_place(tmp_path, monkeypatch):
    (tmp_path / "cupy.py").write_text("from numpy import *\nfrom numpy import asarray as asnumpy\n", encoding="utf-8")
    assert_correct("cupy", tmp_path, monkeypatch)


@pytest.mark.parametrize(
    ("mark", "mutants"), [("", mutants.MUTANTS), (" later", later.MUTANTS)], ids=["first", "second"]
)
def test_the_tables_of_mutants_are_in_the_docs(mark, mutants):
    table = DOCS.partition(f"<!-- mutants{mark} -->")[2].partition(f"<!-- end of mutants{mark} -->")[0]
    found = re.search(r"(\d+) mutants, (\d+) of them double faults: (\d+) caught, the cause named for (\d+)", table)
    total, double, caught, named = map(int, found.groups())
    assert total == len(mutants)
    assert double == sum("+" in m.name for m in mutants)
    assert caught == total
    assert named >= 0.75 * total
    assert table.count("\n| ") == total + 1
    first = re.search(r"Not counting those marked .later.: (\d+)\.", table)
    assert f"{first.group(1)} of the {total} were named at once" in DOCS
    for mutant in mutants:
        cause = "; ".join(mutant.faults).replace("|", diagnose_mutants.BAR)
        assert f"\n| {cause} | {', '.join(mutant.levels)} |" in table


def test_no_fault_is_in_two_lists():
    assert f"\n{len(familiar.MUTANTS)} more faults" in DOCS
    names = [m.name for m in (*mutants.MUTANTS, *familiar.MUTANTS, *later.MUTANTS)]
    assert len(set(names)) == len(names)


def test_the_mistakes_that_the_docs_promise_to_name():
    """That each is named, `test_torch` shows."""
    rows = dict(re.findall(r"^\| (.+) \| `python -m tests\.check\.diagnose_mutants ([\w-]+)` \|$", DOCS, re.M))
    assert rows == accepted.PROMISED
