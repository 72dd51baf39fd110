"""An ONNX file as plain values: operators, constants, inputs and outputs; what is no such graph is refused."""

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from lhc_ref import extras
from lhc_ref.modelfile import InputError, ModelFileError

OLDEST_OPSET, NEWEST_OPSET = 9, 28  # NEWEST: the last one whose node tests were run
MAX_CONSTANT = 2**30  # numbers of a constant
TYPES = {"DOUBLE": "float64"}  # whose names in ONNX are not those of NumPy
IN_FLOAT32 = "export the net in float32"
SYMBOLIC_BATCH = (1009, 2003)  # two primes: what depends on the batch differs between them, see fold.py


class Unsupported(Exception):  # noqa: N818  # it is caught, collected with others, and told as one error
    """Why one operator cannot be imported."""


@dataclass(frozen=True)
class Op:
    """One operator: its kind, name, names of what it reads ("" where left out) and makes, attributes, opset."""

    kind: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attrs: Mapping[str, Any]
    opset: int


UNKNOWN_RANK = (
    "an unknown number of axes: export the net with the shapes of its inputs, or give its shape without the batch: "
    "load(path, shapes={name: shape})"
)


@dataclass(frozen=True)
class Graph:
    """A graph of the default domain; `inputs` by name: their sizes, None where a size is symbolic; or why an input is
    no float32 array of known rank.
    """

    inputs: Mapping[str, tuple[int | None, ...] | str]
    outputs: tuple[str, ...]
    ops: tuple[Op, ...]
    constants: Mapping[str, np.ndarray]
    problems: tuple[str, ...] = field(default=())


def read(path: str | os.PathLike[str], constants: Mapping[str, np.ndarray]) -> Graph:
    """Read an ONNX file, external data included. `constants` stand in for inputs of those names.

    Raises
    ------
    ModelFileError
        The path cannot be read, or is no ONNX model of opset 9 to 28.
    InputError, MissingExtraError
        A name in `constants` that is no input; the package onnx is not installed.
    """
    onnx = extras.onnx()
    try:
        model = onnx.load(os.fspath(path))
    except OSError as error:
        raise ModelFileError(
            f"{path}: expected a file that can be read, got '{error.strerror or error}'. Check the path."
        ) from error
    except Exception as error:  # Why all: damaged bytes make protobuf raise its own errors, and checks of external data
        text = _line(error)
        advice = (
            "Put the file of external data beside it, whole"
            if "external data" in text.lower() or "should be stored" in text
            else "Export it again"
        )
        raise ModelFileError(f"{path}: expected an ONNX model, got '{text}'. {advice}.") from error
    if not model.ByteSize():
        raise ModelFileError(f"{path}: expected an ONNX model, got an empty file. Export or copy it again.")
    return parse(onnx, model, str(path), constants)


def parse(onnx: ModuleType, model: Any, path: str, constants: Mapping[str, np.ndarray]) -> Graph:
    """The graph of a ModelProto whose external data are loaded."""
    opsets = {entry.domain or "ai.onnx": entry.version for entry in model.opset_import}
    opset = opsets.get("ai.onnx", 0)
    if not OLDEST_OPSET <= opset <= NEWEST_OPSET:
        raise ModelFileError(
            f"{path}: expected opset {OLDEST_OPSET} to {NEWEST_OPSET}, got {opset or 'none'}. Export with opset 17."
        )
    graph, problems = model.graph, []
    if any(isinstance(name, bytes) for name in _names(graph)):
        raise ModelFileError(f"{path}: expected names in UTF-8, got damaged ones. Export or copy it again.")
    require_names("constants", constants, {item.name for item in graph.input})
    known: dict[str, np.ndarray] = dict(constants)
    try:
        for tensor in graph.initializer:
            known.setdefault(tensor.name, _array(onnx, tensor))
        for sparse in graph.sparse_initializer:
            known.setdefault(sparse.values.name, _dense(onnx, sparse))
        ops = []
        for i, node in enumerate(graph.node):
            name = _name(node, i)
            if node.domain not in ("", "ai.onnx"):
                problems.append(f"node {name!r} ({node.domain}.{node.op_type}): an operator of another domain")
                continue
            attrs = {a.name: _attribute(onnx, a) for a in node.attribute}
            ops.append(Op(node.op_type, name, tuple(node.input), tuple(node.output), attrs, opset))
    except ModelFileError as error:
        raise ModelFileError(f"{path}: {error}") from None
    except Exception as error:  # Why all: a tensor whose bytes do not fit its shape fails in NumPy or in onnx
        raise ModelFileError(f"{path}: expected tensors that fit, got '{_line(error)}'. Export it again.") from error
    inputs = {item.name: _sizes(onnx, item.type) for item in graph.input if item.name not in known}
    outputs = tuple(item.name for item in graph.output)
    if not problems:
        _check(onnx, model, path)
    return Graph(inputs, outputs, tuple(ops), known, tuple(problems))


def require_names(what: str, given: Iterable[str], inputs: Iterable[str]) -> None:
    """Raise InputError where something is given for what is no input."""
    unknown = sorted(set(given) - set(inputs))
    if unknown:
        raise InputError(f"{what}: expected names of inputs, {sorted(inputs)}, got {unknown}. Correct the names.")


def _sizes(onnx: ModuleType, kind: Any) -> tuple[int | None, ...] | str:
    """The sizes of an input, None where they are symbolic; or why it cannot be one."""
    if not kind.HasField("tensor_type"):
        return "no array, where a float32 array is needed"
    tensor, types = kind.tensor_type, onnx.TensorProto
    if tensor.elem_type != types.FLOAT:
        name = types.DataType.Name(tensor.elem_type) if tensor.elem_type in types.DataType.values() else "unknown"
        advice = (
            IN_FLOAT32
            if tensor.elem_type in (types.FLOAT16, types.BFLOAT16, types.DOUBLE)
            else "leave what converts it out of the net, or give it as a constant: load(path, constants={name: array})"
        )
        return f"{TYPES.get(name, name.lower())}, where float32 is needed: {advice}"
    if not tensor.HasField("shape"):
        return UNKNOWN_RANK
    return tuple(d.dim_value if d.HasField("dim_value") else None for d in tensor.shape.dim)


def _check(onnx: ModuleType, model: Any, path: str) -> None:
    """The ONNX package's own check of each node: arity, attributes and their types."""
    context = onnx.checker.DEFAULT_CONTEXT.__class__()
    context.ir_version = model.ir_version
    context.opset_imports = {entry.domain: entry.version for entry in model.opset_import}
    wrong = []
    for i, node in enumerate(model.graph.node):
        if any(attribute.HasField("g") or attribute.graphs for attribute in node.attribute):
            continue  # Why: the check does not know what such graphs read from outside. No operator here has one.
        try:
            onnx.checker.check_node(node, context)
        except Exception as error:  # Why all: ValidationError, and what protobuf raises
            wrong.append(f"node {_name(node, i)!r} ({node.op_type}): {_line(error).rstrip('.')}")
    if wrong:
        raise ModelFileError(f"{path}: expected valid ONNX nodes, got {'; '.join(wrong)}. Export it again.")


def _names(graph: Any) -> Iterator[str | bytes]:
    """All names in a graph; protobuf gives bytes where they are no UTF-8."""
    tensors = [*graph.initializer, *(sparse.values for sparse in graph.sparse_initializer)]
    yield from (item.name for item in (*tensors, *graph.input, *graph.output))
    for node in graph.node:
        yield from (node.name, node.op_type, node.domain, *node.input, *node.output)
        yield from (attribute.name for attribute in node.attribute)


def _name(node: Any, at: int) -> str:
    """A node's own name, or one by its place."""
    return node.name or f"{node.op_type}_{at}"


def _line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def _array(onnx: ModuleType, tensor: Any) -> np.ndarray:
    if int(np.prod(tensor.dims, dtype=np.float64)) > MAX_CONSTANT:
        raise ModelFileError(
            f"tensor {tensor.name!r}: expected at most {MAX_CONSTANT} numbers, got {list(tensor.dims)}."
        )
    array: np.ndarray = onnx.numpy_helper.to_array(tensor)
    return array


def _dense(onnx: ModuleType, sparse: Any) -> np.ndarray:
    """The array of a sparse tensor: indices count in C order, or give one index an axis."""
    shape = tuple(sparse.dims)
    if int(np.prod(shape, dtype=np.float64)) > MAX_CONSTANT:
        raise ModelFileError(f"tensor {sparse.values.name!r}: expected at most {MAX_CONSTANT} numbers, got {shape}.")
    values, indices = _array(onnx, sparse.values), _array(onnx, sparse.indices)
    if indices.min(initial=0) < 0:
        raise ModelFileError(f"tensor {sparse.values.name!r}: expected indices from 0, got {indices.min()}.")
    dense = np.zeros(shape, values.dtype)
    if indices.ndim == 2:
        dense[tuple(indices.T)] = values
    else:
        dense.reshape(-1)[indices] = values
    return dense


def _attribute(onnx: ModuleType, attribute: Any) -> Any:
    """An attribute as Python's numbers, texts and lists, or arrays; subgraphs as they are."""
    kinds = onnx.AttributeProto
    if attribute.type == kinds.SPARSE_TENSOR:
        return _dense(onnx, attribute.sparse_tensor)
    value = onnx.helper.get_attribute_value(attribute)
    if attribute.type == kinds.TENSOR:
        return _array(onnx, value)
    if attribute.type == kinds.STRING:
        return value.decode("utf-8", "replace")
    return list(value) if attribute.type in (kinds.INTS, kinds.FLOATS) else value


def is_onnx(path: str | os.PathLike[str]) -> bool:
    """Whether a path is taken for an ONNX file: by its ending."""
    return Path(path).suffix.lower() == ".onnx"
