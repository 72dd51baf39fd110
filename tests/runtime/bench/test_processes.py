"""Engines in processes of their own: their answers, their times, and how their failures are told."""

import contextlib
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import runtime
from lhc_ref import modelfile
from runtime.bench import worker
from runtime.bench.processes import EngineError, EngineProcess, Process
from tests.runtime.nets import conv_spec

needs_proc = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="this system has no /proc")


@pytest.fixture
def net(tmp_path):
    path = tmp_path / "net.lhc"
    modelfile.save(path, conv_spec(np.ones((1, 1, 4, 8), np.float32), (2, 2, 4)))
    return path


@pytest.fixture
def images():
    return np.random.default_rng(0).standard_normal((3, 2, 2, 4), np.float32)


@pytest.fixture
def process(tmp_path):
    made = EngineProcess("ours", tmp_path)
    yield made
    made.stop()


def test_an_engine_answers_as_it_does_here_and_tells_of_itself(process, net, images):
    facts, answers = process.load(net, {"x": images}, threads=1)
    assert [np.array_equal(y, runtime.load(net).run(images)) for y in answers.values()] == [True]
    assert {"import", "load", "plan", "first run"} == facts["phases_s"].keys()
    assert all(seconds >= 0 for seconds in facts["phases_s"].values())
    assert 0 < facts["memory_bytes"]["import"] <= facts["memory_bytes"]["loaded"]
    reply = process.time(4)
    assert len(reply["times_s"]) == 4
    assert 0 < sum(reply["times_s"]) <= reply["wall_s"]
    assert reply["peak_bytes"] >= facts["memory_bytes"]["loaded"]


def test_streams_call_at_the_same_time(process, net, images):
    process.load(net, {"x": images}, threads=2, streams=2)
    assert len(process.time(3)["times_s"]) == 6


def test_what_an_engine_refuses_is_told_and_it_lives_on(process, net, images, tmp_path):
    with pytest.raises(EngineError, match=r"ours: expected it to run the net, got '.*gone\.lhc"):
        process.load(tmp_path / "gone.lhc", {"x": images}, threads=1)
    with pytest.raises(EngineError, match="ours: expected it to run the net, got 'InputError: inputs: expected"):
        process.load(net, {"y": images}, threads=1)
    process.load(net, {"x": images}, threads=1)


def test_a_crash_is_told_with_the_last_words(tmp_path):
    program = "import sys; print('hello'); sys.exit('out of luck')"
    process = Process("doomed", [sys.executable, "-c", program], tmp_path / "errors")
    with pytest.raises(EngineError, match=r"doomed: expected an answer, got exit code 1\..*out of luck"):
        process.ask({})
    process.stop()


def test_a_process_that_does_not_end_is_killed(tmp_path, monkeypatch):
    program = "import time; print('[1]', flush=True); time.sleep(600)"
    process = Process("stubborn", [sys.executable, "-c", program], tmp_path / "errors")
    assert process.reply() == [1]
    monkeypatch.setattr("runtime.bench.processes.PATIENCE_S", 0.05)
    process.stop()
    assert process._process.returncode == -9


def state_of(pid):
    """A process's state, as Linux tells it: R, S, T (stopped), Z ..."""
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]


def wait_for_state(pid, states):
    until = time.monotonic() + 20
    while state_of(pid) not in states:
        assert time.monotonic() < until, f"{pid} is {state_of(pid)}, not one of {states}"
        time.sleep(0.01)


SPINNING = """
import json, sys, threading
def spin():
    while True: pass
threading.Thread(target=spin, daemon=True).start()
for line in sys.stdin: print(line, flush=True)
"""


@needs_proc
def test_a_process_rests_between_its_answers_even_if_its_threads_do_not(tmp_path):
    process = Process("restless", [sys.executable, "-c", SPINNING], tmp_path / "errors")
    for _ in range(2):
        assert process.ask([1, 2]) == [1, 2]
        wait_for_state(process.pid, "T")
    process.stop()
    assert process._process.returncode == 0, "it saw its pipe closed"


@needs_proc
def test_a_resting_worker_ends_with_the_one_who_asks(net, tmp_path):
    program = "import sys, time; import numpy as np; from pathlib import Path; "
    program += "from runtime.bench.processes import EngineProcess; p = EngineProcess('ours', Path(sys.argv[1])); "
    program += "p.load(Path(sys.argv[2]), {'x': np.zeros((1, 2, 2, 4), np.float32)}, threads=1); "
    program += "print(p.pid, flush=True); time.sleep(600)"
    asking = subprocess.Popen([sys.executable, "-c", program, tmp_path, net], stdout=subprocess.PIPE, text=True)
    pid = int(asking.stdout.readline())
    wait_for_state(pid, "T")
    asking.kill()
    asking.wait()
    asking.stdout.close()
    with contextlib.suppress(FileNotFoundError):  # gone, or waiting for whoever adopted it
        wait_for_state(pid, "ZX")


def test_the_worker_keeps_its_folder_from_the_engines():
    """Its neighbours have names that an engine may import: `timing`, `machine`."""
    program = f"import runpy, sys; sys.path.insert(0, {str(Path(worker.__file__).parent)!r}); "
    program += f"runpy.run_path({worker.__file__!r}); import timing"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert "No module named 'timing'" in done.stderr


@pytest.mark.parametrize(("cores", "streams", "pin"), [([], 1, None), ([0], 1, "core"), ([0, 1], 2, None)])
def test_threads_of_ours_stay_on_cores_where_one_stream_is_pinned(cores, streams, pin):
    request = {"model": "net.lhc", "threads": 2, "streams": streams, "cores": cores}
    assert worker.Start(request, {}).pin == pin
