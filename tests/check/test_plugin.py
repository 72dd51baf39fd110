"""The pytest plugin, in a pytest of its own."""

import subprocess
import sys
from pathlib import Path

from lhc_ref.check.suite import suite

ROOT = Path(__file__).parents[2]


def pytest_of(folder, *arguments):
    (folder / "test_own.py").write_text("def test_of_the_project():\n    pass\n")
    plugins = ["-p", "lhc_ref.check.pytest_plugin", "-p", "no:cacheprovider"]
    command = [sys.executable, "-m", "pytest", "-q", *plugins, *arguments, f"--rootdir={folder}", str(folder)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_a_case_is_a_test_beside_the_projects_own(tmp_path):
    done = pytest_of(tmp_path, "--lhc-target", "tests.check.numpy_layer:layer", "--lhc-options=--dtypes float32")
    assert done.returncode == 0, done.stdout
    count = len(suite("free", ("float32",))) + 1
    assert f"\n{count} passed" in done.stdout


def test_failures_tell_numbers_and_diagnosis(tmp_path):
    options = "--lhc-options=--dtypes float32 --case free:h=1,w=2"
    done = pytest_of(tmp_path, "--lhc-target", "tests.check.broken:dbias_mean", options)
    assert done.returncode == 1
    assert "free:h=1,w=2" in done.stdout
    assert "worst at [" in done.stdout
    assert "diagnosis: dbias is averaged over batch and pixels" in done.stdout
    assert "1 failed, 1 passed" in done.stdout


def test_expected_failures(tmp_path):
    known = tmp_path / "known.txt"
    known.write_text("free/dbias\n")
    options = f"--lhc-options=--case free:h=1,w=2 --xfail {known}"
    done = pytest_of(tmp_path, "--lhc-target", "tests.check.broken:dbias_mean", options)
    assert done.returncode == 0
    assert "1 passed, 1 xfailed" in done.stdout


def test_wrong_options_are_a_usage_error(tmp_path):
    done = pytest_of(tmp_path, "--lhc-target", "x:y", "--lhc-options=--levels freed")
    assert done.returncode == 4
    assert "level: expected one of" in done.stderr


def test_without_a_target_nothing_changes(tmp_path):
    done = pytest_of(tmp_path)
    assert "1 passed" in done.stdout
