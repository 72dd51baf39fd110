"""`lhc-run eval`: accuracy on labelled data."""

import argparse
from collections.abc import Iterator
from typing import Any

import numpy as np

import runtime
from lhc_ref.errors import InputError
from lhc_ref.modelfile import ModelSpec, infer_shapes
from runtime.commands.arguments import add_choice, add_run_options, choice_of, where
from runtime.commands.inputs import ArraySource, pick_arrays, read_npz
from runtime.commands.report import emit, table, time_text
from runtime.commands.running import BATCH, run_all


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command."""
    parser = commands.add_parser("eval", help="accuracy of a model on labelled data")
    parser.add_argument("file", metavar="FILE", help="model file")
    parser.add_argument("data", metavar="DATA.npz", help="arrays x (examples) and y (labels 0, 1, 2 ...)")
    parser.add_argument("--confusion", action="store_true", help="also count each label's predictions")
    add_run_options(parser, BATCH)
    add_choice(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run the command; gives the exit code."""
    loaded = runtime.load(arguments.file, device=arguments.device, **choice_of(arguments))
    model = loaded.as_stored()
    arrays = read_npz(arguments.data)
    labels = _labels(model.spec, arrays.pop("y", None), arguments.data)
    source = ArraySource(pick_arrays(model.spec, arrays, arguments.data, loaded.views[0]))
    if source.count != len(labels) or not source.count:
        raise InputError(
            f"{arguments.data}: expected one label for each of at least one example, got {len(labels)} for "
            f"{source.count}. Correct y."
        )
    done = run_all(model, source, batch=arguments.batch, workers=arguments.threads, raw=arguments.raw, warm_up=True)
    scores = done.outputs[model.spec.outputs[0]]
    finite = np.isfinite(scores).all(axis=1)
    predicted = scores.argmax(axis=1)
    right = int((finite & (predicted == labels)).sum())
    facts: dict[str, Any] = {
        "examples": source.count,
        "right": right,
        "accuracy": right / source.count,
        "not_finite": int((~finite).sum()),
        "device": model.device,
        "threads": done.threads,
        "batch": min(arguments.batch, source.count),
        "image_s": done.seconds / source.count,
    }
    if arguments.confusion:
        confusion = np.zeros((scores.shape[1],) * 2, np.int64)
        np.add.at(confusion, (labels[finite], predicted[finite]), 1)
        facts |= {"classes": model.spec.classes or list(range(scores.shape[1])), "confusion": confusion.tolist()}
    emit(facts, _lines(facts), arguments.json)
    return 0


def _labels(spec: ModelSpec, y: np.ndarray | None, path: str) -> np.ndarray:
    """i64[n], each the number of a class that the model scores."""
    shape = infer_shapes(spec)[spec.outputs[0]]
    if len(shape) != 1:
        raise InputError(f"{path}: expected a model whose output is one score a class, got {list(shape)}. Use predict.")
    if y is None:
        raise InputError(f"{path}: expected an array y with the labels, got none. Add it: numpy.savez(path, x=x, y=y).")
    if y.dtype.kind not in "iu" or y.ndim != 1 or (y.size and not 0 <= y.min() <= y.max() < shape[0]):
        values = f" from {y.min()} to {y.max()}" if y.dtype.kind in "iu" and y.size else ""
        raise InputError(
            f"{path}: expected y to be integers [n] from 0 to {shape[0] - 1}, got {y.dtype}{list(y.shape)}{values}. "
            "Number the classes as the model does."
        )
    return y.astype(np.int64)


def _lines(facts: dict[str, Any]) -> Iterator[str]:
    """The text for people."""
    yield f"accuracy {facts['accuracy']:.2%}: {facts['right']:,} of {facts['examples']:,} examples"
    if facts["not_finite"]:
        yield f"{facts['not_finite']:,} examples gave NaN or infinity; they count as wrong"
    place = where(facts["device"], facts["threads"])
    yield f"{time_text(facts['image_s'])} an image, at batch {facts['batch']} on {place}"
    if "confusion" in facts:
        names = [str(name) for name in facts["classes"]]
        rows = [[name, *map(str, counts)] for name, counts in zip(names, facts["confusion"], strict=True)]
        yield from ("", "label \\ predicted", *table(["", *names], rows))
