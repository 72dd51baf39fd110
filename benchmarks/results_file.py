"""Results files: what a benchmark measured, with the machine, the versions and the commit. `results.schema.json`."""

import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.schema import violations
from lhc_ref.errors import LhcError
from lhc_ref.files import atomic_write_text
from runtime.bench import machine

FORMAT = 1
DIGITS = 4  # of a time; no clock and no machine here is steadier
FOLDER = Path(__file__).parent / "results"  # of what the documents tell
DIRTY = "+changes"

Document = dict[str, Any]


def begin(benchmark: str, command: Sequence[str]) -> Document:
    """A document without results: what they depend on, as it is now."""
    facts = machine.facts()
    commit = facts.pop("commit")
    return {
        "format": FORMAT,
        "benchmark": benchmark,
        "machine": facts,
        "commit": commit,
        "command": list(command),
        "busy_cores": round(machine.busy_cores(), 2),
        "results": [],
    }


def unclean(document: Document) -> str | None:
    """Why nobody could measure the same again, None where a commit holds all that was measured."""
    commit = document["commit"]
    if commit is None:
        return "outside a git checkout"
    return f"with changes that are not in commit {commit[:12]}" if commit.endswith(DIRTY) else None


def stored_as(document: Document) -> Path:
    """Where results are kept that documents tell of: one file for each benchmark and kind of machine."""
    machine = document["machine"]
    vectors = machine["vectors"].lower().replace(" ", "-")
    return FOLDER / f"{document['benchmark']}-{machine['cores']}-cores-{vectors}.json"


def save(path: Path, document: Document) -> None:
    """Write a document as JSON, rows of numbers on one line each.

    Raises
    ------
    ValueError : it does not fit the schema, which is a mistake of the benchmark.
    LhcError : the file cannot be written.
    """
    if found := list(violations(document)):
        raise ValueError(f"{path}: expected results that fit results.schema.json, got {'; '.join(found[:5])}.")
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic_write_text(path, _text(document))


def _text(document: Document) -> str:
    text = json.dumps(document, indent=1, allow_nan=False)
    return (
        re.sub(r"\[[\s\d.,e+-]+\]", lambda row: " ".join(row[0].split()).replace("[ ", "[").replace(" ]", "]"), text)
        + "\n"
    )


def load(path: Path) -> Document:
    """Read a document.

    Raises
    ------
    LhcError : it cannot be read, or is no results file.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise LhcError(
            f"{path}: expected a results file, got '{error}'. Name one that `run` or `sweep` wrote."
        ) from error
    if found := list(violations(document)):
        raise LhcError(f"{path}: expected a results file of format {FORMAT}, got {found[0]}. Measure anew.")
    return document


def micros(times_s: Iterable[float]) -> list[float]:
    """Times in microseconds, with as many digits as are kept."""
    rounded = (float(f"{1e6 * t:.{DIGITS}g}") for t in times_s)
    return [int(t) if t.is_integer() else t for t in rounded]


def median_us(entry: dict[str, Any]) -> float:
    """Of an engine's entry: the median over the rounds of each round's median."""
    return float(np.median([np.median(times) for times in entry["times_us"]]))


def medians_us(result: dict[str, Any]) -> dict[str, float]:
    """By engine."""
    return {engine: median_us(entry) for engine, entry in result["engines"].items()}
