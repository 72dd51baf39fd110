"""Documents hold what was measured, and nothing else."""

import pytest

from benchmarks import report, results_file, sweep
from benchmarks.results_file import medians_us
from lhc_ref import extras
from lhc_ref.errors import LhcError
from runtime.bench import machine
from tests.benchmarks.documents import document

ENGINES = {"ours": [[1000]], "deepsparse": [[1500]], "onnxruntime": [[6000]]}


@pytest.fixture
def root(tmp_path):
    (tmp_path / "docs").mkdir()
    results_file.save(tmp_path / "benchmarks" / "results" / "x.json", document(ENGINES))
    return tmp_path


def written(root, what, file="x.json"):
    """A document with one block, filled."""
    page = root / "docs" / "page.md"
    page.write_text(f"before\n<!-- benchmark: {file} {what} -->\nold figures\n<!-- /benchmark -->\nafter\n")
    return report.filled(page, root)


@pytest.mark.parametrize("path", [*report.documents()], ids=lambda path: path.name)
def test_every_document_holds_the_stored_figures(path):
    assert report.filled(path) == path.read_text(encoding="utf-8"), "run `python -m benchmarks.report`"


def test_some_document_tells_of_the_speed():
    texts = [path.read_text(encoding="utf-8") for path in report.documents()]
    assert any(block["what"] == "table" for text in texts for block in report.BLOCK.finditer(text))


def test_a_table_replaces_what_stood_there(root):
    text = written(root, "table")
    assert "old figures" not in text
    assert text.startswith("before\n<!-- benchmark: x.json table -->\n| net, batch |")
    assert (
        "| VGG16-CIFAR .1, 64 | 1.00 | 1.50 | 6.00 (onnxruntime) |  | 1.50 | 6.00 |\n<!-- /benchmark -->\nafter\n"
        in text
    )
    (root / "docs" / "page.md").write_text(text)
    assert report.filled(root / "docs" / "page.md", root) == text


def test_limits_and_machine(root):
    assert "| 1.50x | >= 1.4x | yes |" in written(root, "verdicts")
    assert "| 6.00x | >= 7x | **no** |" in written(root, "verdicts")
    told = written(root, "machine")
    assert "Some CPU, 2 cores 25 ns apart, AVX2" in told
    assert "onnxruntime 1.0" in told
    assert "commit aaaaaaaaaaaa, `python -m benchmarks.run`" in told


def test_a_run_becomes_the_figures_of_a_document(root, monkeypatch):
    monkeypatch.setattr(machine, "commit", lambda: "b" * 40)
    out = root / "benchmarks" / "results" / "toy.json"
    results = sweep.run("speed", sweep.TOY, out, ["benchmarks.run", "--toy"])["results"]
    table, told = written(root, "table", "toy.json"), written(root, "machine", "toy.json")
    for result in results:
        figure = f"{medians_us(result)['ours'] / 1e3:.2f}"
        assert f"| VGG16-CIFAR .1, {result['batch']} | {figure} |  |  |  |  |  |" in table
    assert "commit bbbbbbbbbbbb, `python -m benchmarks.run --toy`" in told
    extras.plots()
    assert "](images/toy.svg)" in written(root, "plot", "toy.json")


def test_a_plot_is_drawn_anew_when_the_results_change(root):
    extras.plots()
    assert "](images/x.svg)" in written(root, "plot")
    picture = root / "docs" / "images" / "x.svg"
    first = picture.read_bytes()
    assert b"<svg" in first
    picture.write_bytes(first + b"<!-- mine -->")
    written(root, "plot")
    assert picture.read_bytes().endswith(b"<!-- mine -->")  # the results are the same
    results_file.save(root / "benchmarks" / "results" / "x.json", document({**ENGINES, "ours": [[9000]]}))
    written(root, "plot")
    assert picture.read_bytes() not in (first, first + b"<!-- mine -->")


@pytest.mark.parametrize(
    ("what", "file", "told"),
    [
        ("figures", "x.json", "expected one of table, verdicts, machine, plot after x.json, got figures"),
        ("table", "none.json", "none.json: expected a results file, got"),
        ("table", "dirty.json", "dirty.json: expected the results of a commit, got some measured with changes"),
    ],
)
def test_another_block_is_refused(what, file, told, root):
    dirty = document(ENGINES, commit="c" * 40 + "+changes")
    results_file.save(root / "benchmarks" / "results" / "dirty.json", dirty)
    with pytest.raises(LhcError, match=told):
        written(root, what, file)
