"""The nets that are measured: each name makes what it says, and its ONNX twin is the same net."""

import numpy as np
import pytest

import runtime
from benchmarks import measuring, nets, other_nets, problems
from lhc_ref import export, modelfile
from lhc_ref.errors import InputError
from lhc_ref.evaluate import evaluate
from lhc_ref.modelfile import MaskedKernel, infer_shapes
from lhc_ref.models import make_net
from runtime.bench import onnx_twin
from runtime.bench.twins import dense_twin

OTHER_FAMILIES = ("densenet40_cifar", "mobilenet2_imagenet", "efficientnet0_imagenet", "unet")
NAMES = [
    *(
        f"{net}_{form}_d0.2_g8x8"
        for net in ("vgg16", "vgg19", "resnet34", "resnet50")
        for form in ("cifar", "imagenet")
    ),
    *(f"vgg16_cifar_{kind}" for kind in ("d1", "unstructured_d0.1", "2of4", "hetconv4")),
    "resnet50_cifar_hetconv2",
    "conv_64x128_k3s2_16_d0.5",
    "conv_3x64_k7s2_224_d1",
    *(f"{net}_{pattern}" for net in OTHER_FAMILIES for pattern in ("d0.5_g4x4", "d1")),
]


def kernels(spec, masked=True):
    found = [node.tensors["kernel"] for node in spec.nodes if node.op == "conv2d"]
    return [kernel for kernel in found if isinstance(kernel, MaskedKernel) == masked]


@pytest.mark.parametrize("name", NAMES)
def test_every_form_runs_and_is_its_own_twin(name, tmp_path):
    """The twin is read back, so that the order in which it flattens is compared as well."""
    spec = modelfile.validate(problems.find(name, toy=True).make())
    x = np.random.default_rng(0).standard_normal((2, *spec.inputs[0].shape)).astype(np.float32)
    expected = evaluate(spec, {"x": x})[spec.outputs[0]]
    onnx_twin.write(tmp_path / "net.onnx", spec)
    twin = runtime.load(tmp_path / "net.onnx", layout="NHWC").spec
    (made,) = evaluate(twin, {"x": x}).values()
    assert np.abs(made - expected).max() <= 1e-12 * np.abs(expected).max()  # the same float64 sums in another order
    assert np.abs(expected).max() > 0


@pytest.mark.parametrize(
    ("name", "density"),
    [
        ("d0.1", 0.1),
        ("unstructured_d0.1", 0.1),
        ("2of4", 0.5),
        ("1of4", 0.25),
        ("hetconv4", 1 / 3),
        ("hetconv8", 2 / 9),
    ],
)
def test_density_of_a_name_is_that_of_its_masked_kernels(name, density):
    problem = problems.find(f"vgg16_cifar_{name}")
    found = kernels(problem.make())
    assert len(found) == 12  # all but the first
    assert sum(int(np.prod(k.shape)) for k in found) == 14_708_736
    # Blocks are drawn, 28,728 of 32 x 16 weights: at density .1 their share has a standard deviation of 0.0018.
    assert sum(k.kept for k in found) / 14_708_736 == pytest.approx(density, abs=0.005)
    assert problem.density == pytest.approx(density)


@pytest.mark.parametrize(("name", "groups"), [("d0.3_g4x8", (4, 8)), ("d0.3", (32, 16)), ("unstructured_d0.3", (1, 1))])
def test_groups_of_a_name_are_those_of_its_masks(name, groups):
    found = kernels(problems.find(f"vgg16_cifar_{name}", toy=True).make())
    assert {(kernel.group_in, kernel.group_out) for kernel in found} == {groups}


def test_n_of_m_keeps_n_of_every_m_inputs():
    for kernel in kernels(problems.find("vgg16_cifar_1of4", toy=True).make()):
        kh, kw, c_in, c_out = kernel.shape
        by_group = kernel.expanded_mask().reshape(kh, kw, c_in // 4, 4, c_out)
        assert (by_group.sum(axis=3) == 1).all()


@pytest.mark.parametrize(("depth", "convolutions", "weights"), [(34, 36, 21_267_648), (50, 53, 23_454_912)])
def test_resnets_have_the_weights_of_the_paper(depth, convolutions, weights):
    """All convolutions together: what torchvision's ResNet-34 and -50 have, less batch norms and classifier."""
    spec = nets.resnet(nets.blocks(1.0), depth, 224)
    found = kernels(spec, masked=False)
    assert len(found) == convolutions
    assert sum(k.size for k in found) == weights
    assert found[0].shape == (7, 7, 3, 64)


@pytest.mark.parametrize(("depth", "parameters"), [(16, 138_357_544), (19, 143_667_240)])
def test_vggs_for_large_pictures_have_the_weights_of_the_paper(depth, parameters, monkeypatch):
    """The shapes alone: numbers for all weights would take half a gigabyte."""
    monkeypatch.setattr(nets, "_random", lambda rng, shape, scale: np.broadcast_to(np.float32(0), shape))
    spec = nets.vgg(nets.blocks(1.0), depth, 224)
    assert sum(t.size for node in spec.nodes for t in node.tensors.values()) == parameters


def work(spec):
    """Weights of all kernels together, and multiply-adds of one image, absent weights included."""
    shapes, weights, macs = infer_shapes(spec), 0, 0
    for node in spec.nodes:
        if "kernel" in node.tensors:
            size = int(np.prod(node.tensors["kernel"].shape))
            weights += size
            macs += size * int(np.prod(shapes[node.output][:-1]))
    return weights, macs


@pytest.mark.parametrize(
    ("build", "parameters", "macs_of_paper"),
    [(other_nets.mobilenet2, 3_504_872, 300e6), (other_nets.efficientnet0, 5_288_548, 390e6)],
)
def test_nets_for_large_pictures_have_the_size_of_the_paper(build, parameters, macs_of_paper):
    """Parameters: what torchvision's mobilenet_v2 and efficientnet_b0 have, 3.4 and 5.3 million in the papers.

    Multiply-adds: table 4 of arXiv 1801.04381, and table 2 of arXiv 1905.11946, which calls them FLOPS.
    """
    spec = modelfile.validate(build(nets.blocks(1.0), 224))
    weights, macs = work(spec)
    biases = sum(node.tensors["bias"].size for node in spec.nodes if "kernel" in node.tensors)
    # A batch norm has two parameters a channel, of which the folded one leaves the bias. No batch norm is behind the
    # convolutions of squeeze-and-excitation, which have one pixel.
    shapes = infer_shapes(spec)
    normed = [n.tensors["bias"].size for n in spec.nodes if n.op == "conv2d" and shapes[n.output][:2] != (1, 1)]
    assert weights + biases + sum(normed) == parameters
    assert macs == pytest.approx(macs_of_paper, rel=0.02)


def test_the_densenet_is_that_of_the_reference():
    spec = problems.find("densenet40_cifar_d1").make()
    made = make_net("densenet40-36", "standard", seed=0, dtype="float32", image_shape=(32, 32, 3), classes=10)
    theirs = [node.tensors["kernel"].shape for node in export.to_spec(made).nodes if "kernel" in node.tensors]
    ours = [node.tensors["kernel"].shape for node in spec.nodes if "kernel" in node.tensors]
    assert ours == theirs
    assert [node.op for node in spec.nodes].count("scale") == 21  # one a layer, two transitions, one at the end


def test_a_unet_has_a_number_between_0_and_1_for_each_pixel():
    spec = problems.find("unet_d1", toy=True).make()
    x = np.random.default_rng(0).standard_normal((1, 32, 32, 3)).astype(np.float32)
    (y,) = evaluate(modelfile.validate(spec), {"x": x}).values()
    assert y.shape == (1, 32, 32, 1)
    assert ((y > 0) & (y < 1)).all()
    assert [node.tensors["kernel"].shape[3] for node in problems.find("unet_d1").make().nodes if node.tensors] == [
        *(c for level in (32, 64, 128, 256) for c in (level, level)),
        *(c for level in (128, 64, 32) for c in (level, level, level)),
        1,
    ]


@pytest.mark.parametrize("net", OTHER_FAMILIES)
def test_the_pattern_of_other_families_spares_stem_depthwise_excitation_and_the_last_layer(net):
    """At no density but 1 an unmasked kernel is left elsewhere."""
    spec = modelfile.validate(problems.find(f"{net}_d0.2_g16x8").make())
    shapes = infer_shapes(spec)
    nodes = [node for node in spec.nodes if node.op == "conv2d"]
    head = nodes[-1] if net == "unet" else None
    for node in nodes:
        kernel, pixels = node.tensors["kernel"], shapes[node.output][:2]
        spared = node in (nodes[0], head) or node.attrs["groups"] > 1 or pixels == (1, 1)
        assert isinstance(kernel, MaskedKernel) != spared, node.name
        if not spared:
            assert (kernel.group_in, kernel.group_out) == (16, 8)
    masked = kernels(spec)
    share = sum(k.kept for k in masked) / sum(int(np.prod(k.shape)) for k in masked)
    assert share == pytest.approx(0.2, abs=0.02)


@pytest.mark.parametrize(
    "name",
    [
        "vgg34_cifar_d0.1",
        "resnet16_cifar_d1",
        "vgg16_cifar_d2",
        "vgg16_cifar",
        "vgg16_cifar_4of2",
        "conv_3x4_d1",
        "mobilenet2_cifar_d1",
        "unet_imagenet_d1",
    ],
)
def test_another_name_is_refused(name):
    with pytest.raises(InputError, match=f"problem: expected a name like .*, got '{name}'"):
        problems.find(name)


def test_the_dense_twin_keeps_what_exists_and_fills_the_rest():
    spec = modelfile.validate(problems.find("vgg16_cifar_d0.2_g8x8", toy=True).make())
    pairs = zip(kernels(spec), kernels(dense_twin(spec), masked=False)[1:], strict=True)
    for kernel, full in pairs:
        mask = kernel.expanded_mask()
        assert np.array_equal(full[mask], kernel.values)
        assert np.all(full[~mask] != 0)


@pytest.mark.parametrize(
    ("name", "title"),
    [
        ("vgg16_cifar_d0.1", "VGG16-CIFAR .1"),
        ("resnet50_imagenet_d0.25", "ResNet50-ImageNet .25"),
        ("vgg19_cifar_2of4", "VGG19-CIFAR 2:4"),
        ("vgg16_cifar_d0.1_g1x8", "VGG16-CIFAR .1, groups (1, 8)"),
        ("vgg16_cifar_unstructured_d0.1", "VGG16-CIFAR .1 unstructured"),
        ("densenet40_cifar_d0.2_g16x8", "DenseNet40-CIFAR .2, groups (16, 8)"),
        ("mobilenet2_imagenet_d0.2", "MobileNetV2-ImageNet .2"),
        ("efficientnet0_imagenet_d1", "EfficientNet-B0-ImageNet dense"),
        ("unet_2of4", "U-Net 2:4"),
    ],
)
def test_titles_are_for_people(name, title):
    assert problems.find(name).title == title


@pytest.mark.parametrize("name", ["resnet50_imagenet_hetconv4", *(f"{net}_d0.5_g4x4" for net in OTHER_FAMILIES)])
def test_the_runtime_agrees_on_a_toy_net(name):
    spec = modelfile.validate(problems.find(name, toy=True).make())
    x = np.random.default_rng(0).standard_normal((3, *spec.inputs[0].shape)).astype(np.float32)
    (expected,) = evaluate(spec, {"x": x}).values()
    # Why not the derived bound: through so many layers it grows past the values, on ResNet-50 to infinity.
    measuring.check("ours", runtime.Model(spec).run(x, threads=1), expected)
    with pytest.raises(measuring.WrongAnswerError):  # the answer depends on the image
        measuring.check("ours", expected[[1, 2, 0]], expected)
