"""Folds layers into their neighbours: activations, sums, functions, pooling, flattening become part of one step."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from runtime.layer import FUNCTIONS, Layer, Window

TILE, SHARED = 8, 2.0  # output channels of a tile; weights it may compute for each that exists
OF_ONE = {"leaky_relu", "prelu", "sigmoid", "hard_sigmoid", "hard_swish", "tanh", "swish"}
"""Functions that a convolution can end in."""
RISING = {"leaky_relu", "hard_sigmoid"}
"""Functions of which, at an alpha above 0, the largest value is that of the largest number, to the last bit. At 0 an
infinity gives NaN, whether it is the largest or not.
"""


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
    """A convolution, and its sum with what has been made before. Not behind a pooling: what has been the largest so far
    waits in the output, where the other may lie.
    """
    plain = first.function is None and _unlimited(first) and first.pool == (1, 1)
    if second.op == "add" and first.op == "conv2d" and plain and first.other is None:
        other = second.other if second.x == first.output else second.x
        if other in made_before and other != first.output:
            return replace(first, nodes=first.nodes + second.nodes, output=second.output, other=other)
    return None


def _fuse_pool(first: Layer, second: Layer, made_before: set[str]) -> Layer | None:
    """A convolution of which the largest numbers of windows are kept."""
    if second.op == "max_pool" and _can_pool(first, second):
        return replace(
            first,
            nodes=first.nodes + second.nodes,
            output=second.output,
            out_shape=second.out_shape,
            pool=second.window.size,
            unpooled=first.out_shape,
        )
    return None


def _can_pool(layer: Layer, pool: Layer) -> bool:
    """Whether a convolution can keep the largest of each window: windows side by side and inside the image, nothing
    added, and patterns that output channels share, for the kernel of scattered weights cannot. A function follows the
    pooling.
    """
    window, (h, w, _), (oh, ow, _) = pool.window, layer.out_shape, pool.out_shape
    side_by_side = window == Window(window.size, stride=window.size)
    inside = oh * window.size[0] <= h and ow * window.size[1] <= w
    rising = layer.function is None or (layer.function in RISING and layer.alpha > 0)
    alone = layer.op == "conv2d" and layer.other is None and layer.pool == (1, 1) and rising
    return alone and side_by_side and inside and _shares(layer)


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


def folds_of(pooled: bool) -> list[Fold]:
    """Those of every runtime; and, if asked for, pooling at a convolution's end."""
    found: list[Fold] = [_fuse_flatten, _fuse_limit, _fuse_sum, _fuse_swish, _fuse_function]
    return [*found, *[_fuse_pool] * pooled]


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
