"""Small nets for small images."""

from lhc_ref import ops
from lhc_ref.blocks import Sequential
from lhc_ref.layers import Layer, Operator
from lhc_ref.models.builder import Builder, relu
from lhc_ref.nets import Net


def digits_cnn(build: Builder, image_shape: tuple[int, int, int], classes: int) -> Net:
    """A small net for small images: stem 32, then 64 | pool | 64, 128, 128 with batch norm, global average, dense."""
    c1, c2, c3 = (build.channels(c) for c in (32, 64, 128))

    def block(name: str, c_in: int, c_out: int) -> list[Layer]:
        # Why no bias: batch norm's beta is one.
        return build.norm_relu(build.chosen(name, c_in, c_out, bias=False), c_out)

    layers = [
        *build.norm_relu(build.ordinary("stem", image_shape[2], c1, bias=False), c1),
        *block("conv1", c1, c2),
        Operator("pool", ops.max_pool, size=(2, 2), padding="same"),
        *block("conv2", c2, c2),
        *block("conv3", c2, c3),
        *block("conv4", c3, c3),
        Operator("average", ops.global_average_pool),
        build.dense("head", c3, classes),
    ]
    return Net(Sequential("digits-cnn", layers), image_shape)


def golden(build: Builder, image_shape: tuple[int, int, int], classes: int) -> Net:
    """The smallest net with two LHC layers, without batch norm: stem 8, 12 | pool | 10, global average, dense.

    The one that the authors' layers were trained in for the tests' trajectories, with groups (4, 4) and (8, 4) there.
    """
    c1, c2, c3 = (build.channels(c) for c in (8, 12, 10))
    layers = [
        build.ordinary("stem", image_shape[2], c1),
        relu("stem_relu"),
        build.chosen("lhc1", c1, c2),
        relu("lhc1_relu"),
        Operator("pool", ops.max_pool, size=(2, 2), padding="same"),
        build.chosen("lhc2", c2, c3),
        relu("lhc2_relu"),
        Operator("average", ops.global_average_pool),
        build.dense("head", c3, classes),
    ]
    return Net(Sequential("golden", layers), image_shape)
