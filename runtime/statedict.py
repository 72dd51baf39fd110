"""Weights of a PyTorch state dict, from a safetensors file into the graph of a model."""

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from lhc_ref.modelfile import InputError, MaskedKernel, ModelFileError, ModelSpec, Node, infer_shapes, validate
from runtime.masks import sparse_dense, with_mask

Arrays = dict[str, np.ndarray]
EPSILON = 1e-5  # of torch.nn.BatchNorm2d, which no state dict holds
PARAMETERS = {"weight", "bias", "running_mean", "running_var"}
DTYPES = {
    "F32": "<f4", "F16": "<f2", "F64": "<f8", "BF16": "<u2",
    "BOOL": "?", "U8": "u1", "I8": "i1", "I32": "<i4", "I64": "<i8",
}  # fmt: skip


def read(path: str | os.PathLike[str]) -> Arrays:
    """All tensors of a safetensors file, real numbers as float32; ModelFileError if it is none."""
    try:
        data = memoryview(Path(path).read_bytes())
    except OSError as error:
        raise ModelFileError(
            f"{path}: expected a file that can be read, got '{error.strerror}'. Check the path."
        ) from error
    try:
        begin = 8 + int.from_bytes(data[:8], "little")
        header = json.loads(bytes(data[8:begin]))
        return {name: _tensor(data[begin:], **entry) for name, entry in header.items() if name != "__metadata__"}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ModelFileError(f"{path}: expected a safetensors file, got '{error}'. Save it again.") from error


def _tensor(data: memoryview, *, dtype: str, shape: list[int], data_offsets: list[int]) -> np.ndarray:
    array = np.frombuffer(data[slice(*data_offsets)], DTYPES[dtype]).reshape(shape)
    if dtype == "BF16":
        array = (array.astype(np.uint32) << 16).view(np.float32)
    return array.astype(np.float32) if array.dtype.kind == "f" else array


def modules_of(tensors: Mapping[str, np.ndarray]) -> dict[str, Arrays]:
    """The tensors of each module by the last part of their names; masks of pruned weights are multiplied in."""
    found: dict[str, Arrays] = {}
    for name, array in tensors.items():
        module, _, role = name.rpartition(".")
        if role != "num_batches_tracked":
            found.setdefault(module, {})[role] = array
    for module, roles in found.items():  # as torch.nn.utils.prune names them, or a plain mask beside the weight
        for role in ("weight", "bias"):
            mask = roles.pop(f"{role}_mask", roles.pop("mask", None) if role == "weight" else None)
            if f"{role}_orig" in roles:
                roles[role] = roles.pop(f"{role}_orig")
            if mask is not None and role in roles:
                roles[role] = np.where(_full(mask, roles[role].shape, f"{module}.{role}"), roles[role], np.float32(0))
        for role in PARAMETERS & roles.keys():
            _require_real(roles[role], f"{module}.{role}")
    return found


def _require_real(array: np.ndarray, what: str) -> None:
    """Raise InputError for the whole numbers of a quantised net, which are no weights without their scale."""
    if array.dtype.kind != "f":
        raise InputError(
            f"{what}: expected real numbers, got {array.dtype}{list(array.shape)}. Save the net before it is quantised."
        )


def _full(mask: np.ndarray, shape: tuple[int, ...], what: str) -> np.ndarray:
    """A mask of each weight, from one of weights or of equal groups of them along each axis, the last maybe short."""
    full = mask
    if mask.ndim == len(shape) and mask.size:
        for axis, size in enumerate(shape):
            full = full.repeat(-(-size // full.shape[axis]), axis).take(np.arange(size), axis)
    if full.shape != shape or not np.isin(mask, (0, 1)).all():
        raise InputError(
            f"mask of {what}: expected zeros and ones for {list(shape)} weights or groups of them, "
            f"got {mask.dtype}{list(mask.shape)}. Give one number a weight."
        )
    return full != 0


def fill(spec: ModelSpec, tensors: Mapping[str, np.ndarray], mapped: Mapping[str, Sequence[str]]) -> ModelSpec:
    """The graph with the weights of a state dict; zeros become masks.

    Parameters
    ----------
    spec : the graph; its own weights are left out
    tensors : by PyTorch's names: `weight` (c_out, c_in/groups, kh, kw) or (units, features), `bias`, `running_mean` ...
    mapped : for a node its module, and the batch norm after it where there is one, which is folded in. A node that is
        not named takes the module of its own name.

    Raises
    ------
    InputError
        A node without a module, a module that no node takes, names that are none, shapes that do not fit, weights that
        are whole numbers.

    Notes
    -----
    Folding is done in float64 and rounded once. Cost: O(weights).
    """
    modules = modules_of(tensors)
    used: set[str] = set()
    unknown = sorted(mapped.keys() - {node.name for node in spec.nodes if node.tensors})
    if unknown:
        raise InputError(f"mapping: expected nodes that have weights, got {', '.join(unknown)}. Take them out.")
    nodes, images = [], _flattened(spec)
    for node in spec.nodes:
        names = mapped.get(node.name, (node.name,)) if node.tensors else ()
        missing = [name for name in names if name not in modules]
        if missing:
            raise InputError(
                f"node {node.name!r}: expected a module of the state dict, got {missing[0]!r}, which holds no tensors. "
                "Name its module in the mapping; --propose writes one to begin with."
            )
        used.update(names)
        parts = {name: modules[name] for name in names}
        nodes.append(replace(node, tensors=_filled(node, parts, images.get(node.name))) if parts else node)
    left = [name for name in modules if name not in used]
    if left:
        raise InputError(
            f"state dict: expected modules that the mapping names, got {', '.join(left[:8])} besides. "
            "Map each to the node that it belongs to, a batch norm to that of the convolution before it."
        )
    return validate(sparse_dense(validate(replace(spec, nodes=tuple(nodes)))))


def _flattened(spec: ModelSpec) -> dict[str, tuple[int, ...]]:
    """(h, w, c) of the image whose pixels a dense layer reads, by its name. PyTorch flattens (c, h, w)."""
    shapes = infer_shapes(spec)
    flat = {node.output: shapes[node.inputs[0]] for node in spec.nodes if node.op == "flatten"}
    found = {node.name: flat.get(node.inputs[0], ()) for node in spec.nodes if node.op == "dense"}
    return {name: shape for name, shape in found.items() if len(shape) == 3}


def _filled(
    node: Node, parts: Mapping[str, Arrays], image: tuple[int, ...] | None
) -> dict[str, np.ndarray | MaskedKernel]:
    """The tensors of a node: one module's weights, all its batch norms folded in."""
    weights = [part for part in parts.values() if "running_mean" not in part and "weight" in part]
    norms = [part for part in parts.values() if "running_mean" in part]
    if len(weights) + len(norms) != len(parts) or len(weights) != (node.op != "scale"):
        raise InputError(
            f"node {node.name!r}: expected {'batch norms' if node.op == 'scale' else 'one module with weights'}"
            f"{'' if node.op == 'scale' else ', and batch norms'}, got {', '.join(parts)}. Map what belongs to it."
        )
    scale, shift = np.ones(()), np.zeros(())
    if weights and "bias" in weights[0]:
        shift = weights[0]["bias"].astype(np.float64)
    for norm in norms:
        slope = norm.get("weight", np.ones(())) / np.sqrt(norm["running_var"].astype(np.float64) + EPSILON)
        scale, shift = scale * slope, (shift - norm["running_mean"]) * slope + norm.get("bias", np.zeros(()))
    shapes = {role: tensor.shape for role, tensor in node.tensors.items()}
    if node.op == "prelu":
        made = {"slope": np.broadcast_to(weights[0]["weight"], shapes["slope"])}
    elif node.op == "scale":
        made = {"scale": scale, "bias": shift}
    else:
        made = {"kernel": _kernel(node, weights[0]["weight"], image) * scale}
        made |= {"bias": np.broadcast_to(shift, shapes["kernel"][-1:])} if "bias" in shapes or np.any(shift) else {}
    tensors = {role: np.ascontiguousarray(array, np.float32) for role, array in made.items()}
    return {**tensors, "kernel": with_mask(tensors["kernel"])} if node.op == "conv2d" else {**tensors}


def _kernel(node: Node, weight: np.ndarray, image: tuple[int, ...] | None) -> np.ndarray:
    """A weight of PyTorch's as the node has its kernel."""
    shape = node.tensors["kernel"].shape
    h, w, c, units = shape if len(shape) == 4 else (*(image or (1, 1, shape[0])), shape[1])
    fitting = [(units, c, h, w), (units, c * h * w), *([(units, c, w)] if h == 1 else [])]
    if weight.shape not in fitting:
        wanted = " or ".join(str(list(shape)) for shape in dict.fromkeys(fitting))
        raise InputError(
            f"node {node.name!r}: expected a weight of shape {wanted}, got {list(weight.shape)}. "
            "Map another module to it."
        )
    return weight.reshape(units, c, h, w).transpose(2, 3, 1, 0).reshape(shape)


def propose(spec: ModelSpec, tensors: Mapping[str, np.ndarray]) -> dict[str, list[str]]:
    """A mapping to begin with: for each node the first module, in the order of their names, that fits and is not taken,
    and the batch norm of the same size that is named like it or comes next. Check it: names tell no order.
    """
    modules, images, found = modules_of(tensors), _flattened(spec), {}
    free = sorted(
        modules, key=lambda name: [(not part.isdigit(), part.zfill(12)) for part in re.split(r"(\d+)|\.", name) if part]
    )
    norms = [name for name in free if "running_mean" in modules[name]]
    free = [name for name in free if name not in norms]
    for node in spec.nodes:
        if "kernel" in node.tensors:
            fits = next((name for name in free if _fits(node, modules[name], images.get(node.name))), None)
            if fits is not None:
                free.remove(fits)
                size = len(modules[fits]["weight"])
                mine = [name for name in norms if len(modules[name]["running_mean"]) == size and _beside(fits, name)]
                found[node.name] = [fits, *mine[:1]]
                norms = [name for name in norms if name not in mine[:1]]
    return found


def _fits(node: Node, module: Arrays, image: tuple[int, ...] | None) -> bool:
    try:
        _kernel(node, module["weight"], image)
    except (InputError, KeyError):
        return False
    return True


def _beside(layer: str, norm: str) -> bool:
    """Whether a batch norm is named as that of a layer: `conv1` and `bn1`, `downsample.0` and `downsample.1`."""
    (where, _, first), (there, _, second) = layer.rpartition("."), norm.rpartition(".")
    if where != there:
        return False
    if first.isdigit() and second.isdigit():
        return int(second) == int(first) + 1
    return re.sub(r"\D", "", first) == re.sub(r"\D", "", second)


def as_toml(mapped: Mapping[str, Sequence[str]]) -> str:
    """A mapping as text."""
    return "".join(f"{json.dumps(node)} = {json.dumps(list(names))}\n" for node, names in mapped.items())
