"""Profiles: every layer's time, in order, which together are the time of the run."""

import json
import time

import numba
import numpy as np
import pytest

import runtime
from lhc_ref import modelfile
from lhc_ref.errors import InputError
from runtime import cli
from runtime import profile as profiles
from runtime.kernels import engine, options
from runtime.kernels.clock import now_ns
from runtime.kernels.machine import LANES
from runtime.kernels.vector import COMPILED
from runtime.model import Model
from tests.runtime.nets import classifier, images, needs_compiled, net

MS = 1e-3


@pytest.mark.parametrize("batch", [1, LANES, 2 * LANES, 2 * LANES + 1])
@pytest.mark.parametrize("threads", [1, 2])
def test_layers_are_those_that_explain_lists(eager, batch, threads):
    model = Model(classifier())
    found = model.profile(images(batch), threads=threads, repeats=1)
    assert [entry.layer for entry in found.layers] == [row.layer for row in model.explain(batch).rows]
    assert all(row.kernel in entry.kernel for entry, row in zip(found.layers, model.explain(batch).rows, strict=True))
    assert found.batch == batch
    assert found.repeats == 1
    assert all(entry.seconds > 0 for entry in found.layers)
    assert found.import_s > 0
    assert found.export_s > 0
    assert sum(entry.share for entry in found.layers) <= 1


def test_a_batch_in_two_parts_names_both_kernels():
    model = Model(classifier())
    found = model.profile(images(LANES + 1), repeats=1)
    parts = [[f.kernel for f in model.plan(layout).facts] for layout, _ in model.layouts(LANES + 1)]
    assert len(parts) == 2
    for entry, *kernels in zip(found.layers, *parts, strict=True):
        assert entry.kernel == " and ".join(dict.fromkeys(kernels))


@pytest.mark.parametrize("batch", [1, LANES + 1])
def test_explain_shows_the_shares_of_a_batch_size_that_was_profiled(batch):
    model = Model(classifier())
    assert all(row.share is None for row in model.explain(batch).rows)
    found = model.profile(images(batch), repeats=3)
    explanation = model.explain(batch)
    for number, part in enumerate(explanation.parts):
        assert [row.share for row in part.rows] == [entry.shares[number] for entry in found.layers]
    assert all(0 < row.share < 1 for part in explanation.parts for row in part.rows)
    head, *lines = str(explanation).splitlines()[1 if len(explanation.parts) == 1 else 3 :][: len(found.layers) + 1]
    assert "bytes  share  why" in head
    assert all(f"{row.share:.1%}  {row.why}" in line for row, line in zip(explanation.rows, lines, strict=True))
    assert all(row.share is None for row in model.explain(2 * LANES).rows)
    model.trial(batch, repeats=1)
    assert all(row.share is None for row in model.explain(batch).rows)


def big_net():
    """One convolution of some milliseconds and a pooling of far less."""
    kernel = np.ones((3, 3, 32, 32), np.float32)
    return net(
        {"x": (48, 48, 32)},
        ["y"],
        ("conv2d", "c", ["x"], {"padding": "same"}, {"kernel": kernel}),
        ("max_pool", "y", ["c"], {"size": (3, 3), "stride": (2, 2)}),
    )


@needs_compiled
@pytest.mark.parametrize(("batch", "threads"), [(1, 1), (4 * LANES, 1), (1, 2), (LANES, 2), (2 * LANES, 2)])
def test_the_parts_add_up_to_the_run(batch, threads):
    """On one thread the rest is copies of arrays and some checks; on two, also what the system makes threads wait."""
    model = Model(big_net())
    x = np.ones((batch, 48, 48, 32), np.float32)
    for _ in range(5):  # should something else take the cores
        found = model.profile(x, threads=threads, repeats=7)
        work = sum(entry.seconds for entry in found.layers) + found.import_s + found.export_s
        assert work <= 1.2 * found.run_s  # medians of parts, and the median of sums
        if (threads > 1 or work > 0.5 * found.run_s) and found.layers[0].seconds > 2 * found.layers[1].seconds:
            return
    pytest.fail(f"{work} s of work in a run of {found.run_s} s\n{found}")


@needs_compiled
def test_timing_costs_little():
    model = Model(big_net())
    x = np.ones((LANES, 48, 48, 32), np.float32)
    ratios = []
    for _ in range(5):
        plain = []
        for _ in range(9):
            begin = time.perf_counter()
            model.run(x, threads=1)
            plain.append(time.perf_counter() - begin)
        ratios.append(model.profile(x, threads=1, repeats=9).run_s / np.median(plain))
        if ratios[-1] < 1.05:
            return
    pytest.fail(f"a timed run takes {ratios} times a run")


def test_a_profiled_run_computes_the_same(monkeypatch, eager):
    """And the clock is read only when it is asked for."""
    made = []
    monkeypatch.setattr(engine, "new_times", lambda *args, make=engine.new_times: made.append(args) or make(*args))
    model, outputs = Model(classifier()), []
    want = model.run(images(LANES + 1), threads=2).tobytes()
    assert not made
    collect = model._check_outputs
    monkeypatch.setattr(model, "_check_outputs", lambda *args: outputs.append(collect(*args)) or outputs[-1])
    model.profile(images(LANES + 1), threads=2, repeats=2)
    assert made
    assert [y["scores"].tobytes() for y in outputs] == [want] * 3


def test_the_clock_counts_nanoseconds():
    read = numba.njit(**options.OPTIONS)(lambda: now_ns()) if COMPILED else now_ns
    read()
    before, begin = read(), time.monotonic_ns()
    time.sleep(10 * MS)
    after, end = read(), time.monotonic_ns()
    assert after - before >= 10e6
    assert abs((after - before) - (end - begin)) < 5e6


def test_seconds_of_shared_steps_and_of_workers_apart():
    together = np.zeros((1, 3 + engine.COUNTER_STRIDE), np.int64)
    together[0, :4] = (1000, 1500, 3500, 3600)
    np.testing.assert_allclose(engine.step_seconds(together, 3, apart=False), [5e-7, 2e-6, 1e-7])
    apart = np.zeros((2, 2 + engine.COUNTER_STRIDE), np.int64)
    apart[:, :2] = [[100, 300], [300, 100]]
    np.testing.assert_allclose(engine.step_seconds(apart, 2, apart=True), [2e-7, 2e-7])


def test_as_text_and_json():
    found = Model(classifier()).profile(images(2), threads=1, repeats=1)
    read = json.loads(found.json())
    assert read["run_s"] == found.run_s
    assert [entry["seconds"] for entry in read["layers"]] == [entry.seconds for entry in found.layers]
    lines = str(found).splitlines()
    assert lines[0].startswith("batch 2, 1 threads: ")
    assert [line.split()[0] for line in lines[1:]] == [e.layer.split()[0] for e in found.layers] + [
        "import",
        "export",
        "rest",
    ]
    assert isinstance(found, runtime.Profile)
    assert isinstance(found.layers[0], runtime.LayerTime)


def test_wrong_arguments_are_named(monkeypatch):
    model = Model(classifier())
    with pytest.raises(InputError, match=r"^repeats: expected a whole number of at least 1, got 0\. "):
        model.profile(images(1), repeats=0)
    with pytest.raises(InputError, match=r"^x: expected at least one image to time, got none\. "):
        model.profile(images(0))
    with pytest.raises(InputError, match=r"^input 'x': expected float32"):
        model.profile(images(1)[..., :1])
    monkeypatch.delattr(profiles.time, "clock_gettime")
    with pytest.raises(InputError, match=r"^profile: expected a POSIX system, .+ got 'posix'\. Time whole runs"):
        model.profile(images(1))


def test_the_command_prints_the_profile(tmp_path, capsys):
    modelfile.save(tmp_path / "net.lhc", classifier())
    options = [str(tmp_path / "net.lhc"), "--batch", "3", "--threads", "1", "--repeats", "2"]
    assert cli.main(["profile", *options, "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["batch"], facts["threads"], facts["repeats"]) == (3, 1, 2)
    names = [row.layer for row in Model(classifier()).explain(3).rows]
    assert [entry["layer"] for entry in facts["layers"]] == names
    assert cli.main(["profile", *options]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("batch 3 on 1 threads: ")
    for line, name in zip(lines[2:], [*names, "import", "export", "rest"], strict=True):
        assert line.startswith(f"  {name}  ")
        assert line.endswith("%")
