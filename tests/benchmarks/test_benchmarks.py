"""Each benchmark that works in this process or has rules of its own; `make bench-smoke` runs them all."""

import runpy
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from benchmarks import files, gradient_check, layers, loading, sweep, training_step
from benchmarks.__main__ import COMMANDS
from benchmarks.environments import python_of
from benchmarks.measuring import WrongAnswerError
from benchmarks.results_file import load, median_us


@pytest.mark.filterwarnings("ignore:.*found in sys.modules:RuntimeWarning")
@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_tells_what_it_does_and_does_nothing_else(name, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["benchmarks", name, "--help"])
    monkeypatch.setattr(subprocess, "run", None)
    with pytest.raises(SystemExit) as ended:
        runpy.run_module("benchmarks", run_name="__main__")
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith(f"usage: python -m benchmarks.{name} [-h]")


def test_the_toy_run_writes_what_it_measured(tmp_path, capsys):
    document = sweep.run("speed", sweep.TOY, tmp_path / "deep" / "speed.json", ["test"])
    assert load(tmp_path / "deep" / "speed.json") == document
    assert [r["batch"] for r in document["results"]] == [17, 1]
    for result in document["results"]:
        assert len(result["engines"]["ours"]["times_us"]) == sweep.TOY.rounds
        assert result["engines"]["ours"]["relative_difference"] < 1e-4
    assert "VGG16-CIFAR .1, 17: ours, ms" in capsys.readouterr().out


def test_what_was_measured_before_a_failure_is_kept(tmp_path, monkeypatch):
    def two(how):
        yield {"problem": "vgg16_cifar_d0.1", "batch": 1, "threads": 1, "engines": {"ours": {"times_us": [[1]]}}}
        raise KeyboardInterrupt

    monkeypatch.setitem(sweep.BENCHMARKS, "batch", replace(sweep.BENCHMARKS["batch"], measure=two))
    with pytest.raises(KeyboardInterrupt):
        sweep.run("batch", sweep.TOY, tmp_path / "batch.json", ["test"])
    assert len(load(tmp_path / "batch.json")["results"]) == 1


def test_layers_have_times_work_and_a_roof():
    (result,) = layers.measure(sweep.TOY)
    assert result["gflops"] > 0
    work = [layer for layer in result["layers"] if layer["macs_executed"]]
    assert len(work) == 12  # 13 convolutions and the classifier, but two of the small ones keep no block
    for layer in work:
        assert len(layer["times_us"]) == sweep.TOY.rounds
        assert layer["least_us"] >= 2e-3 * 4 * layer["macs_executed"] / result["gflops"] * 0.99
        assert layer["roof_least_us"] >= 2e-3 * 4 * layer["macs_executed"] / result["peak_gflops"] * 0.99


def test_a_share_of_the_roofline_is_the_allowed_time_over_the_measured():
    layer = {"least_us": 350, "roof_least_us": 200, "times_us": [400, 500, 2000]}
    assert layers.share(layer) == pytest.approx(0.7)
    assert layers.share_of_roof(layer) == pytest.approx(0.4)


def test_a_table_has_the_share_of_the_roofline_where_the_file_has_it():
    layer = {"name": "a", "shape": "8x8x64 > 8x8x64", "density": 0.5, "macs_executed": 1000, "times_us": [100]}
    layer |= {"least_us": 80, "limited_by": "multiply-adds"}
    result = {"problem": "vgg16_cifar_d0.1", "batch": 4, "layers": [layer]}
    assert layers.table([result]).head[-1] == "of a matrix product"
    table = layers.table([{**result, "layers": [{**layer, "roof_least_us": 40}]}])
    assert (table.head[-2:], table.rows[0][-2:]) == (("of a matrix product", "of the roofline"), ("0.80", "0.40"))


def test_the_worst_layer_is_judged():
    def layer(name, time_us, shape="8x8x64 > 8x8x64"):
        return {
            "name": name,
            "shape": shape,
            "macs_executed": 1,
            "least_us": 200,
            "times_us": [time_us],
        }

    rows = [layer("good", 220), layer("bad", 400), layer("stem", 9000, "8x8x3 > 8x8x64")]
    rows.append({**layer("pool", 9000), "macs_executed": 0})
    (verdict,) = layers.verdicts([{"problem": "vgg16_cifar_d0.1", "batch": 16, "layers": rows}])
    assert (verdict.value, verdict.limit, verdict.met) == (pytest.approx(0.5), 0.8, False)
    assert "1 of 2 layers; worst bad" in verdict.what


def test_the_machine_can_multiply():
    assert layers.product_flops(64) > 1e6


def test_sizes_of_files_are_those_of_files_that_hold_the_net():
    plain, few = files.measure(sweep.TOY)
    assert few["problem"].endswith("32 values a layer")
    assert plain["bytes"]["ours"] < plain["bytes"]["onnx-zipped"] < plain["bytes"]["onnx"]
    assert few["bytes"]["sham"] < plain["bytes"]["sham"]
    assert few["bytes"]["ours"] == plain["bytes"]["ours"]


def test_few_values_are_few_and_near():
    values = np.random.default_rng(0).standard_normal(1000).astype(np.float32)
    rounded = files._rounded(values)
    assert len(np.unique(rounded)) == 32
    assert np.abs(rounded - values).mean() < 0.1
    assert files._rounded(values[:0]).size == 0


def test_the_gradient_check_costs_more_than_the_gradient():
    (result,) = gradient_check.measure(sweep.TOY)
    once, *checks = (median_us(entry) for entry in result["engines"].values())
    assert min(checks) > once  # nine forward passes and more


def test_loading_adds_up_its_phases():
    entry = {"version": "1", "phases_s": {"import": 1.0, "compile": 0.5, "load": 0.75, "plan": 1.0, "first run": 9.0}}
    first = {**entry, "phases_s": {**entry["phases_s"], "compile": 40.0}}
    results = [{"problem": "vgg16_cifar_d0.1", "batch": 64, "engines": {"ours": entry, loading.UNKNOWN: first}}]
    assert [(v.value, v.met) for v in loading.verdicts(results)] == [(1.75, False), (51.75, False)]


def test_the_training_step_runs_at_toy_size_and_reports_memory():
    """With PyTorch where its environment has been made; its gradients are then compared with float64."""
    peers = tuple(engine for engine in ("ours", "torch") if python_of(engine) is not None)
    (result,) = training_step.measure(replace(sweep.TOY, engines=peers))
    assert {"ours", "ours-lhc"} <= result["engines"].keys()
    assert ("torch" in result["engines"]) == ("torch" in peers)
    for entry in result["engines"].values():
        assert entry["times_us"][0][0] > 0
        assert entry["memory_bytes"]["peak"] > 0
    assert [v.met for v in training_step.verdicts([result]) if "memory" in v.what] == [True]


def test_a_wrong_gradient_stops_the_measurement():
    expected = training_step.reference(training_step.problem(1 / 16, 4), "standard")
    right = expected.answer
    assert training_step.check("torch", right * (1 + 1e-6), expected) < 1e-5
    with pytest.raises(WrongAnswerError, match=r"torch: expected [0-9]+ numbers, got 1"):
        training_step.check("torch", right[:1], expected)
    for at, value in ((0, 1.001 * right[0] + 0.01), (-1, 2 * right[-1]), (5, float("nan"))):
        wrong = right.copy()
        wrong[at] = value
        with pytest.raises(WrongAnswerError, match="torch: expected the reference's gradients"):
            training_step.check("torch", wrong, expected)


def test_the_ratio_of_steps_is_against_the_faster_layout():
    def entry(time_us):
        return {"times_us": [[time_us]], "memory_bytes": {"peak": 2**30, "step": 2**20}}

    engines = {"ours": entry(500), "torch": entry(300), "torch-channels-last": entry(100)}
    step, memory = training_step.verdicts([{"problem": "vgg16 x 1", "batch": 64, "engines": engines}])
    assert str(step) == "training step over that of torch-channels-last: 5.00x, at most 2.5x: NOT met"
    assert str(memory) == "memory of a training process: 1.00 GiB, at most 3 GiB: met"
