"""The Makefile's own environment: made once, trusted only when whole, never taken from somebody else.

A shell script plays Python here, so that nothing is downloaded: `-m venv` copies it, and calls are logged.
"""

import os
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]
PYTHON = """#!/bin/sh
here=$(dirname "$0")
case "$*" in
  *version_info*) exit ${TOO_OLD:-0} ;;
  --version) echo Python 3.9.1 ;;
  "-m venv "*) mkdir -p "$3/bin"; cp "$0" "$3/bin/python"; echo venv >>"$LOG"; exit ${VENV_FAILS:-0} ;;
  "-m pip "*) echo "pip ${*##* }" >>"$LOG"; ${PIP_DOES:-:} ;;
  *) echo "run ${*#-m }" >>"$LOG" ;;
esac
"""
pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="needs make")


class Folder:
    """A folder with the Makefile, a pyproject.toml and a Python that only takes notes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.venv = path / ".venv"
        self.log = path / "log"
        shutil.copy(ROOT / "Makefile", path)
        (path / "pyproject.toml").touch()
        (path / "python3").write_text(PYTHON)
        (path / "python3").chmod(0o755)

    def make(self, *arguments: str, **env: str) -> "Done":
        """Run make."""
        self.log.write_text("")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS", "VENV"))}
        done = subprocess.run(
            ["make", "PYTHON=./python3", *arguments],
            cwd=self.path,
            env={**kept, "LOG": str(self.log), **env},
            capture_output=True,
            text=True,
            check=False,
        )
        calls = [line.rstrip() for line in self.log.read_text().splitlines()]
        return Done(done.returncode, done.stdout, done.stderr, calls)

    def calls(self, *arguments: str) -> list[str]:
        """What a successful run of make calls Python for."""
        done = self.make(*arguments)
        assert done.status == 0, done.err
        return done.calls


class Done(NamedTuple):
    """What came of a run of make."""

    status: int
    out: str
    err: str
    calls: list[str]


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


LINT = ["run ruff check .", "run ruff format --check ."]
FIRST = ["venv", "pip .[dev]", *LINT]


def test_environment_is_made_once(folder: Folder) -> None:
    assert folder.calls("lint") == FIRST
    assert folder.calls("lint") == LINT
    assert folder.calls("types") == ["run mypy"]  # the same extra
    assert folder.calls("demo") == ["pip .[demo,plots]", "run benchmarks.demo"]
    assert not (folder.path / ".venv.unfinished").exists()


def test_changed_settings_install_again(folder: Folder) -> None:
    folder.calls("lint")
    stamp = (folder.venv / ".with-dev").stat().st_mtime
    os.utime(folder.path / "pyproject.toml", (stamp + 1, stamp + 1))
    assert folder.calls("lint") == ["pip .[dev]", *LINT]


@pytest.mark.parametrize(
    "cut",
    [
        {"VENV_FAILS": "1"},  # venv gives up half-way
        {"PIP_DOES": "false"},  # pip fails
        {"PIP_DOES": "kill -KILL $PPID"},  # make's shell, and with it the step, is killed
    ],
    ids=["venv", "pip", "kill"],
)
def test_half_an_environment_is_not_trusted(folder: Folder, cut: dict[str, str]) -> None:
    assert folder.make("lint", **cut).status != 0
    assert folder.calls("lint") == FIRST
    assert folder.calls("lint") == LINT


def test_cut_second_install_makes_everything_anew(folder: Folder) -> None:
    folder.calls("lint")
    assert folder.make("demo", PIP_DOES="false").status != 0
    assert folder.calls("lint") == FIRST


def test_environment_of_somebody_else_is_left_alone(folder: Folder) -> None:
    folder.venv.mkdir()
    (folder.venv / "theirs").touch()
    done = folder.make("lint")
    assert done.status == 2
    assert ".venv: expected an environment made here, got another. Move it away, or name another" in done.err
    assert os.listdir(folder.venv) == ["theirs"]
    assert done.calls == []
    assert folder.calls("lint", "VENV=.venv-make") == FIRST


def test_old_python_is_refused(folder: Folder) -> None:
    done = folder.make("lint", TOO_OLD="1")
    assert done.status == 2
    assert "./python3: expected Python 3.11 or newer, got Python 3.9.1. Install one, or name it: make lint" in done.err
    assert not folder.venv.exists()


def test_missing_python_is_told(folder: Folder) -> None:
    done = folder.make("lint", "PYTHON=./no-python")
    assert done.status == 2
    assert "./no-python: expected Python 3.11 or newer, got" in done.err


def test_every_target_is_in_the_help(folder: Folder) -> None:
    source = (folder.path / "Makefile").read_text()
    (phony,) = [line.split()[1:] for line in source.splitlines() if line.startswith(".PHONY:")]
    text = folder.make("help").out
    assert {line.split()[1] for line in text.splitlines()} == {*phony} - {"help", "FORCE"}
