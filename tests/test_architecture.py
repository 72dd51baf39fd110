"""Imports run one way, and importing is light. tests/meta/test_architecture.py shows that these checks can fail."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import architecture

ROOT = Path(__file__).parents[1]
REPORT = """
import json, sys
from numba.core import event
with event.install_recorder("numba:compile") as compiled:
    {statement}
print(json.dumps([len(compiled.buffer), sorted(sys.modules)]))
"""
HEAVY = {"PIL", "h5py", "hypothesis", "matplotlib", "numba.cuda", "numba_cuda", "onnx", "sklearn"}


@pytest.mark.parametrize("check", architecture.CHECKS, ids=lambda check: check.__name__)
def test_sources(check: Callable[[Path], list[str]]) -> None:
    assert check(ROOT) == []


def test_the_checks_see_both_packages() -> None:
    seen = {found.module for found in architecture.imports(ROOT)}
    assert {"lhc_ref.modelfile", "lhc_ref.conv", "runtime.model", "runtime.kernels.conv"} <= seen


def after(statement: str) -> tuple[int, set[str]]:
    """How many functions a fresh process compiles while it executes `statement`, and which modules it then holds."""
    run = [sys.executable, "-c", REPORT.format(statement=statement)]
    done = subprocess.run(run, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    compiled, modules = json.loads(done.stdout)
    return compiled, set(modules)


@pytest.mark.parametrize("package", architecture.PACKAGES)
def test_import_is_light(package: str) -> None:
    compiled, modules = after(f"import {package}")
    assert compiled == 0
    assert package in modules
    assert modules & HEAVY == set()


def test_import_of_every_module_is_light() -> None:
    """But for the GPU's kernels, which need numba.cuda at their top and are imported by their gate alone."""
    modules = [name for name in architecture.module_files(ROOT) if not name.startswith(architecture.GPU_KERNELS)]
    compiled, loaded = after("import " + ", ".join(modules))
    assert compiled == 0
    assert set(modules) <= loaded
    assert loaded & HEAVY == set()


def test_lhc_ref_needs_no_numba() -> None:
    names = [name for name in architecture.module_files(ROOT) if name.startswith("lhc_ref")]
    code = f"import sys, {', '.join(names)}; sys.exit('numba' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
