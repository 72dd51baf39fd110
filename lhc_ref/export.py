"""From a trained net to a model file's graph: masks fixed, batch norm folded into kernel and bias."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lhc_ref import ops
from lhc_ref.arrays import Array
from lhc_ref.errors import InputError
from lhc_ref.layers import BatchNorm, Conv2d, Dense, Layer, LhcConv2d, Operator, Residual, Sequential
from lhc_ref.modelfile import InputSpec, MaskedKernel, ModelSpec, Node, Tensor
from lhc_ref.nets import Net
from lhc_ref.norm import EPSILON

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
    net : every channel of its LHC layers enabled, and every batch norm right after a convolution
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
        elif isinstance(layer, Conv2d):
            norm = rest.pop(0) if rest and isinstance(rest[0], BatchNorm) else None
            attrs = {**layer.options, "groups": layer.groups}
            value = _add(nodes, "conv2d", layer.name, (value,), attrs, _conv_tensors(layer, norm))
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
                f"Put batch norm right after a convolution; operators are {', '.join(OPERATORS.values())}."
            )
    return value


def _conv_tensors(layer: Conv2d, norm: Layer | None) -> dict[str, Tensor]:
    """Kernel and bias of a convolution, with the batch norm after it folded in."""
    kernel = layer.weights["kernel"].astype(np.float64)
    bias = layer.weights["bias"].astype(np.float64) if "bias" in layer.weights else np.zeros(kernel.shape[-1])
    if norm is not None:
        rate, mean, beta = _affine(norm)
        kernel, bias = kernel * rate, (bias - mean) * rate + beta
    whole = kernel.astype(np.float32)
    folded: Tensor = whole
    if isinstance(layer, LhcConv2d):
        groups = layer.mask_options["group_in"], layer.mask_options["group_out"]
        folded = MaskedKernel.from_dense(whole, layer.pattern_mask(), *groups)
    return {"kernel": folded, "bias": bias.astype(np.float32)}


def _affine(norm: Layer) -> tuple[Array, Array, Array]:
    """A batch norm at inference as f64 (rate, mean, beta): `(x - mean) * rate + beta`."""
    weights = {name: array.astype(np.float64) for name, array in {**norm.weights, **norm.state}.items()}
    return weights["gamma"] / np.sqrt(weights["variance"] + EPSILON), weights["mean"], weights["beta"]
