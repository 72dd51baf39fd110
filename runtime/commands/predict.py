"""`lhc-run predict`: run arrays or images through a model."""

import argparse
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

import runtime
from lhc_ref.errors import InputError
from lhc_ref.files import atomic_write
from lhc_ref.modelfile import ModelSpec, infer_shapes
from runtime.commands.arguments import add_choice, add_run_options, choice_of, where, whole
from runtime.commands.inputs import Arrays, ImageSource, open_inputs
from runtime.commands.report import emit, shape_text, time_text
from runtime.commands.running import BATCH, run_all


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command."""
    parser = commands.add_parser("predict", help="run arrays (.npy, .npz) or images through a model")
    parser.add_argument("file", metavar="FILE", help="model file")
    parser.add_argument("inputs", metavar="INPUT", nargs="+", help="one .npy or .npz file, or images of the net's size")
    parser.add_argument("-o", "--out", metavar="OUT", help="write the outputs to this .npy or .npz file")
    parser.add_argument("--top", type=whole(1), metavar="K", help="print the K best classes (default: 1 for images)")
    add_run_options(parser, BATCH)
    add_choice(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run the command; gives the exit code."""
    loaded = runtime.load(arguments.file, device=arguments.device, **choice_of(arguments))
    model, (views, output_views) = loaded.as_stored(), loaded.views
    source = open_inputs(model.spec, arguments.inputs, views)
    images = isinstance(source, ImageSource)
    top = _places(model.spec, arguments.top, images)
    _check_out(arguments.out, model.spec, printing=top > 0)
    done = run_all(model, source, batch=arguments.batch, workers=arguments.threads, raw=arguments.raw, warm_up=False)
    outputs = {name: view.outward(done.outputs[view.value]) for name, view in output_views.items()}
    if arguments.out:
        atomic_write(arguments.out, lambda file: _write(file, arguments.out, outputs))
    names = arguments.inputs if images else [str(i) for i in range(source.count)]
    facts = {
        "examples": source.count,
        "device": model.device,
        "threads": done.threads,
        "run_s": done.seconds,
        "out": arguments.out,
        "outputs": {name: array.shape for name, array in outputs.items()},
        "best": _best(model.spec, done.outputs[model.spec.outputs[0]], names, top),
    }
    emit(facts, _lines(facts), arguments.json)
    return 0


def _places(spec: ModelSpec, asked: int | None, images: bool) -> int:
    """How many classes to print for each example."""
    shape = infer_shapes(spec)[spec.outputs[0]]
    if asked and len(shape) != 1:
        raise InputError(f"--top: expected a model whose output is one score a class, got {list(shape)}. Leave it out.")
    return min(asked or int(images), shape[0]) if len(shape) == 1 else 0


def _check_out(out: str | None, spec: ModelSpec, printing: bool) -> None:
    """Refuse before anything runs what could not be written after it."""
    if out is None:
        if not printing:
            raise InputError("output: expected a file to write or classes to print, got neither. Add -o OUT.npy.")
        return
    kind = Path(out).suffix
    if kind not in (".npy", ".npz"):
        raise InputError(f"{out}: expected a name that ends in .npy or .npz, got {kind or 'no ending'!r}. Rename it.")
    if kind == ".npy" and len(spec.outputs) > 1:
        raise InputError(f"{out}: expected an .npz file for {len(spec.outputs)} outputs, got .npy. Rename it.")
    if not Path(out).parent.is_dir():
        raise InputError(f"{out}: expected a folder to write to, got no folder {Path(out).parent}. Make it first.")


def _write(file: BinaryIO, out: str, outputs: Arrays) -> None:
    """One array as .npy, or all by name as .npz (numpy.savez would stumble over an output named `file`)."""
    if out.endswith(".npy"):
        np.lib.format.write_array(file, next(iter(outputs.values())), allow_pickle=False)
        return
    with zipfile.ZipFile(file, "w") as archive:
        for name, array in outputs.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)


def _best(spec: ModelSpec, scores: np.ndarray, names: Sequence[str], top: int) -> list[dict[str, Any]]:
    """The `top` classes of highest score for each example, best first; on ties the first class."""
    if not top:
        return []
    order = np.argsort(-scores, axis=1, kind="stable")[:, :top]
    classes = spec.classes or [str(i) for i in range(scores.shape[1])]
    return [
        {"example": name, "classes": [{"class": classes[i], "score": scores[n, i]} for i in order[n]]}
        for n, name in enumerate(names)
    ]


def _lines(facts: dict[str, Any]) -> Iterator[str]:
    """The text for people."""
    width = max((len(entry["example"]) for entry in facts["best"]), default=0)
    for entry in facts["best"]:
        best = ", ".join(f"{place['class']} ({place['score']:.4g})" for place in entry["classes"])
        yield f"{entry['example'].ljust(width)}  {best}"
    place = where(facts["device"], facts["threads"])
    yield f"ran {facts['examples']:,} examples in {time_text(facts['run_s'])} on {place}"
    if facts["out"]:
        arrays = ", ".join(f"{name} float32[{shape_text(shape)}]" for name, shape in facts["outputs"].items())
        yield f"wrote {facts['out']}: {arrays}"
