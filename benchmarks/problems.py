"""The nets and layers that are measured, each by a name that says all of it.

vgg16_cifar_d0.1                  blocks of 32 x 16 channels, a tenth of which exists
vgg19_imagenet_d0.25_g8x8         blocks of 8 x 8 channels
resnet34_cifar_unstructured_d0.1  single weights
resnet50_imagenet_2of4            N:M
vgg16_cifar_hetconv4              HetConv with p = 4
resnet34_cifar_d1                 every weight exists
conv_64x128_k3s2_16_d0.1          one layer: channels in and out, size of its window, stride, pixels of its input
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

from benchmarks import nets
from benchmarks.nets import Pattern
from lhc_ref.errors import InputError
from lhc_ref.modelfile import ModelSpec

SIZES = {"cifar": 32, "imagenet": 224}
TOY_SIZES = {"cifar": 32, "imagenet": 64}
TOY_WIDTH = 1 / 8
FAMILIES, FORMS = {"vgg": "VGG", "resnet": "ResNet"}, {"cifar": "CIFAR", "imagenet": "ImageNet"}
BUILDERS: dict[str, Callable[..., ModelSpec]] = {"vgg": nets.vgg, "resnet": nets.resnet}
NET = re.compile(r"(vgg|resnet)(16|19|34|50)_(cifar|imagenet)_(.+)")
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
    if net := NET.fullmatch(name):
        family, depth, form, pattern_text = net.groups()
        pattern = _pattern(pattern_text)
        if pattern is not None and (family == "vgg") == (depth in ("16", "19")):
            size, width = (TOY_SIZES[form], TOY_WIDTH) if toy else (SIZES[form], 1.0)
            title = f"{FAMILIES[family]}{depth}-{FORMS[form]} {_words(pattern_text)}"
            return Problem(name, lambda: BUILDERS[family](pattern, int(depth), size, width), title, pattern.density)
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
