"""`lhc-run bench`: flags, files, failures and Ctrl-C. Engines answer in this process, but for one whole run."""

import json
import os
import re
from functools import partial
from typing import ClassVar

import numpy as np
import pytest

from lhc_ref import command, modelfile
from runtime import cli, threads
from runtime.bench import break_even, measure, roof, worker
from runtime.bench.processes import EngineError, EngineProcess
from runtime.commands import bench, running
from tests.runtime import onnx_nets
from tests.runtime.bench.test_subject import small

QUICK = ("--time", "0.02", "--warmup", "0.001")


class Here(EngineProcess):
    """An engine that answers in this process."""

    asked: ClassVar[list] = []

    def __init__(self, engine, folder, *, name=None, python=None, environment=None):
        self.name = name or engine
        self._inputs, self._answers = folder / "in.npz", folder / "out.npz"
        self._worker = worker.Worker("ours")

    def ask(self, request):
        Here.asked.append((self.name, request["do"]))
        return self._worker.answer({**request, "cores": []})  # Why none: they would be those of the tests, too

    def stop(self):
        pass

    @property
    def pid(self):
        return os.getpid()


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "net.lhc"
    modelfile.save(path, small())
    return str(path)


@pytest.fixture
def here(monkeypatch):
    """Engines in this process; no time is spent on limits and other shapes."""
    monkeypatch.setattr(measure, "EngineProcess", Here)
    monkeypatch.setattr("runtime.bench.break_even.EngineProcess", Here)
    monkeypatch.setattr(roof, "measure", lambda threads: roof.Roof(threads, 1e11, ((2**20, 1e10),)))
    monkeypatch.setattr("runtime.bench.machine.busy_cores", lambda: 0.0)
    monkeypatch.setattr("runtime.bench.engines.importable", lambda name, pythons: name.startswith("ours"))
    Here.asked.clear()
    return Here


def facts_of(capsys, *argv, status=0):
    assert cli.main(["bench", *map(str, argv), "--json"]) == status
    return json.loads(capsys.readouterr().out)


def test_a_whole_run_in_processes_of_their_own(model, capsys, monkeypatch):
    monkeypatch.setattr(roof, "TRY_S", 1e-4)
    monkeypatch.setattr(roof, "SIZES", (16 * 2**10,))
    facts = facts_of(
        capsys, model, *QUICK, "--engine", "ours", "--threads", 1, "--batch", 3, "--pin", "core", "--no-break-even"
    )
    (run,) = facts["runs"]
    assert run["engine"] == "ours"
    assert run["count"] == len(run["times_s"]) >= measure.LEAST_ROUNDS
    assert run["low_s"] <= run["median_s"] <= run["high_s"]
    assert run["images_per_s"] == pytest.approx(3 / run["median_s"])
    assert run["memory_bytes"]["import"] < run["memory_bytes"]["peak"]
    assert [layer["layer"] for layer in facts["layers"]] == ["node c", "node y"]
    assert facts["layers"][0]["density"] == pytest.approx(0.4, abs=0.2)


def test_every_flag_and_file(model, tmp_path, capsys, here):
    files = {kind: tmp_path / f"out.{kind}" for kind in ("csv", "html", "png")}
    written = [part for kind, path in files.items() for part in (f"--{kind}", path)]
    flags = ("--threads", "1,2,max", "--batch", 5, "--scenario", "throughput", "--streams", 2)
    facts = facts_of(capsys, model, *QUICK, *flags, *written)
    assert [(run["engine"], run["threads"], run["streams"]) for run in facts["runs"]][:2] == [
        ("ours", 1, 1),
        ("ours", 2, 2),
    ]
    assert [facts["setup"][key] for key in ("batch", "scenario", "streams")] == [5, "throughput", 2]
    assert facts["scaling"]["ours"]["points"][0]["speedup"] == 1.0
    assert facts["break_even"][0]["layers"] == ["node c"]
    assert 0 <= facts["break_even"][0]["break_even"]["ours"] <= 1
    assert files["csv"].read_text().count("\n") == 1 + len(facts["runs"])
    assert (tmp_path / "out.layers.csv").read_text().count("\n") == 1 + len(facts["layers"])
    assert files["html"].read_text().startswith("<!DOCTYPE html>")
    assert files["png"].read_bytes().startswith(b"\x89PNG")


def test_engines_take_turns_after_all_were_checked(model, capsys, here):
    facts_of(capsys, model, *QUICK, "--threads", 1, "--no-break-even")
    assert [what for _, what in here.asked[:3]] == ["load", "load", "time"]
    turns = [name for name, what in here.asked if what == "time"][-2 * measure.LEAST_ROUNDS :]
    assert turns == ["ours", "ours-dense"] * measure.LEAST_ROUNDS


def test_engines_may_be_named_one_by_one(model, capsys, here):
    facts = facts_of(
        capsys, model, *QUICK, "--threads", 1, "--no-break-even", "--engine", "ours-dense", "--engine", "ours"
    )
    assert {run["engine"] for run in facts["runs"]} == {"ours", "ours-dense"}


def test_the_text_for_people(model, capsys, here):
    assert cli.main(["bench", model, *QUICK, "--threads", "1,2"]) == 0
    text = capsys.readouterr().out
    of_layers = f"layers on {threads.resolve(2)} threads"  # one, where nothing is compiled
    for part in ("engines, in turns", "ours by threads; Amdahl's law", of_layers, "break-even", "ours is "):
        assert part in text


def test_a_wrong_answer_is_an_error_before_any_clock_starts(model, capsys, here, monkeypatch):
    monkeypatch.setattr(Here, "load", lambda self, *a, **k: ({}, {"y": np.zeros((1, 4, 3, 6), np.float32)}))
    assert cli.main(["bench", model, *QUICK]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert "lhc-run: wrong answer: ours: expected the reference's y, got a relative difference of" in err
    assert ("ours", "time") not in here.asked


def test_an_engine_that_fails_is_told_and_the_others_go_on(model, capsys, here, monkeypatch):
    def ask(self, request, original=Here.ask):
        if self.name == "ours-dense" and request["do"] == "time" and here.asked.count(("ours-dense", "time")) > 1:
            raise EngineError("ours-dense: gone")
        return original(self, request)

    monkeypatch.setattr(Here, "ask", ask)
    facts = facts_of(capsys, model, *QUICK, "--threads", 1, "--no-break-even")
    assert facts["failed"] == {"ours-dense": "ours-dense: gone"}
    assert "left out: ours-dense: gone" in facts["notes"]
    assert facts["runs"][0]["count"] >= measure.LEAST_ROUNDS


@pytest.mark.parametrize("at", ["turn", "profile"])
def test_ctrl_c_keeps_what_was_measured(at, model, tmp_path, capsys, here, monkeypatch):
    turns = []

    def take_turn(self, original=measure.Run.take_turn):
        if at == "turn" and len(turns) > 2:
            raise KeyboardInterrupt
        turns.append(self)
        original(self)

    def ask(self, request, original=Here.ask):
        if request["do"] == at:
            raise KeyboardInterrupt
        return original(self, request)

    monkeypatch.setattr(measure.Run, "take_turn", take_turn)
    monkeypatch.setattr(Here, "ask", ask)
    page = tmp_path / "page.html"
    short = ("--time", 0.02, "--warmup", 1e-9)  # one call of warm-up; the second one counts
    facts = facts_of(capsys, model, *short, "--threads", 1, "--html", page, status=130)
    assert facts["interrupted"]
    assert facts["runs"][0]["count"] > 0
    assert facts["layers"] == []
    assert "This run was interrupted" in page.read_text()


def test_ctrl_c_before_anything_was_measured_writes_nothing(model, tmp_path, here, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(bench, "_subject", interrupt)
    with pytest.raises(KeyboardInterrupt):
        cli.main(["bench", model, "--html", str(tmp_path / "page.html")])
    assert not (tmp_path / "page.html").exists()


def refused(capsys, *argv):
    assert command.run(partial(cli.main, ["bench", *map(str, argv)])) == 2
    return capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--threads", "0"), "expected numbers from 1 to [0-9]+, or max"),
        (("--threads", "1,x"), "expected numbers from 1 to [0-9]+, or max"),
        (("--time", "0"), "expected a number of seconds above 0"),
        (("--warmup", "nan"), "expected a number of seconds above 0"),
        (("--engine", "ours,tvm"), "expected names of ours, .* got 'tvm'"),
        (("--engine-env", "tvm=env"), "expected names of onnxruntime, .* got 'tvm=env'"),
        (("--engine-env", "torch"), "with a folder, as in torch=FOLDER, got 'torch'"),
    ],
)
def test_flags_that_mean_nothing_are_refused(model, flags, message, capsys):
    with pytest.raises(SystemExit):
        cli.main(["bench", model, *flags])
    assert re.search(message, capsys.readouterr().err)


def test_files_that_cannot_be_written_are_refused_before_anything_is_measured(model, tmp_path, capsys):
    assert "expected a folder that exists" in refused(capsys, model, "--html", tmp_path / "no" / "page.html")


def test_an_environment_that_is_none_is_refused_before_anything_is_measured(model, tmp_path, capsys):
    told = refused(capsys, model, "--engine-env", f"torch={tmp_path}")
    assert "--engine-env torch: expected the folder of a Python environment" in told


def test_engines_run_in_the_environments_that_are_named_for_them(model, tmp_path, capsys, here, monkeypatch):
    class Refusing(here):
        def __init__(self, engine, folder, *, name, python, environment=None):
            super().__init__(engine, folder, name=name)
            self.python = python

        def load(self, *given, **more):
            if self.name.startswith("ours"):
                return super().load(*given, **more)
            raise EngineError(f"{self.name} runs in {self.python}")

    monkeypatch.setattr(measure, "EngineProcess", Refusing)
    monkeypatch.setattr("runtime.bench.engines.python_in", lambda name, folder: str(folder / name))
    monkeypatch.setattr("runtime.bench.engines.importable", lambda name, pythons: name == "ours" or name in pythons)
    named = ("--engine-env", "onnxruntime,openvino=a", "--engine-env", "deepsparse=b")
    facts = facts_of(capsys, model, *QUICK, "--threads", 1, *named, "--no-break-even")
    places = {"onnxruntime": "a/onnxruntime", "openvino": "a/openvino", "deepsparse": "b/deepsparse"}
    assert facts["failed"] == {name: f"{name} runs in {place}" for name, place in places.items()}
    assert facts["setup"]["pythons"] == places


def test_an_onnx_file_that_ours_cannot_run_tells_of_other_engines(tmp_path, capsys):
    path = onnx_nets.save(tmp_path, onnx_nets.graph([onnx_nets.node("Erf", "x", "y")], {"x": ["n", 2, 3, 3]}, "y"))
    for engine in ((), ("--engine", "ours,onnxruntime")):
        told = refused(capsys, path, *engine)
        assert "no such operator here" in told
        assert "To time other engines alone on it, name them: --engine NAME,..." in told


def test_a_model_that_is_none_is_refused(tmp_path, capsys):
    (tmp_path / "net.lhc").write_bytes(b"no model")
    assert "net.lhc: length of the header: expected" in refused(capsys, tmp_path / "net.lhc")


@pytest.mark.parametrize(("most", "expected"), [(1, (1,)), (2, (1, 2)), (6, (1, 2, 4, 6)), (8, (1, 2, 4, 8))])
def test_threads_by_default_are_powers_of_two_and_all(most, expected):
    assert bench.powers_of_two(most) == expected


def test_a_dense_engine_s_layer_is_what_one_more_of_it_takes(tmp_path, monkeypatch):
    class Fake:
        """Copies take 5 ms, a layer 2 ms with its mean; ours 1 ms a layer at any density, and 0.5 ms its mean."""

        def __init__(self, engine, folder, *, name, python):
            self.name, self.copies = name, {}

        def load(self, path, inputs, *, threads, net):
            if self.name == "broken":
                raise EngineError("broken: no")
            self.copies[net] = int(net.split()[1])

        def time(self, calls, net):
            return {"times_s": [5e-3 + 2e-3 * self.copies[net]] * calls, "wall_s": 1e-2}

        def profile(self, repeats, net):
            return {"layers": [{"layer": "layer0", "seconds": 1e-3}, {"layer": "mean0", "seconds": 5e-4}]}

        def stop(self):
            pass

    monkeypatch.setattr(break_even, "EngineProcess", Fake)
    monkeypatch.setattr(break_even, "kind", lambda name: name)
    engines = dict.fromkeys(("ours", "broken", "fake"), "python")
    (found,) = break_even.measure(small(), 2, 1, engines, tmp_path, running.progress)
    assert found["dense_read_s"] == {"ours": pytest.approx(1.5e-3), "fake": pytest.approx(2e-3)}
    assert found["layer_s"] == [pytest.approx(1e-3)] * (len(break_even.DENSITIES) + 1)
    assert found["fastest_dense"] == "ours"
    assert found["break_even"] == {"ours": 1.0, "fastest": 1.0}


def test_layer_shapes_are_timed_warm(model, capsys, here):
    facts = facts_of(capsys, model, *QUICK, "--engine", "ours", "--threads", 1)
    assert facts["break_even"]
    shape = here.asked[here.asked.index(("ours", "profile")) + 1 :]
    loads, times, profiles = ([what for _, what in shape].count(kind) for kind in ("load", "time", "profile"))
    assert loads == len(break_even.DENSITIES) + 1
    assert times == loads * (2 + break_even.ROUNDS)  # each profile comes after calls that do not count
    assert profiles == loads * break_even.ROUNDS
    assert all(len(facts["break_even"][0][key]) == loads for key in ("densities", "layer_s", "read_s"))
