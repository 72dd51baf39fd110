"""Console commands in a process of their own: every failure is one line and an exit code, never a traceback."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from lhc_ref import errors

ROOT = Path(__file__).parents[2]
HEADER = """
import sys
from lhc_ref import command, errors
sys.argv = ["/somewhere/lhc-test"]
def main():
"""
FOOTER = """
sys.exit(command.run(main))
"""


def start(body: str, **options: Any) -> "subprocess.Popen[bytes]":
    """A process whose command has `body` as its main function."""
    program = HEADER + "".join(f"    {line}\n" for line in body.splitlines()) + FOOTER
    options["env"] = {**os.environ, "PYTHONUNBUFFERED": "", **options.pop("env", {})}
    return subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, stderr=subprocess.PIPE, **options)


def outcome(body: str, **options: Any) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of a command with `body` as its main function."""
    options.setdefault("stdout", subprocess.PIPE)
    with start(body, **options) as process:
        out, err = process.communicate(timeout=60)
        return process.returncode, (out or b"").decode(), err.decode()


@pytest.mark.parametrize("status", [0, 1, 3])
def test_status_passes(status: int) -> None:
    assert outcome(f"print('hello')\nreturn {status}") == (status, "hello\n", "")


def test_usage_error_of_argparse_passes() -> None:
    status, _, err = outcome("import argparse\nargparse.ArgumentParser(prog='lhc-test').parse_args(['--what'])")
    assert status == 2
    assert err.endswith("lhc-test: error: unrecognized arguments: --what\n")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("raise errors.LhcError('net: expected a file. Name one.')", "net: expected a file. Name one."),
        ("raise errors.InputError('first line\\nsecond line')", "first line second line"),
        ("open('no/such/file')", "no/such/file: No such file or directory"),
        ("raise OSError('only a text')", "only a text"),
    ],
)
def test_failure_of_the_user_is_one_line(body: str, message: str) -> None:
    assert outcome(body) == (2, "", f"lhc-test: error: {message}\n")


def test_bug_is_one_line_too() -> None:
    status, _, err = outcome("return [][1]")
    assert status == 70
    assert err == (
        "lhc-test: error: IndexError: list index out of range. "
        "This is a bug of lhc; LHC_TRACEBACK=1 shows where it happened.\n"
    )


@pytest.mark.parametrize(("value", "shown"), [("1", True), ("0", False), ("", False)])
def test_traceback_on_request(value: str, shown: bool) -> None:
    status, _, err = outcome("raise errors.DataError('bad')", env={"LHC_TRACEBACK": value})
    assert status == 2
    assert err.endswith("lhc-test: error: bad\n")
    assert ("Traceback (most recent call last)" in err) == shown


@pytest.mark.skipif(os.name != "posix", reason="signals as on POSIX")
def test_interrupt() -> None:
    process = start("print('ready', flush=True)\nimport time\ntime.sleep(60)", stdout=subprocess.PIPE)
    with process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert (process.returncode, err.decode()) == (130, "lhc-test: interrupted\n")


@pytest.mark.skipif(os.name != "posix", reason="pipes as on POSIX")
@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("for i in range(100_000): print(i)\nreturn 0", (141, "")),  # breaks while printing
        ("print('little')\nreturn 0", (141, "")),  # breaks at the last flush
        ("print('little')\nraise errors.LhcError('bad')", (2, "lhc-test: error: bad\n")),
    ],
)
def test_reader_went_away(body: str, expected: tuple[int, str]) -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    try:
        status, _, err = outcome(body, stdout=write_end)
    finally:
        os.close(write_end)
    assert (status, err) == expected


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_full_disk_behind_stdout() -> None:
    with open("/dev/full", "wb") as full:
        assert outcome("print('text')\nreturn 0", stdout=full)[::2] == (
            2,
            "lhc-test: error: [Errno 28] No space left on device\n",
        )


@pytest.mark.skipif(os.name != "posix", reason="a shell closes stdout")
def test_no_stdout_at_all() -> None:
    program = HEADER + "    print('text')\n    return 0\n" + FOOTER
    shell = subprocess.run(
        ["sh", "-c", '"$0" -c "$1" >&-', sys.executable, program], cwd=ROOT, capture_output=True, check=False
    )
    assert (shell.returncode, shell.stderr) == (0, b"")


def test_every_error_is_an_lhc_error() -> None:
    raised = [value for value in vars(errors).values() if isinstance(value, type)]
    assert len(raised) == 7
    assert all(issubclass(error, errors.LhcError) for error in raised)
    assert issubclass(errors.InputError, ValueError)
