"""`lhc-run trial`: time every kernel that could run each layer here, and keep the times for later runs."""

import argparse
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import runtime
from lhc_ref.errors import InputError
from runtime import threads
from runtime.commands.arguments import add_cache_dir, add_json, add_threads, whole
from runtime.commands.report import emit, table
from runtime.commands.running import note_if_slow
from runtime.facts import LayerFacts

INDENT = "  "


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command."""
    parser = commands.add_parser("trial", help="time every kernel that could run each layer, for --trial of others")
    parser.add_argument("file", metavar="FILE", help="model file")
    parser.add_argument("-o", "--out", metavar="OUT", required=True, help="write the times to this JSON file")
    parser.add_argument(
        "--batch", type=whole(1), nargs="+", default=[1, 64], metavar="N", help="batch sizes to time (default 1 64)"
    )
    add_threads(parser)
    parser.add_argument(
        "--repeats", type=whole(1), default=5, metavar="N", help="timed runs of each kernel (default 5)"
    )
    add_cache_dir(parser)
    add_json(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run the command; gives the exit code."""
    if not Path(arguments.out).absolute().parent.is_dir():
        raise InputError(f"{arguments.out}: expected a folder to write to, got none. Make it first.")
    model, used = runtime.load(arguments.file), threads.resolve(arguments.threads)
    found = []
    with note_if_slow("still timing every kernel of every layer"):
        for batch in arguments.batch:
            model.trial(batch, arguments.repeats, used)
            for part in model.explain(batch).parts:
                layers = [_facts(row) for row in part.rows]
                found.append({"batch": part.images, "threads": used, "repeats": arguments.repeats, "layers": layers})
    model.save_trial(arguments.out)
    facts = {"file": arguments.file, "out": arguments.out, "batches": found}
    emit(facts, _lines(facts), arguments.json)
    return 0


def _facts(row: LayerFacts) -> dict[str, Any]:
    return {
        "layer": row.layer,
        "kernel": row.kernel,
        "why": row.why,
        "candidates": [asdict(candidate) for candidate in row.candidates],
    }


def _lines(facts: dict[str, Any]) -> Iterator[str]:
    """The text for people."""
    for part in facts["batches"]:
        yield f"batch {part['batch']} on {part['threads']} threads, medians of {part['repeats']} runs"
        rows = [(INDENT + layer["layer"], layer["kernel"], layer["why"]) for layer in part["layers"]]
        yield from table((INDENT + "layer", "kernel", "why"), rows, left=3)
    yield f"wrote {facts['out']}"
