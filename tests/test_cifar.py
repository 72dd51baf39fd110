"""The trainings on CIFAR-10: they go on where they stopped, and the page says what the runs' logs say."""

import json

import pytest

from benchmarks import cifar, cifar_report
from lhc_ref import cli, runs
from lhc_ref.config import resolve
from lhc_ref.errors import DataError
from tests.lhc_ref.test_data_files import write_cifar

QUICK = "--model golden --groups 4,4 --epochs-coarse 2 --epochs-fine 1 --enable-epochs 1 --ramp-epochs 1 --batch 16"


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(cifar, "RECIPE", QUICK)
    monkeypatch.setattr(cifar, "PLAN", [cifar.Planned(kind, 0) for kind in ("dense", "lhc20")])
    monkeypatch.setattr(cifar_report, "TIMING_S", 0.01)


def report(folder, *options):
    """Exit code, page and lines of the log."""
    arguments = [str(folder / "c"), "--runs", str(folder / "runs"), "--page", str(folder / "docs" / "cifar10.md")]
    arguments += ["--log", str(folder / "log.jsonl"), "--speed", str(folder / "speed.json"), *options]
    status = cifar.main(arguments)
    return status, (folder / "docs" / "cifar10.md").read_text(), (folder / "log.jsonl").read_text().splitlines()


def test_what_has_not_begun_is_said_to_be_so(tmp_path):
    status, page, log = report(tmp_path, "--report")
    assert (status, log) == (0, [])
    assert "| dense | 0 | none |  | not begun |  |  |  |" in page
    assert "dense at least 80%: not begun." in page
    assert ".png" not in page


def test_runs_go_on_and_the_page_tells_their_results(tmp_path, monkeypatch):
    write_cifar(tmp_path / "c")
    planned = cifar.Planned("lhc20", 0)
    folder = tmp_path / "runs" / planned.name
    values = {"data": str(tmp_path / "c"), "model": "golden", "groups": [4, 4], "batch": 16, "target_density": 0.2}
    values |= {"epochs_coarse": 2, "epochs_fine": 1, "enable_epochs": 1, "ramp_epochs": 1}
    with monkeypatch.context() as patch:  # stopped after its first epoch
        saved = runs.mask_history.save
        patch.setattr(runs.mask_history, "save", lambda *a: (saved(*a), (_ for _ in ()).throw(KeyboardInterrupt)))
        with pytest.raises(KeyboardInterrupt):
            runs.train(resolve(values), folder, show=False)
    _, page, _ = report(tmp_path, "--report")
    assert "not finished: 0 of 3 epochs" in page

    status, page, log = report(tmp_path)
    assert status == 0
    assert len(log) == 2 * (3 + 2)
    result = json.loads((folder / "result.json").read_text())
    assert "| lhc20 | 0 | 3 of 3 | " in page
    assert f"| {result['test_accuracy']:.2%} | {result['density']:.4f} | {result['kept']:,} of " in page
    assert {path.name for path in (tmp_path / "docs").iterdir()} == {
        "cifar10.md", "cifar10-curves.png", "cifar10-patterns.png"
    }  # fmt: skip
    speed = json.loads((tmp_path / "speed.json").read_text())["nets"]
    assert {name: net["test_accuracy"] for name, net in speed.items()} == {
        name: json.loads((tmp_path / "runs" / name / "result.json").read_text())["test_accuracy"] for name in speed
    }
    assert "## In the runtime" in page

    (tmp_path / "note.md").write_text("Something of the data.\n")
    _, page, log = report(tmp_path, "--report")
    assert "\n\nSomething of the data.\n\n## In the runtime" in page

    # Without the runs' folders the log of all runs still has them, and nothing is trained anew.
    (tmp_path / "runs").rename(tmp_path / "elsewhere")
    monkeypatch.setattr(cifar, "train_all", lambda trainings: (_ for _ in ()).throw(AssertionError) if trainings else 0)
    assert report(tmp_path) == (0, page, log)


def done(kind, accuracy, seed=0):
    """The log of a run that is done."""
    result = {"test_accuracy": accuracy, "density": 1.0, "kept": 0, "total": 0, "seconds": 60.0}
    return cifar_report.RunLog(None, kind, seed, {"epochs_coarse": 1, "epochs_fine": 0}, [], result)


def test_means_over_seeds():
    logs = [done("dense", 0.80), done("lhc20", 0.79), done("dense", 0.82, 1), done("lhc20", 0.78, 1)]
    assert cifar_report.means(logs) == "- Mean over 2 seeds: dense 81.00%; lhc20 78.50%, 2.50 points below."
    assert cifar_report.means([*logs, cifar_report.RunLog(None, "lhc10", 0, {}, [], {})]) == ""


@pytest.mark.parametrize(
    ("dense", "lhc", "verdicts"),
    [
        (0.85, 0.83, ["met, 85.00%", "met, 2.00 points below"]),
        (0.79, 0.76, ["NOT met, 79.00%", "NOT met, 3.00 points below"]),
    ],
)
def test_verdicts(dense, lhc, verdicts):
    lines = cifar_report.verdicts([done("dense", dense), done("lhc20", lhc)])
    assert [line.rpartition(": ")[2] for line in lines] == [f"{verdict}." for verdict in verdicts]


def test_the_real_recipe_is_understood(tmp_path, monkeypatch):
    monkeypatch.undo()
    assert [run.name for run in cifar.PLAN] == ["dense-0", "dense-1", "lhc20-0", "lhc20-1", "lhc10-0", "lhc10-1"]
    with pytest.raises(DataError, match="got no such"):  # the options are right, and then the data is missed
        cli.main(["train", "--out", str(tmp_path / "run"), *cifar.PLAN[1].options("none")])
