"""The target's process: whatever happens in it is an outcome, and the next call works."""

import os
import re
import signal
import subprocess
import sys
import time

import pytest

from lhc_ref.check.adapters import Declaration
from lhc_ref.check.cases import Case
from lhc_ref.check.compare import judge
from lhc_ref.check.precision import Precision
from lhc_ref.check.process import Target
from lhc_ref.check.reference import solve

CASE = Case(n=2, ci=3, co=4, seed=1)


@pytest.fixture(scope="module")
def target():
    with Target("numpy", Declaration(), timeout_s=1.0) as found:
        yield found


@pytest.mark.parametrize(
    ("name", "status", "words"),
    [
        ("raises", "raised", "ValueError: no such layer"),
        ("crashes", "crashed", "SIGSEGV"),
        ("ends", "crashed", "exit code 3"),
        ("exits", "crashed", "exit code 0"),
        ("closes_all", "crashed", "the process closed descriptors that it had not opened"),
        ("closes_all_and_hangs", "crashed", "the process closed descriptors that it had not opened"),
        ("closes_all_and_opens_others", "crashed", "the process closed descriptors that it had not opened"),
        ("hangs", "timed out", "no answer within 1 s"),
        ("nothing", "raised", 'expected a dict with at least "y"'),
        ("objects", "raised", "y: expected an array of numbers, got one of object"),
        ("text", "raised", "y: expected an array of numbers, got one of <U6"),
        ("numbered", "raised", "expected a dict with names as keys, got the key 3"),
        ("odd_words", "raised", r"\x1b[31m red \x00 \ud800 " + "\u2192"),
        ("declines", "unsupported", "no kernels of even size"),
        ("lacks", "raised", "NotImplementedError: a tzinfo subclass must implement utcoffset()"),
        ("forks", "ok", ""),
        ("prints", "ok", ""),
        ("reads", "ok", ""),
        ("Layer", "raised", "expected a function, got a class; for a layer of torch"),
        ("missing_name", "missing", "no 'missing_name' in "),
        ("not_callable", "raised", "expected a class or function, got int"),
    ],
)
def test_an_outcome_for_everything_and_the_next_call_works(target, name, status, words):
    outcome = target.call(f"tests.check.broken:{name}", CASE)
    assert outcome.status == status
    assert words in outcome.text
    assert target.call("tests.check.numpy_layer:layer", CASE).status == "ok"


@pytest.mark.parametrize(
    ("name", "failing", "words"),
    [
        ("nan", {"dx"}, "1 of 96 elements are outside their budget, 1 of them NaN"),
        ("short", {"y"}, "shape: expected [2, 4, 4, 4], got [2, 3, 4, 4]"),
        ("double", {"y", "mask", "dx", "dkernel", "dscores", "dbias"}, "dtype: expected float32, got float64"),
        ("dbias_mean", {"dbias"}, "outside their budget"),
        ("raises", {"call"}, "raised: ValueError: no such layer"),
    ],
)
def test_findings(target, name, failing, words):
    outcome = target.call(f"tests.check.broken:{name}", CASE)
    found = [f for f in judge(CASE, outcome, solve(CASE, Precision.of("float32"))) if f.status == "failed"]
    assert {f.tensor for f in found} == failing
    assert words in found[0].why


def test_a_pause_of_everything_is_no_time_out():
    code = (
        "from tests.check.test_process import *\n"
        "with Target('numpy', Declaration(), timeout_s=4) as target:\n"
        "    target.load('tests.check.broken:works')\n"
        "    print(target._process.pid, flush=True)\n"
        "    print(target.call('tests.check.broken:works', CASE).status)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as runner:
        both = int(runner.stdout.readline()), runner.pid
        time.sleep(0.2)  # the call is under way
        for pid in both:
            os.kill(pid, signal.SIGSTOP)
        time.sleep(4.2)
        for pid in both:
            os.kill(pid, signal.SIGCONT)
        assert runner.stdout.read().strip() == "ok"


def test_what_a_target_leaves_running_ends_with_it():
    with Target("numpy", Declaration()) as target:
        text = target.call("tests.check.broken:leaves_a_process", CASE).text
        pid = int(re.search(r"left: (\d+)", text)[1])
        os.kill(pid, 0)
    until = time.monotonic() + 10
    while _runs(pid) and time.monotonic() < until:
        time.sleep(0.05)
    assert not _runs(pid)


def _runs(pid):
    """Whether a process is there and no zombie, which nobody may have collected."""
    found = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False).stdout
    return bool(found.strip()) and not found.startswith("Z")


def test_what_is_not_returned_is_not_run(target):
    outcome = target.call("tests.check.broken:forward", CASE)
    found = {f.tensor: f.status for f in judge(CASE, outcome, solve(CASE, Precision.of("float32")))}
    assert found.pop("y") == "passed"
    assert set(found.values()) == {"not run"}


def test_layouts_are_turned_both_ways():
    with Target("numpy", Declaration("NCHW", "OIHW")) as target:
        outcome = target.call("tests.check.turned:layer", CASE)
        assert all(f.status == "passed" for f in judge(CASE, outcome, solve(CASE, Precision.of("float32"))))
