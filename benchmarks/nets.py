"""Builds VGGs, ResNets and nets of one layer with random weights, of which a pattern of sparsity leaves some."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from lhc_ref import handmade
from lhc_ref.modelfile import InputSpec, MaskedKernel, ModelSpec, Node, Tensor
from lhc_ref.related import nm

Groups = tuple[int, int]
VGG = {
    16: (64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512, 0, 512, 512, 512, 0),
    19: (64, 64, 0, 128, 128, 0, 256, 256, 256, 256, 0, 512, 512, 512, 512, 0, 512, 512, 512, 512, 0),
}
"""Depth -> channels of each convolution; 0 is a max pooling."""
BLOCKS = (3, 4, 6, 3)  # of ResNet-34 and -50, stage by stage
SMALL = 32  # pixels: pictures up to this size have the CIFAR forms of stem and classifier


@dataclass(frozen=True)
class Pattern:
    """Which weights of a convolution exist.

    Attributes
    ----------
    density : share of the weights that is expected to exist in a 3x3 kernel
    groups : adjacent input and output channels that share a pattern
    mask : (rng, f32[kh, kw, c_in, c_out]) -> bool[kh, kw, groups of inputs, groups of outputs]
    """

    density: float
    groups: Groups
    mask: Callable[[np.random.Generator, np.ndarray], np.ndarray]


def blocks(density: float, groups: Groups = (32, 16)) -> Pattern:
    """Each (tap, input group, output group) exists with probability `density`, as in a converged net with free
    patterns; groups (1, 1) give unstructured sparsity.
    """

    def mask(rng: np.random.Generator, kernel: np.ndarray) -> np.ndarray:
        kh, kw, c_in, c_out = kernel.shape
        return rng.random((kh, kw, -(-c_in // groups[0]), -(-c_out // groups[1]))) < density

    return Pattern(density, groups, mask)


def n_of_m(n: int, m: int) -> Pattern:
    """The n largest of every m consecutive input channels."""
    return Pattern(n / m, (1, 1), lambda _, kernel: nm.nm_mask(kernel, n=n, m=m).astype(bool))


def hetconv(p: int) -> Pattern:
    """HetConv: one input channel in p keeps all taps, the others the centre."""
    return Pattern(1 / p + (1 - 1 / p) / 9, (1, 1), lambda _, kernel: handmade.hetconv(*_sizes(kernel), p=p))


def _sizes(kernel: np.ndarray) -> tuple[tuple[int, int], int, int]:
    kh, kw, c_in, c_out = kernel.shape
    return (kh, kw), c_in, c_out


def _random(rng: np.random.Generator, shape: tuple[int, ...], scale: float) -> np.ndarray:
    """f32[shape], normal."""
    return (rng.standard_normal(shape) * scale).astype(np.float32)


class Net:
    """Collects nodes with random weights; every method that adds some gives the name of the value that they make.

    Parameters
    ----------
    pattern : of the convolutions that are masked
    """

    def __init__(self, pattern: Pattern, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.pattern = pattern
        self.nodes: list[Node] = []

    def add(self, op: str, inputs: tuple[str, ...], attrs: dict | None = None, tensors: dict | None = None) -> str:
        name = f"{op}{len(self.nodes)}"
        self.nodes.append(Node(op, name, inputs, name, attrs or {}, tensors or {}))
        return name

    def conv(
        self, x: str, c_in: int, c_out: int, k: int, stride: int = 1, relu: bool = True, masked: bool = True
    ) -> str:
        """A k x k convolution padded by k // 2 all round, with bias, and ReLU unless told otherwise."""
        density = self.pattern.density if masked else 1.0
        scale = np.sqrt(2 / (c_in * k * k * density))
        kernel = _random(self.rng, (k, k, c_in, c_out), scale)
        y = self._conv2d(x, self._masked(kernel) if density < 1 else kernel, stride)
        return self.add("relu", (y,)) if relu else y

    def depthwise(self, x: str, channels: int, k: int, stride: int) -> str:
        """A k x k convolution of each channel by itself, padded by k // 2 all round, with bias and all its weights."""
        kernel = _random(self.rng, (k, k, 1, channels), np.sqrt(2) / k)
        return self._conv2d(x, kernel, stride, groups=channels)

    def _conv2d(self, x: str, kernel: Tensor, stride: int, groups: int = 1) -> str:
        k, c_out = kernel.shape[0], kernel.shape[3]
        pad = (k // 2, k // 2)
        attrs = {"stride": (stride, stride), "padding": (pad, pad), "groups": groups}
        return self.add("conv2d", (x,), attrs, {"kernel": kernel, "bias": np.full(c_out, 0.01, np.float32)})

    def norm_relu(self, x: str, channels: int) -> str:
        """A batch norm that no convolution before it can take in, and ReLU."""
        rate = self.rng.uniform(0.5, 1.5, channels).astype(np.float32)
        shift = _random(self.rng, (channels,), 0.1)
        return self.add("relu", (self.add("scale", (x,), {}, {"scale": rate, "bias": shift}),))

    def _masked(self, kernel: np.ndarray) -> Tensor:
        mask = self.pattern.mask(self.rng, kernel)
        return kernel if mask.all() else MaskedKernel.from_dense(kernel, mask, *self.pattern.groups)

    def pool(self, x: str, op: str = "max_pool") -> str:
        """The largest or the mean of each 2x2 pixels."""
        return self.add(op, (x,), {"size": (2, 2), "stride": (2, 2)})

    def dense(self, x: str, features: int, classes: int) -> str:
        kernel = _random(self.rng, (features, classes), 0.05)
        return self.add("dense", (x,), {}, {"kernel": kernel, "bias": np.zeros(classes, np.float32)})

    def finish(self, y: str, size: int) -> ModelSpec:
        return ModelSpec((InputSpec("x", (size, size, 3)),), (y,), tuple(self.nodes))


def vgg(pattern: Pattern, depth: int, size: int, width: float = 1.0, seed: int = 0) -> ModelSpec:
    """VGG-16 or -19: max pooling after each block; one dense layer for small pictures, else three.

    Parameters
    ----------
    pattern : of all convolutions but the first
    size : pixels of a side, a multiple of 32
    width : factor for all channels, at least 8 of which remain
    """
    net, x, c_in = Net(pattern, seed), "x", 3
    for channels in VGG[depth]:
        if channels == 0:
            x = net.pool(x)
        else:
            c_out = max(8, int(channels * width))
            x, c_in = net.conv(x, c_in, c_out, 3, masked=c_in > 3), c_out
    x, features = net.add("flatten", (x,)), c_in * (size // 32) ** 2
    if size > SMALL:
        hidden = int(4096 * width)
        for _ in range(2):
            x, features = net.add("relu", (net.dense(x, features, hidden),)), hidden
    return net.finish(net.dense(x, features, classes_for(size)), size)


def resnet(pattern: Pattern, depth: int, size: int, width: float = 1.0, seed: int = 0) -> ModelSpec:
    """ResNet-34 or -50 with batch norm folded. Stem, shortcuts and classifier have all their weights.

    Parameters
    ----------
    pattern : of the other convolutions
    size : pixels of a side; 32 gives the stem for small pictures
    width : factor for all channels
    """
    net, c_in = Net(pattern, seed), int(64 * width)
    if size == SMALL:
        x = net.conv("x", 3, c_in, 3, masked=False)
    else:
        x = net.conv("x", 3, c_in, 7, stride=2, masked=False)
        x = net.add("max_pool", (x,), {"size": (3, 3), "stride": (2, 2), "padding": ((1, 1), (1, 1))})
    for stage, count in enumerate(BLOCKS):
        inner = int(64 * width) << stage
        for block in range(count):
            stride = 2 if stage and not block else 1
            c_out = 4 * inner if depth == 50 else inner
            if depth == 50:
                y = net.conv(x, c_in, inner, 1)
                y = net.conv(y, inner, inner, 3, stride=stride)
                y = net.conv(y, inner, c_out, 1, relu=False)
            else:
                y = net.conv(x, c_in, inner, 3, stride=stride)
                y = net.conv(y, inner, inner, 3, relu=False)
            if stride != 1 or c_in != c_out:
                x = net.conv(x, c_in, c_out, 1, stride=stride, relu=False, masked=False)
            x, c_in = net.add("relu", (net.add("add", (x, y)),)), c_out
    return net.finish(net.dense(net.add("global_average_pool", (x,)), c_in, classes_for(size)), size)


def classes_for(size: int) -> int:
    """Of a net for pictures of so many pixels a side: CIFAR-10's or ImageNet's."""
    return 10 if size <= SMALL else 1000


def layer(c_in: int, c_out: int, k: int, stride: int, size: int, pattern: Pattern | None = None) -> ModelSpec:
    """One convolution with bias and ReLU as a net of its own; without a pattern it has all its weights."""
    net = Net(pattern or blocks(1.0), seed=0)
    y = net.conv("x", c_in, c_out, k, stride)
    return ModelSpec((InputSpec("x", (size, size, c_in)),), (y,), tuple(net.nodes))
