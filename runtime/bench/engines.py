"""Which engines can be measured here, and the Python that has each: this one, or that of an environment of its own."""

import importlib.util
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from lhc_ref.modelfile import InputError
from runtime.bench.worker import ENGINES

DENSE = "-dense"  # after a name: the engine on the twin whose missing weights are filled
NAMES = ("ours", "ours-dense", "onnxruntime", "openvino", "openvino-bf16", "torch", "deepsparse", "deepsparse-dense")
BY_DEFAULT = ("onnxruntime", "openvino", "torch", "deepsparse")
"""Each also the name of its module, and of its environment."""
NEEDED = {"torch": ("numpy", "onnx")}  # beside the engine's module, by `worker.py`
FIND = "import importlib.util, sys; print(*(name for name in sys.argv[1:] if importlib.util.find_spec(name) is None))"
PATIENCE_S = 60.0  # with a Python that is asked what it has

Pythons = Mapping[str, str]
"""Module of an engine -> the Python that has it, where it is another than this one."""


def kind(engine: str) -> str:
    """The engine's name for `worker.py`."""
    found = engine.removesuffix(DENSE)
    assert found in ENGINES, "a name of NAMES"
    return found


def module(engine: str) -> str:
    """The module that the engine is, or "ours"."""
    return kind(engine).removesuffix("-bf16")


def python_of(engine: str, pythons: Pythons) -> str:
    """The Python that runs the engine."""
    return pythons.get(module(engine), sys.executable)


def importable(engine: str, pythons: Pythons) -> bool:
    """Whether there is a Python with the engine, and onnx here, which writes nets for it."""
    name = module(engine)
    if name == "ours":
        return True
    here = ["onnx"] if name in pythons else [name, "onnx"]
    return all(importlib.util.find_spec(needed) is not None for needed in here)


def choose(asked: Sequence[str] | None, has_masks: bool, pythons: Pythons) -> tuple[str, ...]:
    """The engines to measure: those asked for, or all that are here, ours first.

    Raises InputError where one that is asked for cannot be imported.
    """
    if asked is None:
        others = (name for name in BY_DEFAULT if importable(name, pythons))
        return ("ours", *(["ours-dense"] if has_masks else []), *others)
    for engine in asked:
        if not importable(engine, pythons):
            raise InputError(
                f"engine {engine}: expected the modules {module(engine)} and onnx, got none. Install them, name an "
                f"environment that has the engine by --engine-env {module(engine)}=FOLDER, or leave it out of --engine."
            )
    return tuple(dict.fromkeys(asked))


def python_in(name: str, folder: Path) -> str:
    """The Python of an environment, which has an engine of BY_DEFAULT.

    Raises InputError where the folder is no environment, or lacks what the engine needs.
    """
    python = next((path for path in (folder / "bin/python", folder / "Scripts/python.exe") if path.exists()), None)
    if python is None:
        raise InputError(
            f"--engine-env {name}: expected the folder of a Python environment, got {folder}. "
            f"Make one: python3 -m venv {folder}"
        )
    needed = (name, *NEEDED.get(name, ("numpy",)))
    variables = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}  # as in `processes.py`
    try:
        done = subprocess.run(
            [python, "-c", FIND, *needed], capture_output=True, text=True, env=variables, timeout=PATIENCE_S, check=True
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise InputError(f"--engine-env {name}: expected a Python that runs, got '{error}'. Make it anew.") from error
    if missing := done.stdout.split():
        raise InputError(
            f"--engine-env {name}: expected an environment with {' and '.join(needed)}, got {folder} without "
            f"{' and '.join(missing)}. Install: {python} -m pip install {' '.join(missing)}"
        )
    return str(python.absolute())
