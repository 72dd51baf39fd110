"""MobileNetV2 for CIFAR: a 1x1 to more channels, a depthwise 3x3, a 1x1 back to few.

Source: Sandler et al., *MobileNetV2* (arXiv 1801.04381), in the form for CIFAR-10 that the authors of CSG count: stride
1 in stem and second stage, ReLU without a limit, a 1x1 as the way around where the channels change at stride 1. The
1x1s that expand are left to choice, so only kinds that 1x1 kernels can have.
"""

from lhc_ref import ops
from lhc_ref.blocks import Residual, Sequential
from lhc_ref.layers import Layer, Operator
from lhc_ref.models.builder import Builder, around
from lhc_ref.nets import Net

STAGES = ((1, 16, 1, 1), (6, 24, 2, 1), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
"""(expansion, channels, blocks, stride of the first block) of each stage."""


def mobilenet_v2(build: Builder, image_shape: tuple[int, int, int], classes: int) -> Net:
    """Stem 32, seven stages, 1x1 to 1280, global average, dense."""
    c_in = build.channels(32)
    stem = build.ordinary("stem", image_shape[2], c_in, padding=around(3), bias=False)
    layers = build.norm_relu(stem, c_in)
    for stage, (expansion, channels, count, first_stride) in enumerate(STAGES, 1):
        c_out = build.channels(channels)
        for number in range(1, count + 1):
            name = f"block{stage}_{number}"
            layers.append(_block(build, name, c_in, c_out, expansion, first_stride if number == 1 else 1))
            c_in = c_out
    last = build.channels(1280)
    layers += build.norm_relu(build.ordinary("last", c_in, last, size=1, padding="valid", bias=False), last)
    layers += [Operator("average", ops.global_average_pool), build.dense("head", last, classes)]
    return Net(Sequential("mobilenetv2", layers), image_shape)


def _block(build: Builder, name: str, c_in: int, c_out: int, expansion: int, stride: int) -> Layer:
    inner = expansion * c_in
    expand = build.chosen(f"{name}_expand", c_in, inner, size=1, padding="valid", bias=False)
    depthwise = build.ordinary(
        f"{name}_depthwise", inner, inner, stride=stride, groups=inner, padding=around(3), bias=False
    )
    project = build.ordinary(f"{name}_project", inner, c_out, size=1, padding="valid", bias=False)
    layers = [*build.norm_relu(expand, inner), *build.norm_relu(depthwise, inner)]
    body = Sequential(f"{name}_body", [*layers, project, build.norm(f"{name}_project_norm", c_out)])
    if stride != 1:
        return body
    if c_in == c_out:
        return Residual(name, body)
    around_it = build.ordinary(f"{name}_shortcut", c_in, c_out, size=1, padding="valid", bias=False)
    return Residual(name, body, Sequential(f"{name}_around", [around_it, build.norm(f"{name}_shortcut_norm", c_out)]))
