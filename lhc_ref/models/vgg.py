"""VGG16 and VGG19 as the authors of LHC train them on CIFAR-10: one dense layer, no batch norm unless asked for.

Source: Simonyan, Zisserman, *Very Deep Convolutional Networks* (arXiv 1409.1556); the authors' code for LHC (arXiv
2301.05440). The first convolution and the dense layer stay ordinary.
"""

from lhc_ref import ops
from lhc_ref.blocks import Sequential
from lhc_ref.layers import Layer, Operator
from lhc_ref.models.builder import Builder, relu
from lhc_ref.nets import Net

CHANNELS = (64, 128, 256, 512, 512)
BLOCKS = {16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}
"""Depth -> convolutions of each block; a 2x2 max pool follows each."""


def vgg(build: Builder, image_shape: tuple[int, int, int], classes: int, *, depth: int, norm: bool) -> Net:
    """3x3 convolutions in five blocks, global average, dense.

    Parameters
    ----------
    depth : a key of `BLOCKS`
    norm : batch norm between each convolution, then without a bias, and its ReLU
    """
    layers: list[Layer] = []
    c_in = image_shape[2]
    for block, (count, channels) in enumerate(zip(BLOCKS[depth], CHANNELS, strict=True), 1):
        c_out = build.channels(channels)
        for number in range(1, count + 1):
            name = f"conv{block}_{number}"
            make = build.chosen if layers else build.ordinary
            conv = make(name, c_in, c_out, bias=not norm)
            layers += build.norm_relu(conv, c_out) if norm else [conv, relu(f"{name}_relu")]
            c_in = c_out
        layers.append(Operator(f"pool{block}", ops.max_pool, size=(2, 2), padding="same"))
    layers += [Operator("average", ops.global_average_pool), build.dense("head", c_in, classes)]
    return Net(Sequential(f"vgg{depth}", layers), image_shape)
