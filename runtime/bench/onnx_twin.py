"""Writes a model as ONNX, NCHW, with the missing weights as zeros: the same net for engines that know nothing of
masks.
"""

from pathlib import Path
from typing import Any

import numpy as np

from lhc_ref import extras
from lhc_ref.files import atomic_write_bytes
from lhc_ref.modelfile import MaskedKernel, ModelSpec, Node, infer_shapes


def _pads(node: Node) -> list[int]:
    padding = node.attrs.get("padding", "valid")
    if padding == "valid":
        return [0, 0, 0, 0]
    if isinstance(padding, str):
        raise ValueError(f"{node.name}: expected explicit padding, got {padding!r}. Write the pixels.")
    (top, bottom), (left, right) = padding
    return [top, left, bottom, right]


def _conv(node: Node) -> tuple[str, dict[str, np.ndarray], dict]:
    stored = node.tensors["kernel"]
    kernel = stored.dense() if isinstance(stored, MaskedKernel) else stored
    tensors: dict[str, np.ndarray] = {"kernel": np.ascontiguousarray(kernel.transpose(3, 2, 0, 1))}
    if "bias" in node.tensors:
        tensors["bias"] = np.asarray(node.tensors["bias"])
    attrs = {
        "strides": list(node.attrs.get("stride", (1, 1))),
        "pads": _pads(node),
        "kernel_shape": list(kernel.shape[:2]),
    }
    return "Conv", tensors, attrs


def _dense(node: Node, flattened: tuple[int, ...]) -> tuple[str, dict[str, np.ndarray], dict]:
    """`flattened` is the shape (h, w, c) of what was flattened before, which NCHW does in the order of c, h, w."""
    tensors = {role: np.asarray(tensor) for role, tensor in node.tensors.items()}
    if len(flattened) == 3:
        kernel = tensors["kernel"]
        by_pixel = kernel.reshape(*flattened, kernel.shape[1])
        tensors["kernel"] = np.ascontiguousarray(by_pixel.transpose(2, 0, 1, 3)).reshape(kernel.shape)
    return "Gemm", tensors, {}


def _convert(node: Node, flattened: tuple[int, ...]) -> tuple[str, dict[str, np.ndarray], dict]:
    match node.op:
        case "conv2d":
            return _conv(node)
        case "relu":
            return "Relu", {}, {}
        case "add":
            return "Add", {}, {}
        case "max_pool":
            size, stride = list(node.attrs["size"]), list(node.attrs["stride"])
            return "MaxPool", {}, {"kernel_shape": size, "strides": stride, "pads": _pads(node)}
        case "global_average_pool":
            return "GlobalAveragePool", {}, {}
        case "flatten":
            return "Flatten", {}, {}
        case "dense":
            return _dense(node, flattened)
    raise ValueError(f"{node.name}: expected an operator that has a twin here, got {node.op}. Add its row.")


def _nchw(shape: tuple[int, ...]) -> tuple[int, ...]:
    """ONNX's order of a value's axes."""
    return (shape[2], *shape[:2]) if len(shape) == 3 else shape


def write(path: Path, spec: ModelSpec) -> None:
    """Write the ONNX twin. A dense layer that reads a flattened image has its weights in NCHW's order."""
    onnx = extras.onnx()
    helper = onnx.helper
    shapes = infer_shapes(spec)
    flattened = {node.output: shapes[node.inputs[0]] for node in spec.nodes if node.op == "flatten"}
    nodes: list[Any] = []
    constants: list[Any] = []
    for node in spec.nodes:
        if node.op != "dense" and flattened.keys() & set(node.inputs):
            raise ValueError(
                f"{node.name}: expected a dense layer after flatten, got {node.op}. NCHW flattens in another order."
            )
        op, tensors, attrs = _convert(node, flattened.get(node.inputs[0], ()))
        names = [f"{node.name}.{role}" for role in tensors]
        constants += [
            onnx.numpy_helper.from_array(np.asarray(t), n) for n, t in zip(names, tensors.values(), strict=True)
        ]
        nodes.append(helper.make_node(op, [*node.inputs, *names], [node.output], name=node.name, **attrs))
        if op == "GlobalAveragePool":  # ONNX keeps the two axes of one pixel
            nodes[-1].output[0] = node.output + "/pixel"
            nodes.append(helper.make_node("Flatten", [node.output + "/pixel"], [node.output], name=node.name + "/flat"))
    (item,) = spec.inputs
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info(item.name, onnx.TensorProto.FLOAT, ["N", *_nchw(item.shape)])],
        [
            helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["N", *_nchw(shapes[name])])
            for name in spec.outputs
        ],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.checker.check_model(model)
    atomic_write_bytes(path, model.SerializeToString())
