"""From an ONNX file to a model, with the views that show its inputs and outputs as ONNX has them."""

import os
from collections import Counter
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass, replace
from operator import index
from typing import SupportsIndex

import numpy as np

from lhc_ref.modelfile import InputError, InputSpec, ModelFileError, ModelSpec, validate
from runtime.onnx.builder import Builder
from runtime.onnx.finish import finish
from runtime.onnx.fold import FOLDS, Constant, fold
from runtime.onnx.graph import SYMBOLIC_BATCH, UNKNOWN_RANK, Graph, Op, Unsupported, read, require_names
from runtime.onnx.operators import OPERATORS
from runtime.onnx.values import view
from runtime.views import View


@dataclass(frozen=True, eq=False)
class Imported:
    """A model made of an ONNX file, and how its inputs and outputs lie in ONNX, by ONNX's names."""

    spec: ModelSpec
    inputs: Mapping[str, View]
    outputs: Mapping[str, View]


def load(
    path: str | os.PathLike[str],
    *,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
    constants: Mapping[str, np.ndarray] | None = None,
) -> Imported:
    """Import an ONNX file.

    Parameters
    ----------
    path : of the file; external data are read from its folder
    shapes : ONNX's shape without the batch, for inputs whose sizes are symbolic, or whose number of axes is unknown
    constants : arrays for inputs that shall be constants, such as a shape

    Raises
    ------
    ModelFileError
        The file cannot be read, or holds what cannot be run: all such nodes are named, each with its reason.
    InputError, MissingExtraError
        A name in `shapes` or `constants` that is no input; the package onnx is not installed.

    Notes
    -----
    Zeros in weights become masks. Batch norms and constants by channel go into the weights before them, rounded to
    float32 once. Cost: O(weights).
    """
    graph = read(path, constants or {})
    require_names("shapes", shapes or {}, graph.inputs)
    sizes = {name: _sizes(name, given) for name, given in (shapes or {}).items()}
    told = {name: (None, *given) for name, given in sizes.items() if graph.inputs[name] == UNKNOWN_RANK}
    return convert(replace(graph, inputs={**graph.inputs, **told}), str(path), sizes)


def _sizes(name: str, given: Iterable[SupportsIndex]) -> tuple[int, ...]:
    """The sizes that are given for an input; InputError for what are none."""
    try:
        return tuple(index(size) for size in given)
    except TypeError as error:
        raise InputError(
            f"shapes[{name!r}]: expected whole numbers, as in (3, 224, 224), got {given!r}. Correct it."
        ) from error


def convert(graph: Graph, path: str, shapes: Mapping[str, tuple[int, ...]]) -> Imported:
    """The model of a graph; raises ModelFileError naming everything that cannot be run.

    The first axis of every input is a batch of independent examples where that can be; else, if all sizes are fixed,
    the whole arrays are one example.
    """
    first = [dims[0] for dims in graph.inputs.values() if dims and not isinstance(dims, str)]
    sizes = [size for size in first if size is not None]
    made = _convert(graph, shapes, (sizes[0], sizes[0]) if sizes else SYMBOLIC_BATCH)
    if isinstance(made, list) and all(not isinstance(dims, str) and None not in dims for dims in graph.inputs.values()):
        whole = _convert(graph, {}, None)
        made = whole if isinstance(whole, Imported) or len(whole) < len(made) else made
    if isinstance(made, Imported):
        try:
            return Imported(validate(made.spec), made.inputs, made.outputs)
        except ModelFileError as error:
            raise ModelFileError(f"{path}: {error}") from None
    raise ModelFileError(
        f"{path}: expected a graph that can be run, got {len(made)} "
        f"{'thing' if len(made) == 1 else 'things'} that cannot: {'; '.join(text.rstrip('.') for text in made)}. "
        "Change the export: docs/onnx.md says what can be run."
    )


def _convert(
    graph: Graph, shapes: Mapping[str, tuple[int, ...]], batch: tuple[int, int] | None
) -> Imported | list[str]:
    """The model of a graph, not yet validated, or all that cannot be run."""
    problems = [*graph.problems, *_unknown(graph), *_wrong_names(graph)]
    if not graph.outputs:
        problems.append("no output: name what the net shall give")
    readers = Counter(name for op in graph.ops for name in op.inputs)
    readers.update(graph.outputs)
    builder, last = Builder(readers, batch), _channels_last(graph)
    builder.values.update({name: Constant.of(array) for name, array in graph.constants.items()})
    inputs = [_input(builder, name, dims, shapes, last, problems) for name, dims in graph.inputs.items()]
    for op in graph.ops:
        _walk(builder, op, problems)
    if problems:
        return problems
    try:
        spec, outputs = finish(builder, [entry for entry in inputs if entry is not None], graph.outputs)
    except Unsupported as error:
        return [str(error)]
    read_inputs = {entry.name for entry in spec.inputs}
    views = {name: view(value, builder.batched) for name, value in builder.inputs.items() if value.name in read_inputs}
    return Imported(spec, views, outputs)


def _unknown(graph: Graph) -> list[str]:
    """Operators that no version of a file could make run here."""
    return [
        f"node {op.name!r} ({op.kind}): no such operator here"
        for op in graph.ops
        if op.kind not in OPERATORS and op.kind not in FOLDS
    ]


def _wrong_names(graph: Graph) -> list[str]:
    """Values that are read before any node makes them, or made twice."""
    made = {"", *graph.inputs, *graph.constants}
    found = []
    for op in graph.ops:
        found += [
            f"node {op.name!r} ({op.kind}): reads {name!r}, made by none before it"
            for name in op.inputs
            if name not in made
        ]
        found += [f"node {op.name!r} ({op.kind}): makes {name!r} again" for name in op.outputs if name and name in made]
        made.update(op.outputs)
    return found + [f"output {name!r}: made by no node" for name in graph.outputs if name not in made]


def _channels_last(graph: Graph) -> set[str]:
    """Inputs that nothing reads but transposes that put channels first: exporters of other frameworks write these."""
    found = set()
    for name in graph.inputs.keys() - set(graph.outputs):
        orders = [op.kind == "Transpose" and op.attrs.get("perm") for op in graph.ops if name in op.inputs]
        if orders and all(order in ([0, 3, 1, 2], [0, 2, 1]) for order in orders):
            found.add(name)
    return found


def _input(
    builder: Builder,
    name: str,
    dims: tuple[int | None, ...] | str,
    shapes: Mapping[str, tuple[int, ...]],
    last: Set[str],
    problems: list[str],
) -> InputSpec | None:
    if isinstance(dims, str):
        problems.append(f"input {name!r}: {dims}")
        return None
    if not builder.batched:
        sizes: list[int | None] = list(dims)
    else:
        if not dims:
            problems.append(f"input {name!r}: a single number, without a batch")
            return None
        if name in shapes and min(shapes[name], default=1) < 1:
            problems.append(f"input {name!r}: shapes={tuple(shapes[name])}: no numbers at all")
            return None
        sizes = [builder.batch[0], *(shapes[name] if name in shapes else dims[1:])]
        if None in sizes or (name in shapes and not _agree(dims[1:], shapes[name])):
            known = ", ".join("?" if size is None else str(size) for size in dims[1:])
            given = f", not {tuple(shapes[name])}" if name in shapes else ""
            problems.append(
                f"input {name!r}: sizes ({known}) beside the batch: give them as shapes={{{name!r}: (...)}} of "
                f"runtime.load, or --shape {name}=... of lhc-run convert{given}"
            )
            return None
    try:
        return builder.add_input(name, tuple(size for size in sizes if size is not None), name in last)
    except Unsupported as error:
        problems.append(f"input {name!r}: {error}")
        return None


def _agree(dims: tuple[int | None, ...], given: tuple[int, ...]) -> bool:
    return len(dims) == len(given) and all(size in (None, other) for size, other in zip(dims, given, strict=True))


def _walk(builder: Builder, op: Op, problems: list[str]) -> None:
    """One operator: folded where all it reads is constant, else as its row says. What cannot be run is noted."""
    if any(name and name not in builder.values for name in op.inputs):
        return  # it reads what an operator makes that cannot be run: that one is named
    read_values = [builder.take(name) for name in op.inputs]
    constants = [x for x in read_values if x is None or isinstance(x, Constant)]
    try:
        if len(constants) == len(read_values) and op.kind in FOLDS:
            builder.values[op.outputs[0]] = fold(op, constants)
        elif op.kind in OPERATORS:
            OPERATORS[op.kind](builder, op)
        elif op.kind in FOLDS:
            raise Unsupported("data where only constants can be computed with")
    except Unsupported as error:
        problems.append(f"node {op.name!r} ({op.kind}): {error}")
    except (ArithmeticError, AssertionError, LookupError, TypeError, ValueError) as error:
        # Why: a valid node may still hold numbers that go with nothing, such as a list where one number is meant.
        problems.append(f"node {op.name!r} ({op.kind}): inputs or attributes that do not fit ({error})")
