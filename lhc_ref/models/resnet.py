"""Residual nets: ResNet-20 and -56 for CIFAR, ResNet34 and ResNet50 in a CIFAR and an ImageNet form.

Source: He, Zhang, Ren, Sun, *Deep Residual Learning* (arXiv 1512.03385). ResNet50 has its strides in the 3x3 of each
bottleneck, as torchvision's has. Every 3x3 of each block is left to choice; stem, 1x1s, shortcuts and the dense layer
stay ordinary.
"""

from lhc_ref import ops
from lhc_ref.blocks import Residual, Sequential, SubsampleAndPad
from lhc_ref.layers import Layer, Operator
from lhc_ref.models.builder import Builder, around, relu
from lhc_ref.nets import Net

STAGES = {34: (3, 4, 6, 3), 50: (3, 4, 6, 3)}


def cifar_resnet(build: Builder, image_shape: tuple[int, int, int], classes: int, *, depth: int) -> Net:
    """6n + 2 layers: three stages of n basic blocks with 16, 32, 64 channels, and shortcuts without weights."""
    c_in = build.channels(16)
    layers = _stem(build, image_shape[2], c_in, size=3, stride=1)
    for stage, channels in enumerate((16, 32, 64), 1):
        c_out = build.channels(channels)
        for number in range(1, (depth - 2) // 6 + 1):
            stride = 2 if stage > 1 and number == 1 else 1
            name = f"block{stage}_{number}"
            shortcut = SubsampleAndPad(f"{name}_shortcut", c_in, c_out, stride) if stride == 2 else None
            layers += [Residual(name, _basic(build, name, c_in, c_out, stride), shortcut), relu(f"{name}_relu")]
            c_in = c_out
    return _net(build, f"resnet{depth}", layers, c_in, image_shape, classes)


def resnet(build: Builder, image_shape: tuple[int, int, int], classes: int, *, depth: int, imagenet: bool) -> Net:
    """ResNet34 of basic blocks or ResNet50 of bottlenecks, four stages with 64, 128, 256, 512 channels.

    Parameters
    ----------
    depth : 34 | 50
    imagenet : stem of 7x7 at stride 2 and a 3x3 max pool at stride 2; else, for CIFAR, a 3x3 at stride 1 alone
    """
    c_in = build.channels(64)
    layers = _stem(build, image_shape[2], c_in, size=7 if imagenet else 3, stride=2 if imagenet else 1)
    if imagenet:
        layers.append(Operator("pool", ops.max_pool, size=(3, 3), stride=(2, 2), padding=around(3)))
    for stage, (count, channels) in enumerate(zip(STAGES[depth], (64, 128, 256, 512), strict=True), 1):
        inner = build.channels(channels)
        c_out = inner if depth == 34 else 4 * inner
        for number in range(1, count + 1):
            stride = 2 if stage > 1 and number == 1 else 1
            name = f"block{stage}_{number}"
            block = _basic if depth == 34 else _bottleneck
            shortcut = None
            if stride != 1 or c_in != c_out:
                project = build.ordinary(
                    f"{name}_shortcut", c_in, c_out, size=1, stride=stride, padding="valid", bias=False
                )
                shortcut = Sequential(f"{name}_around", [project, build.norm(f"{name}_shortcut_norm", c_out)])
            layers += [Residual(name, block(build, name, c_in, inner, stride), shortcut), relu(f"{name}_relu")]
            c_in = c_out
    return _net(build, f"resnet{depth}", layers, c_in, image_shape, classes)


def _stem(build: Builder, c_in: int, c_out: int, *, size: int, stride: int) -> list[Layer]:
    stem = build.ordinary("stem", c_in, c_out, size=size, stride=stride, padding=around(size), bias=False)
    return build.norm_relu(stem, c_out)


def _basic(build: Builder, name: str, c_in: int, c_out: int, stride: int) -> Layer:
    """Two 3x3, with batch norm and a ReLU between."""
    first = build.chosen(f"{name}_conv1", c_in, c_out, stride=stride, padding=around(3), bias=False)
    second = build.chosen(f"{name}_conv2", c_out, c_out, padding=around(3), bias=False)
    return Sequential(
        f"{name}_body", [*build.norm_relu(first, c_out), second, build.norm(f"{second.name}_norm", c_out)]
    )


def _bottleneck(build: Builder, name: str, c_in: int, inner: int, stride: int) -> Layer:
    """1x1 to fewer channels, 3x3, 1x1 to four times as many, with batch norm."""
    first = build.ordinary(f"{name}_conv1", c_in, inner, size=1, padding="valid", bias=False)
    second = build.chosen(f"{name}_conv2", inner, inner, stride=stride, padding=around(3), bias=False)
    third = build.ordinary(f"{name}_conv3", inner, 4 * inner, size=1, padding="valid", bias=False)
    layers = [*build.norm_relu(first, inner), *build.norm_relu(second, inner)]
    return Sequential(f"{name}_body", [*layers, third, build.norm(f"{name}_conv3_norm", 4 * inner)])


def _net(
    build: Builder, name: str, layers: list[Layer], channels: int, image_shape: tuple[int, int, int], classes: int
) -> Net:
    head = [Operator("average", ops.global_average_pool), build.dense("head", channels, classes)]
    return Net(Sequential(name, [*layers, *head]), image_shape)
