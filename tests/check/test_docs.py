"""The examples of docs/check.md are run as they stand, each with its framework (`make test-frameworks`)."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.check import accepted, familiar, mutants

ROOT = Path(__file__).parents[2]
DOCS = (ROOT / "docs" / "check.md").read_text(encoding="utf-8")
RUNS = {
    "torch": ("LhcConv2d", ["--framework", "torch"]),
    "numpy": ("hetconv", ["--levels", "hetconv"]),
    "jax": ("masked", ["--framework", "jax", "--levels", "masked"]),
    "keras": ("HetConv2D", ["--framework", "keras", "--levels", "hetconv"]),
}


def example(framework):
    (code,) = re.findall(rf"<!-- example {framework} -->\n```python\n(.*?)```", DOCS, re.S)
    return code


@pytest.mark.parametrize("framework", RUNS)
def test_an_example_is_correct(framework, tmp_path, monkeypatch):
    if framework != "numpy":
        reason = f"{framework.upper()} IS NOT INSTALLED: its example in the docs is not run (make test-frameworks)"
        pytest.importorskip({"keras": "jax"}.get(framework, framework), reason=reason)
    if framework == "keras":
        monkeypatch.setenv("KERAS_BACKEND", "jax")
        found = subprocess.run([sys.executable, "-c", "import keras"], capture_output=True, check=False)
        if found.returncode:
            pytest.skip("KERAS IS NOT INSTALLED: its example in the docs is not run (make test-frameworks)")
    (tmp_path / "layers.py").write_text(example(framework), encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    name, options = RUNS[framework]
    command = [sys.executable, "-m", "lhc_ref.cli", "check", f"layers:{name}", "--json", "-", *options]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode in (0, 1), done.stderr
    report = json.loads(done.stdout)
    assert [f for f in report["findings"] if f["status"] == "failed"] == []
    areas = report["areas"][{"torch": "free"}.get(framework, options[-1])]
    assert areas["forward"]["passed"] >= 5
    assert not any("failed" in counts for counts in areas.values())
    if framework != "numpy":
        assert areas["dkernel"]["passed"] >= 5


def test_the_table_of_mutants_is_in_the_docs():
    table = DOCS.partition("<!-- mutants -->")[2].partition("<!-- end of mutants -->")[0]
    found = re.search(r"(\d+) mutants, (\d+) of them double faults: (\d+) caught, the cause named for (\d+)", table)
    total, double, caught, named = map(int, found.groups())
    assert total >= 40
    assert double >= 5
    assert caught == total
    assert named >= 0.875 * total
    assert table.count("\n| ") == total + 1
    first = re.search(r"Not counting those marked .later.: (\d+)\.", table)
    assert f"{first.group(1)} of the {total} were named at once" in DOCS
    assert f"\n{len(familiar.MUTANTS)} more faults" in DOCS
    names = [m.name for m in (*mutants.MUTANTS, *familiar.MUTANTS)]
    assert len(set(names)) == len(names)


def test_the_mistakes_that_the_docs_promise_to_name():
    """That each is named, `test_torch` shows."""
    rows = dict(re.findall(r"^\| (.+) \| `python -m tests\.check\.diagnose_mutants ([\w-]+)` \|$", DOCS, re.M))
    assert rows == accepted.PROMISED
