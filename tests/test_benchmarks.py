"""The benchmarks themselves: wrong answers stop a measurement, ratios are read the right way round, twins are equal."""

import json

import numpy as np
import pytest

from benchmarks import problems, run, training_step
from benchmarks.environments import python_of
from lhc_ref import modelfile
from lhc_ref.modelfile import MaskedKernel
from runtime.bench.twins import dense_twin


def result(ours, sparse, dense):
    engines = {"ours": ours, "deepsparse": sparse, "onnxruntime": dense, "torch": 2 * dense}
    entries = {name: {"times_s": [[t, t, 9.0], [t, t, t]]} for name, t in engines.items()}
    return {"problem": "vgg16_cifar_d0.1", "batch": 64, "threads": 2, "engines": entries}


def test_a_wrong_answer_is_an_error():
    reference = np.linspace(-1, 1, 10)
    assert run.check("ours", reference * (1 + 1e-6), reference) < 1e-5
    for wrong in (reference * 1.001, np.full(10, np.nan)):
        with pytest.raises(ValueError, match="ours: expected the reference's outputs"):
            run.check("ours", wrong, reference)


def test_a_ratio_says_how_many_times_faster_we_are():
    text = "\n".join(run.lines(result(ours=1e-3, sparse=1.5e-3, dense=6e-3)))
    assert "1.50x against DeepSparse on the same net, floor 1.4: met" in text
    assert "6.00x against the fastest dense engine (onnxruntime), floor 7.0: NOT met" in text


def test_a_median_ignores_one_slow_call():
    assert run.median_ms({"times_s": [[1e-3, 1e-3, 9.0]]}) == 1.0


@pytest.mark.parametrize("problem", problems.TOY, ids=lambda p: p.name)
def test_the_dense_twin_keeps_what_exists_and_fills_the_rest(problem):
    spec = modelfile.validate(problem.make())
    twin = dense_twin(spec)
    masked = [
        (a.tensors["kernel"], b.tensors["kernel"])
        for a, b in zip(spec.nodes, twin.nodes, strict=True)
        if isinstance(a.tensors.get("kernel"), MaskedKernel)
    ]
    assert masked
    for kernel, full in masked:
        mask = kernel.expanded_mask()
        assert np.array_equal(full[mask], kernel.values)
        assert np.all(full[~mask] != 0)


def test_vgg16_has_the_weights_and_the_density_of_its_name():
    spec = problems.vgg16(0.1)
    kernels = [n.tensors["kernel"] for n in spec.nodes if isinstance(n.tensors.get("kernel"), MaskedKernel)]
    assert sum(int(np.prod(k.shape)) for k in kernels) == 14_708_736
    assert sum(k.kept for k in kernels) / 14_708_736 == pytest.approx(0.1, abs=0.005)


def test_the_toy_run_writes_what_it_measured(tmp_path, capfd):
    out = tmp_path / "deep" / "speed.json"
    assert run.main(["--toy", "--rounds", "1", "--seconds", "0.01", "--threads", "1", "--out", str(out)]) == 0
    report = json.loads(out.read_text())
    assert [r["batch"] for r in report["results"]] == [17, 1]
    assert all(times > 0 for r in report["results"] for times in r["engines"]["ours"]["times_s"][0])
    assert {"machine", "busy_cores", "command"} <= report.keys()


def test_the_training_step_runs_at_toy_size_and_reports_memory(tmp_path, capfd):
    """With PyTorch where its environment has been made; its gradients are then compared with the float64 reference."""
    out = tmp_path / "deep" / "step.json"
    assert training_step.main(["--toy", "--rounds", "1", "--steps", "1", "--threads", "1", "--out", str(out)]) == 0
    report = json.loads(out.read_text())
    engines = report["results"][0]["engines"]
    assert {"ours", "ours-lhc"} <= engines.keys()
    assert ("torch" in engines) == (python_of("torch") is not None)
    for entry in engines.values():
        assert entry["times_s"][0][0] > 0
        assert entry["peak_bytes"] > 0
    assert "memory below 3 GiB: met" in capfd.readouterr().out


def test_a_wrong_gradient_stops_the_measurement():
    expected = training_step.reference(training_step.problem(1 / 16, 4), "standard")
    right = expected.answer
    assert training_step.check("torch", right * (1 + 1e-6), expected) < 1e-5
    with pytest.raises(ValueError, match=r"torch: expected [0-9]+ numbers, got 1"):
        training_step.check("torch", right[:1], expected)
    for at, value in ((0, 1.001 * right[0] + 0.01), (-1, 2 * right[-1]), (5, float("nan"))):
        wrong = right.copy()
        wrong[at] = value
        with pytest.raises(ValueError, match="torch: expected the reference's gradients"):
            training_step.check("torch", wrong, expected)


def test_the_ratio_of_steps_is_against_the_faster_layout():
    def entry(seconds):
        return {"times_s": [[seconds]], "peak_bytes": 2**30, "step_growth_bytes": 2**20}

    engines = {"ours": entry(0.5), "torch": entry(0.3), "torch-channels-last": entry(0.1)}
    result = {"model": "vgg16", "width": 1.0, "batch": 64, "threads": 2, "engines": engines}
    text = "\n".join(training_step.lines(result))
    assert "5.00 times torch-channels-last's, at most 2.5: NOT met" in text
    assert "memory below 3 GiB: met" in text
