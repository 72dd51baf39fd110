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
from lhc_ref.modelfile import ModelSpec
from runtime.commands import running
from runtime.commands.arguments import add_run_options, whole
from runtime.commands.inputs import Arrays, ImageSource, open_inputs
from runtime.commands.report import emit, shape_text, time_text


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command."""
    parser = commands.add_parser("predict", help="run arrays (.npy, .npz) or images through a model")
    parser.add_argument("file", metavar="FILE", help="model file")
    parser.add_argument("inputs", metavar="INPUT", nargs="+", help="one .npy or .npz file, or images of the net's size")
    parser.add_argument("-o", "--out", metavar="OUT", help="write the outputs to this .npy or .npz file")
    parser.add_argument("--top", type=whole(1), metavar="K", help="print the K best classes of each example")
    add_run_options(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run the command; gives the exit code."""
    model = runtime.load(arguments.file)
    source = open_inputs(model.spec, arguments.inputs)
    images = isinstance(source, ImageSource)
    top = arguments.top or (1 if images else 0)
    _check_out(arguments.out, model.spec, printing=top > 0)
    if top:
        _check_classes(model.spec)
    done = running.run_all(
        model, source, batch=arguments.batch, workers=arguments.threads, raw=arguments.raw, warm_up=False
    )
    if arguments.out:
        atomic_write(arguments.out, lambda file: _write(file, arguments.out, done.outputs))
    names = arguments.inputs if images else range(source.count)
    facts = {
        "examples": source.count,
        "threads": done.threads,
        "run_s": done.seconds,
        "out": arguments.out,
        "outputs": {name: array.shape for name, array in done.outputs.items()},
        "best": _best(model.spec, done.outputs, names, top),
    }
    emit(facts, _lines(facts), arguments.json)
    return 0


def _check_out(out: str | None, spec: ModelSpec, printing: bool) -> None:
    """Refuse before anything runs what could not be written after it."""
    if out is None:
        if not printing:
            raise InputError("output: expected a file to write or classes to print, got neither. Add -o OUT.npy or --top 1.")
        return
    kind = Path(out).suffix
    if kind not in (".npy", ".npz"):
        raise InputError(f"{out}: expected a name that ends in .npy or .npz, got {kind or 'no ending'!r}. Rename it.")
    if kind == ".npy" and len(spec.outputs) > 1:
        raise InputError(f"{out}: expected an .npz file for {len(spec.outputs)} outputs, got .npy. Rename it.")
    if not Path(out).parent.is_dir():
        raise InputError(f"{out}: expected an existing folder, got '{Path(out).parent}'. Make it first.")


def _check_classes(spec: ModelSpec) -> None:
    shape = runtime.shapes(spec)
    raise NotImplementedError
