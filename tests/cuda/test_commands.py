"""`lhc-run --device cuda`: the same commands, the same answers."""

import json
from pathlib import Path

import numpy as np
import pytest

from lhc_ref.modelfile import save
from runtime import cli
from runtime.bench import processes
from runtime.commands import verify
from runtime.cuda import model as models
from runtime.cuda.plan import build
from tests.cuda.gpus import AVAILABLE, SIMULATED, SMALL_TILE, entries_of, launching, turns
from tests.runtime.nets import classifier, images, net


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Runs a command on the file of a small net; in the simulator with small blocks."""
    save(tmp_path / "net.lhc", classifier())
    np.save(tmp_path / "x.npy", images(2))
    np.savez(tmp_path / "data.npz", x=images(2), y=np.array([0, 1]))
    if SIMULATED:
        monkeypatch.setitem(models.GpuModel.__init__.__kwdefaults__, "entries", entries_of(SMALL_TILE))

    def run(command, *arguments):
        with turns():
            status = cli.main([command, str(tmp_path / "net.lhc"), *arguments, "--device", "cuda"])
        return status, capsys.readouterr().out

    return run


@launching
def test_predict(run, tmp_path):
    out = str(tmp_path / "y.npy")
    status, text = run("predict", str(tmp_path / "x.npy"), "-o", out)
    assert status == 0
    assert "ran 2 examples" in text
    assert " on cuda\n" in text
    cli.main(["predict", str(tmp_path / "net.lhc"), str(tmp_path / "x.npy"), "-o", str(tmp_path / "cpu.npy")])
    np.testing.assert_allclose(np.load(out), np.load(tmp_path / "cpu.npy"), rtol=1e-5, atol=1e-4)


@launching
def test_eval(run, tmp_path):
    status, text = run("eval", str(tmp_path / "data.npz"), "--json")
    assert status == 0
    assert json.loads(text)["device"] == "cuda"


@launching
def test_verify_compares_every_layer(run):
    status, text = run("verify", "--samples", "2")
    assert status == 0
    assert "2 images (random, normal, seed 0), cuda, each way to run a batch:" in text
    assert "inside: every output and every layer is within its bound" in text


def test_verify_compares_the_layers_that_the_gpu_runs():
    """On the CPU the pooling is part of the convolution."""
    pool = {"size": (2, 2), "stride": (2, 2)}
    tensors = {"kernel": np.ones((1, 1, 3, 8), np.float32)}
    spec = net({"x": (4, 4, 3)}, ["y"], ("conv2d", "c", ["x"], {}, tensors), ("max_pool", "y", ["c"], pool))
    assert [layer.output for layer in verify.layers_of(spec, "cpu")] == ["y"]
    layers = verify.layers_of(spec, "cuda:1")
    shown = verify.with_values_shown(spec, layers)
    assert shown.outputs == ("c", "y")
    names = ["+".join(layer.nodes) for layer in layers]
    assert names == [facts.layer for facts in build(spec, 2).facts] == [facts.layer for facts in build(shown, 2).facts]


@launching
def test_profile(run):
    status, text = run("profile", "--batch", "2", "--repeats", "2")
    assert status == 0
    assert "batch 2 on cuda: " in text


@launching
def test_bench_in_processes_of_their_own(run, monkeypatch):
    if SIMULATED:
        monkeypatch.setattr(processes, "WORKER", Path(__file__).with_name("simulated_worker.py"))
    flags = ("--batch", "2", "--time", "0.02", "--warmup", "0.001", "--engine", "ours,ours-dense")
    status, text = run("bench", *flags, "--json")
    assert status == 0
    found = json.loads(text)
    assert found["setup"]["device"] == "cuda"
    assert [entry["engine"] for entry in found["runs"]] == ["ours", "ours-dense"]
    assert all(entry["answer"]["relative_difference"] < 1e-5 for entry in found["runs"])
    facts = build(classifier(), 2).facts
    assert [layer["layer"] for layer in found["layers"]] == [one.layer for one in facts]
    assert all(layer["kernel"].endswith("__cuda") and layer["seconds"] > 0 for layer in found["layers"])
    assert (found["roof"], found["break_even"], found["failed"]) == (None, [], {})
    assert "ours ran on cuda, with copies to it and back in its times; other engines ran on the CPU" in found["notes"]


@pytest.mark.skipif(AVAILABLE, reason="there is a GPU, or the simulator")
@pytest.mark.parametrize("command", ["predict", "eval", "verify", "profile", "bench"])
def test_without_a_gpu_one_line_says_what_to_install(command, tmp_path, monkeypatch, capsys):
    save(tmp_path / "net.lhc", classifier())
    arguments = ["x.npy"] if command in ("predict", "eval") else []
    monkeypatch.setattr("sys.argv", ["lhc-run", command, str(tmp_path / "net.lhc"), *arguments, "--device", "cuda"])
    assert cli.entry() == 2
    err = capsys.readouterr().err
    assert "error: device 'cuda': expected an NVIDIA GPU with its driver, got none" in err
    assert len(err.splitlines()) == 1
