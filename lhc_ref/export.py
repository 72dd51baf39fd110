"""From a trained net to a model file's graph: masks fixed, batch norm folded into kernel and bias."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lhc_ref import ops
from lhc_ref.arrays import Array
from lhc_ref.blocks import Concat, Residual, Sequential, SubsampleAndPad
from lhc_ref.errors import InputError
from lhc_ref.layers import BatchNorm, Conv2d, Dense, Layer, Operator, Pass
from lhc_ref.modelfile import InputSpec, MaskedKernel, ModelSpec, Node, Tensor
from lhc_ref.nets import Net
from lhc_ref.norm import EPSILON
from lhc_ref.related.layers import Generator, LeanConv2d

INPUT = "image"
OPERATORS = {
    ops.relu: "relu",
    ops.max_pool: "max_pool",
    ops.average_pool: "average_pool",
    ops.global_average_pool: "global_average_pool",
    ops.flatten: "flatten",
    ops.softmax: "softmax",
}


def to_spec(
    net: Net,
    *,
    preprocessing: Mapping[str, Sequence[float]] | None = None,
    classes: Sequence[str] = (),
    metadata: Mapping[str, str] | None = None,
    softmax: bool = True,
) -> ModelSpec:
    """The graph of a net for inference.

    Parameters
    ----------
    net : every channel of its LHC layers enabled; batch norm right after a convolution is folded into it
    preprocessing : {"subtract": per channel, "divide": per channel} from raw data to the net's input
    classes : names of the outputs
    metadata : free texts
    softmax : end in probabilities; False ends in logits.

    Returns
    -------
    A spec for `modelfile.save`, all tensors float32, new memory. Folding is done in float64:
    `kernel * r` and `(bias - mean) * r + beta` with `r = gamma / sqrt(variance + epsilon)`.

    Raises
    ------
    InputError : a channel that is not enabled, or a layer that a model file cannot hold.
    """
    for layer in net.lhc_layers:
        enabled = layer.state["enabled"]
        if not enabled.all():
            raise InputError(
                f"{layer.name}: expected every channel enabled, got {int(enabled.sum())} of {len(enabled)}; the others "
                f"run dense, which a file cannot say. Train past the warm-up, or freeze the masks."
            )
    nodes: list[Node] = []
    output = _emit([net.body], INPUT, nodes)
    if softmax:
        output = _add(nodes, "softmax", "softmax", (output,))
    return ModelSpec(
        inputs=(InputSpec(INPUT, net.image_shape),),
        outputs=(output,),
        nodes=tuple(nodes),
        preprocessing={k: tuple(map(float, v)) for k, v in preprocessing.items()} if preprocessing else None,
        classes=tuple(classes),
        metadata=dict(metadata or {}),
    )


def _add(
    nodes: list[Node],
    op: str,
    name: str,
    inputs: tuple[str, ...],
    attrs: Mapping[str, Any] | None = None,
    tensors: Mapping[str, Tensor] | None = None,
) -> str:
    """Append a node whose output is called as the node is; return that name."""
    nodes.append(Node(op, name, inputs, name, attrs or {}, tensors or {}))
    return name


def _emit(layers: Sequence[Layer], value: str, nodes: list[Node]) -> str:
    """Append the nodes of consecutive layers that read `value`; return the name of what they make."""
    rest = list(layers)
    while rest:
        layer = rest.pop(0)
        if isinstance(layer, Sequential):
            rest = [*layer.layers, *rest]
        elif isinstance(layer, Generator):
            continue  # Why: the kernels made of it are in the file.
        elif isinstance(layer, LeanConv2d):
            value = _lean(layer, _norm_after(rest), value, nodes)
        elif isinstance(layer, Conv2d):
            value = _conv(layer, _norm_after(rest), value, nodes)
        elif isinstance(layer, BatchNorm):
            rate, shift = _affine(layer, np.zeros(len(layer.state["mean"])))
            affine: dict[str, Tensor] = {"scale": rate.astype(np.float32), "bias": shift.astype(np.float32)}
            value = _add(nodes, "scale", layer.name, (value,), None, affine)
        elif isinstance(layer, Concat):
            value = _add(nodes, "concat", layer.name, (value, _emit([layer.body], value, nodes)))
        elif isinstance(layer, SubsampleAndPad):
            tensors = {"kernel": MaskedKernel.from_dense(layer.kernel(), layer.kernel() > 0, 1, 1)}
            attrs = {"stride": (layer.stride, layer.stride), "padding": "valid"}
            value = _add(nodes, "conv2d", layer.name, (value,), attrs, tensors)
        elif isinstance(layer, Dense):
            tensors = {role: weight.astype(np.float32) for role, weight in layer.weights.items()}
            value = _add(nodes, "dense", layer.name, (value,), None, tensors)
        elif isinstance(layer, Operator) and layer.primal in OPERATORS:
            # Why: a pool without a stride moves on by its size; the file says so outright.
            attrs = {"stride": layer.options["size"], **layer.options} if "size" in layer.options else layer.options
            value = _add(nodes, OPERATORS[layer.primal], layer.name, (value,), attrs)
        elif isinstance(layer, Residual):
            shortcut = _emit([layer.shortcut], value, nodes) if layer.shortcut else value
            value = _add(nodes, "add", layer.name, (_emit([layer.body], value, nodes), shortcut))
        else:
            raise InputError(
                f"{layer.name}: expected a layer that a model file can hold, got {type(layer).__name__}. "
                f"Operators are {', '.join(OPERATORS.values())}."
            )
    return value


def _norm_after(rest: list[Layer]) -> BatchNorm | None:
    """The batch norm at the front of `rest`, taken off it."""
    if not rest or not isinstance(rest[0], BatchNorm):
        return None
    norm = rest[0]
    del rest[0]
    return norm


def _conv(layer: Conv2d, norm: BatchNorm | None, value: str, nodes: list[Node]) -> str:
    """The node of a convolution, with the batch norm after it folded in."""
    rate, shift = _affine(norm, _bias(layer))
    whole = (layer.kernel(Pass()).astype(np.float64) * rate).astype(np.float32)
    masked = layer.kernel_mask()
    kernel: Tensor = whole if masked is None else MaskedKernel.from_dense(whole, *masked)
    tensors = {"kernel": kernel, "bias": shift.astype(np.float32)}
    return _add(nodes, "conv2d", layer.name, (value,), {**layer.options, "groups": layer.groups}, tensors)


def _lean(layer: LeanConv2d, norm: BatchNorm | None, value: str, nodes: list[Node]) -> str:
    """The nodes of a lean convolution: the stencil, the 1x1 with the bias, and their sum."""
    rate, shift = _affine(norm, _bias(layer))
    (stencil, pads), (pointwise, no_pads) = (
        ((kernel.astype(np.float64) * rate).astype(np.float32), padding) for kernel, padding in layer.kernels()
    )
    exists = np.broadcast_to(layer.stencil_taps()[:, :, None, None], stencil.shape).copy()
    masked: dict[str, Tensor] = {"kernel": MaskedKernel.from_dense(stencil, exists, 1, 1)}
    attrs = {"stride": layer.stride, "padding": pads, "groups": layer.groups}
    spatial = _add(nodes, "conv2d", f"{layer.name}_stencil", (value,), attrs, masked)
    whole: dict[str, Tensor] = {"kernel": pointwise, "bias": shift.astype(np.float32)}
    attrs = {"stride": layer.stride, "padding": no_pads}
    coupled = _add(nodes, "conv2d", f"{layer.name}_pointwise", (value,), attrs, whole)
    return _add(nodes, "add", layer.name, (spatial, coupled))


def _bias(layer: Conv2d | LeanConv2d) -> Array:
    """A layer's own bias, f64[c_out]."""
    return layer.weights["bias"].astype(np.float64) if "bias" in layer.weights else np.zeros(layer.c_out)


def _affine(norm: BatchNorm | None, bias: Array) -> tuple[Array, Array]:
    """f64[c_out] each: what a convolution's kernel is multiplied by, and its bias, with the batch norm at inference."""
    if norm is None:
        return np.ones(len(bias)), bias
    weights = {name: array.astype(np.float64) for name, array in {**norm.weights, **norm.state}.items()}
    rate = weights["gamma"] / np.sqrt(weights["variance"] + EPSILON)
    return rate, (bias - weights["mean"]) * rate + weights["beta"]
