"""Writes a model as ONNX, NCHW, with the missing weights as zeros: the same net for engines that know nothing of
masks.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from lhc_ref import extras
from lhc_ref.files import atomic_write_bytes
from lhc_ref.modelfile import MaskedKernel, ModelSpec, Node, Shape, infer_shapes, resolve_padding

OPSET, NEWER_OPSET, IR_VERSION = 13, 14, 8
OF_NEWER_OPSET = {"HardSwish", "BatchNormalization"}  # the older batch norm does not say that it is not training
TO_NCHW, TO_NHWC = (0, 3, 1, 2), (0, 2, 3, 1)
NHWC_AXES = (2, 3, 1)  # where rows, columns and channels are in NCHW


class _Writer:
    """Collects nodes and constants.

    `shapes` are those of the model's values, without the batch; `flattened` the values that are flattened in NCHW's
    order, since only dense layers read them: their rows are put in that order.
    """

    def __init__(self, onnx: ModuleType, spec: ModelSpec) -> None:
        self.onnx, self.shapes = onnx, infer_shapes(spec)
        self.flattened = _read_by_dense_alone(spec)
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def emit(self, op: str, inputs: tuple[str, ...], output: str, **attrs: Any) -> str:
        """One ONNX node; gives the name of what it makes."""
        self.nodes.append(self.onnx.helper.make_node(op, list(inputs), [output], name=f"node {output}", **attrs))
        return output

    def constant(self, output: str, role: str, array: Any, dtype: Any = np.float32) -> str:
        """An array as a constant of the node that makes `output`; gives its name."""
        name = f"{output}/{role}"
        self.constants.append(self.onnx.numpy_helper.from_array(np.asarray(array, dtype, order="C"), name))
        return name

    def chain(self, x: str, output: str, *steps: tuple[str, dict[str, Any]]) -> None:
        """Nodes of one input after each other, as (operator, attributes); a shape is a constant of Reshape."""
        for i, (op, attrs) in enumerate(steps):
            made = output if i == len(steps) - 1 else f"{output}/{i}"
            given = (self.constant(made, "shape", attrs.pop("shape"), np.int64),) if "shape" in attrs else ()
            x = self.emit(op, (x, *given), made, **attrs)


def _read_by_dense_alone(spec: ModelSpec) -> dict[str, str]:
    """What flatten makes -> what it reads, where every reader is a dense layer and no user sees it."""
    others = {name for node in spec.nodes if node.op != "dense" for name in node.inputs}.union(spec.outputs)
    return {node.output: node.inputs[0] for node in spec.nodes if node.op == "flatten" and node.output not in others}


def _window(writer: _Writer, node: Node, size: tuple[int, int]) -> dict[str, list[int]]:
    """Attributes of a sliding window, with the pixels of padding."""
    stride, dilation = (tuple(node.attrs.get(key, (1, 1))) for key in ("stride", "dilation"))
    h, w, _ = writer.shapes[node.inputs[0]]
    (top, bottom), (left, right) = resolve_padding(node.attrs["padding"], (h, w), size, stride, dilation)
    return {"kernel_shape": list(size), "strides": list(stride), "pads": [top, left, bottom, right]}


def _conv2d(writer: _Writer, node: Node) -> None:
    stored = node.tensors["kernel"]
    kernel = stored.dense() if isinstance(stored, MaskedKernel) else stored
    names = [writer.constant(node.output, "kernel", kernel.transpose(3, 2, 0, 1))]
    if "bias" in node.tensors:
        names.append(writer.constant(node.output, "bias", node.tensors["bias"]))
    attrs = _window(writer, node, (kernel.shape[0], kernel.shape[1]))
    attrs |= {"dilations": list(node.attrs["dilation"]), "group": node.attrs["groups"]}
    writer.emit("Conv", (*node.inputs, *names), node.output, **attrs)


def _dense(writer: _Writer, node: Node) -> None:
    tensors = {role: np.asarray(node.tensors[role]) for role in ("kernel", "bias") if role in node.tensors}
    shape = writer.shapes[writer.flattened.get(node.inputs[0], node.inputs[0])]
    if len(shape) == 3:
        kernel = tensors["kernel"]
        tensors["kernel"] = kernel.reshape(*shape, -1).transpose(2, 0, 1, 3).reshape(kernel.shape)
    names = [writer.constant(node.output, role, tensor) for role, tensor in tensors.items()]
    writer.emit("Gemm", (*node.inputs, *names), node.output)


def _pool(writer: _Writer, node: Node) -> None:
    op = "MaxPool" if node.op == "max_pool" else "AveragePool"
    writer.emit(op, node.inputs, node.output, **_window(writer, node, tuple(node.attrs["size"])))


def _global_average_pool(writer: _Writer, node: Node) -> None:
    writer.chain(node.inputs[0], node.output, ("GlobalAveragePool", {}), ("Flatten", {}))


def _flatten(writer: _Writer, node: Node) -> None:
    shape = writer.shapes[node.inputs[0]]
    same = len(shape) == 1 or shape[:2] == (1, 1) or node.output in writer.flattened
    moved = [] if same else [("Transpose", {"perm": TO_NHWC})]
    writer.chain(node.inputs[0], node.output, *moved, ("Flatten", {}))


def _clip(writer: _Writer, node: Node) -> None:
    limits = [writer.constant(node.output, key, np.float32(node.attrs[key])) for key in ("low", "high")]
    writer.emit("Clip", (*node.inputs, *limits), node.output)


def _by_channel(writer: _Writer, node: Node, role: str) -> str:
    vector = np.asarray(node.tensors[role])
    shape = (-1, 1, 1) if len(writer.shapes[node.inputs[0]]) == 3 else (-1,)
    return writer.constant(node.output, role, vector.reshape(shape))


def _prelu(writer: _Writer, node: Node) -> None:
    writer.emit("PRelu", (*node.inputs, _by_channel(writer, node, "slope")), node.output)


def _scale(writer: _Writer, node: Node) -> None:
    if "bias" in node.tensors and len(writer.shapes[node.inputs[0]]) == 3:
        _batch_norm(writer, node)
        return
    scaled = f"{node.output}/scaled" if "bias" in node.tensors else node.output
    writer.emit("Mul", (*node.inputs, _by_channel(writer, node, "scale")), scaled)
    if "bias" in node.tensors:
        writer.emit("Add", (scaled, _by_channel(writer, node, "bias")), node.output)


def _batch_norm(writer: _Writer, node: Node) -> None:
    """Why not Mul and Add: exported nets have batch norms there, which engines know."""
    rate, shift = (np.asarray(node.tensors[role]) for role in ("scale", "bias"))
    vectors = {"scale": rate, "bias": shift, "mean": np.zeros_like(rate), "variance": np.ones_like(rate)}
    names = [writer.constant(node.output, role, vector) for role, vector in vectors.items()]
    writer.emit("BatchNormalization", (*node.inputs, *names), node.output, epsilon=0.0)


def _pad(writer: _Writer, node: Node) -> None:
    (top, bottom), (left, right) = node.attrs["padding"]
    pads = writer.constant(node.output, "pads", [0, 0, top, left, 0, 0, bottom, right], np.int64)
    value = writer.constant(node.output, "value", np.float32(node.attrs["value"]))
    writer.emit("Pad", (*node.inputs, pads, value), node.output)


def _upsample(writer: _Writer, node: Node) -> None:
    scales = writer.constant(node.output, "scales", [1, 1, *node.attrs["factor"]])
    how = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    writer.emit("Resize", (*node.inputs, "", scales), node.output, **how)


def _slice(writer: _Writer, node: Node) -> None:
    spans = {key: node.attrs[key] for key in ("start", "stop")}
    spans["axes"] = NHWC_AXES if len(node.attrs["start"]) == 3 else (1,)
    spans["step"] = node.attrs["step"]
    names = [writer.constant(node.output, key, span, np.int64) for key, span in spans.items()]
    writer.emit("Slice", (*node.inputs, *names), node.output)


def _rearrange(writer: _Writer, node: Node) -> None:
    split, order, shape = (node.attrs[key] for key in ("split", "order", "shape"))
    if len(writer.shapes[node.inputs[0]]) == 1 and list(order) == sorted(order) and tuple(shape[:2]) == (1, 1):
        writer.chain(node.inputs[0], node.output, ("Reshape", {"shape": [-1, shape[2], 1, 1]}))
        return
    before = [("Transpose", {"perm": TO_NHWC})] if len(writer.shapes[node.inputs[0]]) == 3 else []
    after = [("Transpose", {"perm": TO_NCHW})] if len(shape) == 3 else []
    middle: list[tuple[str, dict[str, Any]]] = [
        ("Reshape", {"shape": [-1, *split]}),
        ("Transpose", {"perm": [0, *(axis + 1 for axis in order)]}),
        ("Reshape", {"shape": [-1, *shape]}),
    ]
    writer.chain(node.inputs[0], node.output, *before, *middle, *after)


def _plain(op: str, *attrs: str, **fixed: Any) -> Callable[[_Writer, Node], None]:
    """An operator that ONNX has too; `attrs` are (ours=theirs) where they have any."""

    def write_one(writer: _Writer, node: Node) -> None:
        given = {theirs: node.attrs[ours] for ours, theirs in (pair.split("=") for pair in attrs)}
        writer.emit(op, node.inputs, node.output, **given, **fixed)

    return write_one


WRITERS: Mapping[str, Callable[[_Writer, Node], None]] = {
    "conv2d": _conv2d,
    "dense": _dense,
    "relu": _plain("Relu"),
    "add": _plain("Add"),
    "max_pool": _pool,
    "average_pool": _pool,
    "global_average_pool": _global_average_pool,
    "flatten": _flatten,
    "softmax": _plain("Softmax", axis=1),
    "clip": _clip,
    "leaky_relu": _plain("LeakyRelu", "slope=alpha"),
    "prelu": _prelu,
    "sigmoid": _plain("Sigmoid"),
    "hard_sigmoid": _plain("HardSigmoid", "alpha=alpha", "beta=beta"),
    "hard_swish": _plain("HardSwish"),
    "tanh": _plain("Tanh"),
    "scale": _scale,
    "mul": _plain("Mul"),
    "sub": _plain("Sub"),
    "div": _plain("Div"),
    "concat": _plain("Concat", axis=1),
    "pad": _pad,
    "upsample": _upsample,
    "slice": _slice,
    "rearrange": _rearrange,
}
"""A row for each operator of the model file."""


def write(path: Path, spec: ModelSpec) -> None:
    """Write the ONNX twin of a validated model: values of three axes as NCHW, names as they are."""
    onnx = extras.onnx()
    writer = _Writer(onnx, spec)
    for node in spec.nodes:
        WRITERS[node.op](writer, node)

    def value(name: str) -> Any:
        shape: Shape = writer.shapes[name]
        sizes = (shape[2], shape[0], shape[1]) if len(shape) == 3 else shape
        return onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["N", *sizes])

    graph = onnx.helper.make_graph(
        writer.nodes,
        "net",
        [value(entry.name) for entry in spec.inputs],
        [value(name) for name in spec.outputs],
        writer.constants,
    )
    opset = NEWER_OPSET if any(node.op_type in OF_NEWER_OPSET for node in writer.nodes) else OPSET
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", opset)], ir_version=IR_VERSION)
    onnx.checker.check_model(model)
    atomic_write_bytes(path, model.SerializeToString())
