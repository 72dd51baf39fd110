"""The checks of the architecture must fail on planted violations, and on nothing else."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests import architecture
from tests.test_architecture import HEAVY, after

CLEAN = {
    "lhc_ref/__init__.py": "",
    "lhc_ref/command.py": "",
    "lhc_ref/errors.py": "",
    "lhc_ref/extras.py": "import importlib\ndef require(name):\n    return importlib.import_module(name)\n",
    "lhc_ref/modelfile.py": "from lhc_ref.errors import LhcError\n",
    "lhc_ref/evaluate.py": "from lhc_ref import modelfile\n",
    "lhc_ref/export.py": "from lhc_ref.related import csg\n",
    "lhc_ref/related/__init__.py": "",
    "lhc_ref/related/csg.py": "from lhc_ref.errors import LhcError\n",
    "runtime/__init__.py": "from runtime.model import load\n",
    "runtime/spec.py": "from lhc_ref.modelfile import LhcError\n",
    "runtime/plan.py": "from runtime import spec\nfrom runtime.kernels import registry\n",
    "runtime/model.py": "from . import plan\nfrom lhc_ref import modelfile\n",
    "runtime/kernels/__init__.py": "",
    "runtime/kernels/conv.py": "import numba\n",
    "runtime/kernels/registry.py": "from runtime.kernels import conv\n",
    "runtime/cuda/__init__.py": "",
    "runtime/cuda/gate.py": "import importlib\ndef f():\n    importlib.import_module('runtime.cuda.kernels.conv')\n",
    "runtime/cuda/registry.py": "",
    "runtime/cuda/kernels/__init__.py": "",
    "runtime/cuda/kernels/conv.py": "from numba import cuda\nfrom runtime.cuda import registry\n",
    "runtime/cli.py": "from lhc_ref import command, errors\nfrom runtime.commands import info, verify\n",
    "runtime/commands/__init__.py": "",
    "runtime/commands/info.py": "import runtime\nfrom lhc_ref import extras\n",
    "runtime/commands/verify.py": "from lhc_ref import evaluate\n",
    "tests/oracle.py": "from math import sqrt\nimport numpy as np\n",
}

PLANTED = [
    ("cycles", "lhc_ref/errors.py", "import lhc_ref.modelfile"),
    ("cycles", "lhc_ref/errors.py", "from .evaluate import evaluate"),
    ("cycles", "runtime/kernels/conv.py", "from . import registry"),
    ("cycles", "runtime/spec.py", "import typing\nif typing.TYPE_CHECKING:\n    from runtime.model import Model"),
    ("imports_in_functions", "lhc_ref/modelfile.py", "def f():\n    import json"),
    ("imports_in_functions", "runtime/model.py", "class C:\n  def f(self):\n    if self:\n      import json"),
    ("imports_in_functions", "runtime/cli.py", "import importlib\nname = 'os'\nimportlib.import_module(name)"),
    ("imports_in_functions", "runtime/cli.py", "f = lambda: __import__('json')"),
    ("imports_in_functions", "runtime/cuda/gate.py", "def g():\n    import json"),
    ("gpu_kernels_past_their_gate", "runtime/plan.py", "from numba import cuda"),
    ("gpu_kernels_past_their_gate", "runtime/cuda/registry.py", "import numba.cuda.cudadrv"),
    ("gpu_kernels_past_their_gate", "runtime/cuda/gate.py", "from runtime.cuda.kernels import conv"),
    ("gpu_kernels_past_their_gate", "runtime/cli.py", "from runtime.cuda.kernels import conv"),
    ("optional_packages", "lhc_ref/evaluate.py", "import matplotlib.pyplot as plt"),
    ("optional_packages", "runtime/commands/info.py", "from PIL import Image"),
    ("optional_packages", "runtime/commands/info.py", "from importlib import import_module\nimport_module('sklearn')"),
    ("out_of_the_house", "lhc_ref/evaluate.py", "import runtime"),
    ("out_of_the_house", "lhc_ref/evaluate.py", "from runtime.kernels import conv"),
    ("out_of_the_house", "runtime/plan.py", "from tests import oracle"),
    ("out_of_the_house", "runtime/cli.py", "import benchmarks.demo"),
    ("runtime_reaching_into_lhc_ref", "runtime/plan.py", "from lhc_ref.errors import LhcError"),
    ("runtime_reaching_into_lhc_ref", "runtime/__init__.py", "import lhc_ref"),
    ("runtime_reaching_into_lhc_ref", "runtime/kernels/conv.py", "from lhc_ref import modelfile"),
    ("runtime_reaching_into_lhc_ref", "runtime/commands/info.py", "from lhc_ref.evaluate import evaluate"),
    ("runtime_reaching_into_lhc_ref", "runtime/cli.py", "from lhc_ref import evaluate"),
    ("lhc_reaching_for_related", "lhc_ref/evaluate.py", "from lhc_ref.related import csg"),
    ("lhc_reaching_for_related", "lhc_ref/modelfile.py", "import lhc_ref.related.csg"),
    ("runtime_upwards", "runtime/kernels/conv.py", "from runtime.layout import Layout"),
    ("runtime_upwards", "runtime/plan.py", "import runtime.commands.info"),
    ("runtime_upwards", "runtime/cuda/kernels/conv.py", "from runtime import spec"),
    ("runtime_upwards", "runtime/plan.py", "from runtime.cuda import registry"),
    ("runtime_reaching_into_lhc_ref", "runtime/cuda/registry.py", "from lhc_ref import extras"),
    ("runtime_reaching_into_lhc_ref", "runtime/cuda/kernels/conv.py", "from lhc_ref import modelfile"),
    ("runtime_upwards", "runtime/spec.py", "from runtime.topology import blocks"),
    ("oracle_imports", "tests/oracle.py", "from lhc_ref import errors"),
    ("oracle_imports", "tests/oracle.py", "import scipy.signal"),
    ("oracle_imports", "tests/oracle.py", "from tests import tolerances"),
]


def plant(root: Path, changes: dict[str, str]) -> Path:
    """A small clean source tree below `root`, with lines added to some files."""
    for name, source in (CLEAN | {"runtime/topology.py": "", "runtime/layout.py": ""}).items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source + changes.get(name, ""), encoding="utf-8")
    return root


@pytest.mark.parametrize("check", architecture.CHECKS, ids=lambda check: check.__name__)
def test_clean_tree_passes(check: Callable[[Path], list[str]], tmp_path: Path) -> None:
    assert check(plant(tmp_path, {})) == []


@pytest.mark.parametrize(("check", "name", "lines"), PLANTED)
def test_planted_violation_is_found(check: str, name: str, lines: str, tmp_path: Path) -> None:
    (violation,) = getattr(architecture, check)(plant(tmp_path, {name: lines}))
    assert name.removesuffix(".py").removesuffix("/__init__").replace("/", ".") in violation


def test_every_check_is_planted() -> None:
    assert {name for name, _, _ in PLANTED} == {check.__name__ for check in architecture.CHECKS}


def test_compiling_and_heavy_modules_are_seen() -> None:
    compiled, modules = after("import numba, numba.cuda, sklearn; numba.njit('i8(i8)')(lambda x: x)")
    assert compiled > 0
    assert {"numba.cuda", "sklearn"} <= modules & HEAVY
