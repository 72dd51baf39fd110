"""The command: what it prints and writes, its exit codes, expected failures, replay."""

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from xml.etree import ElementTree

import pytest

from lhc_ref.cli import main
from lhc_ref.errors import ConfigError, InputError

ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, "-m", "lhc_ref.cli", "check"]
GOOD, BAD = "tests.check.numpy_layer:layer", "tests.check.broken:dbias_mean"


def check(*arguments):
    return main(["check", *map(str, arguments)])


def test_a_correct_layer(capsys):
    assert check(GOOD, "--levels", "free,rigid") == 0
    text = capsys.readouterr().out
    assert " 0 failed" in text
    assert "not run, not declared: masked, hetconv, csg, lean, nm, regularizer" in text
    assert "bfloat16 not declared; float16 not declared" in text
    assert "expected a target with set_threads(count)" in text
    for area in ("forward", "mask", "dx", "dkernel", "dscores", "dbias", "enabled", "grouping", "padding", "stride"):
        assert f"\n  {area} " in text


def test_a_wrong_layer_is_told_what_is_wrong_with_which_numbers(capsys):
    assert check(BAD, "--dtypes", "float32") == 1
    text = capsys.readouterr().out
    assert "FAILED free: dbias (" in text
    assert "worst at [" in text
    assert ", expected " in text
    assert "budget 0 = (gamma_" in text
    assert "diagnosis: dbias is averaged over batch and pixels" in text
    smallest = text.partition("smallest case: --case ")[2].split()[0]
    assert "h=1" in smallest or "w=1" in smallest

    assert check(BAD, "--case", smallest) == 1
    assert "1 failed" in capsys.readouterr().out
    assert check(GOOD, "--case", smallest) == 0


def test_a_crash_is_a_finding_and_the_other_areas_are_judged(capsys):
    assert check("tests.check.broken:crashes_on_stride", "--dtypes", "float32") == 1
    lines = [line.split() for line in capsys.readouterr().out.splitlines() if line.startswith("  ")]
    rows = {line[0]: line[1:3] for line in lines}
    assert rows["stride"] == ["0", "5"]
    assert rows["forward"][1] == "0"


def test_a_level_is_given_up_after_three_dead_calls(capsys):
    assert check("tests.check.broken:crashes", "--dtypes", "float32") == 1
    text = capsys.readouterr().out
    assert ", 3 failed" in text
    assert "not called: the first 3 calls crashed or timed out" in text
    assert text.count("FAILED") == 1


def test_calls_that_differ_from_each_other(capsys):
    assert check("tests.check.broken:random", "--json", "-") == 1
    report = json.loads(capsys.readouterr().out)
    assert report["areas"]["free"]["determinism"] == {"failed": 1}


def test_json_and_junit(tmp_path, capsys):
    assert check(BAD, "--dtypes", "float32", "--json", tmp_path / "r.json", "--junit", tmp_path / "r.xml") == 1
    report = json.loads((tmp_path / "r.json").read_text())
    failed = [f for f in report["findings"] if f["status"] == "failed"]
    assert {(f["level"], f["tensor"]) for f in failed} == {("free", "dbias")}
    assert failed[0]["diagnosis"] == ["dbias is averaged over batch and pixels"]
    assert report["areas"]["free"]["forward"] == {"passed": 19}
    suites = ElementTree.parse(tmp_path / "r.xml").getroot()
    tests = suites.findall("./testsuite[@name='lhc.free']/testcase")
    assert sum(t.find("failure") is not None for t in tests) == len(failed)
    assert int(suites.find("./testsuite[@name='lhc.free']").get("failures")) == len(failed)
    assert suites.find("./testsuite[@name='lhc.nm']/testcase/skipped").get("message") == "level not declared"


def test_expected_failures_and_stale_lines(tmp_path, capsys):
    lines = ["free/dbias # known", "free/enabled", "free/grouping", "free/padding", "free/stride", "free/dilation"]
    known = tmp_path / "known.txt"
    known.write_text("\n".join(lines))
    assert check(BAD, "--dtypes", "float32", "--xfail", known) == 0
    assert "expected failure" in capsys.readouterr().out
    known.write_text("\n".join([*lines, "", "free/mask"]))
    assert check(BAD, "--dtypes", "float32", "--xfail", known) == 1
    assert "known.txt:8: free/mask: expected a failure, got none. Remove the line." in capsys.readouterr().err


@pytest.mark.parametrize("line", ["free", "free/colour", "rigid/dbias", "dbias"])
def test_lines_that_name_nothing(tmp_path, line):
    known = tmp_path / "known.txt"
    known.write_text(line)
    with pytest.raises(ConfigError, match=r"known.txt:1: expected LEVEL/AREA"):
        check(GOOD, "--xfail", known)


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        (["no_such_module:Layer"], ConfigError, "expected an importable target"),
        (["tests.check.broken:nobody"], ConfigError, "expected an importable target"),
        (["tests/check/broken.py:nan"], ConfigError, "target: expected PACKAGE.MODULE:OBJECT, got 'tests/check"),
        (["tests.check.broken"], ConfigError, "Of the file layers.py: layers:NAME"),
        (["tests.check.broken:refuses"], ConfigError, "expected cases that it can be asked for, got none: only on Sun"),
        ([], ConfigError, "check: expected a target"),
        ([GOOD, "--levels", "freed"], ConfigError, "level: expected one of free, rigid"),
        ([GOOD, "--dtypes", "int8"], InputError, "dtype: expected one of"),
        ([GOOD, "--case", "rigid:h=5"], ConfigError, "expected a level that is declared"),
        ([GOOD, "--case", "free:seed=-3"], InputError, "case: expected an id"),
        ([GOOD, "--case", "x"], InputError, "case: expected an id"),
    ],
)
def test_what_cannot_be_run_is_an_error(arguments, error, words):
    with pytest.raises(error, match=words):
        check(*arguments)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--framework", "cobol"],
        ["--names", "kernel"],
        ["--also", "nm"],
        ["--seed", "-1"],
        ["--timeout", "nan"],
        ["--timeout", "0"],
        ["--levels", ","],
    ],
)
def test_wrong_usage(arguments):
    with pytest.raises(SystemExit, match="2"):
        check(GOOD, *arguments)


@pytest.mark.parametrize("name", ["scalars", "empty", "infinite", "odd_words"])
def test_no_answer_is_so_odd_that_it_cannot_be_reported(tmp_path, capfd, name):
    options = "--dtypes", "float32", "--json", tmp_path / "r.json", "--junit", tmp_path / "r.xml"
    assert check(f"tests.check.broken:{name}", *options) == 1
    out, err = capfd.readouterr()
    assert "FAILED free: " in out
    assert err == ""
    assert json.loads((tmp_path / "r.json").read_text())["findings"]
    assert ElementTree.parse(tmp_path / "r.xml").getroot()[0].get("failures") != "0"


def test_a_terminal_of_few_letters(monkeypatch):
    screen = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr("sys.stdout", screen)
    assert check("tests.check.broken:odd_words", "--dtypes", "float32") == 1
    screen.flush()
    assert rb"\u2192" in screen.buffer.getvalue()


def test_another_seed_makes_other_cases(capsys):
    for seed in (1, 2):
        assert check(GOOD, "--seed", seed, "--json", "-", "--dtypes", "float32") == 0
        assert json.loads(capsys.readouterr().out)["seed"] == seed


@pytest.mark.skipif(os.name != "posix", reason="signals as on POSIX")
def test_an_interruption_tells_what_was_found_and_ends_the_targets_process(tmp_path):
    pids = tmp_path / "pids"
    env = {**os.environ, "LHC_TEST_PIDS": str(pids)}
    command = [*COMMAND, "tests.check.broken:slow", "--timeout", "60"]
    with subprocess.Popen(
        command,
        cwd=ROOT,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        until = time.monotonic() + 60
        while (not pids.exists() or len(pids.read_text().splitlines()) < 10) and time.monotonic() < until:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        out, err = (text.decode() for text in process.communicate(timeout=60))
    assert process.returncode == 130
    assert out == ""
    assert "interrupted after 9 of " in err
    assert "FAILED free: dbias (" in err
    assert err.endswith("cli: interrupted\n")
    for pid in {line.split()[1] for line in pids.read_text().splitlines()}:
        with pytest.raises(ProcessLookupError):
            os.kill(int(pid), 0)


@pytest.fixture
def read_only_folder():
    """A folder with a layer in it that nobody may write to."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "layers.py").write_text("from tests.check.numpy_layer import layer\n")
        os.chmod(folder, 0o555)
        yield Path(folder)
        os.chmod(folder, 0o755)


def test_a_folder_that_cannot_be_written(read_only_folder):
    """A failing layer is shrunk there, too, by Hypothesis, which likes to keep a folder of examples."""
    bound: list[str] = []
    if os.access(read_only_folder, os.W_OK):  # root may write everywhere, unless it gives that up
        if not shutil.which("setpriv"):
            pytest.skip("RUN AS ROOT WITHOUT setpriv: a read-only folder is not tested")
        bound = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}

    def run(*command):
        options = {"cwd": read_only_folder, "env": env, "capture_output": True, "text": True, "check": False}
        return subprocess.run([*bound, *command], **options)

    done = run(*COMMAND, "layers:layer", "--dtypes", "float32")
    assert (done.returncode, done.stderr) == (0, "")
    failed = run(*COMMAND, "tests.check.broken:dbias_mean", "--dtypes", "float32")
    assert failed.returncode == 1
    assert "smallest case: --case " in failed.stdout
    assert failed.stderr == ""
    refused = run(*COMMAND, "layers:layer", "--case", "free:", "--json", "report.json")
    assert refused.returncode == 2
    assert "report.json: expected a place to write a file, got 'Permission denied'" in refused.stderr
    assert "6 passed, 0 failed" in refused.stdout
    assert [path.name for path in read_only_folder.iterdir()] == ["layers.py"]
