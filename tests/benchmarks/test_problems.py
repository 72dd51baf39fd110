"""The nets that are measured: each name makes what it says, and its ONNX twin is the same net."""

import numpy as np
import pytest

import runtime
from benchmarks import nets, problems
from lhc_ref import modelfile
from lhc_ref.errors import InputError
from lhc_ref.evaluate import evaluate, evaluate_with_bounds
from lhc_ref.modelfile import MaskedKernel
from runtime.bench import onnx_twin
from runtime.bench.twins import dense_twin

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


@pytest.mark.parametrize(
    "name",
    ["vgg34_cifar_d0.1", "resnet16_cifar_d1", "vgg16_cifar_d2", "vgg16_cifar", "vgg16_cifar_4of2", "conv_3x4_d1"],
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
    ],
)
def test_titles_are_for_people(name, title):
    assert problems.find(name).title == title


def test_the_runtime_agrees_on_a_toy_net():
    spec = modelfile.validate(problems.find("resnet50_imagenet_hetconv4", toy=True).make())
    x = np.random.default_rng(0).standard_normal((3, 64, 64, 3)).astype(np.float32)
    (expected,) = evaluate_with_bounds(spec, {"x": x}).values()
    assert (np.abs(runtime.Model(spec).run(x, threads=1) - expected.value) <= expected.bound).all()
