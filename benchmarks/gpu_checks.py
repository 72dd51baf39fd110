"""The GPU's tests and NVIDIA's checkers, each in a process of its own that has so much time."""

import importlib.util
import os
import signal
import subprocess
import sys
from contextlib import suppress
from typing import Any

from benchmarks.gpu_resources import toolkit_program

STOPPING_S = 15  # for tests whose time is up, to tell what failed
TOLD = 4000  # characters of what a process has written
TOOLS = ("memcheck", "racecheck")
NO_SANITIZER = "compute-sanitizer is not installed: a CUDA toolkit or nvidia-cuda-sanitizer-api brings it"
CHECKED_TESTS = "registered_tile or golden_graphs or functions_behind"  # what runs under the checkers
PYTEST = [sys.executable, "-m", "pytest", "-q", "--tb=short", "-p", "no:cacheprovider", "-p", "no:benchmark"]
PARALLEL = ["-n", "auto"] if importlib.util.find_spec("xdist") else []

Done = dict[str, Any]  # "command", "status": its exit code, or that it took too long, and "output": its last words


def run_tests(toy: bool, limit_s: float) -> Done:
    """The GPU's tests on this GPU; in toy runs only that they are found."""
    return run([*PYTEST, *PARALLEL, "tests/cuda", *["--collect-only"] * toy], limit_s)


def sanitizer() -> str | None:
    """The program compute-sanitizer of a CUDA toolkit, or of NVIDIA's wheels."""
    return toolkit_program("compute-sanitizer")


def run_checker(program: str, tool: str, limit_s: float) -> Done:
    """Every tile and operator under a tool of compute-sanitizer."""
    tests = [*PYTEST, "-x", "tests/cuda/test_kernels.py", "-k", CHECKED_TESTS]
    return run([program, "--tool", tool, "--error-exitcode", "3", *tests], limit_s)


def run(command: list[str], limit_s: float) -> Done:
    """Run a command. When its time is up it is asked to end, as by Ctrl-C, and then killed with all it has started."""
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", start_new_session=True
    )
    try:
        status, output = _wait(process, limit_s)
    finally:  # Ctrl-C is for this process alone, as the other has a session of its own
        _kill(process)
    return {"command": command, "status": status, "output": output[-TOLD:]}


def _wait(process: "subprocess.Popen[str]", limit_s: float) -> tuple[int | str, str]:
    """Its exit code, or that it took too long, and what it has written."""
    try:
        output, _ = process.communicate(timeout=limit_s)
        return process.returncode, output
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGINT)
    try:
        output, _ = process.communicate(timeout=STOPPING_S)
    except subprocess.TimeoutExpired:
        _kill(process)
        output, _ = process.communicate()
    return f"took more than {limit_s:.3g} s", output


def _kill(process: "subprocess.Popen[str]") -> None:
    """End a process and all that it has started."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
