"""The nets and layers that are measured, each by a name that says all of it.

vgg16_cifar_d0.1                  blocks of 32 x 16 channels, a tenth of which exists
vgg19_imagenet_d0.25_g8x8         blocks of 8 x 8 channels
resnet34_cifar_unstructured_d0.1  single weights
resnet50_imagenet_2of4            N:M
vgg16_cifar_hetconv4              HetConv with p = 4
resnet34_cifar_d1                 every weight exists
densenet40_cifar_d0.2_g16x8       other families; so do mobilenet2_imagenet_, efficientnet0_imagenet_ and unet_ begin
conv_64x128_k3s2_16_d0.1          one layer: channels in and out, size of its window, stride, pixels of its input
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from benchmarks import nets, other_nets
from benchmarks.nets import Pattern
from lhc_ref.errors import InputError
from lhc_ref.modelfile import ModelSpec

TOY_WIDTH = 1 / 8


@dataclass(frozen=True)
class Net:
    """A net before its pattern is chosen.

    Attributes
    ----------
    title : for people
    build : makes it of a pattern, and the keywords size and width
    size, toy_size : pixels of a side
    """

    title: str
    build: Callable[..., ModelSpec]
    size: int
    toy_size: int

    def make(self, pattern: Pattern, toy: bool) -> ModelSpec:
        size, width = (self.toy_size, TOY_WIDTH) if toy else (self.size, 1.0)
        return self.build(pattern, size=size, width=width)


def _both_forms(name: str, title: str, build: Callable[..., ModelSpec]) -> dict[str, Net]:
    return {f"{name}_cifar": _cifar(title, build), f"{name}_imagenet": _imagenet(title, build)}


def _cifar(title: str, build: Callable[..., ModelSpec]) -> Net:
    return Net(f"{title}-CIFAR", build, 32, 32)


def _imagenet(title: str, build: Callable[..., ModelSpec]) -> Net:
    return Net(f"{title}-ImageNet", build, 224, 64)


NETS = {
    **_both_forms("vgg16", "VGG16", partial(nets.vgg, depth=16)),
    **_both_forms("vgg19", "VGG19", partial(nets.vgg, depth=19)),
    **_both_forms("resnet34", "ResNet34", partial(nets.resnet, depth=34)),
    **_both_forms("resnet50", "ResNet50", partial(nets.resnet, depth=50)),
    "densenet40_cifar": _cifar("DenseNet40", partial(other_nets.densenet, depth=40)),
    "mobilenet2_imagenet": _imagenet("MobileNetV2", other_nets.mobilenet2),
    "efficientnet0_imagenet": _imagenet("EfficientNet-B0", other_nets.efficientnet0),
    "unet": Net("U-Net", other_nets.unet, 256, 32),
}
"""By the first part of a name."""
NET = re.compile(rf"({'|'.join(NETS)})_(.+)")
LAYER = re.compile(r"conv_(\d+)x(\d+)_k(\d+)s(\d+)_(\d+)_(.+)")
BLOCKS = re.compile(r"d(1|0\.\d+)(?:_g(\d+)x(\d+))?")
UNSTRUCTURED = re.compile(r"unstructured_d(0\.\d+)")
N_OF_M = re.compile(r"(\d+)of(\d+)")
HETCONV = re.compile(r"hetconv(\d+)")


@dataclass(frozen=True)
class Problem:
    """A net or a layer: its name, how it is made, its name for people, the expected density of what is masked."""

    name: str
    make: Callable[[], ModelSpec]
    title: str
    density: float


def find(name: str, toy: bool = False) -> Problem:
    """The problem of a name; toy: an eighth of the channels, and small pictures.

    Raises
    ------
    InputError : no such name.
    """
    if found := NET.fullmatch(name):
        net, pattern_text = NETS[found[1]], found[2]
        pattern = _pattern(pattern_text)
        if pattern is not None:
            title = f"{net.title} {_words(pattern_text)}"
            return Problem(name, lambda: net.make(pattern, toy), title, pattern.density)
    if layer := LAYER.fullmatch(name):
        *numbers, pattern_text = layer.groups()
        c_in, c_out, k, stride, size = map(int, numbers)
        pattern = _pattern(pattern_text)
        if pattern is not None:
            if toy:
                c_in, c_out, size = (min(c, 8) for c in (c_in, c_out, size))
            title = f"{k}x{k} convolution, stride {stride}, {size}x{size}, {c_in} to {c_out}, {_words(pattern_text)}"
            return Problem(name, lambda: nets.layer(c_in, c_out, k, stride, size, pattern), title, pattern.density)
    raise InputError(
        f"problem: expected a name like vgg16_cifar_d0.1, got {name!r}. The head of benchmarks/problems.py explains it."
    )


def title(name: str) -> str:
    """A name for people; what is no name of a problem stays as it is."""
    try:
        return find(name).title
    except InputError:
        return name


def _words(text: str) -> str:
    """The last part of a name, for people."""
    if found := BLOCKS.fullmatch(text):
        density, group_in, group_out = found.groups()
        kept = "dense" if density == "1" else density.lstrip("0")
        return kept + (f", groups ({group_in}, {group_out})" if group_in else "")
    if found := UNSTRUCTURED.fullmatch(text):
        return f"{found[1].lstrip('0')} unstructured"
    return text.replace("of", ":").replace("hetconv", "HetConv ")


def _pattern(text: str) -> Pattern | None:
    """The pattern of a name's last part; None where it means nothing."""
    if found := BLOCKS.fullmatch(text):
        density, group_in, group_out = found.groups()
        return nets.blocks(float(density), (int(group_in), int(group_out)) if group_in else (32, 16))
    if found := UNSTRUCTURED.fullmatch(text):
        return nets.blocks(float(found[1]), (1, 1))
    if found := N_OF_M.fullmatch(text):
        n, m = int(found[1]), int(found[2])
        return nets.n_of_m(n, m) if 1 <= n <= m else None
    if found := HETCONV.fullmatch(text):
        return nets.hetconv(int(found[1])) if int(found[1]) else None
    return None


def vgg16(density: float, groups: tuple[int, int] = (32, 16), width: float = 1.0, seed: int = 0) -> ModelSpec:
    """VGG-16 for 32x32 pictures with missing blocks."""
    return nets.vgg(nets.blocks(density, groups), 16, 32, width, seed)


def resnet(density: float, depth: int, size: int, groups: tuple[int, int] = (32, 16), seed: int = 0) -> ModelSpec:
    """ResNet-34 or -50 with missing blocks."""
    return nets.resnet(nets.blocks(density, groups), depth, size, seed=seed)
