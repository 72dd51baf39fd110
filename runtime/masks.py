"""Masks of kernels whose weights hold zeros."""

from collections import Counter
from dataclasses import replace
from math import prod

import numpy as np

from lhc_ref.modelfile import MaskedKernel, ModelSpec, Node, infer_shapes

LARGEST_GROUP = 2**16  # that a mask of the model file may have


def group_size(mask: np.ndarray, axis: int) -> int:
    """How many adjacent channels along an axis share their pattern throughout: the most for which it holds exactly.

    Groups begin at its multiples and the last may be short, so a size fits where it divides each place at which
    neighbours differ.
    """
    along = np.moveaxis(mask, axis, 0)
    differ = (along[1:] != along[:-1]).any(axis=(1, 2, 3))
    places = np.flatnonzero(differ) + 1
    size = int(np.gcd.reduce(places)) if places.size else len(along)
    return size if size <= LARGEST_GROUP else 1


def with_mask(kernel: np.ndarray) -> np.ndarray | MaskedKernel:
    """A kernel f32[kh, kw, c_in, c_out] under the mask of its zeros; itself where it has none. O(weights)."""
    mask = kernel != 0
    if mask.all() or not prod(kernel.shape):
        return kernel
    group_in, group_out = group_size(mask, 2), group_size(mask, 3)
    groups = np.ascontiguousarray(mask[:, :, ::group_in, ::group_out])
    return MaskedKernel.from_dense(np.ascontiguousarray(kernel), groups, group_in, group_out)


def sparse_dense(spec: ModelSpec) -> ModelSpec:
    """The model with its dense layers that hold zeros as convolutions under masks, over an image of one pixel, or over
    the whole image where its pixels are flattened for that. O(weights).
    """
    shapes, readers = infer_shapes(spec), Counter(name for node in spec.nodes for name in node.inputs)
    flat = {node.output: node for node in spec.nodes if node.op == "flatten" and len(shapes[node.inputs[0]]) == 3}
    nodes: list[Node] = []
    for node in spec.nodes:
        kernel = node.tensors.get("kernel")
        if node.op != "dense" or not isinstance(kernel, np.ndarray) or kernel.all():
            nodes.append(node)
            continue
        read, (features, units) = node.inputs[0], kernel.shape
        before = flat.get(read)
        if before is not None:
            source, shape = before.inputs[0], shapes[before.inputs[0]]
            if readers[read] == 1 and read not in spec.outputs:
                nodes.remove(before)
        else:
            source, shape = f"{node.output}/pixel", (1, 1, features)
            attrs = {"split": (features,), "order": (0,), "shape": shape}
            nodes.append(Node("rearrange", f"{node.name}/pixel", (read,), source, attrs))
        made = f"{node.output}/conv2d"
        tensors = {**node.tensors, "kernel": with_mask(kernel.reshape(*shape, units))}
        nodes.append(Node("conv2d", node.name, (source,), made, {"padding": "valid"}, tensors))
        nodes.append(Node("flatten", f"{node.name}/flatten", (made,), node.output))
    return replace(spec, nodes=tuple(nodes))
