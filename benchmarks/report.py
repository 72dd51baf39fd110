"""Writes the measured tables and plots into the documents: ``python -m benchmarks.report``.

A document says what it wants between two comments, and what stands between them is replaced:

    <!-- benchmark: speed-2-cores-avx2.json table -->
    <!-- /benchmark -->

The file lies in benchmarks/results. After it: `table`, `verdicts` (limits beside what was measured), `plot`, or
`machine` (where and how it was measured). Plots are SVG files in docs/images.
"""

import argparse
import hashlib
import os
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks import plots, results_file, tables
from benchmarks.catalogue import BENCHMARKS
from lhc_ref import command
from lhc_ref.errors import LhcError
from lhc_ref.files import atomic_write_text

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(
    r"(?P<begin><!-- benchmark: (?P<file>\S+) (?P<what>\w+) -->\n)(?P<body>.*?)(?P<end><!-- /benchmark -->)", re.S
)


def documents(root: Path = ROOT) -> Iterator[Path]:
    """README.md and the pages of docs."""
    yield from (root / "README.md", *sorted((root / "docs").glob("*.md")))


def filled(path: Path, root: Path = ROOT) -> str:
    """A document's text with every block as its results file has it; plots that are out of date are drawn.

    Raises
    ------
    LhcError : a block names no results file, or something else than table, verdicts, plot or machine.
    """
    return BLOCK.sub(
        lambda block: block["begin"] + _body(block, path, root) + block["end"], path.read_text(encoding="utf-8")
    )


def _body(block: re.Match[str], path: Path, root: Path) -> str:
    source = root / "benchmarks" / "results" / block["file"]
    kinds: dict[str, Callable[[results_file.Document], str]] = {
        "table": lambda document: BENCHMARKS[document["benchmark"]].table(document["results"]).markdown(),
        "verdicts": _verdicts,
        "machine": _machine,
        "plot": lambda document: _plot(document, source, path, root),
    }
    if block["what"] not in kinds:
        raise LhcError(
            f"{path}: expected one of {', '.join(kinds)} after {block['file']}, got {block['what']}. Use one of these."
        )
    document = results_file.load(source)
    if why := results_file.unclean(document):
        raise LhcError(
            f"{source}: expected the results of a commit, got some measured {why}. Measure anew with a clean checkout."
        )
    return kinds[block["what"]](document) + "\n"


def _verdicts(document: results_file.Document) -> str:
    verdicts = list(BENCHMARKS[document["benchmark"]].verdicts(document["results"]))
    return tables.of_verdicts(verdicts).markdown()


def _machine(document: results_file.Document) -> str:
    """One sentence."""
    machine = document["machine"]
    versions = {
        name.split("-")[0]: entry["version"].split("-")[0]
        for result in document["results"]
        for name, entry in result.get("engines", {}).items()
        if "version" in entry
    }
    others = ", ".join(f"{name} {versions[name]}" for name in sorted(versions) if not name.startswith("ours"))
    nearest = machine["nearest_core_ns"]
    apart = f" {nearest:.0f} ns apart" if nearest else ""
    return (
        f"{machine['cpu']}, {machine['cores']} cores{apart}, {machine['vectors']}; "
        f"Python {machine['python']}, NumPy {machine['numpy']}, Numba {machine['numba']}{others and '; ' + others}; "
        f"commit {document['commit'][:12]}, `{' '.join(['python -m', *document['command']])}`."
    )


def _plot(document: results_file.Document, source: Path, path: Path, root: Path) -> str:
    picture = root / "docs" / "images" / f"{source.stem}.svg"
    digest = hashlib.sha256(source.read_bytes()).hexdigest()
    if not picture.exists() or digest not in picture.read_text(encoding="utf-8"):
        plots.draw(document, picture, digest)
    about = BENCHMARKS[document["benchmark"]].about
    return f"![{about}]({Path(os.path.relpath(picture, path.parent)).as_posix()})"


def main() -> int:
    """Fill every document; gives the exit code: with --check 1 where one was out of date, and nothing is written."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.report", description=(__doc__ or "").split("\n")[0])
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit code 1 where a document is out of date"
    )
    options = parser.parse_args()
    stale = [(path, text) for path in documents() if (text := filled(path)) != path.read_text(encoding="utf-8")]
    for path, text in stale:
        if not options.check:
            atomic_write_text(path, text)
        print(f"{path.relative_to(ROOT)}: {'out of date' if options.check else 'written'}")
    if not stale:
        print("every document holds what was measured")
    return int(options.check and bool(stale))


if __name__ == "__main__":
    sys.exit(command.run(main))
