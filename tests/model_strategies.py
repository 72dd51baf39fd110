"""Small random valid graphs. Hypothesis draws the structure; numbers come from a seed."""

from math import prod

import numpy as np
from hypothesis import strategies as st

from lhc_ref.modelfile import InputSpec, MaskedKernel, ModelSpec, Node, infer_shapes, output_size

PREFIXES = ("node", "block/1.conv", "größe 2", "a.kernel")
DENSITIES = (0.0, 0.1, 0.3, 0.6, 1.0)


def numbers(rng, shape, exact):
    """f32: whole numbers from -3 to 3 where results shall be exact, else normal ones."""
    values = rng.integers(-3, 4, shape) if exact else rng.normal(size=shape)
    return values.astype(np.float32)


def model_inputs(spec, batch, seed, exact=False):
    """An array for each input of the graph."""
    rng = np.random.default_rng([seed, 1])
    return {entry.name: numbers(rng, (batch, *entry.shape), exact) for entry in spec.inputs}


@st.composite
def models(draw, max_nodes=6, ops=None, max_channels=9, exact=False):
    """Valid graphs: branches, several inputs and outputs, masks of any density, groups that need not divide.

    `ops` limits the operators (and relu, where none of them fits; and a clip before a div); `exact` makes all weights
    small whole numbers.
    """
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    prefix = draw(st.sampled_from(PREFIXES))
    inputs = tuple(InputSpec(f"in{i}", _input_shape(draw, max_channels)) for i in range(draw(st.integers(1, 2))))
    shapes = {entry.name: entry.shape for entry in inputs}
    nodes = []
    wanted = draw(st.integers(1, max_nodes))

    def add(op, names, attrs, tensors):
        node = Node(op, f"{prefix} {len(nodes)}", names, f"value {len(nodes)}", attrs, tensors)
        nodes.append(node)
        sinks = tuple(n.output for n in nodes if n.output not in _read(nodes)) or (node.output,)
        open_inputs = tuple(entry for entry in inputs if entry.name in _read(nodes))
        shapes[node.output] = infer_shapes(ModelSpec(open_inputs, sinks, tuple(nodes)))[node.output]
        return node.output

    while len(nodes) < wanted or set(shapes) - _read(nodes) - {node.output for node in nodes}:
        unread = [entry.name for entry in inputs if entry.name not in _read(nodes)]
        x = draw(st.sampled_from(unread if len(nodes) >= wanted else list(shapes)))
        fitting = [op for op in MAKERS if (ops is None or op in ops) and op not in NOT_ON_RANK[len(shapes[x])]]
        if any(node.op == "mul" for node in nodes):  # products of products soon leave float32's range
            fitting = [op for op in fitting if op != "mul"]
        op = draw(st.sampled_from(fitting + ["conv2d"] * (3 * ("conv2d" in fitting)) or ["relu"]))
        names, attrs, tensors = MAKERS[op](draw, rng, x, shapes, max_channels, exact)
        if op == "div":  # by numbers that no error within these limits brings to zero
            names = names[0], add("clip", names[1:], {"low": 1.0, "high": 1.5}, {})
        add(op, names, attrs, tensors)
    outputs = tuple(node.output for node in nodes if node.output not in _read(nodes))
    return ModelSpec(inputs, outputs, tuple(nodes), *_extras(draw, inputs, shapes[outputs[0]][-1]))


def _read(nodes):
    return {name for node in nodes for name in node.inputs}


def _input_shape(draw, max_channels):
    channels = draw(st.integers(1, max_channels))
    if draw(st.integers(0, 4)) == 0:
        return (channels,)
    return draw(st.integers(1, 9)), draw(st.integers(1, 9)), channels


def _extras(draw, inputs, count):
    """preprocessing, classes, metadata."""
    channels = inputs[0].shape[-1]
    steps = {"subtract": (0.1,) * channels, "divide": (255.0,) * channels}
    preprocessing = steps if len(inputs) == 1 and draw(st.booleans()) else None
    classes = tuple(f"class é{i}" for i in range(count)) if draw(st.booleans()) else ()
    return preprocessing, classes, draw(st.sampled_from([{}, {"made by": "a test", "ü": ""}]))


def _spans(draw, low, high):
    return draw(st.integers(low, high)), draw(st.integers(low, high))


def _padding(draw, size_hw, window, stride, dilation, most):
    """A padding that leaves room for the window; `most` limits explicit pads on each axis."""
    explicit = tuple((draw(st.integers(0, m)), draw(st.integers(0, m))) for m in most)
    padding = draw(st.sampled_from(["same", "valid", explicit]))
    return padding if min(output_size(padding, size_hw, window, stride, dilation)) >= 1 else "same"


def _bias(draw, rng, channels, exact):
    return {"bias": numbers(rng, (channels,), exact)} if draw(st.booleans()) else {}


def _conv2d(draw, rng, x, shapes, max_channels, exact):
    h, w, c_in = shapes[x]
    groups = draw(st.sampled_from([g for g in (1, 1, 2, 3, c_in) if c_in % g == 0]))
    window, stride, dilation = _spans(draw, 1, 4), _spans(draw, 1, 3), _spans(draw, 1, 2)
    padding = _padding(draw, (h, w), window, stride, dilation, (3, 3))
    shape = (*window, c_in // groups, groups * draw(st.integers(1, max(1, max_channels // groups))))
    kernel = numbers(rng, shape, exact) / (1 if exact else np.float32(np.sqrt(prod(shape[:3]))))
    if draw(st.booleans()):
        group_in, group_out = draw(st.integers(1, shape[2] + 1)), draw(st.integers(1, shape[3] + 1))
        patterns = (*window, -(-shape[2] // group_in), -(-shape[3] // group_out))
        mask = rng.random(patterns) < draw(st.sampled_from(DENSITIES))
        kernel = MaskedKernel.from_dense(kernel, mask, group_in, group_out)
    attrs = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    return (x,), attrs, {"kernel": kernel, **_bias(draw, rng, shape[3], exact)}


def _dense(draw, rng, x, shapes, max_channels, exact):
    shape = shapes[x][0], draw(st.integers(1, max_channels))
    return (x,), {}, {"kernel": numbers(rng, shape, exact), **_bias(draw, rng, shape[1], exact)}


def _pool(draw, rng, x, shapes, max_channels, exact):
    h, w, _ = shapes[x]
    size, stride = _spans(draw, 1, 3), _spans(draw, 1, 3)
    padding = _padding(draw, (h, w), size, stride, (1, 1), (size[0] - 1, size[1] - 1))
    return (x,), {"size": size, "stride": stride, "padding": padding}, {}


def _add(draw, rng, x, shapes, max_channels, exact):
    return (x, draw(st.sampled_from([name for name in shapes if shapes[name] == shapes[x]]))), {}, {}


def _plain(draw, rng, x, shapes, max_channels, exact):
    return (x,), {}, {}


def _second(draw, x, shapes):
    """A value of x's shape, or one pixel for all of x's."""
    pixel = (1, 1, shapes[x][-1]) if len(shapes[x]) == 3 else None
    return draw(st.sampled_from([name for name in shapes if shapes[name] in (shapes[x], pixel)]))


def _two(draw, rng, x, shapes, max_channels, exact):
    return (x, _second(draw, x, shapes)), {}, {}


def _concat(draw, rng, x, shapes, max_channels, exact):
    fitting = [name for name in shapes if shapes[name][:-1] == shapes[x][:-1] and len(shapes[name]) == len(shapes[x])]
    return (x, *draw(st.lists(st.sampled_from(fitting), min_size=1, max_size=3))), {}, {}


def _vectors(*roles):
    def make(draw, rng, x, shapes, max_channels, exact):
        return (x,), {}, {role: numbers(rng, shapes[x][-1:], exact) for role in roles}

    return make


def _numbers(*names):
    def make(draw, rng, x, shapes, max_channels, exact):
        values = sorted(float(value) for value in numbers(rng, (len(names),), exact))
        return (x,), dict(zip(names, values, strict=True)), {}

    return make


def _pad(draw, rng, x, shapes, max_channels, exact):
    (value,) = numbers(rng, (1,), exact)
    return (x,), {"padding": (_spans(draw, 0, 2), _spans(draw, 0, 2)), "value": float(value)}, {}


def _upsample(draw, rng, x, shapes, max_channels, exact):
    return (x,), {"factor": _spans(draw, 1, 2)}, {}


def _slice(draw, rng, x, shapes, max_channels, exact):
    start = tuple(draw(st.integers(0, size - 1)) for size in shapes[x])
    stop = tuple(draw(st.integers(low + 1, size)) for low, size in zip(start, shapes[x], strict=True))
    return (x,), {"start": start, "stop": stop, "step": tuple(draw(st.integers(1, 3)) for _ in start)}, {}


def _rearrange(draw, rng, x, shapes, max_channels, exact):
    shape = shapes[x]
    order = tuple(draw(st.permutations(range(len(shape)))))
    made = tuple(shape[axis] for axis in order)
    return (x,), {"split": shape, "order": order, "shape": draw(st.sampled_from([made, (prod(shape),)]))}, {}


MAKERS = {
    "conv2d": _conv2d,
    "dense": _dense,
    "relu": _plain,
    "add": _add,
    "max_pool": _pool,
    "average_pool": _pool,
    "global_average_pool": _plain,
    "flatten": _plain,
    "softmax": _plain,
    "clip": _numbers("low", "high"),
    "leaky_relu": _numbers("slope"),
    "prelu": _vectors("slope"),
    "sigmoid": _plain,
    "hard_sigmoid": _numbers("alpha", "beta"),
    "hard_swish": _plain,
    "tanh": _plain,
    "scale": _vectors("scale", "bias"),
    "mul": _two,
    "sub": _two,
    "div": _two,
    "concat": _concat,
    "pad": _pad,
    "upsample": _upsample,
    "slice": _slice,
    "rearrange": _rearrange,
}
NOT_ON_RANK = {
    1: {"conv2d", "max_pool", "average_pool", "global_average_pool", "pad", "upsample"},
    3: {"dense"},
}
ROUNDING = {"softmax", "average_pool", "global_average_pool", "sigmoid", "tanh", "hard_swish", "div"}
"""Operators that make other numbers of whole ones."""
