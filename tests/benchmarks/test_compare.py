"""Comparing two runs: noise is told from change, and what cannot be compared is refused."""

import json

import numpy as np
import pytest

from benchmarks import compare
from lhc_ref import command
from lhc_ref.errors import InputError
from tests.benchmarks.documents import document

RNG = np.random.default_rng(5)


def times(median, spread, rounds=9):
    """Rounds whose medians scatter by a share of `spread`."""
    return [[float(median * np.exp(spread * z))] for z in RNG.standard_normal(rounds)]


def verdict(old, new, repeats=()):
    (change,) = compare.changes(old, new, repeats)
    return change.verdict


@pytest.mark.parametrize(("factor", "told"), [(1.0, "no change"), (1.25, "SLOWER"), (0.8, "faster")])
def test_a_change_of_a_quarter_stands_out_of_two_percent(factor, told):
    assert verdict(document({"ours": times(1000, 0.02)}), document({"ours": times(1000 * factor, 0.02)})) == told


def test_the_same_change_is_noise_where_the_rounds_scatter_as_much():
    assert verdict(document({"ours": times(1000, 0.4)}), document({"ours": times(1250, 0.4)})) == "no change"


def test_engines_that_did_not_change_tell_how_runs_differ():
    """The machine was a quarter slower on the second day: the other engine shows it."""
    old = document({"ours": times(1000, 0.01), "torch": times(5000, 0.01)})
    new = document({"ours": times(1250, 0.01), "torch": times(6250, 0.01)})
    assert verdict(old, new) == "no change"
    between, count = compare.deviation_between_runs(old, new, [])
    assert (between, count) == (pytest.approx(np.log(1.25) / np.sqrt(2), rel=0.1), 1)


def test_an_engine_of_another_version_tells_nothing_of_noise():
    old = document({"ours": times(1000, 0.01), "torch": times(5000, 0.01)})
    new = document({"ours": times(1250, 0.01), "torch": times(6250, 0.01)}, version="1.1")
    assert verdict(old, new) == "SLOWER"


def test_repeated_runs_tell_how_runs_differ():
    old, new = document({"ours": times(1000, 0.01)}), document({"ours": times(1250, 0.01)})
    repeats = [document({"ours": times(1000 * factor, 0.01)}) for factor in (1.3, 0.8)]
    assert verdict(old, new) == "SLOWER"
    assert verdict(old, new, repeats) == "no change"


def test_noise_seldom_counts_as_a_change():
    """Equal programs, 200 times: three deviations leave hardly one; the median's own estimate of noise a few more."""
    alarms = sum(
        verdict(document({"ours": times(1000, 0.05)}), document({"ours": times(1000, 0.05)})) != "no change"
        for _ in range(200)
    )
    assert alarms <= 12


def test_the_deviation_of_a_median_is_that_of_many_medians():
    draws = RNG.standard_normal((4000, 25))
    estimated = np.mean([compare.deviation_of_median(row) for row in draws])
    assert estimated == pytest.approx(np.std(np.median(draws, axis=1)), rel=0.08)


def test_other_machines_are_not_compared():
    old, new = document({"ours": times(1, 0.1)}), document({"ours": times(1, 0.1)})
    new["machine"]["vectors"] = "AVX-512"
    with pytest.raises(InputError, match="compare: expected two runs on one machine, got vectors AVX2 and AVX-512"):
        compare.changes(old, new, [])


def test_nothing_in_common_and_too_few_rounds_are_refused():
    old = document({"ours": times(1, 0.1)})
    with pytest.raises(InputError, match="compare: expected two files with times of the same nets, got none in both"):
        compare.changes(old, document({"ours": times(1, 0.1)}, problem="vgg16_cifar_d0.2"), [])
    with pytest.raises(InputError, match="compare: expected at least 3 rounds, which tell the noise, got 2"):
        compare.changes(old, document({"ours": times(1, 0.1, rounds=2)}), [])


def test_cores_that_lie_elsewhere_are_told():
    old, new = (document({"ours": times(1000, 0.01)}) for _ in range(2))
    assert list(compare.moved_cores(old, new)) == []
    old["results"][0]["core_ns"] = [20.0, 21.0, 170.0]
    assert list(compare.moved_cores(old, new)) == []
    new["results"][0]["core_ns"] = [30.0, 170.0, 165.0]
    (told,) = compare.moved_cores(old, new)
    assert "VGG16-CIFAR .1, 64, 2 threads: cores 21 ns apart in the old run, 165 ns in the new one" in told
    new["results"][0]["core_ns"] = [30.0]
    assert list(compare.moved_cores(old, new)) == []


@pytest.mark.parametrize(("new_us", "status", "told"), [(1000, 0, "nothing is slower"), (2000, 1, "1 of 1 slower")])
def test_the_command_tells_by_its_exit_code(new_us, status, told, tmp_path, monkeypatch, capsys):
    for name, median in (("old", 1000), ("new", new_us)):
        (tmp_path / f"{name}.json").write_text(json.dumps(document({"ours": times(median, 0.01)})))
    monkeypatch.setattr("sys.argv", ["compare", str(tmp_path / "old.json"), str(tmp_path / "new.json")])
    assert command.run(compare.main) == status
    out = capsys.readouterr().out
    assert told in out
    assert "VGG16-CIFAR .1, 64" in out
    assert "from run to run: not known" in out


def test_the_command_fails_with_2_where_nothing_can_be_compared(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["compare", str(tmp_path / "none.json"), str(tmp_path / "none.json")])
    assert command.run(compare.main) == 2
    assert "none.json: expected a results file" in capsys.readouterr().err
