"""ONNX files as models: each operator against the ONNX package's own reference, exactly, on whole numbers."""

import pickle

import numpy as np
import pytest

import runtime
from lhc_ref.errors import InputError, ModelFileError
from lhc_ref.modelfile import MaskedKernel
from runtime import masks
from runtime.onnx import importer
from tests.tolerances import assert_exact, assert_identical, assert_within

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
    save,
    value_and_bound,
    whole,
)

LIMITS = {"one": np.float32(1), "two": np.float32(2)}  # of divisors that round nothing
POWERS = np.array([0.5, 1, 2, 4, 1, 0.25], np.float32)  # scales that round nothing


def conv_case(weights, size=(6, 7, 5), opset=17, bias=True, **attrs):
    constants = {"w": whole(1, *weights)} | ({"b": whole(2, weights[0])} if bias else {})
    return images(node("Conv", "x w b" if bias else "x w", "y", **attrs), size=size, opset=opset, **constants)


def norm(names="x s b m v", output="y", **attrs):
    return node("BatchNormalization", names, output, epsilon=0.0, **attrs)


NORM = {"s": POWERS, "b": whole(3, 6), "m": whole(4, 6), "v": np.array([1, 4, 1, 16, 1, 4], np.float32)}
INTS = {
    name: np.array(value, np.int64)
    for name, value in {
        "flat": [0, -1],
        "keep": [0, 6, -1, 5],
        "axes": [2, 3],
        "two": [2],
        "first": [0],
        "one": [1],
        "minus": [-1],
        "pads": [0, 0, 1, 2, 0, 0, 0, 1],
    }.items()
}


CASES = {
    "conv": conv_case((4, 6, 3, 3), pads=[1, 1, 1, 1]),
    "conv, pads that differ": conv_case((4, 6, 3, 2), pads=[0, 1, 2, 0], strides=[2, 1]),
    "conv, groups and dilation": conv_case((4, 3, 3, 3), group=2, dilations=[2, 1], pads=[2, 1, 2, 1], bias=False),
    "conv, depthwise": conv_case((6, 1, 3, 3), group=6, auto_pad="SAME_UPPER"),
    "conv, auto_pad lower": conv_case((4, 6, 2, 4), auto_pad="SAME_LOWER", strides=[2, 2]),
    "conv, auto_pad valid": conv_case((4, 6, 2, 4), auto_pad="VALID"),
    "conv of rows": conv_case((4, 6, 3), size=(6, 9), pads=[1, 0], strides=[2]),
    "conv of rows, dilated": conv_case((4, 6, 3), size=(6, 9), auto_pad="SAME_UPPER", dilations=[2]),
    "conv, opset 9": conv_case((4, 6, 3, 3), pads=[1, 1, 1, 1], opset=9),
    "conv, batch norm": images(node("Conv", "x w", "c"), norm("c s b m v"), w=whole(1, 6, 6, 3, 3), **NORM),
    "conv, batch norm, read twice": images(
        node("Conv", "x w", "c"), norm("c s b m v", "n"), node("Add", "c n", "y"), w=whole(1, 6, 6, 3, 3), **NORM
    ),
    "batch norm alone": images(norm(), **NORM),
    "batch norm of an input's copy": images(node("Identity", "x", "i"), norm("i s b m v"), **NORM),
    "relu": images(node("Relu", "x", "y")),
    "relu by clip": images(node("Clip", "x low", "y"), low=np.zeros((), np.float32)),
    "relu by clip, opset 9": images(node("Clip", "x", "y", min=0.0), opset=9),
    "max pool": images(node("MaxPool", "x", "y", kernel_shape=[3, 2], strides=[2, 1], pads=[1, 0, 1, 1])),
    "max pool, ceil": images(node("MaxPool", "x", "y", kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1)),
    "max pool of rows": images(node("MaxPool", "x", "y", kernel_shape=[2], strides=[2]), size=(6, 9)),
    "average pool": images(node("AveragePool", "x", "y", kernel_shape=[2, 4], strides=[2, 2])),
    "average pool, padded": images(node("AveragePool", "x", "y", kernel_shape=[2, 2], pads=[1, 1, 0, 0])),
    "average pool, padding counts": images(
        node("AveragePool", "x", "y", kernel_shape=[2, 2], pads=[1, 1, 0, 0], count_include_pad=1)
    ),
    "average pool, dilated": images(node("AveragePool", "x", "y", kernel_shape=[2, 2], dilations=[2, 3]), opset=19),
    "global pools": images(
        node("GlobalAveragePool", "x", "a"), node("GlobalMaxPool", "x", "m"), node("Add", "a m", "y"), size=(6, 4, 2)
    ),
    "mean": images(node("ReduceMean", "x", "y", axes=[2, 3], keepdims=0), size=(6, 4, 2)),
    "mean over rows": images(node("ReduceMean", "x", "y", axes=[-2]), size=(6, 4, 3)),
    "mean, opset 18": images(node("ReduceMean", "x axes", "y"), size=(6, 2, 4), opset=18, axes=INTS["axes"]),
    "add": images(node("Relu", "x", "r"), node("Add", "x r", "y")),
    "add a constant": images(
        node("Conv", "x w", "c"), node("Add", "c b", "y"), w=whole(1, 4, 6, 1, 1), b=whole(2, 4, 1, 1)
    ),
    "add a number": images(node("Add", "b x", "y"), b=np.float32(3)),
    "flatten": images(node("Flatten", "x", "y")),
    "flatten, dense": images(
        node("Flatten", "x", "f"), node("Gemm", "f w b", "y", transB=1), w=whole(1, 4, 210), b=whole(2, 4)
    ),
    "flatten, relu, dense": images(
        node("Flatten", "x", "f"),
        node("Relu", "f", "r"),
        node("MatMul", "r w", "d"),
        node("Add", "d b", "y"),
        w=whole(1, 210, 4),
        b=whole(2, 1, 4),
    ),
    "transpose, flatten, dense": images(
        node("Transpose", "x", "t", perm=[0, 2, 3, 1]),
        node("Reshape", "t flat", "f"),
        node("MatMul", "f w", "y"),
        w=whole(1, 210, 4),
        flat=INTS["flat"],
    ),
    "transpose": images(node("Transpose", "x", "y", perm=[0, 3, 1, 2])),
    "dense by channel": images(
        node("Transpose", "x", "t", perm=[0, 2, 3, 1]), node("MatMul", "t w", "y"), w=whole(1, 6, 4)
    ),
    "gemm": graph(
        [node("Gemm", "x w b", "y", alpha=2.0, beta=0.5)], {"x": ["N", 6]}, "y", {"w": whole(1, 6, 4), "b": whole(2, 4)}
    ),
    "gemm, one bias": graph([node("Gemm", "x w b", "y")], {"x": [3, 6]}, "y", {"w": whole(1, 6, 4), "b": whole(2, 1)}),
    "squeeze": images(
        node("GlobalMaxPool", "x", "g"),
        node("Squeeze", "g axes", "s"),
        node("MatMul", "s w", "y"),
        axes=INTS["axes"],
        w=whole(1, 6, 4),
    ),
    "rows as images": images(
        node("Unsqueeze", "x two", "u"),
        node("Conv", "u w", "c"),
        node("Squeeze", "c two", "y"),
        size=(6, 9),
        two=INTS["two"],
        w=whole(1, 4, 6, 1, 3),
    ),
    "reshape to itself": images(node("Reshape", "x keep", "y"), keep=INTS["keep"]),
    "a shape computed": images(
        node("Shape", "x", "s"),
        node("Gather", "s first", "n"),
        node("Concat", "n minus", "t", axis=0),
        node("Reshape", "x t", "f"),
        node("Gemm", "f w", "y"),
        first=INTS["first"],
        minus=INTS["minus"],
        w=whole(1, 210, 4),
    ),
    "pad, conv": images(
        node("Pad", "x pads", "p"),
        node("Conv", "p w", "y", pads=[1, 0, 0, 0]),
        pads=INTS["pads"],
        w=whole(1, 4, 6, 3, 3),
    ),
    "dropout": images(node("Relu", "x", "r"), node("Dropout", "r", "y")),
    "the input itself": images(node("Identity", "x", "y")),
    "clip": images(node("Clip", "x low high", "y"), low=np.float32(-1), high=np.float32(2)),
    "clip, opset 9, then relu": images(node("Clip", "x", "c", max=2.0), node("Relu", "c", "y"), opset=9),
    "clip, limits crossed": images(node("Clip", "x low high", "y"), low=np.float32(3), high=np.float32(2)),
    "clip of a clip": images(
        node("Clip", "x a b", "c"), node("Clip", "c b d", "y"), a=np.float32(-1), b=np.float32(1), d=np.float32(2)
    ),
    "leaky relu": images(node("LeakyRelu", "x", "y", alpha=0.25)),
    "prelu": images(node("PRelu", "x s", "y"), s=POWERS[:, None, None]),
    "prelu, one slope": images(node("PRelu", "x s", "y"), s=POWERS[:1]),
    "hard sigmoid": images(node("HardSigmoid", "x", "y", alpha=0.25, beta=0.5)),
    "mul": images(node("Relu", "x", "r"), node("Mul", "x r", "y")),
    "mul, sub, div by constants": images(
        node("Mul", "x s", "a"),
        node("Sub", "t a", "b"),
        node("Div", "b s", "c"),
        node("Sub", "c t", "y"),
        s=POWERS[:, None, None],
        t=whole(1, 6, 1, 1),
    ),
    "sub": images(node("Relu", "x", "r"), node("Sub", "r x", "y")),
    "div": images(node("Clip", "x one two", "c"), node("Div", "x c", "y"), **LIMITS),
    "div by a pixel": images(
        node("GlobalMaxPool", "x", "p"), node("Clip", "p one two", "c"), node("Div", "x c", "y"), **LIMITS
    ),
    "div of a pixel": images(
        node("GlobalMaxPool", "x", "p"), node("Clip", "x one two", "c"), node("Div", "p c", "y"), **LIMITS
    ),
    "div of a row": images(
        node("ReduceMax", "x", "r", axes=[2]), node("Clip", "x one two", "c"), node("Div", "r c", "y"), **LIMITS
    ),
    "div of features": images(
        node("Flatten", "x", "f"), node("Clip", "f one two", "c"), node("Div", "f c", "y"), **LIMITS
    ),
    "div of constants by data": images(
        node("Clip", "x one two", "c"),
        node("Div", "s c", "a"),
        node("Div", "minus c", "b"),
        node("Add", "a b", "y"),
        s=whole(1, 6, 1, 1),
        minus=np.float32(-3),
        **LIMITS,
    ),
    "div of a constant image by data": images(
        node("Clip", "x one two", "c"), node("Div", "s c", "y"), s=whole(1, 1, 6, 7, 5), **LIMITS
    ),
    "reciprocal": images(node("Clip", "x one two", "c"), node("Reciprocal", "c", "y"), **LIMITS),
    "one pixel for all": images(
        node("GlobalMaxPool", "x", "p"), node("Mul", "p x", "m"), node("Add", "p m", "a"), node("Sub", "a p", "y")
    ),
    "features as a pixel": images(
        node("GlobalMaxPool", "x", "p"),
        node("Flatten", "p", "f"),
        node("Gemm", "f w", "g"),
        node("Unsqueeze", "g axes", "u"),
        node("Mul", "x u", "y"),
        w=whole(1, 6, 6),
        axes=INTS["axes"],
    ),
    "scale of features": images(
        node("Flatten", "x", "f"),
        node("Relu", "f", "r"),
        node("Mul", "r s", "m"),
        node("MatMul", "m w", "y"),
        s=whole(1, 210),
        w=whole(2, 210, 3),
    ),
    "concat of channels": images(
        node("Relu", "x", "r"), node("Concat", "x r x", "c", axis=1), node("Conv", "c w", "y"), w=whole(1, 4, 18, 1, 1)
    ),
    "concat of rows": images(node("Relu", "x", "r"), node("Concat", "x r", "y", axis=2)),
    "concat of features": images(
        node("Flatten", "x", "f"), node("Relu", "f", "r"), node("Concat", "f r", "y", axis=-1)
    ),
    "concat of rows of a list": images(node("Relu", "x", "r"), node("Concat", "x r", "y", axis=2), size=(6, 9)),
    "split": images(node("Split", "x", "a b c", axis=1), node("Sub", "c a", "s"), node("Add", "s b", "y")),
    "split, sizes given": images(
        node("Split", "x s", "a b", axis=2), node("Concat", "b a", "y", axis=2), s=np.array([2, 5])
    ),
    "slice": images(
        node("Slice", "x a b c d", "y"),
        a=np.array([1, -4]),
        b=np.array([6, 99]),
        c=np.array([1, 3]),
        d=np.array([2, 1]),
    ),
    "slice, opset 9": images(node("Slice", "x", "y", starts=[1], ends=[-1], axes=[2]), opset=9),
    "slice of features": images(
        node("Flatten", "x", "f"), node("Slice", "f a b c", "y"), a=np.array([100]), b=np.array([140]), c=np.array([1])
    ),
    "resize": images(node("Resize", "x _ s", "y", mode="nearest"), s=np.array([1, 1, 2, 3], np.float32)),
    "resize, asymmetric": images(
        node("Resize", "x _ s", "y", mode="nearest", nearest_mode="floor", coordinate_transformation_mode="asymmetric"),
        s=np.array([1, 1, 2, 2], np.float32),
    ),
    "resize to sizes": images(node("Resize", "x _ _ s", "y", mode="nearest"), s=np.array([3, 6, 14, 5])),
    "upsample": images(node("Upsample", "x s", "y", mode="nearest"), s=np.array([1, 1, 2, 2], np.float32), opset=9),
    "pad, max pool": images(
        node("Pad", "x pads", "p"), node("MaxPool", "p", "y", kernel_shape=[2, 2]), pads=INTS["pads"]
    ),
    "pad with a number": images(node("Pad", "x pads five", "y"), pads=INTS["pads"], five=np.float32(5)),
    "pad, relu": images(node("Pad", "x pads", "p"), node("Relu", "p", "y"), pads=INTS["pads"]),
    "transpose, conv": images(
        node("Transpose", "x", "t", perm=[0, 2, 3, 1]), node("Conv", "t w", "y"), w=whole(1, 4, 7, 3, 3)
    ),
    "transpose, add": images(node("Transpose", "x", "t", perm=[0, 1, 3, 2]), node("Add", "x t", "y"), size=(6, 5, 5)),
    "reshape to features and back": images(
        node("Reshape", "x a", "f"),
        node("Reshape", "f b", "r"),
        node("Add", "x r", "y"),
        a=np.array([0, -1]),
        b=np.array([-1, 6, 7, 5]),
    ),
    "channel shuffle": images(
        node("Reshape", "x a", "r"),
        node("Transpose", "r", "t", perm=[0, 2, 1]),
        node("Reshape", "t b", "s"),
        node("Relu", "s", "y"),
        a=np.array([0, 2, -1]),
        b=np.array([0, 7, 6, 5]),
    ),
    "constants of many kinds": images(
        node("Mod", "big five", "a"),
        node("Max", "a one two", "b"),
        node("Min", "b big", "c"),
        node("Less", "c big", "p"),
        node("Greater", "c big", "q"),
        node("Or", "p q", "e"),
        node("Not", "q", "n"),
        node("And", "e n", "f"),
        node("Where", "f c minus", "h"),
        node("Tile", "h two", "g"),
        node("ReduceProd", "g", "i"),
        node("Pow", "i one", "j"),
        node("Concat", "first j minus", "t", axis=0),
        node("Reshape", "x t", "y"),
        size=(9, 2, 3),
        big=np.array([13]),
        five=np.array([5]),
        one=INTS["one"],
        two=INTS["two"],
        minus=INTS["minus"],
        first=INTS["first"],
    ),
    "weights through identity": images(node("Identity", "w", "v"), node("Conv", "x v", "y"), w=whole(1, 4, 6, 1, 1)),
}


@pytest.mark.parametrize("name", CASES)
def test_operators_are_exact(name, tmp_path):
    assert_computes(load(tmp_path, CASES[name]), CASES[name])


ROUNDED = {
    "softmax": graph(
        [node("MatMul", "x w", "d"), node("Softmax", "d", "y")], {"x": ["N", 6]}, "y", {"w": normal(1, 6, 4)}
    ),
    "softmax of channels": images(node("Softmax", "x", "y", axis=1)),
    "softmax of rows": images(node("Softmax", "x", "y", axis=2)),
    "sigmoid": images(node("Sigmoid", "x", "y")),
    "tanh": images(node("Tanh", "x", "y")),
    "hard swish": images(node("HardSwish", "x", "y")),
    "swish": images(node("Sigmoid", "x", "s"), node("Mul", "x s", "y")),
    "div": images(node("Sigmoid", "x", "s"), node("Div", "x s", "y")),
    "div of a pixel": images(node("GlobalMaxPool", "x", "p"), node("Sigmoid", "x", "s"), node("Div", "p s", "y")),
    "div of a constant": images(node("Sigmoid", "x", "s"), node("Div", "c s", "y"), c=normal(1, 6, 1, 1)),
    "reciprocal": images(node("Sigmoid", "x", "s"), node("Reciprocal", "s", "y")),
}


@pytest.mark.parametrize("name", ROUNDED)
def test_operators_that_round_are_within_their_bounds(name, tmp_path):
    model = ROUNDED[name]
    loaded, x = load(tmp_path, model), batch_of(model, make=normal)
    value, bound = value_and_bound(loaded, x["x"])
    assert_within(loaded.run(x), value, bound, np.float32)
    assert_within(reference(model, x)["y"].astype(np.float32), value, bound, np.float32)


def test_a_constant_by_zero_infinity_and_nan_is_what_ieee_says(tmp_path):
    x = np.array([0, -0.0, np.inf, -np.inf, np.nan, 4], np.float32).reshape(1, 6, 1, 1)
    for nodes in ([node("Reciprocal", "x", "y")], [node("Div", "c x", "y")]):
        got = load(tmp_path, images(*nodes, size=(6, 1, 1), c=np.float32(3))).run(x)
        np.testing.assert_array_equal(got.ravel()[:5], [np.inf, -np.inf, 0, 0, np.nan])
        assert got.ravel()[5] in (0.25, 0.75)


def test_an_old_softmax_is_over_all_axes_but_the_batch(tmp_path):
    """Not so in the ONNX package's reference, which knows the newest definition alone."""
    old = images(node("Softmax", "x", "y"), opset=9)
    new = images(node("Flatten", "x", "f"), node("Softmax", "f", "y"))
    x = batch_of(old, make=normal)
    got = load(tmp_path, old).run(x)
    value, bound = value_and_bound(load(tmp_path, new), x["x"])
    assert_within(got.reshape(value.shape), value, bound, np.float32)


# --- What becomes of weights ------------------------------------------------------------------------------------------


def kernels(path):
    return [node.tensors["kernel"] for node in runtime.load(path).spec.nodes if "kernel" in node.tensors]


@pytest.mark.parametrize(
    ("groups", "found"), [((4, 2), (4, 2)), ((3, 5), (3, 5)), ((1, 1), (1, 1)), ((12, 10), (12, 10))]
)
def test_zeros_become_the_coarsest_mask(groups, found, tmp_path):
    gi, go = groups
    rng = np.random.default_rng(0)
    mask = rng.random((3, 3, -(-12 // gi), -(-10 // go))) < 0.4
    mask[0, 0, 0, 0], mask[-1, -1, -1, -1] = True, False
    kept = np.repeat(np.repeat(mask, gi, 2), go, 3)[:, :, :12, :10].transpose(3, 2, 0, 1)
    weights = np.where(kept, normal(1, 10, 12, 3, 3), 0).astype(np.float32)
    path = save(tmp_path, images(node("Conv", "x w", "y"), size=(12, 5, 5), w=weights))
    (kernel,) = kernels(path)
    assert isinstance(kernel, MaskedKernel)
    assert (kernel.group_in, kernel.group_out) == found
    assert_identical(kernel.dense(), weights.transpose(2, 3, 1, 0))


def test_group_sizes_may_leave_a_short_last_group():
    mask = np.array([1, 1, 1, 0, 0, 0, 1, 1], bool).reshape(1, 1, 1, 8)
    assert masks.group_size(mask, 3) == 3
    assert masks.group_size(mask[..., :3], 3) == 3
    assert masks.group_size(mask[..., 1:], 3) == 1


def test_a_layer_without_zeros_stays_dense(tmp_path):
    (kernel,) = kernels(save(tmp_path, images(node("Conv", "x w", "y"), w=1 + np.abs(whole(1, 4, 6, 3, 3)))))
    assert isinstance(kernel, np.ndarray)


def test_a_mean_that_is_flattened_is_one_operator(tmp_path):
    nodes = [node("GlobalAveragePool", "x", "p"), node("Flatten", "p", "f"), node("Gemm", "f w", "y")]
    spec = load(tmp_path, images(*nodes, w=1 + np.abs(whole(1, 6, 4)))).spec
    assert [made.op for made in spec.nodes] == ["global_average_pool", "dense"]


# --- Files ------------------------------------------------------------------------------------------------------------


def test_external_data(tmp_path):
    model = CASES["conv"]
    copy = onnx.ModelProto.FromString(model.SerializeToString())  # saving changes what is saved
    onnx.save(copy, tmp_path / "net.onnx", save_as_external_data=True, location="net.data", size_threshold=0)
    assert (tmp_path / "net.data").exists()
    assert_computes(runtime.load(tmp_path / "net.onnx"), model)


def sparse_conv(weights, at):
    """A convolution whose weights are the non-zero ones of `weights`, at the given indices."""
    values = onnx.numpy_helper.from_array(weights[weights != 0], "w")
    model = images(node("Conv", "x w", "y"))
    model.graph.sparse_initializer.append(
        onnx.helper.make_sparse_tensor(values, onnx.numpy_helper.from_array(at), list(weights.shape))
    )
    return model


SPARSE = np.where(np.random.default_rng(0).random((4, 6, 3, 3)) < 0.2, whole(1, 4, 6, 3, 3), 0).astype(np.float32)


@pytest.mark.parametrize("indices", [np.flatnonzero, np.argwhere])
def test_sparse_initializers(indices, tmp_path):
    assert_computes(load(tmp_path, sparse_conv(SPARSE, indices(SPARSE))), images(node("Conv", "x w", "y"), w=SPARSE))


@pytest.mark.parametrize(
    ("move", "told"), [(-300, "expected indices from 0, got -"), (300, "index .* is out of bounds")]
)
def test_sparse_initializers_out_of_their_tensor_are_refused(move, told, tmp_path):
    model = sparse_conv(SPARSE, np.flatnonzero(SPARSE) + move)
    with pytest.raises(ModelFileError, match=told):
        load(tmp_path, model)


@pytest.mark.parametrize("given", ["6,5,7", 6, (6.0, 5.0, 7.0), None])
def test_shapes_that_are_no_sizes_are_refused(given, tmp_path):
    path = save(tmp_path, graph([node("Relu", "x", "y")], {"x": ["N", 6, "H", "W"]}, "y"))
    with pytest.raises(InputError, match=r"shapes\['x'\]: expected whole numbers, as in \(3, 224, 224\), got "):
        runtime.load(path, shapes={"x": given})


def test_symbolic_sizes_are_asked_for_and_given(tmp_path):
    model = graph([node("Conv", "x w", "y")], {"x": ["N", 6, "H", "W"]}, "y", {"w": whole(1, 4, 6, 3, 3)})
    path = save(tmp_path, model)
    with pytest.raises(ModelFileError, match=r"input 'x': sizes \(6, \?, \?\) beside the batch: give them"):
        runtime.load(path)
    with pytest.raises(ModelFileError, match=r"shapes=\{'x': .*, or --shape x=\.\.\. of .*, not \(5, 7, 5\)\. "):
        runtime.load(path, shapes={"x": (5, 7, 5)})
    with pytest.raises(ModelFileError, match=r"input 'x': shapes=\(6, 0, 5\): no numbers at all"):
        runtime.load(path, shapes={"x": (6, 0, 5)})
    assert_computes(runtime.load(path, shapes={"x": (6, 7, 5)}), model, {"x": whole(9, 2, 6, 7, 5)})


def test_inputs_may_be_made_constant(tmp_path):
    model = graph([node("Conv", "x w", "y")], {"x": ["N", 6, 7, 5], "w": [4, 6, 3, 3]}, "y")
    w, x = whole(1, 4, 6, 3, 3), whole(9, 2, 6, 7, 5)
    got = load(tmp_path, model, constants={"w": w}).run(x)
    assert_exact(got, reference(model, {"x": x, "w": w})["y"])


def test_names_that_are_no_inputs_are_told(tmp_path):
    path = save(tmp_path, images(node("Relu", "x", "y")))
    with pytest.raises(InputError, match=r"shapes: expected names of inputs, \['x'\], got \['z'\]\. Correct the names"):
        runtime.load(path, shapes={"z": (6, 7, 5)})
    with pytest.raises(InputError, match=r"constants: expected names of inputs, \['x'\], got \['z'\]"):
        runtime.load(path, constants={"z": whole(1, 3)})


# --- Layouts ----------------------------------------------------------------------------------------------------------


def test_layout_of_arrays(tmp_path):
    model = CASES["conv"]
    path, x = save(tmp_path, model), batch_of(model)["x"]
    want = reference(model, {"x": x})["y"]
    nhwc = runtime.load(path, layout="NHWC")
    assert_exact(nhwc.run(np.ascontiguousarray(x.transpose(0, 2, 3, 1))), want.transpose(0, 2, 3, 1))
    for layout in (None, "NCHW"):
        out = np.full_like(want, np.nan)
        assert runtime.load(path, layout=layout).run(x, out=out) is out
        assert_exact(out, want)
    with pytest.raises(InputError, match="layout: expected 'NHWC' or 'NCHW', got 'CHW'"):
        runtime.load(path, layout="CHW")
    with pytest.raises(InputError, match=r"input 'x': expected float32\[n, 6, 7, 5\], got float32\[3, 7, 5, 6\]"):
        runtime.load(path).run(np.ascontiguousarray(x.transpose(0, 2, 3, 1)))


def test_a_copy_by_pickle_loads_the_same_way(tmp_path):
    model = graph([node("Relu", "x", "y")], {"x": ["N", 6, "H", "W"]}, "y")
    loaded = load(tmp_path, model, shapes={"x": (6, 7, 5)})
    x = whole(9, 2, 6, 7, 5)
    assert_identical(pickle.loads(pickle.dumps(loaded)).run(x), loaded.run(x))


def test_outputs_by_their_names_even_of_one_value(tmp_path):
    nodes = [node("Relu", "x", "r"), node("Identity", "r", "again"), node("Flatten", "r", "flat")]
    model = graph(nodes, {"x": ["N", 6, 7, 5]}, "r again flat x")
    assert_computes(load(tmp_path, model), model)


# --- Refusals ---------------------------------------------------------------------------------------------------------

BRANCH = onnx.helper.make_graph(  # it reads x from outside
    [node("Relu", "x", "r")], "branch", [], [onnx.helper.make_tensor_value_info("r", onnx.TensorProto.FLOAT, None)]
)
REFUSED = {
    "no such operator here": images(node("Selu", "x", "y")),
    "indices as a second output": images(node("MaxPool", "x", "y i", kernel_shape=[2, 2])),
    "weights that the graph computes": graph([node("Conv", "x z", "y")], {"x": [1, 6, 7, 5], "z": [4, 6, 3, 3]}, "y"),
    "training mode": images(norm(output="y m2 v2", training_mode=1), **NORM),
    "a constant with a number for each image": graph(
        [node("Add", "x b", "y")], {"x": ["N", 6]}, "y", {"b": whole(1, 3, 6)}
    ),
    "over the batch axis": images(node("ReduceMean", "x", "y", axes=[0])),
    "which takes the batch axis apart": images(node("Reshape", "x s", "y"), s=np.array([-1, 3], np.int64)),
    "float64, where float32 is needed": images(node("Conv", "x w", "y"), w=np.ones((4, 6, 3, 3))),
    "that is constant": graph(
        [node("Relu", "x", "r"), node("Identity", "c", "y")], {"x": [1, 6]}, "r y", {"c": whole(1, 3)}
    ),
    "reads 'z', made by none before it": images(node("Relu", "z", "y")),
    "input 'x': an unknown number of axes: export the net with": graph([node("Relu", "x", "y")], {"x": None}, "y"),
    "input 'x': shape (n, 6, 0, 5): no numbers at all": images(node("Relu", "x", "y"), size=(6, 0, 5)),
    "'If_1' (If): no such operator here": images(
        node("Constant", "", "c", value=onnx.numpy_helper.from_array(np.array(True))),
        node("If", "c", "y", then_branch=BRANCH, else_branch=BRANCH),
    ),
    "a constant of 1099511627776 numbers": images(
        node("Range", "a b s", "r"), node("Add", "x r", "y"), a=np.int64(0), b=np.int64(2**40), s=np.int64(1)
    ),
    "a constant of 4 x 1099511627776 numbers": images(
        node("Tile", "a b", "r"), node("Add", "x r", "y"), a=whole(1, 2, 1), b=np.array([2, 2**40])
    ),
    "a constant of 1099511627776 x 5 numbers": images(
        node("Expand", "a b", "r"), node("Add", "x r", "y"), a=whole(1, 5), b=np.array([2**40, 1])
    ),
    "inputs or attributes that do not fit": images(node("Clip", "x low", "y"), low=np.zeros(2, np.float32)),
    "a division by zero": images(node("Div", "x z", "y"), z=np.array([1, 0, 1, 1, 1, 1], np.float32)[:, None, None]),
    "coordinate_transformation_mode 'other'": images(
        node("Resize", "x _ s", "y", coordinate_transformation_mode="other"), s=np.array([1, 1, 2, 1], np.float32)
    ),
    "mode 'other'": images(node("Pad", "x p", "y", mode="other"), p=INTS["pads"]),
    "a slice 5:5:1 of size 6: no numbers at all": images(
        node("Slice", "x a b c", "y"), a=np.array([5]), b=np.array([5]), c=np.array([1])
    ),
    "the batch axis, where another is needed": images(node("Concat", "x x", "y", axis=0)),
    "one that fits in the padded input": images(node("Conv", "x w", "y"), w=whole(1, 4, 6, 9, 9)),
    "an input of 5 axes, where": graph(
        [node("MaxPool", "x", "y", kernel_shape=[2, 2, 2])], {"x": ["N", 2, 4, 4, 4]}, "y"
    ),
    "a product along the batch axis": graph(
        [node("Transpose", "x", "t"), node("MatMul", "t w", "y")], {"x": ["N", 6]}, "y", {"w": whole(1, 6, 4)}
    ),
    "no output: name what the net shall give": graph([node("Relu", "x", "y")], {"x": ["N", 6]}, ""),
    "exponent 3.0, where 1 or 2 is possible": images(node("Pow", "x e", "y"), e=np.float32(3)),
    "other inputs than data and one number": images(node("Max", "x x", "y")),
    "pads that leave -1 pixels": images(node("ConvTranspose", "x w", "y", pads=[4, 0, 4, 0]), w=whole(1, 6, 4, 1, 1)),
}


@pytest.mark.parametrize("reason", REFUSED)
def test_what_cannot_be_run_is_refused_with_its_reason(reason, tmp_path):
    with pytest.raises(ModelFileError, match="expected a graph that can be run, got 1 thing that cannot") as caught:
        load(tmp_path, REFUSED[reason])
    assert reason in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        ("FLOAT16", "float16, where float32 is needed: export the net in float32"),
        ("DOUBLE", "float64, where float32 is needed: export the net in float32"),
        ("BFLOAT16", "bfloat16, where float32 is needed: export the net in float32"),
        ("UINT8", "uint8, where float32 is needed: leave what converts it out of the net, or give it as a constant"),
        ("STRING", "string, where float32 is needed: leave what converts it out of the net, or give it as a constant"),
        (None, "no array, where a float32 array is needed"),
    ],
)
def test_inputs_of_other_types_are_named_with_what_to_do(kind, told, tmp_path):
    model = images(node("Relu", "x", "y"))
    if kind is None:
        model.graph.input[0].type.CopyFrom(onnx.helper.make_sequence_type_proto(model.graph.input[0].type))
    else:
        model.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.DataType.Value(kind)
    with pytest.raises(ModelFileError) as caught:
        load(tmp_path, model)
    assert f"input 'x': {told}" in str(caught.value)


def test_an_input_of_unknown_rank_takes_the_shape_that_is_given(tmp_path):
    model = graph([node("Conv", "x w", "y")], {"x": None}, "y", {"w": whole(1, 4, 6, 3, 3)})
    known = graph([node("Conv", "x w", "y")], {"x": ["N", 6, 7, 5]}, "y", {"w": whole(1, 4, 6, 3, 3)})
    assert_computes(load(tmp_path, model, shapes={"x": (6, 7, 5)}), known, {"x": whole(9, 2, 6, 7, 5)})


def test_everything_that_cannot_be_run_is_named_at_once(tmp_path):
    nodes = [node("Selu", "x", "a", name="first"), node("Relu", "a", "b"), node("Det", "b", "c", name="second")]
    with pytest.raises(ModelFileError, match=r"got 2 things .*'first' \(Selu\).*'second' \(Det\)"):
        load(tmp_path, images(*nodes, node("Relu", "c", "y")))


@pytest.mark.parametrize("data", [b"", b"no protobuf", b"\x08\x09" * 40])
def test_files_that_are_no_onnx(data, tmp_path):
    path = tmp_path / "net.onnx"
    path.write_bytes(data)
    with pytest.raises(ModelFileError, match=r"net\.onnx: expected "):
        runtime.load(path)


def test_an_empty_file_and_half_a_file_are_told(tmp_path):
    path = save(tmp_path, images(node("Conv", "x w", "y"), w=whole(1, 4, 6, 3, 3)))
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(ModelFileError, match=r"expected an ONNX model, got '.+'\. Export it again"):
        runtime.load(path)
    path.write_bytes(b"")
    with pytest.raises(ModelFileError, match=r"got an empty file\. Export or copy it again"):
        runtime.load(path)


@pytest.mark.parametrize("left", [None, 10])
def test_missing_or_short_external_data_are_asked_for(left, tmp_path):
    model = images(node("Conv", "x w", "y"), w=whole(1, 4, 6, 3, 3))
    path = tmp_path / "net.onnx"
    onnx.save(model, path, save_as_external_data=True, location="weights", size_threshold=0)
    if left is None:
        (tmp_path / "weights").unlink()
    else:
        (tmp_path / "weights").write_bytes((tmp_path / "weights").read_bytes()[:left])
    with pytest.raises(ModelFileError, match=r"Put the file of external data beside it, whole\.$"):
        runtime.load(path)


def test_names_that_are_no_text_are_told(tmp_path):
    path = save(tmp_path, images(node("Relu", "x", "y", name="relu")))
    path.write_bytes(path.read_bytes().replace(b"relu", b"re\xff\xfe"))
    with pytest.raises(ModelFileError, match=r"expected names in UTF-8, got damaged ones\. Export or copy it again"):
        runtime.load(path)


def test_operators_that_onnx_does_not_know_are_named(tmp_path):
    nodes = [node("Foo", "x", "a", name="first"), node("Relu", "a", "b"), node("Bar", "b", "y")]
    with pytest.raises(ModelFileError, match=r"valid ONNX nodes, got node 'first' \(Foo\): .+; node 'Bar_2' \(Bar\): "):
        load(tmp_path, images(*nodes))


def test_nodes_of_one_name_and_initializers_among_the_inputs(tmp_path):
    model = images(
        node("Relu", "x", "r", name="n"), node("Conv", "r w", "y", name="n"), w=whole(1, 4, 6, 3, 3), opset=9
    )
    model.graph.input.append(onnx.helper.make_tensor_value_info("w", onnx.TensorProto.FLOAT, [4, 6, 3, 3]))
    x = {"x": whole(9, 3, 6, 7, 5)}
    want = reference(model, {**x, "w": whole(1, 4, 6, 3, 3)})["y"]
    assert_exact(load(tmp_path, model).run(x), want)


def test_a_path_without_a_file(tmp_path):
    with pytest.raises(ModelFileError, match="expected a file that can be read"):
        runtime.load(tmp_path / "none.onnx")


@pytest.mark.parametrize("opset", [8, 99])
def test_opsets_outside_of_what_is_known(opset, tmp_path):
    model = images(node("Relu", "x", "y"))
    model.opset_import[0].version = opset
    with pytest.raises(ModelFileError, match=f"expected opset 9 to 28, got {opset}"):
        load(tmp_path, model)


def test_importing_twice_gives_equal_models(tmp_path):
    path = save(tmp_path, CASES["conv, batch norm, read twice"])
    first, second = importer.load(path), importer.load(path)
    assert [n.name for n in first.spec.nodes] == [n.name for n in second.spec.nodes]
