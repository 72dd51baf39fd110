"""Golden vectors: complete, right, and readable by a program that is not Python."""

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from lhc_ref.check.cases import LEVELS, Case
from lhc_ref.check.precision import Precision
from lhc_ref.check.reference import solve
from lhc_ref.cli import main
from lhc_ref.errors import ConfigError

READER = Path(__file__).with_name("reader.c")


@pytest.fixture(scope="module")
def vectors(tmp_path_factory):
    folder = tmp_path_factory.mktemp("vectors") / "out"
    assert main(["check", "--export", str(folder), "--dtypes", "float32"]) == 0
    return folder


@pytest.fixture(scope="module")
def reader(tmp_path_factory):
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        pytest.skip("NO C COMPILER (cc, gcc, clang): the reader of golden vectors in C is not tested")
    program = tmp_path_factory.mktemp("reader") / "reader"
    subprocess.run([compiler, "-Wall", "-Wextra", "-Werror", "-std=c99", str(READER), "-o", program, "-lm"], check=True)
    return program


def run(*command):
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_index_lists_every_level_and_file(vectors):
    index = json.loads((vectors / "index.json").read_text())["cases"]
    assert {entry["geometry"]["level"] for entry in index} == set(LEVELS)
    listed = {path for entry in index for group in ("in", "out", "budget") for path in entry[group].values()}
    assert listed == {str(p.relative_to(vectors)) for p in vectors.rglob("*.npy")}


def test_the_files_are_the_cases_and_their_answers(vectors):
    for entry in json.loads((vectors / "index.json").read_text())["cases"][::20]:
        case = Case.parse(entry["id"])
        answer = solve(case, Precision.of(case.dtype))
        assert set(entry["out"]) == set(entry["budget"]) == set(answer)
        for name, e in answer.items():
            assert np.array_equal(np.load(vectors / entry["out"][name]), e.value)
            assert np.array_equal(np.load(vectors / entry["budget"][name]), e.budget)
        assert all(np.array_equal(np.load(vectors / entry["in"][k]), a, equal_nan=True) for k, a in case.arrays.items())


def test_c_reads_and_compares_them(vectors, reader, tmp_path):
    for entry in json.loads((vectors / "index.json").read_text())["cases"][::40]:
        for name, out in entry["out"].items():
            files = [vectors / out, vectors / out, vectors / entry["budget"][name]]
            done = run(reader, *files)
            assert (done.returncode, done.stdout) == (0, f"ok {np.load(vectors / out).size}\n")
            off = np.load(vectors / out)
            off.flat[-1] += 1
            np.save(tmp_path / "off.npy", off)
            done = run(reader, tmp_path / "off.npy", *files[1:])
            assert done.returncode == 1
            assert f"element {off.size - 1}: " in done.stdout


def test_c_refuses_what_it_cannot_read(vectors, reader, tmp_path):
    np.save(tmp_path / "f4.npy", np.zeros(3, np.float32))
    assert run(reader, *[tmp_path / "f4.npy"] * 3).returncode == 2


def test_a_folder_with_files_in_it_is_left_alone(vectors):
    with pytest.raises(ConfigError, match="expected a new or empty folder"):
        main(["check", "--export", str(vectors)])


def test_unknown_levels(tmp_path):
    with pytest.raises(ConfigError, match="level: expected one of"):
        main(["check", "--export", str(tmp_path / "x"), "--levels", "freed"])
