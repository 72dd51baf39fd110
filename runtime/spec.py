"""From a model file's graph to the layers that the runtime executes: fused, with shapes and padding resolved."""

from dataclasses import replace

import numpy as np

from lhc_ref.modelfile import MaskedKernel, ModelSpec, Node, infer_shapes
from runtime.fuse import folds_of, fuse
from runtime.layer import FUNCTIONS, Layer, Window, as_image
from runtime.moves import Move, Shape, moves_of

LARGEST = float(np.finfo(np.float32).max)


def _window(node: Node, shape: Shape, out: Shape, size: tuple[int, int]) -> Window:
    stride = tuple(node.attrs.get("stride", (1, 1)))
    dilation = tuple(node.attrs.get("dilation", (1, 1)))
    padding = node.attrs.get("padding", "valid")
    if padding == "valid":
        top = left = 0
    elif padding == "same":  # TensorFlow's rule: the odd pixel comes at the end
        top, left = (max(0, (out[i] - 1) * stride[i] + (size[i] - 1) * dilation[i] + 1 - shape[i]) // 2 for i in (0, 1))
    else:
        (top, _), (left, _) = padding
    return Window(size, stride, dilation, top, left)


def _conv(node: Node, shape: Shape, out: Shape) -> Layer:
    stored, bias = node.tensors["kernel"], node.tensors.get("bias")
    mask = None
    if isinstance(stored, MaskedKernel):
        kernel = stored.dense()
        mask = stored.expanded_mask() if stored.density < 1 else None
    else:
        kernel = stored
    assert not isinstance(bias, MaskedKernel), "only kernels are masked"
    if node.op == "dense":
        kernel = kernel.reshape(shape[0], shape[1], -1, kernel.shape[-1])
    return Layer(
        "conv2d",
        (node.name,),
        node.inputs[0],
        node.output,
        shape,
        out,
        kernel=kernel,
        mask=mask,
        window=_window(node, shape, out, (kernel.shape[0], kernel.shape[1])),
        bias=bias,
        groups=node.attrs.get("groups", 1),
    )


def _function(node: Node, shape: Shape, out: Shape, others: list[Shape]) -> Layer:
    """A function of single numbers."""
    attrs, tensors, c = node.attrs, node.tensors, shape[2]
    alpha = attrs.get("alpha", attrs.get("slope", 0.0))
    vectors: tuple[np.ndarray, ...] = ()
    if node.op == "prelu":
        vectors = (_array(tensors["slope"]),)
    elif node.op == "scale":
        vectors = _array(tensors["scale"]), _array(tensors.get("bias", np.zeros(c, np.float32)))
    ends = node.inputs[0], node.output, shape, out
    layer = Layer(node.op, (node.name,), *ends, function=node.op, alpha=alpha, vectors=vectors)
    if not others:
        return replace(layer, beta=attrs.get("beta", 0.0))
    return replace(layer, other=node.inputs[1], one_pixel=others[0] != shape)


def _array(tensor: np.ndarray | MaskedKernel) -> np.ndarray:
    assert not isinstance(tensor, MaskedKernel), "only kernels are masked"
    return tensor


def _concat(node: Node, shapes: list[Shape], out: Shape) -> list[Layer]:
    """One input after the other put behind those before; no name in a file is unprintable."""
    (h, w, c), x, layers = shapes[0], node.inputs[0], []
    for i, (name, shape) in enumerate(zip(node.inputs[1:], shapes[1:], strict=True), start=2):
        made = node.output if i == len(shapes) else f"{node.output}\0{i}"
        ends = (node.name,), x, made, (h, w, c), (h, w, c + shape[2])
        layers.append(Layer("move", *ends, other=name, moves=(Move.all_of((h, w, c)), Move.all_of(shape))))
        x, c = made, c + shape[2]
    return layers


def to_layer(node: Node, shape: Shape, out: Shape, others: list[Shape]) -> Layer:
    """The layer of one node alone; `others` are the shapes of its inputs but the first."""
    ends = (node.name,), node.inputs[0], node.output, shape, out
    match node.op:
        case "conv2d" | "dense":
            return _conv(node, shape, out)
        case "max_pool" | "average_pool":
            return Layer(node.op, *ends, window=_window(node, shape, out, tuple(node.attrs["size"])))
        case "global_average_pool":
            return Layer("average_pool", *ends, window=Window(shape[:2]))
        case "relu":
            return Layer("activate", *ends, low=0.0)
        case "clip":
            low, high = node.attrs["low"], node.attrs["high"]
            return Layer(
                "activate", *ends, low=low if low > -LARGEST else -np.inf, high=high if high < LARGEST else np.inf
            )
        case "add":
            return Layer("add", *ends, other=node.inputs[1])
        case "pad" | "upsample" | "slice" | "rearrange":
            move = moves_of(node.op, shape, out, node.attrs)
            return Layer("move", *ends, moves=(move,), alpha=node.attrs.get("value", 0.0))
        case op if op in FUNCTIONS:
            return _function(node, shape, out, others)
        case _:
            return Layer(node.op, *ends)  # softmax, flatten; validation let no other name pass


def as_long_rows(layer: Layer, longest: int = 256) -> Layer:
    """A pointwise convolution sees no neighbours: its pixels are laid in long rows, so that few tiles are cut short at
    a row's end.
    """
    (h, w, c), (oh, ow, c_out) = layer.shape, layer.out_shape
    if layer.op != "conv2d" or layer.window != Window((1, 1)) or (oh, ow) != (h, w):
        return layer
    lengths = [n for n in range(w, longest + 1) if h * w % n == 0 and n % 16 == 0] or [
        h * w if h * w <= 2 * longest else w
    ]
    return replace(
        layer, shape=(h * w // lengths[-1], lengths[-1], c), out_shape=(h * w // lengths[-1], lengths[-1], c_out)
    )


def split_strided_pointwise(layer: Layer) -> list[Layer]:
    """A pointwise convolution that skips pixels becomes a copy of the pixels it reads, and a pointwise convolution of
    those.
    """
    window, (_, _, c), (oh, ow, _) = layer.window, layer.shape, layer.conv_shape
    if (
        layer.op != "conv2d"
        or window.size != (1, 1)
        or window.stride == (1, 1)
        or window.pad_top
        or window.pad_left
        or (oh - 1) * window.stride[0] >= layer.shape[0]
        or (ow - 1) * window.stride[1] >= layer.shape[1]
    ):
        return [layer]
    picked = layer.output + "\0picked"  # no name in a file is unprintable
    pick = Layer(
        "max_pool",
        (layer.name + "/pick",),
        layer.x,
        picked,
        layer.shape,
        (oh, ow, c),
        window=replace(window, dilation=(1, 1)),
    )
    return [pick, replace(layer, x=picked, shape=(oh, ow, c), window=Window((1, 1)))]


def to_layers(spec: ModelSpec, pooled: bool = True) -> list[Layer]:
    """The layers of a validated model in execution order; `pooled`: convolutions may pool. O(nodes^2) in the fusing,
    and O(mask) of layers before a pooling.
    """
    shapes = {name: as_image(shape) for name, shape in infer_shapes(spec).items()}
    layers: list[Layer] = []
    for node in spec.nodes:
        read, out = [shapes[name] for name in node.inputs], shapes[node.output]
        layers += _concat(node, read, out) if node.op == "concat" else [to_layer(node, read[0], out, read[1:])]
    fused = fuse(layers, tuple(i.name for i in spec.inputs), spec.outputs, folds_of(pooled))
    return [part for layer in fused for part in split_strided_pointwise(layer)]
