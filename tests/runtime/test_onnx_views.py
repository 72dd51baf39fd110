"""ONNX values seen otherwise than they lie: any rank, any order of axes, and graphs whose first axis is no batch."""

import numpy as np
import pytest

from lhc_ref.errors import InputError, ModelFileError
from lhc_ref.modelfile import MaskedKernel
from runtime.onnx.values import make, regroup
from tests.tolerances import assert_exact, assert_within

onnx = pytest.importorskip("onnx")
from tests.runtime.onnx_nets import (  # noqa: E402  # they import onnx
    assert_computes,
    batch_of,
    graph,
    images,
    load,
    node,
    normal,
    reference,
    value_and_bound,
    whole,
)


def ints(*values):
    return np.array(values, np.int64)


def up(weights, size=(6, 4, 5), bias=True, **attrs):
    """ConvTranspose; weights (c_in, c_out / groups, ...)."""
    constants = {"w": whole(1, *weights)} | ({"b": whole(2, weights[1] * attrs.get("group", 1))} if bias else {})
    return images(node("ConvTranspose", "x w b" if bias else "x w", "y", **attrs), size=size, **constants)


def mixed(*nodes, size=(6, 7, 5), **constants):
    """x -> relu r -> nodes -> y, so that a value beside x is at hand."""
    return images(node("Relu", "x", "r"), *nodes, size=size, **constants)


SHUFFLE = [
    node("Reshape", "x a", "p"),
    node("Transpose", "p", "t", perm=[0, 2, 1, 3, 4]),
    node("Reshape", "t b", "s"),
]

CASES = {
    "transposed convolution": up((6, 4, 3, 3)),
    "transposed, twice the size": up((6, 4, 2, 2), strides=[2, 2]),
    "transposed, as decoders have it": up((6, 4, 3, 3), strides=[2, 2], pads=[1, 1, 1, 1], output_padding=[1, 1]),
    "transposed, as generators have it": up((6, 4, 4, 4), strides=[2, 2], pads=[1, 1, 1, 1]),
    "transposed, strides and pads that differ": up((6, 4, 3, 2), strides=[3, 2], pads=[0, 1, 2, 0], bias=False),
    "transposed, gaps between pixels": up((6, 4, 1, 1), strides=[3, 2]),
    "transposed, pads beyond the window": up((6, 4, 2, 2), strides=[1, 1], pads=[2, 2, 2, 2]),
    "transposed rows": up((6, 4, 3), size=(6, 7), strides=[2], pads=[1, 1]),
    "transposed, norm and relu": images(
        node("ConvTranspose", "x w", "c", strides=[2, 2]),
        node("Mul", "c s", "m"),
        node("Relu", "m", "r"),
        node("Conv", "r v", "y"),
        w=whole(1, 6, 4, 2, 2),
        s=whole(2, 4, 1, 1),
        v=whole(3, 2, 4, 3, 3),
    ),
    "pixel shuffle": images(node("DepthToSpace", "x", "y", blocksize=2, mode="CRD"), size=(12, 3, 5)),
    "depth to space": images(node("DepthToSpace", "x", "y", blocksize=2), size=(12, 3, 5)),
    "space to depth": images(node("SpaceToDepth", "x", "y", blocksize=2), size=(3, 4, 6)),
    "channel shuffle": images(*SHUFFLE, node("Relu", "s", "y"), a=ints(0, 2, 3, 7, 5), b=ints(0, 6, 7, 5)),
    "channel shuffle, split": images(
        *SHUFFLE, node("Split", "s", "u v", axis=1), node("Sub", "v u", "y"), a=ints(0, 2, 3, 7, 5), b=ints(0, 6, 7, 5)
    ),
    "reshape that moves": images(
        node("Transpose", "x", "t", perm=[0, 2, 1, 3]), node("Reshape", "t a", "y"), a=ints(0, 10, -1)
    ),
    "boxes": images(
        node("Reshape", "x a", "r"),
        node("Transpose", "r", "t", perm=[0, 2, 1]),
        node("Slice", "t zero four two", "u"),
        node("Slice", "t four six two", "v"),
        node("Concat", "v u", "y", axis=2),
        a=ints(0, 6, -1),
        zero=ints(0),
        two=ints(2),
        four=ints(4),
        six=ints(6),
    ),
    "gather one": images(node("Gather", "x i", "y", axis=2), i=np.array(-2)),
    "gather some": images(node("Gather", "x i", "y", axis=1), i=ints(5, 0, 1, 1)),
    "gather a table": images(node("Gather", "x i", "y", axis=3), i=np.array([[4, 0], [1, 1]])),
    "slice backwards": images(
        node("Slice", "x a b c d", "y"), a=ints(-1, 4), b=ints(-99, 0), c=ints(1, 3), d=ints(-1, -2)
    ),
    "expand": images(node("ReduceMax", "x axes", "m", keepdims=1), node("Expand", "m a", "y"), opset=18,
                     axes=ints(1, 3), a=ints(1, 4, 7, 3)),
    "pad in other ways": images(
        node("Pad", "x p", "a", mode="reflect"),
        node("Pad", "a p", "b", mode="edge"),
        node("Pad", "b p", "y", mode="wrap"),
        opset=19,
        p=ints(0, 0, 2, 1, 0, 0, 0, 3),
    ),
    "pad of channels": images(node("Pad", "x p v", "y"), p=ints(0, 1, 0, 0, 0, 2, 0, 0), v=np.float32(3)),
    "pads are summed up": images(
        node("Pad", "x p", "a"),
        node("Pad", "a p", "b"),
        node("Conv", "b w", "y", pads=[1, 0, 0, 1]),
        p=ints(0, 0, 1, 2, 0, 0, 0, 1),
        w=whole(1, 4, 6, 3, 3),
    ),
    "max pool, dilated": images(
        node("MaxPool", "x", "y", kernel_shape=[2, 3], dilations=[3, 2], strides=[2, 1], pads=[1, 2, 1, 0]),
        size=(6, 8, 9),
    ),
    "max pool of rows, dilated": images(
        node("MaxPool", "x", "y", kernel_shape=[3], dilations=[2], strides=[2]), size=(6, 9)
    ),
    "average pool, all at once": images(
        node("AveragePool", "x", "y", kernel_shape=[2, 2], strides=[2, 2], pads=[1, 0, 0, 0], ceil_mode=1,
             count_include_pad=1),
        size=(6, 8, 7),
    ),
    "average pool of zeros around": images(
        node("Pad", "x p", "a"), node("AveragePool", "a", "y", kernel_shape=[2, 4]), p=ints(0, 0, 1, 0, 0, 0, 0, 2)
    ),
    "mean of channels": images(node("ReduceMean", "x", "y", axes=[1]), size=(4, 3, 5)),
    "mean of a transposed image": images(
        node("Transpose", "x", "t", perm=[0, 2, 3, 1]),
        node("ReduceMean", "t", "y", axes=[1, 2], keepdims=0),
        size=(6, 4, 2),
    ),
    "sum of rows and columns": images(node("ReduceSum", "x axes", "y", keepdims=0), size=(6, 4, 2), axes=ints(2, 3)),
    "min of channels": images(node("ReduceMin", "x", "y", axes=[1])),
    "maximum of one number": images(node("ReduceMax", "x", "y", axes=[1], keepdims=0), size=(1,)),
    "minima of an axis of size 1": images(
        node("Reshape", "x s", "r"), node("ReduceMin", "r", "y", axes=[1], keepdims=0), size=(5, 5), s=ints(-1, 1, 25)
    ),
    "max of everything": images(node("ReduceMax", "x axes", "y", keepdims=0), opset=18, axes=ints(1, 2, 3)),
    "gates of pixels": mixed(
        node("Slice", "r zero one one", "m"),
        node("Mul", "m x", "a"),
        node("Sub", "m a", "b"),
        node("Add", "b m", "y"),
        zero=ints(0),
        one=ints(1),
    ),
    "gates of rows and columns": mixed(
        node("GlobalMaxPool", "x", "p"),
        node("Slice", "r z one two", "m"),
        node("Slice", "r z one three", "k"),
        node("Mul", "m k", "a"),
        node("Sub", "p a", "y"),
        z=ints(0), one=ints(1), two=ints(2), three=ints(3),
    ),
    "a constant for each pixel": images(
        node("Mul", "x a", "m"), node("Add", "b m", "y"), a=whole(1, 7, 5), b=whole(2, 6, 7, 5)
    ),
    "a constant for each column": images(node("Sub", "a x", "y"), a=whole(1, 5)),
    "slopes for each number": images(node("PRelu", "x s", "y"), s=whole(1, 6, 7, 5)),
    "constants that are larger": images(
        node("GlobalMaxPool", "x", "p"), node("Add", "p a", "y"), a=whole(1, 6, 2, 3)
    ),
    "limits by max and min": images(
        node("Max", "x low", "a"), node("Min", "high a", "y"), low=np.float32(-1), high=np.float32(2)
    ),
    "pow, neg, sum": mixed(
        node("Pow", "x two", "p"), node("Neg", "r", "n"), node("Sum", "p n x", "s"), node("Pow", "s one", "y"),
        two=np.float32(2), one=np.array(1),
    ),
    "matrix first": images(node("MatMul", "w x", "y"), w=whole(1, 4, 7)),
    "matrix by columns": images(node("MatMul", "x w", "y"), w=whole(1, 5, 3)),
    "matrices for channels": images(node("MatMul", "x w", "y"), w=whole(1, 6, 5, 3)),
    "a vector": images(node("MatMul", "x w", "y"), w=whole(1, 5)),
    "many together": mixed(node("Concat", " ".join(["x", "r"] * 40), "y", axis=1), size=(2, 3, 2)),
    "five axes come in": graph(
        [node("Transpose", "x", "t", perm=[0, 3, 1, 4, 2]), node("Relu", "t", "y")], {"x": ["N", 2, 3, 4, 2]}, "y"
    ),
    "resize, uneven": images(node("Resize", "x _ _ s", "y", mode="nearest"), s=ints(3, 6, 10, 3)),
    "resize, one more": images(
        node("Resize", "x _ _ s", "y", coordinate_transformation_mode="asymmetric", nearest_mode="floor"),
        s=ints(3, 6, 13, 9),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_views_are_exact(name, tmp_path):
    assert_computes(load(tmp_path, CASES[name]), CASES[name])


RESIZES = {
    "linear": {},
    "linear, corners": {"coordinate_transformation_mode": "align_corners"},
    "linear, pytorch": {"coordinate_transformation_mode": "pytorch_half_pixel"},
    "linear, antialias": {"antialias": 1},
    "cubic": {"mode": "cubic", "cubic_coeff_a": -0.5},
    "cubic, outside left out": {"mode": "cubic", "exclude_outside": 1},
}


@pytest.mark.parametrize("sizes", [(13, 10), (3, 5), (7, 1)])
@pytest.mark.parametrize("name", RESIZES)
def test_interpolation_is_within_its_bounds(name, sizes, tmp_path):
    """Against the model's own bound; and its value against the definition in float64, of which each weight of the two
    matrices is rounded once. That definition computes the weights of `cubic`, four a number, in float32: each by at
    most 10 roundings of numbers below 12.
    """
    attrs = {"mode": "linear", **RESIZES[name]}
    model = images(node("Resize", "x _ _ s", "y", **attrs), opset=18, s=ints(3, 6, *sizes))
    loaded, x = load(tmp_path, model), batch_of(model, make=normal)
    value, bound = value_and_bound(loaded, x["x"])
    assert_within(loaded.run(x), value, bound, np.float32)
    kernels = [made.tensors["kernel"] for made in loaded.spec.nodes if made.op == "conv2d"]
    dense = [kernel.dense() if isinstance(kernel, MaskedKernel) else kernel for kernel in kernels]
    largest = np.abs(x["x"]).max() * np.prod([np.abs(kernel).sum(2).max() for kernel in dense])
    want = reference(model, {"x": x["x"].astype(np.float64)})["y"]
    assert want.dtype == np.float64
    roundings = 2.01 + (2 * 4 * 10 * 12 if attrs["mode"] == "cubic" else 0)
    assert_within(value, want, np.full(want.shape, roundings * 2**-24 * largest), np.float64)


@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
def test_corners_are_aligned_with_those_of_the_pixels_that_a_scale_makes(mode, tmp_path):
    """Of 7 pixels 0.7 makes 4. PyTorch and onnxruntime count these, ONNX's own reference 4.9."""
    attrs = {"mode": mode, "coordinate_transformation_mode": "align_corners"}
    model = images(node("Resize", "x _ s", "y", **attrs), size=(1, 1, 7), s=np.array([1, 1, 1, 0.7], np.float32))
    row = np.arange(7, dtype=np.float32).reshape(1, 1, 1, 7)
    assert_exact(load(tmp_path, model).run(row), row[..., ::2])


GROUPED = {
    "groups and dilation": up((6, 2, 3, 3), group=3, strides=[2, 1], dilations=[1, 2], pads=[1, 0, 0, 1]),
    "depthwise": up((6, 1, 4, 4), group=6, strides=[2, 2], pads=[1, 1, 1, 1]),
}


@pytest.mark.parametrize("name", GROUPED)
def test_grouped_transposed_convolutions(name, tmp_path):
    """The reference of the ONNX package mixes groups up: it is given them one by one."""
    model = GROUPED[name]
    (made,) = model.graph.node
    attrs = {a.name: onnx.helper.get_attribute_value(a) for a in made.attribute}
    groups, tensors = attrs.pop("group"), {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
    x, parts = batch_of(model)["x"], []
    parted = (np.split(a, groups, axis) for a, axis in ((x, 1), (tensors["w"], 0), (tensors["b"], 0)))
    for part, w, b in zip(*parted, strict=True):
        alone = images(node("ConvTranspose", "x w b", "y", **attrs), size=part.shape[1:], w=w, b=b)
        parts.append(reference(alone, {"x": part})["y"])
    assert_exact(load(tmp_path, model).run(x), np.concatenate(parts, 1))


def test_pads_below_zero_crop(tmp_path):
    model = images(node("Pad", "x p", "y"), p=ints(0, 0, -1, 2, 0, 0, -2, -1))
    x = batch_of(model)["x"]
    assert_exact(load(tmp_path, model).run(x), np.pad(x[:, :, 1:-2, :-1], ((0, 0),) * 3 + ((2, 0),)))


# --- No batch ---------------------------------------------------------------------------------------------------------

WHOLE = {
    "a list": graph([node("Relu", "x", "y")], {"x": [5]}, "y"),
    "a number": graph([node("Mul", "x two", "y")], {"x": []}, "y", {"two": np.float32(2)}),
    "along the first axis": graph([node("Split", "x", "a b", axis=0), node("Sub", "a b", "y")], {"x": [4, 3]}, "y"),
    "the batch last": graph([node("Transpose", "x", "y")], {"x": [4, 3, 2]}, "y"),
    "one image without its batch": graph(
        [node("Conv", "x w", "c"), node("Squeeze", "c axes", "y")],
        {"x": [1, 2, 5, 4]},
        "y",
        {"w": whole(1, 3, 2, 3, 3), "axes": ints(0)},
    ),
    "a bias for each row": graph(
        [node("Gemm", "x w b", "y", transA=1)], {"x": [3, 2]}, "y", {"w": whole(1, 3, 4), "b": whole(2, 2, 4)}
    ),
    "down to a number": graph([node("MatMul", "x w", "y")], {"x": [3]}, "y", {"w": whole(1, 3)}),
}


@pytest.mark.parametrize("name", WHOLE)
def test_graphs_without_a_batch_take_and_give_whole_arrays(name, tmp_path):
    model = WHOLE[name]
    shape = [d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim]
    x = np.asarray(whole(9, *shape), np.float32)
    want, loaded = reference(model, {"x": x})["y"], load(tmp_path, model)
    got = loaded.run(x)
    assert_exact(got, np.asarray(want))
    out = np.full_like(got, np.nan)
    assert loaded.run({"x": x}, out=out) is out
    assert_exact(out, got)


def test_a_whole_array_has_the_sizes_of_the_file(tmp_path):
    loaded = load(tmp_path, WHOLE["along the first axis"])
    with pytest.raises(InputError, match=r"input 'x': expected float32\[4, 3\], got float32\[5, 3\]"):
        loaded.run(whole(1, 5, 3))
    with pytest.raises(InputError, match=r"out 'y': expected float32\[2, 3\], got float32\[3\]"):
        loaded.run(whole(1, 4, 3), out=np.empty(3, np.float32))


def test_a_symbolic_first_axis_stays_a_batch(tmp_path):
    model = graph([node("Split", "x", "a b", axis=0), node("Sub", "a b", "y")], {"x": ["N", 3]}, "y")
    with pytest.raises(ModelFileError, match="the batch axis, where another is needed"):
        load(tmp_path, model)


def test_images_along_a_first_axis_that_is_no_batch(tmp_path):
    nodes = [node("Conv", "x w", "c"), node("ReduceMean", "c", "y", axes=[0])]
    model = graph(nodes, {"x": [2, 2, 5, 4]}, "y", {"w": whole(1, 3, 2, 3, 3)})
    with pytest.raises(ModelFileError, match=r"several images along a first axis|over the batch axis"):
        load(tmp_path, model)


# --- What costs nothing -----------------------------------------------------------------------------------------------


def operators(tmp_path, model):
    return [made.op for made in load(tmp_path, model).spec.nodes]


def test_zeros_of_dense_layers_become_masks(tmp_path):
    weights = np.where(np.random.default_rng(0).random((12, 8)) < 0.5, 1, 0).repeat(5, 0).repeat(4, 1)[:, :30]
    nodes = [node("Flatten", "x", "f"), node("Gemm", "f w b", "g"), node("Relu", "g", "r"), node("Gemm", "r v", "y")]
    second = np.where(np.arange(30)[:, None] % 3 == np.arange(4) % 3, whole(2, 30, 4) + 4, 0)
    constants = {"w": weights.astype(np.float32), "b": whole(1, 30), "v": second.astype(np.float32)}
    model = images(*nodes, size=(5, 4, 3), **constants)
    loaded = load(tmp_path, model)
    assert_computes(loaded, model)
    first, relu, then, last = loaded.spec.nodes
    assert [n.op for n in (first, relu, then, last)] == ["conv2d", "relu", "conv2d", "flatten"]
    for layer in (first, then):
        assert isinstance(layer.tensors["kernel"], MaskedKernel)
    assert first.tensors["kernel"].density == (first.tensors["kernel"].dense() != 0).mean() < 0.7


def test_a_transposed_convolution_keeps_its_multiplications(tmp_path):
    """Of four phases each has its own taps: 9 weights for each pair of channels, as before."""
    model = up((6, 4, 3, 3), strides=[2, 2], pads=[1, 1, 1, 1], output_padding=[1, 1], bias=False)
    weights = model.graph.initializer[0]
    weights.CopyFrom(onnx.numpy_helper.from_array(np.ones((6, 4, 3, 3), np.float32), "w"))
    convolution, moved = load(tmp_path, model).spec.nodes
    assert (convolution.op, moved.op) == ("conv2d", "rearrange")
    assert convolution.tensors["kernel"].values.size == 9 * 6 * 4


def test_layouts_of_another_framework_move_nothing(tmp_path):
    """tf2onnx leaves transposes around each convolution; they cancel."""
    nodes = [
        node("Transpose", "x", "a", perm=[0, 3, 1, 2]),
        node("Conv", "a w", "b", pads=[1, 1, 1, 1]),
        node("Transpose", "b", "c", perm=[0, 2, 3, 1]),
        node("Add", "c v", "d"),
        node("Relu", "d", "e"),
        node("Concat", "e e", "f", axis=3),
        node("Slice", "f one six three", "g"),
        node("ReduceMean", "g", "h", axes=[1, 2], keepdims=0),
        node("MatMul", "h m", "y"),
    ]
    constants = {"w": whole(1, 4, 6, 3, 3) + 4, "v": whole(2, 4), "m": whole(3, 5, 3) + 4}
    model = graph(nodes, {"x": ["N", 4, 8, 6]}, "y", constants | {"one": ints(1), "six": ints(6), "three": ints(3)})
    assert_computes(load(tmp_path, model), model)
    assert operators(tmp_path, model) == ["conv2d", "relu", "concat", "slice", "global_average_pool", "dense"]


def test_views_fall_into_parts_only_where_they_must():
    value = make("v", (3, 5, 6), (3, 5, 6), ((-1,), (2,), (0,), (1,)), False)
    assert value.split == (3, 5, 6)
    apart = regroup(value, (7, 2, 3, 3, 5), 7)
    assert (apart.split, apart.axes) == ((3, 5, 2, 3), ((-1,), (2,), (3,), (0,), (1,)))
    assert regroup(apart, (7, 6, 3, 5), 7) == value
    assert regroup(value, (7, 6, 15), 7).axes == ((-1,), (1,), (0,))
    assert regroup(value, (7, 4, 3, 5), 7) is None
    assert regroup(value, (14, 3, 3, 5), 7) is None
