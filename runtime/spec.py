"""From a model file's graph to the layers that the runtime executes: fused, with shapes and padding resolved."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from lhc_ref.modelfile import MaskedKernel, ModelSpec, Node, infer_shapes
from runtime.kernels.step import Function
from runtime.moves import Move, Shape, moves_of

FUNCTIONS = {function.name.lower(): function for function in Function}
OF_ONE = {"leaky_relu", "prelu", "sigmoid", "hard_sigmoid", "hard_swish", "tanh", "swish"}
"""Functions that a convolution can end in."""
RISING = {"leaky_relu", "hard_sigmoid"}
"""Functions of which, at an alpha of at least 0, the largest value is that of the largest number, to the last bit."""
TILE, SHARED = 8, 2.0  # output channels of a tile; weights it may compute for each that exists
LARGEST = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class Window:
    """Where a sliding window looks: size, stride, dilation, pixels of padding at top and left."""

    size: tuple[int, int]
    stride: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    pad_top: int = 0
    pad_left: int = 0


@dataclass(frozen=True, eq=False)
class Layer:
    """One layer to execute: a node of the graph together with the nodes fused into it.

    Parameters
    ----------
    op : "conv2d", "max_pool", "average_pool", "add", "activate", "softmax", "flatten", a function's name, or "move"
    nodes : names of the graph's nodes that it stands for
    x, output : names of the tensors read and written
    other : a second input (add), or the tensor added before the activation (conv2d), or None
    shape, out_shape : (h, w, c) of x and of the output
    kernel : f32[kh, kw, c_in / groups, c_out] or None;  mask : bool of that shape, None where every weight exists
    low, high : the activation as limits; -inf and inf where there is none
    function, alpha, beta, vectors : what is computed of each number, before the limits: the operator itself, or after a
        convolution; its numbers, and f32[c] arrays
    one_pixel : whether `other` is one pixel for all of x's
    moves : of a move, where the numbers come from: in x, and in `other`
    pool : of a convolution, the windows of which the largest is kept: (rows, columns), side by side
    unpooled : of such a convolution, (h, w, c) before pooling, with the pixels that are in no window
    """

    op: str
    nodes: tuple[str, ...]
    x: str
    output: str
    shape: Shape
    out_shape: Shape
    window: Window = Window((1, 1))
    other: str | None = None
    kernel: np.ndarray | None = None
    mask: np.ndarray | None = None
    bias: np.ndarray | None = None
    groups: int = 1
    low: float = -np.inf
    high: float = np.inf
    function: str | None = None
    alpha: float = 0.0
    beta: float = 0.0
    vectors: tuple[np.ndarray, ...] = ()
    one_pixel: bool = False
    moves: tuple[Move, ...] = ()
    pool: tuple[int, int] = (1, 1)
    unpooled: Shape | None = None

    @property
    def conv_shape(self) -> Shape:
        """(h, w, c) of what a convolution computes: where pooling follows, the pixels of its windows."""
        h, w, c = self.out_shape
        return h * self.pool[0], w * self.pool[1], c

    @property
    def name(self) -> str:
        """The first fused node's name."""
        return self.nodes[0]


def as_image(shape: tuple[int, ...]) -> Shape:
    """(h, w, c) of one example's shape; a list of features is one pixel."""
    return shape if len(shape) == 3 else (1, 1, shape[0])


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


def _fuse_flatten(first: Layer, second: Layer, made_before: set[str]) -> Layer | None:
    reads = first.op == "flatten" and second.op == "conv2d" and second.x == first.output
    if reads and second.window.size == (1, 1) and second.kernel is not None:
        h, w, c = first.shape
        window = replace(second.window, size=(h, w))
        mask = None if second.mask is None else second.mask.reshape(h, w, c, -1)
        return replace(
            second,
            nodes=first.nodes + second.nodes,
            x=first.x,
            shape=first.shape,
            window=window,
            kernel=second.kernel.reshape(h, w, c, -1),
            mask=mask,
        )
    return None


def _fuse_swish(first: Layer, second: Layer, made_before: set[str]) -> Layer | None:
    """A sigmoid and the product with what it was taken of."""
    product = second.op == "mul" and {second.x, second.other} == {first.x, first.output} and _unlimited(first)
    if not product or not (first.op == "sigmoid" or _is_hard_swish(first)):
        return None
    name = "swish" if first.op == "sigmoid" else "hard_swish"
    joined = replace(first, op=name, function=name, nodes=first.nodes + second.nodes, alpha=0.0, beta=0.0)
    return replace(joined, output=second.output, low=second.low, high=second.high)


def _is_hard_swish(layer: Layer) -> bool:
    """Whether a hard sigmoid is the one that a hard swish multiplies by, in float32."""
    line = np.float32(layer.alpha), np.float32(layer.beta)
    return layer.op == "hard_sigmoid" and line == (np.float32(1 / 6), np.float32(0.5))


def _unlimited(layer: Layer) -> bool:
    return layer.low == -np.inf and layer.high == np.inf


def _fuse_function(first: Layer, second: Layer, made_before: set[str]) -> Layer | None:
    """A convolution, and a function of each of its numbers."""
    if first.op != "conv2d" or second.op not in OF_ONE or first.function is not None or not _unlimited(first):
        return None
    return replace(
        first,
        nodes=first.nodes + second.nodes,
        output=second.output,
        function=second.function,
        alpha=second.alpha,
        beta=second.beta,
        vectors=second.vectors,
        low=second.low,
        high=second.high,
    )


def _fuse_limit(first: Layer, second: Layer, made_before: set[str]) -> Layer | None:
    """An activation at the end of most layers."""
    limited = first.op in ("conv2d", "add", "max_pool", "average_pool", "activate") or first.op in FUNCTIONS
    if second.op == "activate" and second.x == first.output and limited:
        low, high = (min(max(limit, second.low), second.high) for limit in (first.low, first.high))
        return replace(first, nodes=first.nodes + second.nodes, output=second.output, low=low, high=high)
    return None


def _fuse_sum(first: Layer, second: Layer, made_before: set[str]) -> Layer | None:
    """A convolution, and its sum with what has been made before."""
    plain = first.function is None and _unlimited(first)
    if second.op == "add" and first.op == "conv2d" and plain and first.other is None:
        other = second.other if second.x == first.output else second.x
        if other in made_before and other != first.output:
            return replace(first, nodes=first.nodes + second.nodes, output=second.output, other=other)
    return None


def _fuse_pool(first: Layer, second: Layer, made_before: set[str]) -> Layer | None:
    """A convolution of which the largest numbers of windows are kept."""
    if second.op == "max_pool" and _can_pool(first, second.window):
        return replace(
            first,
            nodes=first.nodes + second.nodes,
            output=second.output,
            out_shape=second.out_shape,
            pool=second.window.size,
            unpooled=first.out_shape,
        )
    return None


def _can_pool(layer: Layer, window: Window) -> bool:
    """Whether a convolution can keep the largest of each window: windows side by side, nothing added, and patterns
    that output channels share, for the kernel of scattered weights cannot. A function follows the pooling.
    """
    side_by_side = window == Window(window.size, stride=window.size)
    rising = layer.function is None or (layer.function in RISING and layer.alpha >= 0)
    alone = layer.op == "conv2d" and layer.other is None and layer.pool == (1, 1) and rising
    return alone and side_by_side and _shares(layer)


def _shares(layer: Layer) -> bool:
    """Whether the output channels of a tile keep mostly the same weights."""
    if layer.mask is None:
        return True
    starts = np.arange(0, layer.mask.shape[3], TILE)
    union = np.logical_or.reduceat(layer.mask, starts, axis=3)
    computed = (union * np.diff(starts, append=layer.mask.shape[3])).sum()
    return bool(computed <= SHARED * layer.mask.sum())


Fold = Callable[[Layer, Layer, set[str]], Layer | None]
"""Two layers, the second of which alone reads the first, and values made before both, as one; or None."""


def _folds(pooled: bool, functions: bool) -> list[Fold]:
    """Those of every runtime; and, if asked for, pooling and functions at a convolution's end."""
    found: list[Fold] = [_fuse_flatten, _fuse_limit, _fuse_sum, _fuse_swish]
    return [*found, *[_fuse_pool] * pooled, *[_fuse_function] * functions]


def fuse(layers: list[Layer], inputs: tuple[str, ...], outputs: tuple[str, ...], folds: Sequence[Fold]) -> list[Layer]:
    """Fold layers into their neighbours, as long as no value that others read is lost."""
    while (fewer := _fuse_once(layers, inputs, outputs, folds)) is not None:
        layers = fewer
    return layers


def _fuse_once(
    layers: list[Layer], inputs: tuple[str, ...], outputs: tuple[str, ...], folds: Sequence[Fold]
) -> list[Layer] | None:
    """The layers with the first two that can be folded as one; None where there are none. O(layers)."""
    made_at = dict.fromkeys(inputs, -1) | {layer.output: i for i, layer in enumerate(layers)}
    read_at = _read_at(layers)
    for i, first in enumerate(layers):
        readers = read_at.get(first.output, [])
        if len(readers) != 1 or first.output in outputs:
            continue
        (j,) = readers
        made_before = {name for name in (layers[j].x, layers[j].other) if name is not None and made_at[name] < i}
        merged = next(filter(None, (fold(first, layers[j], made_before) for fold in folds)), None)
        if merged is not None:
            return [*layers[:i], merged, *layers[i + 1 : j], *layers[j + 1 :]]
    return None


def _read_at(layers: list[Layer]) -> dict[str, list[int]]:
    """The layers that read each value, by their places; one that reads it twice, twice."""
    found: dict[str, list[int]] = {}
    for i, layer in enumerate(layers):
        for name in (layer.x, layer.other):
            if name is not None:
                found.setdefault(name, []).append(i)
    return found


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


def to_layers(spec: ModelSpec, pooled: bool = True, functions: bool = True) -> list[Layer]:
    """The layers of a validated model in execution order; `pooled`: convolutions may pool; `functions`: they may end in
    a function. O(nodes^2) in the fusing, and O(mask) of layers before a pooling.
    """
    shapes = {name: as_image(shape) for name, shape in infer_shapes(spec).items()}
    layers: list[Layer] = []
    for node in spec.nodes:
        read, out = [shapes[name] for name in node.inputs], shapes[node.output]
        layers += _concat(node, read, out) if node.op == "concat" else [to_layer(node, read[0], out, read[1:])]
    fused = fuse(layers, tuple(i.name for i in spec.inputs), spec.outputs, _folds(pooled, functions))
    return [part for layer in fused for part in split_strided_pointwise(layer)]
