"""Models with one kernel to try: layers and operators of every kind that a kernel can run, drawn by Hypothesis."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
from hypothesis import strategies as st

from lhc_ref.evaluate import evaluate_with_bounds
from lhc_ref.modelfile import MaskedKernel
from runtime import select
from runtime.kernels.machine import LANES
from runtime.kernels.registry import REGISTRY
from runtime.kernels.step import Kernel
from runtime.kernels.vector import COMPILED
from runtime.layer import Layer, Window
from runtime.layout import BLOCK, CHANNELS
from runtime.layout import LAYOUTS as EVERY_LAYOUT
from tests import oracle, strategies
from tests.model_strategies import MAKERS, NOT_ON_RANK
from tests.model_strategies import ROUNDING as INEXACT
from tests.runtime.nets import conv_spec, net
from tests.strategies import ConvCase, numbers, seeds
from tests.tolerances import softmax_bound, sum_bound, winograd_bound

LAYOUTS = {layout.name: layout for layout in EVERY_LAYOUT}
ENDS = ["leaky_relu", "prelu", "sigmoid", "hard_sigmoid", "hard_swish", "tanh"]
MAPS = [*ENDS, "scale", "mul", "sub", "div"]
CONVS = sorted({entry.kernel for entry in REGISTRY.values() if entry.tile is not None})
SOME = strategies.densities.map(lambda density: min(density, 0.9))
MAX_CHANNELS = 2 * BLOCK + 1
WIDE_BATCHES = [1, 2, LANES - 1, LANES, LANES + 1, 2 * LANES + 1]


@dataclass(frozen=True)
class Problem:
    """A model with one kernel to try, its inputs, and a bound on its error; None: the result is exact."""

    spec: object
    inputs: dict
    bound: object = None


def batches(layout):
    """Batch sizes by their relation to the lanes."""
    if layout == CHANNELS:
        return st.integers(1, 2)
    return st.sampled_from(WIDE_BATCHES if COMPILED else [1, 2])


def channels(limit=MAX_CHANNELS if COMPILED else LANES + 1):
    """Channel counts by their relation to vectors and blocks."""
    edges = {n + d for n in (8, LANES, BLOCK, 2 * BLOCK) for d in (-1, 0, 1)}
    return st.one_of(st.integers(1, 5), st.sampled_from([1, *sorted(n for n in edges if n <= limit)]))


# --- Convolutions ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class LayerCase:
    """A convolution with everything that can be fused into it."""

    conv: ConvCase
    density: float | None  # None: a kernel stored without a mask
    group_in: int
    group_out: int
    empty_outputs: int  # this many outputs at the front keep nothing: with a tile's worth, an empty tile
    bias: bool
    residual: bool
    relu: bool
    function: tuple | None = None  # an operator after it, with its attributes and tensors

    def kernel(self, exact):
        """As stored: an array, or a MaskedKernel."""
        kernel = self.conv.kernel(exact=exact)
        if self.density is None:
            return kernel
        kh, kw, c_in, c_out = kernel.shape
        shape = kh, kw, -(-c_in // self.group_in), -(-c_out // self.group_out)
        mask = np.random.default_rng([self.conv.seed, *b"mask"]).random(shape) < self.density
        mask[..., : -(-self.empty_outputs // self.group_out)] = False
        if self.density < 1.0 and mask.all():  # some kernels are candidates only where a weight is missing
            mask.flat[0] = False
        return MaskedKernel.from_dense(kernel, mask, self.group_in, self.group_out)

    def problem(self, exact, winograd=False):
        """The model; `winograd`: its kernel computes by that transform, which rounds differently."""
        conv = self.conv
        kernel, x, bias = self.kernel(exact), conv.x(exact=exact), conv.bias(exact=exact) if self.bias else None
        spec = conv_spec(kernel, x.shape[1:], bias, self.residual, self.relu, self.function, **conv.options)
        inputs = {"x": x}
        if self.residual:
            inputs["r"] = numbers(conv.seed, "r", (conv.n, *conv.output_hw, conv.c_out), exact=exact)
        if exact:
            return Problem(spec, inputs)
        if self.function:
            names = ["node c"] if winograd else []
            return Problem(spec, inputs, evaluate_with_bounds(spec, inputs, winograd=names)["y"].bound)
        if winograd:
            return Problem(
                spec, inputs, winograd_bound(x, _dense(kernel), bias, inputs.get("r"), conv.padding, conv.groups)
            )
        dense = _dense(kernel)
        absolute = [None if a is None else np.abs(a) for a in (x, dense, bias)]
        magnitude = oracle.conv2d(*absolute, **conv.options) + np.abs(inputs.get("r", 0))
        return Problem(spec, inputs, sum_bound(magnitude, int(np.prod(dense.shape[:3])) + 2, np.float32))


def _dense(kernel):
    return kernel.dense() if isinstance(kernel, MaskedKernel) else kernel


@cache
def offers(entry, c_in, c_out, groups=1, stride=(1, 1)):
    """Whether the selection has this kernel among its candidates for such a layer."""
    size, shape, made, pads = (1, 1), (1, 1), (1, 1), {}
    if entry.kernel == Kernel.CONV_WHOLE:
        size, made, pads = (3, 3), (entry.tile.rows, entry.tile.pixels[0]), {"pad_top": 1, "pad_left": 1}
        shape = tuple(n * s for n, s in zip(made, stride, strict=True))
    if entry.kernel == Kernel.CONV_WINOGRAD:
        size, shape, made, pads = (3, 3), (2, 2), (2, 2), {"pad_top": 1, "pad_left": 1}
    if entry.kernel == Kernel.CONV_SCATTERED:
        made = entry.tile.rows, 1
        shape = entry.tile.rows * stride[0], 1
    kernel, window = np.ones((*size, c_in // groups, c_out), np.float32), Window(size, stride, **pads)
    ends = ("probe",), "x", "y", (*shape, c_in), (*made, c_out)
    mask = kernel > 0 if needs_mask(entry) else None
    layer = Layer("conv2d", *ends, window, kernel=kernel, mask=mask, groups=groups)
    choice = select.choose(layer, LAYOUTS[entry.layouts[0]])
    return entry in [candidate.entry for candidate in choice.candidates]


def needs_mask(entry):
    """Whether this kernel is a candidate only where weights are missing."""
    return entry.kernel == Kernel.CONV_PIXELS


@cache
def needs_each_column(entry):
    """Whether this kernel runs only layers with a stride of one column."""
    return entry.kernel != Kernel.DEPTHWISE and not offers(entry, 1, BLOCK, stride=(1, 2))


@cache
def output_channels(entry):
    """Numbers of output channels that this kernel can make, and those of them at the edges of its tile."""
    some = range(2, MAX_CHANNELS + 1)
    fitting = [c for c in some if offers(entry, *(c, c, c) if entry.kernel == Kernel.DEPTHWISE else (1, c))]
    tile = select.tile_channels(entry)
    edges = [c for c in fitting if c % tile in (0, 1, tile - 1)] or fitting
    return fitting, edges


@st.composite
def functions(draw, c, exact):
    """An operator that a convolution can end in, with its attributes and tensors; None: it ends in none."""
    op = draw(st.sampled_from([None, *(op for op in ENDS if op not in INEXACT or not exact)]))
    if op is None:
        return None
    _, *rest = MAKERS[op](draw, np.random.default_rng(draw(seeds)), "x", {"x": (1, 1, c)}, c, exact)
    return op, *rest


@st.composite
def layer_cases(draw, entry, layout, exact):
    """Layers that the entry's tile can run, of every kind."""
    conv = draw(strategies.conv_cases())
    fitting, edges = output_channels(entry)
    if entry.kernel == Kernel.DEPTHWISE:
        groups = c_in = c_out = draw(st.one_of(st.sampled_from(fitting), st.sampled_from(edges)))
    else:
        groups = draw(st.sampled_from([1, 1, 2, 3]))
        some = [[c for c in numbers if c % groups == 0] for numbers in (fitting, edges)]
        c_out = draw(st.one_of(*(st.sampled_from(numbers) for numbers in some if numbers)))
        c_in = groups * draw(channels(12 if COMPILED else 4) if groups > 1 else channels())
    extra = draw(st.sampled_from([0, 0, *(p + d for p in entry.tile.pixels for d in (-1, 0, 1))])) if COMPILED else 0
    size_hw = conv.size_hw[0], conv.size_hw[1] + extra
    return LayerCase(
        conv=fit(entry, replace(conv, n=draw(batches(layout)), groups=groups, c_in=c_in, c_out=c_out, size_hw=size_hw)),
        density=draw(SOME if needs_mask(entry) else st.one_of(st.none(), strategies.densities)),
        group_in=draw(st.integers(1, c_in // groups + 1)),
        group_out=draw(st.sampled_from([1, 3, 8, c_out])),
        empty_outputs=draw(st.sampled_from([0, 0, 1, select.tile_channels(entry)])),
        bias=draw(st.booleans()),
        residual=draw(st.booleans()),
        relu=draw(st.booleans()),
        function=draw(functions(c_out, exact)),
    )


def fit(entry, conv):
    """The nearest layer that the entry's kernel runs; of whole lines, one band or two."""
    if entry.kernel == Kernel.CONV_WINOGRAD:
        # Images of one pixel more: an output of one pixel alone is not the transform's.
        h, w, groups = conv.size_hw[0] + 1, conv.size_hw[1] + 1, conv.groups if conv.groups < conv.c_in else 1
        padding = conv.padding if conv.padding != "valid" else ((1, 1), (1, 1))
        return replace(
            conv, kernel_hw=(3, 3), stride=(1, 1), dilation=(1, 1), groups=groups, size_hw=(h, w), padding=padding
        )
    if entry.kernel == Kernel.CONV_PIXELS and conv.groups == conv.c_in == conv.c_out:
        return replace(conv, groups=1)  # not depthwise
    if entry.kernel == Kernel.CONV_WHOLE:
        stride = tuple(min(step, 2) for step in conv.stride)
        lines = entry.tile.rows * (1 + conv.seed % 2), entry.tile.pixels[0]
        return replace(
            conv,
            kernel_hw=(1 + conv.kernel_hw[0] % 3, 2 + conv.kernel_hw[1] % 2),
            stride=stride,
            padding="same",
            dilation=(1, 1),
            size_hw=tuple(n * s for n, s in zip(lines, stride, strict=True)),
        )
    if entry.kernel == Kernel.CONV_SCATTERED and entry.tile.rows > 2:  # whole tiles
        rows = entry.tile.rows * (1 + conv.seed % 2) * conv.stride[0]
        taps = conv.kernel_hw if conv.kernel_hw != (1, 1) else (3, 3)  # pixels of pointwise layers lie in long rows
        size_hw = rows, conv.size_hw[1]
        return replace(conv, kernel_hw=taps, stride=(conv.stride[0], 1), padding="same", size_hw=size_hw)
    return replace(conv, stride=(conv.stride[0], 1)) if needs_each_column(entry) else conv


# --- Everything else -------------------------------------------------------------------------------------------------


@st.composite
def pool_problems(draw, layout, op, exact):
    case = replace(draw(strategies.pool_cases()), n=draw(batches(layout)), c=draw(channels()))
    x = case.x(exact=exact)
    nodes = [(op, "p", ["x"], case.options)]
    nodes.append(("relu", "y", ["p"]) if draw(st.booleans()) else ("flatten", "y", ["p"]))
    spec = net({"x": x.shape[1:]}, ["y"], *nodes)
    if op == "max_pool" or (exact and case.padding == "valid" and case.size[0] * case.size[1] in (1, 2, 4, 8)):
        return Problem(spec, {"x": x})
    magnitude = oracle.average_pool(np.abs(x), **case.options)
    bound = sum_bound(magnitude, case.size[0] * case.size[1] + 2, np.float32)
    return Problem(spec, {"x": x}, oracle.flatten(bound) if nodes[1][0] == "flatten" else bound)


@st.composite
def images(draw, layout, exact):
    """x [n, h, w, c], or [n, c]."""
    shape = (draw(batches(layout)), draw(st.integers(1, 4)), draw(st.integers(1, 4)), draw(channels()))
    shape = draw(st.sampled_from([shape, (shape[0], shape[3])]))
    return numbers(draw(strategies.seeds), "x", shape, exact=exact)


@st.composite
def sum_problems(draw, layout, exact):
    x, nodes = draw(images(layout, exact)), [("add", "y", ["x", "r"])]
    if draw(st.booleans()):
        nodes = [("add", "s", ["x", "r"]), ("relu", "y", ["s"])]
    r = x[::-1] * np.float32(0.5) if draw(st.booleans()) else x + np.float32(1)
    shapes = {"x": x.shape[1:], "r": x.shape[1:]}
    bound = None if exact else sum_bound(np.abs(x) + np.abs(r), 2, np.float32)
    return Problem(net(shapes, ["y"], *nodes), {"x": x, "r": r}, bound)


@st.composite
def activation_problems(draw, layout, exact):
    x = draw(images(layout, exact))
    return Problem(net({"x": x.shape[1:]}, ["y"], ("relu", "y", ["x"])), {"x": x})


@st.composite
def softmax_problems(draw, layout, exact):
    x = draw(images(layout, exact)) * np.float32(draw(st.sampled_from([0.01, 1, 10, 100])))
    return Problem(net({"x": x.shape[1:]}, ["y"], ("softmax", "y", ["x"])), {"x": x}, softmax_bound(x))


@st.composite
def flatten_problems(draw, layout, exact):
    x = draw(images(layout, exact))
    return Problem(net({"x": x.shape[1:]}, ["y"], ("flatten", "y", ["x"])), {"x": x})


@st.composite
def newer_problems(draw, layout, exact, ops):
    """One node of an operator that the model file has since 1.1, on images of the layout's sizes."""
    x = draw(images(layout, exact))
    op = draw(st.sampled_from([op for op in ops if op not in NOT_ON_RANK[x.ndim - 1]]))
    rng = np.random.default_rng(draw(seeds))
    names, attrs, tensors = MAKERS[op](draw, rng, "x", {"x": x.shape[1:]}, 9, exact)
    spec = net({"x": x.shape[1:]}, ["y"], (op, "y", names, attrs, tensors))
    bound = None if exact else evaluate_with_bounds(spec, {"x": x})["y"].bound
    return Problem(spec, {"x": x}, bound)


MOVES = ["concat", "pad", "upsample", "slice", "rearrange"]
ROWS: dict[Kernel, Callable] = {
    **dict.fromkeys(
        CONVS,
        lambda layout, exact, entry: layer_cases(entry, layout, exact).map(
            lambda case: case.problem(exact, entry.kernel == Kernel.CONV_WINOGRAD)
        ),
    ),
    Kernel.MAX_POOL: lambda layout, exact, _: pool_problems(layout, "max_pool", exact),
    Kernel.AVERAGE_POOL: lambda layout, exact, _: pool_problems(layout, "average_pool", exact),
    Kernel.ADD: lambda layout, exact, _: sum_problems(layout, exact),
    Kernel.ACTIVATE: lambda layout, exact, _: activation_problems(layout, exact),
    Kernel.SOFTMAX: lambda layout, exact, _: softmax_problems(layout, exact),
    Kernel.FLATTEN: lambda layout, exact, _: flatten_problems(layout, exact),
    Kernel.MAP: lambda layout, exact, _: newer_problems(
        layout, exact, [op for op in MAPS if op not in INEXACT or not exact]
    ),
    Kernel.GATHER: lambda layout, exact, _: newer_problems(layout, exact, MOVES),
    Kernel.IMPORT: lambda layout, exact, _: activation_problems(layout, exact),
    Kernel.EXPORT: lambda layout, exact, _: flatten_problems(layout, exact),
}
