"""The nets that are measured: VGG16 and ResNets with random weights, of which whole blocks, or single weights, are
missing.

A masked convolution keeps `density` of its (tap, input group, output group) blocks, drawn at random, as a converged net
with free patterns does; groups (1, 1) give unstructured sparsity. Stem, shortcuts and classifier stay dense.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from lhc_ref.modelfile import InputSpec, MaskedKernel, ModelSpec, Node


@dataclass(frozen=True)
class Problem:
    """One net: its name, how it is made, the batches it is measured at."""

    name: str
    make: Callable[[], ModelSpec]
    batches: tuple[int, ...]


class _Net:
    """Collects nodes; `add` gives the name of the value that a node makes."""

    def __init__(self, density: float, groups: tuple[int, int], seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.density, self.groups = density, groups
        self.nodes: list[Node] = []

    def add(self, op: str, inputs: tuple[str, ...], attrs: dict | None = None, tensors: dict | None = None) -> str:
        name = f"{op}{len(self.nodes)}"
        self.nodes.append(Node(op, name, inputs, name, attrs or {}, tensors or {}))
        return name

    def conv(
        self, x: str, c_in: int, c_out: int, k: int, stride: int = 1, relu: bool = True, masked: bool = True
    ) -> str:
        """A k x k convolution padded by k // 2 all round, with bias, and ReLU unless told otherwise."""
        density = self.density if masked else 1.0
        scale = np.sqrt(2 / (c_in * k * k * density))
        kernel = (self.rng.standard_normal((k, k, c_in, c_out)) * scale).astype(np.float32)
        stored: np.ndarray | MaskedKernel = kernel
        if density < 1:
            group_in, group_out = self.groups
            mask = self.rng.random((k, k, -(-c_in // group_in), -(-c_out // group_out))) < density
            stored = MaskedKernel.from_dense(kernel, mask, group_in, group_out)
        pad = (k // 2, k // 2)
        attrs = {"stride": (stride, stride), "padding": (pad, pad)}
        y = self.add("conv2d", (x,), attrs, {"kernel": stored, "bias": np.full(c_out, 0.01, np.float32)})
        return self.add("relu", (y,)) if relu else y

    def finish(self, x: str, features: int, classes: int, size: int) -> ModelSpec:
        """The net with a dense classifier at its end."""
        kernel = (self.rng.standard_normal((features, classes)) * 0.05).astype(np.float32)
        y = self.add("dense", (x,), {}, {"kernel": kernel, "bias": np.zeros(classes, np.float32)})
        return ModelSpec((InputSpec("x", (size, size, 3)),), (y,), tuple(self.nodes))


def vgg16(density: float, groups: tuple[int, int] = (32, 16), width: float = 1.0, seed: int = 0) -> ModelSpec:
    """VGG16 for 32x32 pictures: 13 convolutions, max pooling after each block, one dense layer."""
    net, x, c_in = _Net(density, groups, seed), "x", 3
    for channels in (64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512, 0, 512, 512, 512, 0):
        if channels == 0:
            x = net.add("max_pool", (x,), {"size": (2, 2), "stride": (2, 2)})
        else:
            c_out = max(8, int(channels * width))
            x, c_in = net.conv(x, c_in, c_out, 3, masked=c_in > 3), c_out
    return net.finish(net.add("flatten", (x,)), c_in, 10, 32)


def resnet(density: float, depth: int, size: int, groups: tuple[int, int] = (32, 16), seed: int = 0) -> ModelSpec:
    """ResNet-34 or -50 with batch norm folded; size 32 gives the stem for small pictures."""
    net = _Net(density, groups, seed)
    if size == 32:
        x = net.conv("x", 3, 64, 3, masked=False)
    else:
        x = net.conv("x", 3, 64, 7, stride=2, masked=False)
        x = net.add("max_pool", (x,), {"size": (3, 3), "stride": (2, 2), "padding": ((1, 1), (1, 1))})
    c_in = 64
    for stage, (width, blocks) in enumerate(zip((64, 128, 256, 512), (3, 4, 6, 3), strict=True)):
        for block in range(blocks):
            stride = 2 if stage and not block else 1
            c_out = 4 * width if depth == 50 else width
            if depth == 50:
                y = net.conv(x, c_in, width, 1)
                y = net.conv(y, width, width, 3, stride=stride)
                y = net.conv(y, width, c_out, 1, relu=False)
            else:
                y = net.conv(x, c_in, width, 3, stride=stride)
                y = net.conv(y, width, width, 3, relu=False)
            if stride != 1 or c_in != c_out:
                x = net.conv(x, c_in, c_out, 1, stride=stride, relu=False, masked=False)
            x, c_in = net.add("relu", (net.add("add", (x, y)),)), c_out
    return net.finish(net.add("global_average_pool", (x,)), c_in, 10 if size == 32 else 1000, size)


PROBLEMS = (
    Problem("vgg16_cifar_d0.1", lambda: vgg16(0.1), (64, 16, 1)),
    Problem("vgg16_cifar_d0.2", lambda: vgg16(0.2), (64, 1)),
    Problem("vgg16_cifar_unstructured_d0.1", lambda: vgg16(0.1, (1, 1)), (64,)),
    Problem("resnet34_cifar_d0.1", lambda: resnet(0.1, 34, 32), (64, 1)),
    Problem("resnet50_imagenet_d0.25", lambda: resnet(0.25, 50, 224), (8, 1)),
)
TOY = (Problem("vgg16_toy", lambda: vgg16(0.2, (8, 8), width=0.125), (17, 1)),)
