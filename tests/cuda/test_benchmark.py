"""The benchmark of GPUs runs at toy size, checks its answers first, and says what it could not do."""

import json
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from benchmarks import gpu, gpu_checks, gpu_peer
from benchmarks.nets import blocks
from benchmarks.other_nets import densenet, efficientnet0, mobilenet2, unet
from lhc_ref.evaluate import evaluate
from lhc_ref.modelfile import validate
from tests.cuda.gpus import AVAILABLE, launching, turns

ROOT = Path(__file__).parents[2]
ALL_BUT_NETS = [part for part in gpu.PARTS if part != "nets"]
STORED = sorted((ROOT / "benchmarks" / "results" / "gpu").glob("*.json"))


@pytest.mark.parametrize("path", STORED, ids=lambda path: path.stem)
def test_the_page_tells_what_was_measured(path):
    page = (ROOT / "docs" / "gpu.md").read_text(encoding="utf-8")
    report = json.loads(path.read_text(encoding="utf-8"))
    for row in gpu.rows(report):
        assert row in page
    assert report["command"] in page


@launching
def test_the_toy_run_writes_what_it_found(tmp_path, capsys):
    out = tmp_path / "gpu.json"
    with turns():
        assert gpu.main(["--toy", "--without", *ALL_BUT_NETS, "--out", str(out)]) == 0
    report = json.loads(out.read_text())
    assert report["command"] == f"python -m benchmarks.gpu --toy --without {' '.join(ALL_BUT_NETS)} --out {out}"
    (result,) = report["results"]
    assert {"float32", "float16"} <= set(result["engines"])
    assert result["engines"]["float32"]["launches"] == len(result["engines"]["float32"]["layers"])
    assert [row["layer"] for row in result["engines"]["float16"]["layers"]] == ["copy", "conv2d0+relu1", "copy"]


@pytest.mark.skipif(AVAILABLE, reason="there is a GPU, or the simulator")
def test_without_a_gpu_one_line_says_so(tmp_path, capsys):
    assert gpu.main(["--toy", "--out", str(tmp_path / "gpu.json")]) == 2
    assert "device 'cuda': expected an NVIDIA GPU with its driver, got none" in capsys.readouterr().err
    assert not (tmp_path / "gpu.json").exists()


def a_result():
    """Of a toy net, before it is measured."""
    name, batch, floor = gpu.TOY_NETS[0]
    return {"problem": name, "batch": batch, "floor": floor, "engines": {}}


def fails(channels_last):
    raise RuntimeError("no cuDNN")


@launching
def test_an_engine_that_fails_is_named_and_the_others_go_on(monkeypatch):
    monkeypatch.setattr(gpu.gpu_peer, "engines", lambda spec: {"cudnn-float32": fails})
    with turns():
        result = a_result()
        gpu.measure(result, 1, True, {"macs_per_s": 1.0, "bytes_per_s": 1.0}, ["trial"])
    assert result["engines"]["cudnn-float32"] == {"error": "RuntimeError: no cuDNN"}
    text = "\n".join(gpu.lines(result))
    assert "cudnn-float32   RuntimeError: no cuDNN" in text
    assert "its kernels alone" in text


@launching
def test_what_no_time_was_left_for_is_a_failure(tmp_path, capsys):
    with turns():
        assert (
            gpu.main(["--toy", "--without", *ALL_BUT_NETS, "--seconds", "0", "--out", str(tmp_path / "gpu.json")]) == 1
        )
    assert "batch 2: not measured, no time is left" in capsys.readouterr().out


@pytest.fixture
def stand_ins(monkeypatch):
    """A GPU that is not there: engines and checks that answer at once."""
    ours = {"median_s": 1.0, "median_queued_s": 1.0, "launches_alone_s": 1.0, "launches": 3, "calls": 1, "layers": []}
    monkeypatch.setattr(gpu, "require_device", lambda device: 0)
    monkeypatch.setattr(gpu, "simulated", lambda: False)
    monkeypatch.setattr(gpu, "ceilings", lambda rounds, toy: {"macs_per_s": 1.0, "bytes_per_s": 1.0})
    monkeypatch.setattr(gpu, "_ours", lambda *_: dict(ours))
    monkeypatch.setattr(gpu.gpu_peer, "facts", lambda: {"gpu": "a stand-in"})
    monkeypatch.setattr(gpu.gpu_peer, "engines", lambda spec: {"cudnn-float32": fails})
    monkeypatch.setattr(gpu_checks, "run_tests", lambda toy, limit_s: {"status": 0, "limit_s": limit_s})
    monkeypatch.setattr(gpu_checks, "sanitizer", lambda: "compute-sanitizer")
    monkeypatch.setattr(gpu_checks, "run_checker", lambda program, tool, limit_s: {"status": 0, "limit_s": limit_s})
    return monkeypatch


def test_every_engine_is_kept_as_soon_as_it_is_measured(stand_ins):
    kept, result = [], a_result()
    gpu.measure(result, 1, True, {}, [], keep=lambda: kept.append(list(result["engines"])))
    assert kept == [["float32", "float16", "cudnn-float32"][:count] for count in (1, 2, 3)]


def test_no_engine_is_started_when_the_time_is_over(stand_ins):
    result = a_result()
    gpu.measure(result, 1, True, {}, [], end=0.0)
    assert result["engines"] == {name: {"error": gpu.NO_TIME} for name in ("float32", "float16", "cudnn-float32")}


def test_a_run_that_is_ended_leaves_all_that_was_found(stand_ins, tmp_path, capsys):
    def run_checker(program, tool, limit_s):
        if tool == "racecheck":
            raise KeyboardInterrupt
        return {"status": 0}

    stand_ins.setattr(gpu_checks, "run_checker", run_checker)
    out = tmp_path / "not" / "there" / "gpu.json"
    with pytest.raises(KeyboardInterrupt):
        gpu.main(["--toy", "--out", str(out)])
    report = json.loads(out.read_text())
    assert report["tests"]["status"] == 0
    assert report["machine"]["gpu"] == "a stand-in"
    assert list(report["results"][0]["engines"]) == ["float32", "float16", "cudnn-float32"]
    assert report["checkers"] == {"memcheck": {"status": 0}}
    assert [path.name for path in out.parent.iterdir()] == ["gpu.json"]


def test_tests_alone_have_all_the_time(stand_ins, tmp_path, capsys):
    out = tmp_path / "gpu.json"
    assert gpu.main(["--without", "nets", "checkers", "--seconds", "500", "--out", str(out)]) == 0
    report = json.loads(out.read_text())
    assert 490 < report["tests"]["limit_s"] <= 500
    assert report["results"] == []
    assert "ceilings" not in report
    assert gpu.main(["--without", "nets", "--seconds", "300", "--out", str(out)]) == 0
    report = json.loads(out.read_text())
    assert 170 < report["tests"]["limit_s"] <= 300 - 2 * gpu.CHECKERS_S
    assert [done["limit_s"] > gpu.CHECKERS_S for done in report["checkers"].values()] == [True, True]


def test_without_a_checker_one_line_says_what_brings_it(stand_ins, tmp_path, capsys):
    stand_ins.setattr(gpu_checks, "sanitizer", lambda: None)
    assert gpu.main(["--without", "tests", "nets", "--out", str(tmp_path / "gpu.json")]) == 0
    assert f"checkers: {gpu_checks.NO_SANITIZER}\n" in capsys.readouterr().out


def test_a_checker_that_finds_something_fails_the_run(stand_ins, tmp_path, capsys):
    stand_ins.setattr(gpu_checks, "run_checker", lambda program, tool, limit_s: {"status": 3, "output": "a race"})
    assert gpu.main(["--without", "tests", "nets", "--out", str(tmp_path / "gpu.json")]) == 1
    assert "racecheck: {'status': 3, 'output': 'a race'}" in capsys.readouterr().out


def test_a_program_is_found_in_a_toolkit_that_the_path_does_not_name(tmp_path, monkeypatch):
    program = tmp_path / "bin" / "compute-sanitizer"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setenv("CUDA_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", "")
    assert gpu_checks.sanitizer() == str(program)


def test_a_command_that_takes_too_long_is_told():
    found = gpu_checks.run([sys.executable, "-c", "import time; time.sleep(60)"], 0.2)
    assert found["status"] == "took more than 0.2 s"
    assert gpu_checks.run([sys.executable, "-c", "print(1); raise SystemExit(3)"], 60)["status"] == 3


WAITING = """
import time
try:
    time.sleep(600)
except KeyboardInterrupt:
    print("what failed until then")
"""
DEAF = """
import signal, subprocess
signal.signal(signal.SIGINT, signal.SIG_IGN)
print("began", flush=True)
subprocess.run(["sleep", "600"])  # which has the same pipe, so that nobody has read it to its end while it runs
"""


@pytest.mark.parametrize(("script", "told"), [(WAITING, "what failed until then\n"), (DEAF, "began\n")])
def test_what_runs_too_long_may_have_a_last_word_and_is_ended_with_all_it_started(script, told, monkeypatch):
    monkeypatch.setattr(gpu_checks, "STOPPING_S", 1)
    found = gpu_checks.run([sys.executable, "-c", script], 2)
    assert (found["status"], found["output"]) == ("took more than 2 s", told)


@pytest.mark.parametrize("wrong", [1.001, np.nan])
def test_a_wrong_answer_is_no_measurement(wrong):
    want = np.ones(3)
    assert gpu.compare("float32", want * (1 + 1e-6), want) < 1e-5
    with pytest.raises(ValueError, match="float32: expected the reference's outputs"):
        gpu.compare("float32", want * wrong, want)


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("family", [partial(densenet, depth=10), mobilenet2, efficientnet0, unet])
def test_the_peer_computes_nets_of_all_families(family, channels_last):
    torch = pytest.importorskip("torch")
    spec = validate(family(blocks(0.5, (2, 2)), size=32, width=0.1))
    x = np.random.default_rng(0).standard_normal((2, 32, 32, 3), np.float32)
    peer = gpu_peer.Peer(torch, spec, torch.float32, channels_last, tf32=False, device="cpu")
    gpu.compare("cudnn-float32", peer.run(x), evaluate(spec, {"x": x})[spec.outputs[0]])
