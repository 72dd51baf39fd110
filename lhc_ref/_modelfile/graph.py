"""The checks of a graph as a whole. Tensors are seen by their shape alone, so a file is checked before it is read."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from graphlib import CycleError, TopologicalSorter
from math import isfinite, prod
from typing import Any

import numpy as np

from lhc_ref._modelfile.ops import OPS, node_shape
from lhc_ref._modelfile.reasons import (
    MAX_CLASSES,
    MAX_ELEMENTS,
    MAX_INPUTS,
    MAX_NAME_LENGTH,
    MAX_NODES,
    MAX_WEIGHTS,
    refuse,
    show,
)
from lhc_ref._modelfile.schema import REQUIRED, Role
from lhc_ref._modelfile.types import InputSpec, MaskedKernel, ModelSpec, Node, Shape, describe, is_int


@dataclass(frozen=True)
class Claim:
    """A tensor that a file says it holds, not yet read; `masked` carries (group_in, group_out)."""

    shape: Shape
    masked: tuple[int, int] | None = None


def check_graph(spec: ModelSpec) -> tuple[ModelSpec, dict[str, Shape]]:
    """The spec in canonical form (all attributes present, tuples for sequences), and each value's shape."""
    shapes = _check_inputs(spec)
    if not spec.nodes:
        refuse("no-node", "nodes of the graph", "at least one", "none")
    if len(spec.nodes) > MAX_NODES:
        refuse("node-count", "nodes of the graph", f"at most {MAX_NODES}", len(spec.nodes))
    nodes = [_check_parts(node) for node in spec.nodes]
    _check_names(spec, nodes)
    _check_order(shapes, nodes)
    weights = sum(prod(tensor.shape) for node in nodes for tensor in node.tensors.values())
    if weights > MAX_WEIGHTS:
        refuse("weights-limit", "weights of the graph", f"at most {MAX_WEIGHTS}", weights)
    for node in nodes:
        shapes[node.output] = node_shape(node, [shapes[name] for name in node.inputs])
    _check_outputs(spec, nodes)
    checked = replace(
        spec,
        inputs=tuple(InputSpec(entry.name, shapes[entry.name]) for entry in spec.inputs),
        outputs=tuple(spec.outputs),
        nodes=tuple(nodes),
        preprocessing=_check_preprocessing(spec, shapes),
        classes=_check_classes(spec, shapes),
        metadata=_check_metadata(spec.metadata),
    )
    return checked, shapes


def check_name(value: Any, thing: str) -> str:
    """A name: printable and not too long."""
    if not isinstance(value, str) or not 0 < len(value) <= MAX_NAME_LENGTH or not value.isprintable():
        refuse("name", thing, f"1 to {MAX_NAME_LENGTH} printable characters", show(value))
    return value


def _check_inputs(spec: ModelSpec) -> dict[str, Shape]:
    if not 1 <= len(spec.inputs) <= MAX_INPUTS:
        refuse("input-count", "inputs of the graph", f"1 to {MAX_INPUTS}", len(spec.inputs))
    shapes: dict[str, Shape] = {}
    for entry in spec.inputs:
        name, shape = check_name(entry.name, "name of an input"), entry.shape
        if not isinstance(shape, list | tuple) or len(shape) not in (1, 3) or not all(is_int(size) for size in shape):
            refuse("shape-type", f"shape of input {show(name)}", "(h, w, c) or (features,) as integers", show(shape))
        if min(shape) < 1 or max(shape) > MAX_ELEMENTS or prod(shape) > MAX_ELEMENTS:
            refuse(
                "shape-limit",
                f"shape of input {show(name)}",
                f"sizes from 1, at most {MAX_ELEMENTS} numbers",
                show(shape),
            )
        shapes[name] = tuple(int(size) for size in shape)
    return shapes


def _check_parts(node: Node) -> Node:
    """One node by itself: operator, arity, attributes (defaults filled in), roles of tensors."""
    name = check_name(node.name, "name of a node")
    check_name(node.output, f"output of node {show(name)}")
    if not isinstance(node.op, str) or node.op not in OPS:
        refuse("op-unknown", f"operator of node {show(name)}", f"one of {', '.join(OPS)}", show(node.op))
    schema = OPS[node.op]
    if not schema.arity <= len(node.inputs) <= max(schema.arity, schema.most):
        arity = f"{schema.arity} to {schema.most}" if schema.most else str(schema.arity)
        refuse("arity", f"inputs of node {show(name)} ({node.op})", arity, len(node.inputs))
    for unknown in node.attrs.keys() - schema.attrs.keys():
        refuse("attribute-unknown", f"attribute of node {show(name)}", f"one of {list(schema.attrs)}", show(unknown))
    attrs = {}
    for key, attribute in schema.attrs.items():
        value = node.attrs.get(key, attribute.default)
        if value is REQUIRED:
            refuse("attribute-missing", f"attribute {key} of node {show(name)}", attribute.expected, "nothing")
        attrs[key] = attribute.parse(value)
        if attrs[key] is None:
            refuse("attribute-value", f"attribute {key} of node {show(name)}", attribute.expected, show(value))
    for unknown in node.tensors.keys() - schema.tensors.keys():
        refuse("role-unknown", f"tensor of node {show(name)}", f"one of {list(schema.tensors)}", show(unknown))
    for role, wanted in schema.tensors.items():
        _check_tensor(node, role, wanted)
    return replace(node, inputs=tuple(node.inputs), attrs=attrs, tensors=dict(node.tensors))


def _check_tensor(node: Node, role: str, wanted: Role) -> None:
    thing, tensor = f"{role} of node {show(node.name)}", node.tensors.get(role)
    if tensor is None:
        if wanted.required:
            refuse("role-missing", thing, "a tensor", "none")
        return
    if isinstance(tensor, Claim):
        fits = wanted.masked or tensor.masked is None
    elif isinstance(tensor, MaskedKernel):
        fits = wanted.masked
    else:
        fits = isinstance(tensor, np.ndarray) and tensor.dtype == np.float32
    if not fits:
        refuse("tensor-type", thing, "a float32 array" + " or a MaskedKernel" * wanted.masked, describe(tensor))


def twice(names: Iterable[str]) -> str | None:
    """The first name that comes a second time."""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            return name
        seen.add(name)
    return None


def _check_names(spec: ModelSpec, nodes: list[Node]) -> None:
    again = twice(node.name for node in nodes)
    if again is not None:
        refuse("node-name-twice", "names of the nodes", "all different", f"{show(again)} twice")
    again = twice([entry.name for entry in spec.inputs] + [node.output for node in nodes])
    if again is not None:
        refuse("value-name-twice", "names of inputs and outputs", "all different", f"{show(again)} twice")


def _check_order(inputs: Mapping[str, Shape], nodes: list[Node]) -> None:
    """Each node reads only what stands before it."""
    made = {node.output for node in nodes}
    for node in nodes:
        for name in node.inputs:
            if not isinstance(name, str) or not (name in inputs or name in made):
                refuse(
                    "dangling",
                    f"input of node {show(node.name)}",
                    "an input of the graph or another node's output",
                    show(name),
                )
    try:
        tuple(TopologicalSorter({node.output: node.inputs for node in nodes}).static_order())
    except CycleError as error:
        refuse("cycle", "graph", "no cycle", " <- ".join(show(name) for name in error.args[1][:8]))
    ready = set(inputs)
    for node in nodes:
        for name in node.inputs:
            if name not in ready:
                refuse(
                    "node-order",
                    f"node {show(node.name)}",
                    f"to stand after the node that makes {show(name)}",
                    "it before",
                )
        ready.add(node.output)


def _check_outputs(spec: ModelSpec, nodes: list[Node]) -> None:
    made, outputs = {node.output for node in nodes}, spec.outputs
    if not outputs or len(outputs) > len(nodes) or not all(isinstance(name, str) for name in outputs):
        refuse("output-count", "outputs of the graph", "one or more names", show(outputs))
    if twice(outputs) is not None:
        refuse("output-twice", "outputs of the graph", "all different", f"{show(twice(outputs))} twice")
    for name in outputs:
        if name not in made:
            refuse("output-unknown", "output of the graph", "the output of a node", show(name))
    read = {name for node in nodes for name in node.inputs}.union(outputs)
    for entry in spec.inputs:
        if entry.name not in read:
            refuse("input-unused", f"input {show(entry.name)}", "a node that reads it", "none")
    for node in nodes:
        if node.output not in read:
            refuse("node-unused", f"node {show(node.name)}", "an output that is read, or is the graph's", "neither")


def _check_preprocessing(spec: ModelSpec, shapes: Mapping[str, Shape]) -> dict[str, tuple[float, ...]] | None:
    steps = spec.preprocessing
    if steps is None:
        return None
    channels = shapes[spec.inputs[0].name][-1]
    expected = f"subtract and divide, {channels} finite numbers each, none of divide 0, for a graph of one input"
    fits = len(spec.inputs) == 1 and isinstance(steps, Mapping) and steps.keys() == {"subtract", "divide"}
    if not fits or not all(_are_numbers(values, channels) for values in steps.values()) or 0 in steps["divide"]:
        refuse("preprocessing", "preprocessing", expected, show(steps))
    return {key: tuple(float(value) for value in steps[key]) for key in ("subtract", "divide")}


def _are_numbers(values: Any, count: int) -> bool:
    """Whether `values` are `count` finite numbers that a float64 can hold."""
    if not isinstance(values, list | tuple) or len(values) != count:
        return False
    numbers = (isinstance(value, float | np.floating) or is_int(value) for value in values)
    return all(numbers) and all(abs(value) < 2**1023 and isfinite(value) for value in values)


def _check_classes(spec: ModelSpec, shapes: Mapping[str, Shape]) -> tuple[str, ...]:
    classes, count = spec.classes, shapes[spec.outputs[0]][-1]
    if len(classes) not in (0, count) or len(classes) > MAX_CLASSES:
        refuse("classes", "classes", f"none, or one for each of the {count} numbers of the first output", len(classes))
    return tuple(check_name(name, "name of a class") for name in classes)


def _check_metadata(metadata: Any) -> dict[str, str]:
    if not isinstance(metadata, Mapping) or not all(_is_text(part) for item in metadata.items() for part in item):
        refuse("metadata", "metadata", "a table of texts", show(metadata))
    return dict(metadata)


def _is_text(value: Any) -> bool:
    """Whether `value` is a text that UTF-8 can hold."""
    if not isinstance(value, str):
        return False
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:  # a lone surrogate
        return False
    return True
