"""The benchmark of GPUs runs at toy size, checks its answers first, and says what it could not do."""

import json
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from benchmarks import gpu, gpu_peer
from benchmarks.nets import blocks
from benchmarks.other_nets import densenet, efficientnet0, mobilenet2, unet
from lhc_ref.evaluate import evaluate
from lhc_ref.modelfile import validate
from tests.cuda.gpus import AVAILABLE, launching, turns

ROOT = Path(__file__).parents[2]
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
        assert gpu.main(["--toy", "--without", *gpu.PARTS, "--out", str(out)]) == 0
    report = json.loads(out.read_text())
    assert report["command"] == f"python -m benchmarks.gpu --toy --without {' '.join(gpu.PARTS)} --out {out}"
    (result,) = report["results"]
    assert {"float32", "float16"} <= set(result["engines"])
    assert result["engines"]["float32"]["launches"] == len(result["engines"]["float32"]["layers"])
    assert [row["layer"] for row in result["engines"]["float16"]["layers"]] == ["copy", "conv2d0+relu1", "copy"]


@pytest.mark.skipif(AVAILABLE, reason="there is a GPU, or the simulator")
def test_without_a_gpu_one_line_says_so(tmp_path, capsys):
    assert gpu.main(["--toy", "--out", str(tmp_path / "gpu.json")]) == 2
    assert "device 'cuda': expected an NVIDIA GPU with its driver, got none" in capsys.readouterr().err
    assert not (tmp_path / "gpu.json").exists()


def fails(channels_last):
    raise RuntimeError("no cuDNN")


@launching
def test_an_engine_that_fails_is_named_and_the_others_go_on(monkeypatch):
    monkeypatch.setattr(gpu.gpu_peer, "engines", lambda spec: {"cudnn-float32": fails})
    with turns():
        result = gpu.measure(gpu.TOY_NETS[0], 1, True, {"macs_per_s": 1.0, "bytes_per_s": 1.0}, ["trial"])
    assert result["engines"]["cudnn-float32"] == {"error": "RuntimeError: no cuDNN"}
    text = "\n".join(gpu.lines(result))
    assert "cudnn-float32   RuntimeError: no cuDNN" in text
    assert "its kernels alone" in text


@launching
def test_what_no_time_was_left_for_is_a_failure(tmp_path, capsys):
    with turns():
        assert gpu.main(["--toy", "--without", *gpu.PARTS, "--seconds", "0", "--out", str(tmp_path / "gpu.json")]) == 1
    assert "batch 2: not measured, no time is left" in capsys.readouterr().out


def test_a_command_that_takes_too_long_is_told():
    found = gpu._command([sys.executable, "-c", "import time; time.sleep(60)"], 0.2)
    assert found["status"] == "took more than 0.2 s"
    assert gpu._command([sys.executable, "-c", "print(1); raise SystemExit(3)"], 60)["status"] == 3


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
