"""Which engines are found, in this Python and in environments of their own."""

import sys
import venv
from pathlib import Path

import pytest

from lhc_ref.modelfile import InputError
from runtime.bench import engines


@pytest.fixture
def only_torch_is_missing(monkeypatch):
    monkeypatch.setattr(engines.importlib.util, "find_spec", lambda name: None if name == "torch" else object())


def environment(folder, *modules):
    """A real environment that has these modules, all empty."""
    venv.create(folder, with_pip=False)
    packages = next(folder.glob("lib/python*/site-packages"))
    for name in modules:
        (packages / f"{name}.py").touch()
    return folder


def test_all_that_are_here_are_measured_unless_some_are_named(only_torch_is_missing):
    assert engines.choose(None, True, {}) == ("ours", "ours-dense", "onnxruntime", "openvino", "deepsparse")
    assert engines.choose(None, False, {})[:2] == ("ours", "onnxruntime")
    assert engines.choose(("openvino-bf16", "ours"), True, {}) == ("openvino-bf16", "ours")


def test_engines_that_are_not_here_are_refused_by_name(only_torch_is_missing):
    with pytest.raises(InputError, match=r"engine torch: expected the modules torch and onnx.*--engine-env torch="):
        engines.choose(("ours", "torch"), True, {})


def test_an_environment_brings_its_engine(only_torch_is_missing):
    pythons = {"torch": "/env/bin/python"}
    assert "torch" in engines.choose(None, True, pythons)
    assert engines.choose(("torch",), True, pythons) == ("torch",)
    assert engines.python_of("torch", pythons) == "/env/bin/python"
    assert engines.python_of("ours", pythons) == sys.executable


def test_both_forms_of_an_engine_run_in_its_environment():
    pythons = {"openvino": "a", "deepsparse": "b"}
    assert [engines.python_of(name, pythons) for name in ("openvino-bf16", "deepsparse-dense")] == ["a", "b"]


def test_nets_are_written_here_whoever_runs_them(monkeypatch):
    monkeypatch.setattr(engines.importlib.util, "find_spec", lambda name: None)
    assert not engines.importable("torch", {"torch": "python"})


def test_the_python_of_an_environment_is_found(tmp_path, monkeypatch):
    folder = environment(tmp_path / "env", "numpy", "deepsparse")
    monkeypatch.chdir(tmp_path)
    assert engines.python_in("deepsparse", Path("env")) == str(folder / "bin" / "python")


@pytest.mark.parametrize(("name", "missing"), [("deepsparse", "deepsparse"), ("torch", "torch and onnx")])
def test_an_environment_without_the_engine_is_refused(name, missing, tmp_path, monkeypatch):
    other = tmp_path / "other"
    other.mkdir()
    (other / f"{name}.py").touch()
    monkeypatch.setenv("PYTHONPATH", str(other))  # no engine's process sees it
    folder = environment(tmp_path / "env", "numpy")
    with pytest.raises(InputError, match=rf"--engine-env {name}: expected an environment.* without {missing}\. Inst"):
        engines.python_in(name, folder)


def test_a_folder_that_is_no_environment_is_refused(tmp_path):
    with pytest.raises(InputError, match="--engine-env torch: expected the folder of a Python environment, got"):
        engines.python_in("torch", tmp_path)


def test_a_python_that_does_not_run_is_refused(tmp_path):
    python = environment(tmp_path / "env") / "bin" / "python"
    python.unlink()
    python.write_text("#!/bin/false\n")
    python.chmod(0o755)
    with pytest.raises(InputError, match="--engine-env torch: expected a Python that runs, got"):
        engines.python_in("torch", tmp_path / "env")
