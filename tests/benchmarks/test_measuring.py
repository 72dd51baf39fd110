"""Measuring: wrong answers stop it, other images and other outputs are seen, and what was measured is told rightly."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks import floors, measuring, problems, results_file, suites, sweep, tables
from benchmarks.catalogue import BENCHMARKS
from benchmarks.measuring import Prepared, WrongAnswerError, check
from lhc_ref.errors import InputError
from runtime.bench import ping
from runtime.bench.processes import EngineError


def result(ours, sparse, dense, **more):
    times = {"ours": ours, "deepsparse": sparse, "onnxruntime": dense, "torch": 2 * dense, "openvino-bf16": dense / 2}
    entries = {name: {"times_us": [[t, t, 9e6], [t, t, t]]} for name, t in times.items()}
    return {"problem": "vgg16_cifar_d0.1", "batch": 64, "threads": 2, "engines": entries, **more}


def test_a_wrong_answer_is_an_error():
    reference = np.linspace(-1, 1, 10)
    assert check("ours", reference * (1 + 1e-6), reference) < 1e-5
    assert check("openvino-bf16", reference * 1.01, reference) < 0.1
    for wrong in (reference * 1.001, np.full(10, np.nan)):
        with pytest.raises(WrongAnswerError, match="ours: expected the reference's outputs"):
            check("ours", wrong, reference)
    with pytest.raises(WrongAnswerError, match=r"ours: expected outputs \[10\], got \[9\]"):
        check("ours", reference[:9], reference)


@pytest.mark.parametrize("engine", ["ours", "onnxruntime", "deepsparse-dense"])
def test_every_image_has_its_own_answer(engine, tmp_path):
    """The images repeat; what an engine has to give repeats with them, and no two neighbours are alike."""
    prepared = Prepared("vgg16_cifar_d0.2_g8x8", tmp_path, toy=True)
    (x,), answer = prepared.inputs(engine, 17).values(), prepared.answer(engine, 17)
    assert x.shape == ((17, 32, 32, 3) if engine == "ours" else (17, 3, 32, 32))
    assert len(answer) == 17
    for i in range(17):
        assert [j for j in range(17) if np.array_equal(x[i], x[j])] == [j for j in range(17) if (i - j) % 5 == 0]
        assert np.array_equal(answer[i], answer[i % 5])
        assert not np.allclose(answer[i], answer[(i + 1) % 17], rtol=1e-3)


def test_ratios_say_how_many_times_faster_we_are():
    texts = [str(v) for v in floors.speed([result(ours=1e3, sparse=1.5e3, dense=6e3)])]
    assert texts == [
        "VGG16-CIFAR .1, batch 64 against DeepSparse on the same net: 1.50x, at least 1.4x: met",
        "VGG16-CIFAR .1, batch 64 against the fastest dense engine (onnxruntime): 6.00x, at least 7x: NOT met",
    ]
    (row,) = tables.speed([result(ours=1e3, sparse=1.5e3, dense=6e3)]).rows
    assert row == ("VGG16-CIFAR .1, 64", "1.00", "1.50", "6.00 (onnxruntime)", "3.00", "1.50", "6.00")


def test_bf16_is_no_dense_float32_engine():
    assert floors.fastest_dense({"openvino-bf16": 1.0, "torch": 3.0, "ours": 0.5}) == "torch"
    assert floors.fastest_dense({"ours": 0.5}) is None


def test_a_net_of_another_family_is_held_to_a_limit_where_it_has_all_its_weights():
    """DeepSparse counts as well, having the same weights to compute as the others."""
    full = result(ours=2e3, sparse=1e3, dense=6e3, problem="unet_d1", batch=1)
    pruned = result(ours=2e3, sparse=1e3, dense=6e3, problem="unet_d0.2_g16x8", batch=1)
    assert [str(v) for v in floors.families([full, pruned])] == [
        "U-Net dense, batch 1 against the fastest other engine (deepsparse): 0.50x, at least 0.7x: NOT met"
    ]
    assert [row[-1] for row in tables.against_fastest([full, pruned]).rows] == ["0.50", "0.50"]
    alone = {**full, "engines": {"ours": full["engines"]["ours"]}}
    assert tables.against_fastest([alone]).rows[0][-1] == ""
    assert list(floors.families([alone])) == []


@pytest.fixture
def refusing(monkeypatch):
    """One case, whose DeepSparse lacks an operator; another Python than its own is used."""
    start = measuring._start

    def refuse(engine, *given):
        if engine == "deepsparse":
            raise EngineError("deepsparse: expected it to run the net, got 'no Resize'. Leave it out.")
        return start(engine, *given)

    monkeypatch.setattr(measuring, "_start", refuse)
    return measuring.Case("conv_8x8_k3s1_8_d1", 1, 1, ("deepsparse", "ours"))


@pytest.mark.parametrize(
    ("patience_s", "seen", "told"),
    [
        (0, [20, 200, 20], [[20.0], [200.0], [20.0]]),
        (2.5, [20, 200, 190, 30, 20], [[20.0], [30.0], [20.0]]),
        (2.5, [20, *[200] * 8], [[20.0], [200.0], [200.0]]),
        (9, [200, 200, 20], [[200.0], [200.0], [20.0]]),
        (9, [None] * 3, [[], [], []]),
    ],
    ids=["no patience", "moved back", "not moved back", "never near before", "unknown"],
)
def test_a_round_waits_for_cores_that_were_nearer_before(patience_s, seen, told, monkeypatch):
    ways, now = iter(seen), [0.0]
    monkeypatch.setattr(ping, "measure", lambda: None if (ns := next(ways)) is None else ping.Ping(1.0, ns))
    monkeypatch.setattr(measuring.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(measuring.time, "sleep", lambda seconds: now.__setitem__(0, now[0] + seconds))
    cores = measuring.Cores(patience_s)
    assert [cores.wait() for _ in told] == told
    assert now[0] <= 2 * (patience_s + measuring.PAUSE_S)


HOW = measuring.How(rounds=1, seconds=0.01, toy=True, threads=1, engines=("ours", "deepsparse"))


def test_an_engine_that_refuses_a_net_ends_the_benchmark(refusing):
    with pytest.raises(EngineError, match="no Resize"):
        list(measuring.measure_all([refusing], HOW))


def test_an_engine_that_may_refuse_a_net_is_told_and_the_others_are_measured(refusing, monkeypatch, tmp_path, capsys):
    case = replace(refusing, may_refuse=("deepsparse",))
    benchmark = replace(BENCHMARKS["families"], measure=lambda how: measuring.measure_all([case], how))
    monkeypatch.setitem(sweep.BENCHMARKS, "families", benchmark)
    (measured,) = sweep.run("families", HOW, tmp_path / "families.json", ["test"])["results"]
    assert list(measured["engines"]) == ["ours"]
    assert results_file.load(tmp_path / "families.json")["results"][0]["refused"].keys() == {"deepsparse"}
    assert "NOT MEASURED: deepsparse: expected it to run the net, got 'no Resize'" in capsys.readouterr().out
    head, (row,) = benchmark.table([measured]).head, benchmark.table([measured]).rows
    assert row[head.index("deepsparse, ms")] == "refused"


def test_scaling_is_the_time_of_one_thread_over_that_of_two():
    one, two = result(1.8e3, 1, 1, threads=1), result(1e3, 1, 1)
    (verdict,) = floors.scaling([one, two])
    assert (verdict.value, verdict.limit, verdict.met) == (pytest.approx(1.8), 1.85, False)
    assert list(floors.scaling([two])) == []


def test_memory_is_planned_bytes_over_growth():
    measured = result(1, 1, 1)
    measured["engines"]["ours"]["memory_bytes"] = {"import": 900, "loaded": 999, "packed": 30, "buffers": 20}
    measured["engines"]["onnxruntime"]["memory_bytes"] = {"import": 500, "loaded": 625, "peak": 700}
    (verdict,) = floors.memory([measured])
    assert (verdict.value, verdict.met) == (pytest.approx(0.4), True)
    measured["engines"]["onnxruntime"]["memory_bytes"]["loaded"] = 590
    assert [v.met for v in floors.memory([measured])] == [False]


def test_growth_of_the_worker_sees_what_a_net_takes(tmp_path):
    """The weights of this net take 5 MB; a measure that only knows the peak before would not see them."""
    prepared = Prepared("vgg16_imagenet_d1", tmp_path, toy=True)
    weights = sum(t.size for node in prepared.spec.nodes for t in node.tensors.values())
    case = measuring.Case(prepared.name, 1, 1, ("ours",))
    how = measuring.How(rounds=1, seconds=0.01, toy=True, threads=1, engines=("ours",))
    (measured,) = measuring.measure_all([case], how)
    memory = measured["engines"]["ours"]["memory_bytes"]
    assert memory["packed"] >= 4 * weights
    assert floors.growth_bytes(measured["engines"]["ours"]) >= memory["packed"]
    assert memory["peak"] >= memory["loaded"] > memory["import"] > 0


SUITES = [name for name in BENCHMARKS if hasattr(suites, name)]


@pytest.mark.parametrize("name", SUITES)
def test_every_net_of_a_suite_has_a_name_that_is_known(name):
    for toy in (False, True):
        how = measuring.How(rounds=1, seconds=1, toy=toy, threads=4, engines=("ours",))
        for case in getattr(suites, name)(how):
            assert problems.find(case.problem, toy).name == case.problem


def test_the_speeds_with_limits_are_those_that_are_measured():
    cases = suites.speed(measuring.How(rounds=1, seconds=1, toy=False, threads=2, engines=()))
    assert {(case.problem, case.batch) for case in cases} == floors.SPEED.keys()


def test_threads_are_swept_to_all_there_are():
    how = measuring.How(rounds=1, seconds=1, toy=False, threads=6, engines=())
    assert sorted({case.threads for case in suites.threads(how)}) == [1, 2, 4, 6]


def test_unknown_problem_is_refused(tmp_path):
    with pytest.raises(InputError, match="problem: expected a name like"):
        sweep.parse(["speed", "--problems", "alexnet"])
    how = measuring.How(1, 0.01, True, 1, ("ours",), ("vgg19_cifar_d0.1",))
    with pytest.raises(InputError, match=r"speed: expected a problem of this benchmark, got vgg19_cifar_d0\.1"):
        sweep.run("speed", how, tmp_path / "speed.json", ["test"])
    assert list(Path(tmp_path).iterdir()) == []
