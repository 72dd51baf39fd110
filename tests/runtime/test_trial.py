"""Measured choices: every candidate is timed, the fastest runs, and files of other nets or machines are refused."""

import json
import pickle
import re
from dataclasses import replace

import numpy as np
import pytest

import runtime
from lhc_ref import modelfile
from lhc_ref.errors import InputError, LhcError
from runtime import cli, trial
from runtime.bench.subject import Subject
from runtime.kernels.machine import LANES
from runtime.layout import CHANNELS, IMAGES
from runtime.model import Model
from runtime.plan import draft
from runtime.trial import Timed, decide
from tests.runtime.nets import classifier, definition, images, net
from tests.tolerances import assert_identical

SHAPE = (5, 6, 32)
BATCH = 3 * LANES


def spec_of(seed=0):
    """A convolution that several kernels can run, and a pooling that one can."""
    kernel = np.random.default_rng(seed).integers(-2, 3, (3, 3, 32, 32)).astype(np.float32)
    nodes = [
        ("conv2d", "c", ["x"], {"padding": "same"}, {"kernel": kernel}),
        ("average_pool", "y", ["c"], {"size": (2, 2), "stride": (1, 1), "padding": "valid"}),
    ]
    return net({"x": SHAPE}, ["y"], *nodes)


@pytest.fixture
def path(tmp_path):
    made = tmp_path / "net.lhc"
    modelfile.save(made, spec_of())
    return made


def candidates_of(spec, layout=IMAGES):
    return [[c.entry.name for c in choice.candidates] for choice in draft(spec, layout).choices]


def timed_of(spec, seconds_of, layout=IMAGES):
    """Times as a trial makes them: `seconds_of(number of a candidate)`."""
    made = draft(spec, layout)
    layers = [
        ("+".join(layer.nodes), {c.entry.name: seconds_of(i) for i, c in enumerate(choice.candidates)})
        for layer, choice in zip(made.layers, made.choices, strict=True)
    ]
    return Timed(64, 2, 5, tuple(layers))


def change(path, **changes):
    """The trial file with other entries."""
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


# --- The choice ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", [IMAGES, CHANNELS], ids=lambda layout: layout.name)
def test_the_fastest_measured_kernel_is_chosen_and_the_predicted_one_of_equals(layout):
    spec = spec_of()
    made = draft(spec, layout)
    for wanted in range(len(made.choices[0].candidates)):
        chosen = decide(made, timed_of(spec, lambda i, n=wanted: 1e-6 * (1 + abs(i - n)), layout)).choices
        assert chosen[0].chosen.entry == made.choices[0].candidates[wanted].entry
        assert chosen[1].entry == made.choices[1].entry
    equal = decide(made, timed_of(spec, lambda i: 1e-6, layout)).choices
    assert [choice.entry for choice in equal] == [choice.entry for choice in made.choices]
    assert "as predicted" in equal[0].why
    assert equal[1].why == "1.0 us measured for batch 64 on 2 threads; the only kernel that can run it"


def test_the_reason_names_the_times_and_what_was_predicted():
    spec = spec_of()
    made = draft(spec, IMAGES)
    predicted = made.choices[0].candidates.index(made.choices[0].chosen)
    why = decide(made, timed_of(spec, lambda i: 5e-6 if i == predicted else 2e-6 + 1e-7 * i)).choices[0].why
    name = trial.short_name(made.choices[0].entry)
    assert " us measured for batch 64 on 2 threads; " in why
    assert f"{name} 5.0" in why
    assert why.endswith(f"; {name} was predicted")


def test_times_of_other_layers_or_kernels_are_refused():
    spec = spec_of()
    made, timed = draft(spec, IMAGES), timed_of(spec, lambda i: 1e-6)
    with pytest.raises(InputError, match=r"expected times of 2 layers, got 1\. Make it anew"):
        decide(made, replace(timed, layers=timed.layers[:1]))
    _, second = timed.layers
    with pytest.raises(InputError, match=r"expected times of \['f32_.*got \['f32_average.*Make it anew"):
        decide(made, replace(timed, layers=(second, second)))


# --- A trial ---------------------------------------------------------------------------------------------------------


def test_a_trial_times_every_candidate_and_explain_shows_it():
    model = Model(spec_of())
    before = model.explain(BATCH)
    assert [c.measured_s for row in before.rows for c in row.candidates] == [None] * sum(
        len(row.candidates) for row in before.rows
    )
    kernels = model.trial(BATCH, repeats=2, threads=1)
    after = model.explain(BATCH)
    assert kernels == {row.layer: row.kernel for row in after.rows}
    layout = model.layouts(BATCH)[0][0]
    assert [[c.kernel for c in row.candidates] for row in after.rows] == candidates_of(model.spec, layout)
    assert len(after.rows[0].candidates) > 1
    for row, old in zip(after.rows, before.rows, strict=True):
        assert [c.predicted_cycles for c in row.candidates] == [c.predicted_cycles for c in old.candidates]
        assert all(c.measured_s > 0 for c in row.candidates)
        times = {c.kernel: c.measured_s for c in row.candidates}
        assert times[row.kernel] == min(times.values())
        assert f"{1e6 * times[row.kernel]:,.1f} us measured for batch {BATCH} on 1 threads" in row.why
    assert json.loads(after.json())["parts"][0]["rows"][0]["candidates"][0]["measured_s"] > 0


def test_both_parts_of_a_batch_are_timed_and_answers_stay_right(eager):
    """Weights and inputs are small whole numbers: every kernel has to give the same bits."""
    spec = classifier()
    model, x = Model(spec), images(LANES + 1)
    assert len(model.layouts(LANES + 1)) == 2
    want = model.run(x)
    kernels = model.trial(LANES + 1, repeats=1, threads=2)
    assert any(" and " in name for name in kernels.values())
    assert_identical(model.run(x), want)
    assert_identical(model.run(x), definition(spec, {"x": x})[spec.outputs[0]].astype(np.float32))


def test_every_kernel_that_a_trial_may_choose_gives_the_same_bits_on_any_number_of_threads(path, tmp_path, eager):
    x = np.random.default_rng(1).standard_normal((BATCH, *SHAPE), np.float32)
    model = runtime.load(path)
    layout = model.layouts(BATCH)[0][0]
    chosen = set()
    for wanted in range(len(candidates_of(model.spec, layout)[0])):
        model._timed[layout.name] = timed_of(model.spec, lambda i, n=wanted: 1e-6 * (1 + abs(i - n)), layout)
        model.save_trial(tmp_path / "times.json")
        first, again = (runtime.load(path, trial=tmp_path / "times.json") for _ in range(2))
        chosen.add(first.explain(BATCH).rows[0].kernel)
        want = first.run(x, threads=1)
        for threads in (1, 2, 3, 5):
            assert_identical(again.run(x, threads=threads), want)
    assert chosen == set(candidates_of(model.spec, layout)[0])


def test_a_run_after_a_trial_uses_the_steps_of_the_new_plan():
    """The steps of the old plan hold places in the old weights."""
    spec = spec_of()
    x = np.random.default_rng(2).integers(-2, 3, (BATCH, *SHAPE)).astype(np.float32)
    model = Model(spec)
    want, executor = model.run(x), model._executor
    layout = model.layouts(BATCH)[0][0]
    chosen = model.explain(BATCH).rows[0].kernel
    other = next(i for i, name in enumerate(candidates_of(spec, layout)[0]) if name != chosen)
    model._timed[layout.name] = timed_of(spec, lambda i: 1e-6 * (1 + (i != other)), layout)
    model._plans.clear()
    assert model._executor is executor
    assert_identical(model.run(x), want)
    assert model.explain(BATCH).rows[0].kernel != chosen


@pytest.mark.parametrize(("batch", "repeats", "threads"), [(0, 1, 1), (1, 0, 1), (1, 1, 0), (True, 1, 1)])
def test_counts_below_one_are_refused(batch, repeats, threads):
    with pytest.raises(InputError, match="expected"):
        Model(classifier()).trial(batch, repeats, threads)


# --- Files -----------------------------------------------------------------------------------------------------------


def test_a_saved_trial_gives_the_same_plan_also_through_a_pickle(path, tmp_path):
    file = tmp_path / "times of a net.json"
    model = runtime.load(path)
    model.trial(BATCH, repeats=1)
    model.trial(1, repeats=1)
    model.save_trial(file)
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []
    for other in (
        runtime.load(path, trial=file),
        runtime.load(path, trial=str(file), layout="NCHW").as_stored(),
        pickle.loads(pickle.dumps(model)),
        pickle.loads(pickle.dumps(runtime.load(path, trial=file))),
        model.as_stored(),
        runtime.load(path, trial=file, layout="NCHW"),
    ):
        for batch in (1, BATCH):
            assert other.explain(batch) == model.explain(batch)
        other.save_trial(tmp_path / "again.json")
        assert (tmp_path / "again.json").read_bytes() == file.read_bytes()
    assert runtime.load(path).explain(BATCH) == Model(spec_of()).explain(BATCH)


def test_nothing_measured_is_not_written(tmp_path):
    with pytest.raises(
        InputError, match=r"expected times measured on a CPU to write, got none\. Call trial\(batch\) first"
    ):
        Model(classifier()).save_trial(tmp_path / "times.json")
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def file(path, tmp_path):
    """A trial of the net."""
    model = runtime.load(path)
    model._timed["images"] = timed_of(model.spec, lambda i: 1e-6 * (i + 1))
    model.save_trial(tmp_path / "times.json")
    return tmp_path / "times.json"


def test_a_trial_of_another_net_is_refused(path, file):
    modelfile.save(path, spec_of(seed=1))
    with pytest.raises(
        InputError, match=r"expected a trial of this net, got one of a net with other bytes.*lhc-run trial"
    ):
        runtime.load(path, trial=file)


@pytest.mark.parametrize("name", ["sources", "processor", "lanes", "cores"])
def test_a_trial_of_another_machine_is_refused(path, file, name):
    machine = json.loads(file.read_text())["machine"]
    assert machine.keys() == {"sources", "processor", "lanes", "cores"}
    for other in ({**machine, name: "else"}, {k: v for k, v in machine.items() if k != name}):
        change(file, machine=other)
        with pytest.raises(InputError, match=f"expected a trial made with {name} .*, got .*lhc-run trial"):
            runtime.load(path, trial=file)


def test_the_stamp_of_the_sources_knows_those_that_choose(tmp_path, monkeypatch):
    before = trial.here()["sources"]
    monkeypatch.setattr(trial, "__file__", str(tmp_path / "trial.py"))
    assert trial.here()["sources"] != before


def broken(facts):
    """Files that are no trial, each with what is wrong."""
    layers = facts["layouts"]["images"]
    name, seconds = layers["layers"][0]
    kernel = next(iter(seconds))

    def with_layout(**changes):
        return json.dumps(facts | {"layouts": {"images": layers | changes}})

    def with_seconds(text):
        return json.dumps(facts).replace(json.dumps(seconds[kernel]), text, 1)

    yield "empty", ""
    yield "cut", json.dumps(facts)[:-20]
    yield "no object", "[1, 2]"
    yield "format", json.dumps(facts | {"format": 2})
    yield "no format", json.dumps({k: v for k, v in facts.items() if k != "format"})
    yield "no net", json.dumps({k: v for k, v in facts.items() if k != "net"})
    yield "layouts", json.dumps(facts | {"layouts": 3})
    yield "machine", json.dumps(facts | {"machine": 3})
    yield "batch", with_layout(batch=0)
    yield "threads", with_layout(threads=1.5)
    yield "repeats", with_layout(repeats=True)
    yield "more", with_layout(more=1)
    yield "layers", with_layout(layers=[[name]])
    yield "layer's name", with_layout(layers=[[1, seconds]])
    yield "no times", with_layout(layers=[[name, {}]])
    yield from ((text, with_seconds(text)) for text in ("NaN", "Infinity", "-1.0", '"1"', "null", "true"))
    yield "nested", "[" * 100_000


def refusal(path, file):
    """What loading with a trial says."""
    with pytest.raises(InputError) as caught:
        runtime.load(path, trial=file)
    return str(caught.value)


def test_a_broken_file_is_refused(path, file):
    said = {}
    for what, text in broken(json.loads(file.read_text())):
        file.write_text(text)
        said[what] = refusal(path, file)
    assert len(said) > 20
    wanted = re.compile(r".*times\.json: expected JSON of lhc-run trial, got '.*\. Make it anew: lhc-run trial\.", re.S)
    assert [what for what, text in said.items() if not wanted.fullmatch(text)] == []
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="got bytes that are no text"):
        runtime.load(path, trial=file)


def test_times_of_other_kernels_in_a_file_are_refused_before_anything_runs(path, file):
    file.write_text(file.read_text().replace("f32_conv2d_images_rows", "f32_conv2d_images_rose"))
    model = runtime.load(path, trial=file)
    with pytest.raises(InputError, match=r"rose.*lhc-run trial"):
        model.plan(IMAGES)


def test_a_file_that_is_not_there_and_a_gpu_are_refused(path, tmp_path):
    with pytest.raises(InputError, match=r"gone.json: expected a file of lhc-run trial, got 'No such file"):
        runtime.load(path, trial=tmp_path / "gone.json")
    with pytest.raises(InputError, match="trial: expected none on cuda"):
        runtime.load(path, trial=tmp_path / "gone.json", device="cuda")


# --- The command -----------------------------------------------------------------------------------------------------


def test_the_command_writes_a_trial_that_the_others_read(path, tmp_path, capsys):
    out, x = tmp_path / "times.json", tmp_path / "x.npy"
    np.save(x, np.zeros((2, *SHAPE), np.float32))
    assert cli.main(["trial", str(path), "--out", str(out), "--batch", "1", str(BATCH), "--repeats", "1"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("batch 1 on ")
    assert f"\nbatch {BATCH} on " in text
    assert text.endswith(f"wrote {out}\n")
    assert " us measured for batch " in text
    for command in (["info"], ["profile", "--repeats", "1"], ["predict", str(x), "-o", str(tmp_path / "y.npy")]):
        name, *rest = command
        assert cli.main([name, str(path), *rest, "--trial", str(out)]) == 0
    assert "us measured for batch" in capsys.readouterr().out
    assert cli.main(["trial", str(path), "--out", str(out), "--batch", "1", "--repeats", "1", "--json"]) == 0
    (part,) = json.loads(capsys.readouterr().out)["batches"]
    assert part["layers"][0]["candidates"][0]["measured_s"] > 0
    change(out, net="0" * 64)
    with pytest.raises(InputError, match="expected a trial of this net"):
        cli.main(["info", str(path), "--trial", str(out)])


def test_bench_times_the_kernels_of_a_trial(path, file, tmp_path):
    subject = Subject(path, 2, tmp_path, None, "cpu", {"trial": str(file)})
    assert subject.own.options == {"trial": str(file)}
    assert subject.dense.options == {}
    change(file, net="0" * 64)
    with pytest.raises(InputError, match="expected a trial of this net"):
        Subject(path, 2, tmp_path, None, "cpu", {"trial": str(file)})


def test_the_command_refuses_a_folder_that_is_not_there_before_it_times(path, tmp_path, monkeypatch):
    monkeypatch.setattr(Model, "trial", None)
    with pytest.raises(LhcError, match="expected a folder to write to"):
        cli.main(["trial", str(path), "--out", str(tmp_path / "gone" / "times.json")])
