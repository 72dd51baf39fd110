"""The graph as JSON: strict reading into checked types, and writing."""

import json
import re
from collections.abc import Mapping
from math import prod
from typing import Any, NamedTuple

import numpy as np

from lhc_ref._modelfile.graph import Claim, check_name, twice
from lhc_ref._modelfile.reasons import MAX_DEPTH, refuse, show
from lhc_ref._modelfile.types import VERSION, InputSpec, MaskedKernel, ModelSpec, Node, Shape, mask_shape

FORMAT = "lhc-model"
MAJOR, MINOR = (int(part) for part in VERSION.split("."))
FEATURES: frozenset[str] = frozenset()  # what `requires` may name; no version has had one yet


class Entry(NamedTuple):
    """A tensor of the container; `begin` and `end` count bytes from the start of the data."""

    dtype: str
    shape: Shape
    begin: int
    end: int


_STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+"', re.DOTALL)


def _depth(text: bytes) -> int:
    """How deep brackets nest outside of JSON's strings: known before a parser recurses."""
    bare = np.frombuffer(_STRING.sub(b"", text), np.uint8)
    opened, closed = (np.isin(bare, np.frombuffer(kind, np.uint8)) for kind in (b"[{", b"]}"))
    return int(np.cumsum(opened.astype(np.int32) - closed).max(initial=0))


def parse_json(text: bytes, thing: str) -> Any:
    """The value of a JSON text; refuses what JSON's own rules or ours forbid, whatever the bytes are."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        table = dict(pairs)
        if len(table) != len(pairs):
            refuse("json-duplicate", thing, "each key once", f"{show(twice(key for key, _ in pairs))} again")
        return table

    def constant(name: str) -> None:
        refuse("json-constant", thing, "numbers that JSON knows", name)

    depth = _depth(text)
    if depth > MAX_DEPTH:
        refuse("json-depth", thing, f"at most {MAX_DEPTH} levels of nesting", depth)
    try:
        return json.loads(text.decode("utf-8"), object_pairs_hook=unique, parse_constant=constant)
    except UnicodeDecodeError as error:
        refuse("json-encoding", thing, "UTF-8", f"{error.reason} at byte {error.start}")
    except ValueError as error:  # JSONDecodeError, or an integer of more digits than Python converts
        refuse("json-syntax", thing, "JSON", show(str(error)))


class Reader(NamedTuple):
    """Takes fields out of tables; a file of a newer minor version may have further fields, which are skipped."""

    lenient: bool

    def table(self, value: Any, thing: str, *fields: str, optional: tuple[str, ...] = ()) -> dict[str, Any]:
        """A table that has all `fields`, perhaps `optional` ones, and no others."""
        table = typed(value, dict, thing)
        for key in fields:
            if key not in table:
                refuse("field-missing", thing, f"field {show(key)}", f"only {show(sorted(table))}")
        unknown = sorted(table.keys() - set(fields) - set(optional))
        if unknown and not self.lenient:
            refuse("field-unknown", thing, f"fields {[*fields, *optional]}", show(unknown[0]))
        return table


_KINDS: dict[type, str] = {dict: "a table", list: "a list", str: "a text", int: "an integer"}


def typed(value: Any, kind: type, thing: str) -> Any:
    """`value` if it is exactly of this JSON type."""
    if type(value) is not kind:
        refuse("field-type", thing, _KINDS[kind], show(value))
    return value


def texts(value: Any, thing: str) -> tuple[str, ...]:
    """A list of texts as a tuple."""
    return tuple(typed(entry, str, f"entry of {thing}") for entry in typed(value, list, thing))


def parse_graph(graph: Any, entries: Mapping[str, Entry]) -> ModelSpec:
    """The spec that a file claims, with a `Claim` for each tensor, matched with the container's entries."""
    typed(graph, dict, "graph")
    version, lenient = _check_version(graph)
    read = Reader(lenient)
    required = ("format", "version", "inputs", "outputs", "nodes")
    optional = ("requires", "preprocessing", "classes", "metadata")
    table = read.table(graph, "graph", *required, optional=optional)
    unused = set(entries)
    nodes = tuple(_parse_node(read, node, entries, unused) for node in typed(table["nodes"], list, "nodes"))
    if unused:
        refuse("tensor-unused", f"tensor {show(min(unused))}", "a node that uses it", "none")
    return ModelSpec(
        inputs=tuple(_parse_input(read, entry) for entry in typed(table["inputs"], list, "inputs")),
        outputs=texts(table["outputs"], "outputs"),
        nodes=nodes,
        preprocessing=table.get("preprocessing"),
        classes=texts(table.get("classes", []), "classes"),
        metadata=table.get("metadata", {}),
        version=version,
    )


def _check_version(graph: dict[str, Any]) -> tuple[str, bool]:
    """The file's version, and whether it is a newer minor one. Comes first: all else follows from it."""
    if graph.get("format") != FORMAT:
        refuse("format-name", "format", show(FORMAT), show(graph.get("format")))
    text = graph.get("version")
    match = re.fullmatch(r"([0-9]{1,4})\.([0-9]{1,4})", text) if isinstance(text, str) else None
    if match is None:
        refuse("version-text", "version", f"two numbers as in {show(VERSION)}", show(text))
    major, minor = int(match[1]), int(match[2])
    if major != MAJOR:
        refuse("version-major", "version", f"{MAJOR}.x", match[0])
    for feature in texts(graph.get("requires", []), "requires"):
        if feature not in FEATURES:
            refuse("requires", "feature that the file requires", "one that this version knows", show(feature))
    return match[0], minor > MINOR


def _parse_input(read: Reader, value: Any) -> InputSpec:
    table = read.table(value, "input", "name", "shape")
    return InputSpec(table["name"], table["shape"])


def _parse_node(read: Reader, value: Any, entries: Mapping[str, Entry], unused: set[str]) -> Node:
    table = read.table(value, "node", "op", "name", "inputs", "output", optional=("attrs", "tensors"))
    name = check_name(table["name"], "name of a node")
    tensors = {}
    for role, layout in typed(table.get("tensors", {}), dict, f"tensors of node {show(name)}").items():
        claim, names = _parse_tensor(read, layout, tensor_name(name, role), entries)
        tensors[role] = claim
        unused.difference_update(names)
    return Node(
        op=table["op"],
        name=name,
        inputs=texts(table["inputs"], f"inputs of node {show(name)}"),
        output=table["output"],
        attrs=typed(table.get("attrs", {}), dict, f"attrs of node {show(name)}"),
        tensors=tensors,  # type: ignore[arg-type]  # claims stand in for tensors until they are read
    )


def tensor_name(node: str, role: str) -> str:
    """Name in the container of a dense tensor; a masked one adds `.mask` and `.values`."""
    return f"{node}.{role}"


def _parse_tensor(read: Reader, value: Any, name: str, entries: Mapping[str, Entry]) -> tuple[Claim, tuple[str, ...]]:
    """What a file claims of one tensor, and the names of the container's entries that it takes."""
    layout = typed(value, dict, f"tensor {show(name)}").get("layout")
    if layout == "dense":
        read.table(value, f"tensor {show(name)}", "layout")
        entry = _find(entries, name)
        if entry.dtype != "F32":
            refuse("dense-dtype", f"tensor {show(name)}", "F32", entry.dtype)
        return Claim(entry.shape), (name,)
    if layout != "masked":
        refuse("layout", f"layout of tensor {show(name)}", "'dense' or 'masked'", show(layout))
    table = read.table(value, f"tensor {show(name)}", "layout", "shape", "group_in", "group_out")
    shape = tuple(typed(table["shape"], list, f"shape of tensor {show(name)}"))
    groups = table["group_in"], table["group_out"]
    bits = prod(mask_shape(shape, *groups))
    mask, values = _find(entries, f"{name}.mask"), _find(entries, f"{name}.values")
    size = -(-bits // 8)
    if mask.dtype != "U8" or mask.shape != (size,):
        refuse("mask-claim", f"tensor {show(name + '.mask')}", f"U8[{size}]", f"{mask.dtype}{list(mask.shape)}")
    if values.dtype != "F32" or len(values.shape) != 1 or values.shape[0] > prod(shape):
        refuse(
            "values-claim",
            f"tensor {show(name + '.values')}",
            f"F32[at most {prod(shape)}]",
            f"{values.dtype}{list(values.shape)}",
        )
    return Claim(shape, groups), (f"{name}.mask", f"{name}.values")


def _find(entries: Mapping[str, Entry], name: str) -> Entry:
    if name not in entries:
        refuse("tensor-missing", f"tensor {show(name)}", "in the file", "no such tensor")
    return entries[name]


def graph_json(spec: ModelSpec, version: str) -> str:
    """The JSON text of a checked spec: compact, with a fixed order of keys, so equal specs give equal files."""
    nodes = [
        {
            "op": node.op,
            "name": node.name,
            "inputs": node.inputs,
            "output": node.output,
            "attrs": node.attrs,
            "tensors": {role: _layout(node.tensors[role]) for role in sorted(node.tensors)},
        }
        for node in spec.nodes
    ]
    graph = {
        "format": FORMAT,
        "version": version,
        "requires": [],
        "inputs": [{"name": entry.name, "shape": entry.shape} for entry in spec.inputs],
        "outputs": spec.outputs,
        "preprocessing": spec.preprocessing,
        "classes": spec.classes,
        "metadata": dict(sorted(spec.metadata.items())),
        "nodes": nodes,
    }
    return json.dumps(graph, separators=(",", ":"), allow_nan=False)


def _layout(tensor: Any) -> dict[str, Any]:
    if not isinstance(tensor, MaskedKernel):
        return {"layout": "dense"}
    shape = [int(size) for size in tensor.shape]
    groups = {"group_in": int(tensor.group_in), "group_out": int(tensor.group_out)}
    return {"layout": "masked", "shape": shape, **groups}
