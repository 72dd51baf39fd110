"""Results files: they fit their schema, stay small, and say what nobody could measure again."""

import copy
import json
import subprocess
from pathlib import Path

import pytest

from benchmarks import results_file, schema, sweep
from lhc_ref.errors import InputError, LhcError
from tests.benchmarks.documents import document

STORED = sorted(results_file.FOLDER.glob("*.json"))


@pytest.mark.parametrize("path", STORED, ids=lambda path: path.stem)
def test_stored_results_fit_and_come_from_a_commit_of_ours(path):
    stored = results_file.load(path)
    assert results_file.unclean(stored) is None
    git = ["git", "-C", str(results_file.FOLDER)]
    inside = subprocess.run([*git, "rev-parse", "--is-shallow-repository"], capture_output=True, text=True, check=False)
    if inside.stdout.strip() != "false":
        pytest.skip("NO HISTORY HERE: whether the stored results come from an ancestor of this commit was not checked")
    assert subprocess.run([*git, "merge-base", "--is-ancestor", stored["commit"], "HEAD"], check=False).returncode == 0


def test_there_are_stored_results():
    assert STORED


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda d: d.pop("commit"), r"\$: expected 'commit', got none"),
        (lambda d: d.update(commit="abc"), r"\$.commit: expected text like"),
        (lambda d: d.update(format=2), r"\$.format: expected one of \[1\], got 2"),
        (lambda d: d.update(more=1), r"\$: expected no 'more', got one"),
        (lambda d: d.update(results=[]), r"\$.results: expected at least 1 entries, got 0"),
        (lambda d: d["results"][0].update(batch=True), r"\$.results\[0\].batch: expected integer, got bool"),
        (lambda d: d["results"][0].update(batch=0), r"\$.results\[0\].batch: expected at least 1, got 0"),
        (
            lambda d: d["results"][0]["engines"]["ours"].update(times_us=[[0]]),
            r"times_us\[0\]\[0\]: expected more than 0",
        ),
        (lambda d: d["results"][0]["engines"]["ours"].pop("times_us"), r"engines.ours: expected 'times_us', got none"),
    ],
)
def test_another_document_is_refused(change, told, tmp_path):
    good = document({"ours": [[1.0, 2.0]]})
    assert list(schema.violations(good)) == []
    bad = copy.deepcopy(good)
    change(bad)
    (tmp_path / "bad.json").write_text(json.dumps(bad))
    with pytest.raises(LhcError, match=f"expected a results file of format 1, got .*{told}"):
        results_file.load(tmp_path / "bad.json")
    with pytest.raises(ValueError, match="expected results that fit results"):
        results_file.save(tmp_path / "worse.json", bad)
    assert not (tmp_path / "worse.json").exists()


def test_an_unknown_keyword_of_the_schema_is_no_pass():
    with pytest.raises(ValueError, match="schema: expected a keyword that is checked here, got 'maxItems'"):
        list(schema.violations([], {"maxItems": 1}))


def test_no_json_is_refused(tmp_path):
    (tmp_path / "x.json").write_text("{")
    for name in ("x.json", "none.json"):
        with pytest.raises(LhcError, match=f"{name}: expected a results file, got"):
            results_file.load(tmp_path / name)


def test_rows_of_numbers_stand_on_one_line(tmp_path):
    written = document({"ours": [[1.5, 20], [3]]})
    results_file.save(tmp_path / "deep" / "x.json", written)
    text = (tmp_path / "deep" / "x.json").read_text()
    assert "[1.5, 20],\n" in text
    assert "[3]\n" in text
    assert results_file.load(tmp_path / "deep" / "x.json") == written


def test_times_keep_four_digits():
    assert results_file.micros([1.234567e-4, 0.0123456, 2.0]) == [123.5, 12350, 2_000_000]
    assert results_file.median_us({"times_us": [[1, 1, 900], [3, 3], [2]]}) == 2


def test_changed_files_are_told_and_never_stored(monkeypatch, capsys, tmp_path):
    commit = "b" * 40
    assert results_file.unclean({"commit": commit}) is None
    assert results_file.unclean({"commit": None}) == "outside a git checkout"
    assert "changes that are not in commit bbbbbbbbbbbb" in results_file.unclean({"commit": commit + "+changes"})
    monkeypatch.setattr(results_file.machine, "facts", lambda: {"commit": commit + "+changes"})
    monkeypatch.setattr(results_file.machine, "busy_cores", lambda: 0.0)
    with pytest.raises(InputError, match="--store: expected a clean checkout, got sources with changes"):
        sweep.run("speed", sweep.TOY, None, ["test"])


def test_stored_files_are_named_by_benchmark_and_machine():
    path = results_file.stored_as(document({"ours": [[1]]}))
    assert path == Path(results_file.FOLDER, "speed-2-cores-avx2.json")


@pytest.mark.parametrize(("name", "arguments"), [(None, ["speed", "--toy"]), ("speed", ["--toy"])])
def test_the_command_that_is_kept_is_the_one_to_type(monkeypatch, name, arguments):
    kept = []
    monkeypatch.setattr(sweep, "run", lambda *given: kept.append(given[-1]))
    assert sweep.main(name, arguments) == 0
    assert kept == [["benchmarks.sweep", "speed", "--toy"]]
