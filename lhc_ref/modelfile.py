"""The model file: what passes from the reference to the runtime. Format 1.2, see docs/model-file.md.

A safetensors container with the graph as JSON in its metadata. Masks are packed bits, one a tap of a group of channels,
and only kept weights are stored. A reader trusts nothing: each claim of a file is checked before anything is allocated
on its word, and each refusal is one ModelFileError. This module knows files and shapes, nothing of how to compute.
"""

import os
from collections.abc import Mapping
from dataclasses import replace
from hashlib import sha256
from io import BytesIO
from math import prod
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np

from lhc_ref._modelfile import container
from lhc_ref._modelfile.graph import Claim, check_graph
from lhc_ref._modelfile.json import graph_json, parse_graph, tensor_name
from lhc_ref._modelfile.ops import OPS
from lhc_ref._modelfile.reasons import REASONS, RefusedError, refuse, show
from lhc_ref._modelfile.schema import Attribute, OpSchema, Padding, Role, output_size, resolve_padding
from lhc_ref._modelfile.types import VERSION, InputSpec, MaskedKernel, ModelSpec, Node, Shape, Tensor, mask_shape
from lhc_ref.errors import InputError, LhcError, ModelFileError
from lhc_ref.files import atomic_write

__all__ = [
    "OPS",
    "REASONS",
    "VERSION",
    "Attribute",
    "InputError",
    "InputSpec",
    "LhcError",
    "MaskedKernel",
    "ModelFileError",
    "ModelSpec",
    "Node",
    "OpSchema",
    "Padding",
    "Role",
    "Shape",
    "Tensor",
    "fingerprint",
    "infer_shapes",
    "load",
    "output_size",
    "resolve_padding",
    "save",
    "validate",
]


def load(path: str | os.PathLike[str]) -> ModelSpec:
    """Read and check a model file.

    Returns
    -------
    A spec in canonical form: every attribute present, sequences as tuples; its arrays are new, native float32.

    Raises
    ------
    ModelFileError
        The path cannot be read, or the file breaks a rule of the format; the message names path, what was expected,
        what came and what to do. `error.code` names the rule (a key of REASONS).

    Notes
    -----
    Cost: the file is read once; memory is the file's size plus one byte a mask bit. A newer minor version is read if
    it needs nothing unknown.
    """
    try:
        try:
            return _load(path)
        except OSError as error:
            refuse("read-failed", "file", "bytes", f"'{error.strerror or error}'")
    except RefusedError as error:
        raise RefusedError(f"{os.fspath(path)!s}: {error}", error.code) from None


def _load(path: str | os.PathLike[str]) -> ModelSpec:
    """`load`, with errors that do not name the path."""
    with container.open_regular(path) as file:
        graph, entries = container.read_header(file)
        claimed, _ = check_graph(parse_graph(graph, entries))
        arrays = container.read_tensors(file, entries)
    spec = replace(claimed, nodes=tuple(_with_tensors(node, arrays) for node in claimed.nodes))
    _check_finite(spec)
    return spec


def save(path: str | os.PathLike[str], spec: ModelSpec) -> None:
    """Check `spec` and write it, whole or not at all, as a file of the oldest format that can hold it.

    Equal specs give equal bytes. Raises ModelFileError if the spec is invalid, InputError if the path ends in `.onnx`,
    by which readers know another format, LhcError if the file cannot be written.
    """
    if Path(path).suffix.lower() == ".onnx":
        raise InputError(
            f"{path}: expected a name for a model file, got one that ends as those of ONNX files do. Use .lhc."
        )
    checked = validate(spec)
    atomic_write(path, lambda file: _write(file, checked))


def fingerprint(spec: ModelSpec) -> str:
    """SHA-256, in hexadecimal digits, of the bytes that `save` writes. O(weights)."""
    file = _Hash()
    _write(file, validate(spec))
    return file.sha.hexdigest()


class _Hash(BytesIO):
    """A file that keeps of what is written the hash alone."""

    def __init__(self) -> None:
        super().__init__()
        self.sha = sha256()

    def write(self, data: Any, /) -> int:
        self.sha.update(data)
        return memoryview(data).nbytes


def _write(file: BinaryIO, checked: ModelSpec) -> None:
    tensors: dict[str, np.ndarray] = {}
    for node in checked.nodes:
        for role, tensor in node.tensors.items():
            name = tensor_name(node.name, role)
            if isinstance(tensor, MaskedKernel):
                tensors[f"{name}.mask"] = np.packbits(tensor.mask, axis=None, bitorder="little")
                tensors[f"{name}.values"] = tensor.values
            else:
                tensors[name] = tensor
    container.write(file, graph_json(checked, _oldest_version(checked)), tensors)


def _oldest_version(spec: ModelSpec) -> str:
    """The oldest version of the format that has all of the spec's operators."""
    return max((OPS[node.op].since for node in spec.nodes), key=lambda text: tuple(map(int, text.split("."))))


def validate(spec: ModelSpec) -> ModelSpec:
    """Check a spec and return it in canonical form (arrays shared); raises ModelFileError. O(weights)."""
    checked, _ = check_graph(spec)
    _check_finite(checked)
    return checked


def infer_shapes(spec: ModelSpec) -> dict[str, Shape]:
    """Shape without the batch of each value, inputs included, by name. Checks the graph, not the numbers; O(nodes)."""
    return check_graph(spec)[1]


def _with_tensors(node: Node, arrays: Mapping[str, np.ndarray]) -> Node:
    """The node with what was read in the place of what was claimed."""
    tensors: dict[str, Tensor] = {}
    for role, claim in cast(Mapping[str, Claim], node.tensors).items():
        name = tensor_name(node.name, role)
        if claim.masked is None:
            tensors[role] = arrays[name]
            continue
        shape = mask_shape(claim.shape, *claim.masked)
        bits = np.unpackbits(arrays[f"{name}.mask"], bitorder="little")
        if bits[prod(shape) :].any():
            refuse("mask-padding", f"tensor {show(name + '.mask')}", "zero bits after the last", "others")
        mask = bits[: prod(shape)].astype(np.bool_).reshape(shape)
        tensors[role] = MaskedKernel(claim.shape, *claim.masked, mask, arrays[f"{name}.values"])
    return replace(node, tensors=tensors)


def _check_finite(spec: ModelSpec) -> None:
    for node in spec.nodes:
        for role, tensor in node.tensors.items():
            values = tensor.values if isinstance(tensor, MaskedKernel) else tensor
            if not np.isfinite(values).all():
                bad = values[~np.isfinite(values)]
                refuse("not-finite", f"{role} of node {show(node.name)}", "finite numbers", f"{bad.size} that are not")
