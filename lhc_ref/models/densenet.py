"""DenseNet-BC for CIFAR: every layer reads what all layers before it in its block made.

Source: Huang, Liu, van der Maaten, Weinberger, *Densely Connected Convolutional Networks* (arXiv 1608.06993). The 3x3s
are left to choice; stem, 1x1s and the dense layer stay ordinary.
"""

from lhc_ref import ops
from lhc_ref.blocks import Concat, Sequential
from lhc_ref.layers import Layer, Operator
from lhc_ref.models.builder import Builder, around, relu
from lhc_ref.nets import Net


def densenet_bc(build: Builder, image_shape: tuple[int, int, int], classes: int, *, depth: int, growth: int) -> Net:
    """Three blocks of (depth - 4) / 6 layers, each of a 1x1 to 4 x growth and a 3x3 to growth channels.

    The stem has 2 x growth channels; between blocks a 1x1 halves the channels, and an average pool the image.
    """
    growth = build.channels(growth)
    channels = 2 * growth
    layers: list[Layer] = [build.ordinary("stem", image_shape[2], channels, padding=around(3), bias=False)]
    for block in (1, 2, 3):
        for number in range(1, (depth - 4) // 6 + 1):
            name = f"block{block}_{number}"
            layers.append(Concat(name, _bottleneck(build, name, channels, growth)))
            channels += growth
        if block < 3:
            name = f"transition{block}"
            halve = build.ordinary(f"{name}_conv", channels, channels // 2, size=1, padding="valid", bias=False)
            layers += [*_norm_relu(build, name, channels), halve]
            layers.append(Operator(f"{name}_pool", ops.average_pool, size=(2, 2)))
            channels //= 2
    layers += [*_norm_relu(build, "last", channels), Operator("average", ops.global_average_pool)]
    return Net(Sequential(f"densenet{depth}-{growth}", [*layers, build.dense("head", channels, classes)]), image_shape)


def _norm_relu(build: Builder, name: str, channels: int) -> list[Layer]:
    return [build.norm(f"{name}_norm", channels), relu(f"{name}_relu")]


def _bottleneck(build: Builder, name: str, c_in: int, growth: int) -> Layer:
    """Batch norm and ReLU before each of 1x1 and 3x3."""
    first = build.ordinary(f"{name}_conv1", c_in, 4 * growth, size=1, padding="valid", bias=False)
    second = build.chosen(f"{name}_conv2", 4 * growth, growth, padding=around(3), bias=False)
    layers = [*_norm_relu(build, name, c_in), first, *_norm_relu(build, first.name, 4 * growth), second]
    return Sequential(f"{name}_body", layers)
