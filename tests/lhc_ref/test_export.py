import numpy as np
import pytest

from lhc_ref import modelfile, ops
from lhc_ref.blocks import Residual, Sequential
from lhc_ref.errors import InputError
from lhc_ref.evaluate import evaluate, evaluate_with_bounds
from lhc_ref.export import to_spec
from lhc_ref.layers import BatchNorm, Conv2d, Dense, LhcConv2d, Operator
from lhc_ref.models import make_net
from lhc_ref.nets import Net
from lhc_ref.norm import EPSILON
from lhc_ref.tape import define_vjp
from tests.tolerances import assert_exact

CLASSES = ("a", "b", "c")
WIDTHS = {"golden": 0.5, "densenet40-36": 1 / 12}


def whole_numbers(net, seed=0):
    """Weights whose products and sums are exact, folded or not: `gamma / sqrt(variance + epsilon)` is a half or one."""
    rng = np.random.default_rng(seed)
    for name, array in {**net.weights, **net.state}.items():
        role = name.split(".")[1]
        if role == "variance":
            array[...] = 4 - EPSILON
            assert (array + EPSILON == 4).all()
        elif role == "gamma":
            array[...] = rng.integers(1, 3, array.shape)
        elif role not in ("enabled", "scores"):
            array[...] = rng.integers(-2, 3, array.shape)
    return net


def every_layer():
    rng = np.random.default_rng(0)
    options = {"dtype": "float64"}
    body = [
        Conv2d("stem", 2, 6, rng, bias=False, padding=((1, 0), (2, 1)), **options),
        BatchNorm("stem_norm", 6, **options),
        Operator("stem_relu", ops.relu),
        Operator("pool", ops.max_pool, size=(2, 2), padding="same"),
        LhcConv2d("free", 6, 8, rng, group_in=4, group_out=3, **options),
        BatchNorm("free_norm", 8, **options),
        Residual(
            "block",
            Sequential(
                "body", [LhcConv2d("rigid", 8, 4, rng, kind="rigid", group_in=2, group_out=4, stride=2, **options)]
            ),
            Sequential(
                "shortcut",
                [Conv2d("project", 8, 4, rng, size=1, stride=2, groups=2, **options), BatchNorm("n", 4, **options)],
            ),
        ),
        Residual("identity", Operator("relu", ops.relu)),
        Operator("average_pool", ops.average_pool, size=(2, 1), stride=(1, 1)),
        Operator("average", ops.global_average_pool),
        Operator("flatten", ops.flatten),
        Dense("head", 4, 3, rng, **options),
    ]
    return whole_numbers(Net(Sequential("net", body), (8, 5, 2)))


def test_a_file_computes_what_the_net_does(tmp_path):
    """Every layer that a file can hold, through the file; whole numbers, so that folding changes no bit."""
    net = every_layer()
    modelfile.save(tmp_path / "net.lhc", to_spec(net, softmax=False))
    spec = modelfile.load(tmp_path / "net.lhc")
    x = np.random.default_rng(1).integers(-2, 3, (3, 8, 5, 2)).astype(np.float64)
    got = evaluate(spec, {"image": x})
    (name,) = spec.outputs
    assert_exact(got[name], net.predict(x))
    assert abs(got[name]).max() > 0


def test_masks_keep_their_groups_and_density():
    net = make_net("digits-cnn", "lhc-free", image_shape=(8, 8, 1), classes=10, groups=(16, 8))
    kernels = {node.name: node.tensors["kernel"] for node in to_spec(net).nodes if node.op == "conv2d"}
    assert isinstance(kernels.pop("stem"), np.ndarray)
    for layer in net.lhc_layers:
        kernel = kernels.pop(layer.name)
        assert (kernel.group_in, kernel.group_out) == (16, 8)
        assert kernel.kept == layer.kept()
        assert_exact(kernel.expanded_mask(), layer.mask(layer.weights["scores"]) == 1)
    assert not kernels


def test_what_belongs_to_the_data_is_in_the_spec():
    net = make_net("golden", image_shape=(8, 8, 1), classes=3)
    preprocessing = {"subtract": [np.float32(0.5)], "divide": [np.float32(2)]}
    spec = modelfile.validate(to_spec(net, preprocessing=preprocessing, classes=CLASSES, metadata={"seed": "3"}))
    assert spec.preprocessing == {"subtract": (0.5,), "divide": (2.0,)}
    assert spec.classes == CLASSES
    assert spec.metadata == {"seed": "3"}
    assert spec.nodes[-1].op == "softmax"
    logits = to_spec(net, softmax=False)
    assert [node.op for node in logits.nodes] == [node.op for node in spec.nodes[:-1]]


def test_a_channel_that_is_not_enabled_cannot_be_exported():
    net = make_net("golden", "lhc-free", image_shape=(8, 8, 1), classes=3)
    net.lhc_layers[1].state["enabled"][2] = False
    with pytest.raises(InputError, match="lhc2: expected every channel enabled, got 9 of 10"):
        to_spec(net)
    net.freeze_masks()
    to_spec(net)


def twice(x):
    return 2 * x


define_vjp(twice, lambda dy, x: (2 * dy,))


@pytest.mark.parametrize("layer", [Operator("odd", twice)])
def test_layers_that_a_file_cannot_hold(layer):
    with pytest.raises(InputError, match="odd: expected a layer that a model file can hold"):
        to_spec(Net(Sequential("s", [Operator("relu", ops.relu), layer]), (2, 2, 2)))


@pytest.mark.parametrize("conv", ["standard", "lhc-free", "hetconv:2", "csg", "csg-binary", "lean", "nm:2:4"])
@pytest.mark.parametrize("model", ["golden", "resnet20", "vgg16-bn", "densenet40-36"])
def test_each_convolution_through_a_file(model, conv, tmp_path):
    """The file's net in float64 against the net's own in float32."""
    options = {"image_shape": (16, 16, 3), "classes": 3, "width": WIDTHS.get(model, 0.25), "groups": (4, 2)}
    net = make_net(model, conv, **options)
    for layer in net.layers:
        if isinstance(layer, BatchNorm):
            layer.state["mean"][...] = np.random.default_rng(2).standard_normal(layer.state["mean"].shape)
            layer.state["variance"][...] = np.random.default_rng(3).uniform(0.5, 2, layer.state["mean"].shape)
    modelfile.save(tmp_path / "net.lhc", to_spec(net, softmax=False))
    spec = modelfile.load(tmp_path / "net.lhc")
    x = np.random.default_rng(1).standard_normal((2, 16, 16, 3)).astype(np.float32)
    (value, bound) = evaluate_with_bounds(spec, {"image": x})[spec.outputs[0]]
    # The net in float32 is a float32 engine of the file's graph, but for the folding: a few roundings a layer more.
    assert not (abs(net.predict(x) - value) > 2 * bound).any()
    masked = [n for n in spec.nodes if isinstance(n.tensors.get("kernel"), modelfile.MaskedKernel)]
    assert bool(masked) == (conv in ("lhc-free", "hetconv:2", "lean", "nm:2:4") or model == "resnet20")


def test_a_batch_norm_without_a_convolution_becomes_scales_and_shifts():
    net = whole_numbers(
        Net(Sequential("s", [Operator("relu", ops.relu), BatchNorm("n", 2, dtype="float64")]), (3, 3, 2))
    )
    spec = modelfile.validate(to_spec(net, softmax=False))
    assert spec.nodes[-1].op == "scale"
    x = np.random.default_rng(1).integers(-2, 3, (3, 3, 3, 2)).astype(np.float64)
    assert_exact(evaluate(spec, {"image": x})[spec.outputs[0]], net.predict(x))
