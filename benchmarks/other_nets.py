"""Nets of other families than VGG and ResNet: concatenations, depthwise convolutions, squeeze-and-excitation, and a
picture as the answer.

Stem, depthwise convolutions, squeeze-and-excitation and the last layer have all their weights; the pattern is that of
the other convolutions. A batch norm behind a convolution is folded into it.
"""

from collections.abc import Callable

from benchmarks.nets import Net, Pattern, classes_for
from lhc_ref.modelfile import ModelSpec

MOBILENET2 = (
    (1, 16, 1, 1, 3),
    (6, 24, 2, 2, 3),
    (6, 32, 3, 2, 3),
    (6, 64, 4, 2, 3),
    (6, 96, 3, 1, 3),
    (6, 160, 3, 2, 3),
    (6, 320, 1, 1, 3),
)
"""Of each stage: how many times as many channels inside, channels, blocks, stride of the first one, and the size of the
depthwise window.
"""
EFFICIENTNET0 = (
    (1, 16, 1, 1, 3),
    (6, 24, 2, 2, 3),
    (6, 40, 2, 2, 5),
    (6, 80, 3, 2, 3),
    (6, 112, 3, 1, 5),
    (6, 192, 4, 2, 5),
    (6, 320, 1, 1, 3),
)
"""The same."""
SQUEEZED = 4  # channels of a block's input over those that squeeze-and-excitation is computed in
UNET = (32, 64, 128, 256)
"""Channels of each level, from the full picture down."""
LEAST = 8  # channels of a layer that is made narrower


def densenet(
    pattern: Pattern, depth: int, size: int, width: float = 1.0, seed: int = 0, *, growth: int = 36
) -> ModelSpec:
    """DenseNet-BC: three blocks of (depth - 4) / 6 layers, each of a 1x1 and a 3x3 that read all layers before them.

    Source: Huang et al., *Densely Connected Convolutional Networks* (arXiv 1608.06993). Batch norms stand before the
    1x1s, where nothing can take them in.

    Parameters
    ----------
    size : pixels of a side, a multiple of 4
    width : factor for `growth`, which is how many channels each layer adds
    """
    net, growth = Net(pattern, seed), int(growth * width)
    channels = 2 * growth
    x = net.conv("x", 3, channels, 3, relu=False, masked=False)
    for block in range(3):
        for _ in range((depth - 4) // 6):
            y = net.conv(net.norm_relu(x, channels), channels, 4 * growth, 1)
            x = net.add("concat", (x, net.conv(y, 4 * growth, growth, 3, relu=False)))
            channels += growth
        x = net.norm_relu(x, channels)
        if block < 2:
            x = net.pool(net.conv(x, channels, channels // 2, 1, relu=False), "average_pool")
            channels //= 2
    return net.finish(net.dense(net.add("global_average_pool", (x,)), channels, classes_for(size)), size)


def mobilenet2(pattern: Pattern, size: int, width: float = 1.0, seed: int = 0) -> ModelSpec:
    """MobileNetV2.

    Source: Sandler et al., *MobileNetV2: Inverted Residuals and Linear Bottlenecks* (arXiv 1801.04381), table 2.

    Parameters
    ----------
    size : pixels of a side, a multiple of 32
    width : factor for all channels, at least 8 of which remain
    """
    return _inverted(Net(pattern, seed), MOBILENET2, size, width, _relu6)


def efficientnet0(pattern: Pattern, size: int, width: float = 1.0, seed: int = 0) -> ModelSpec:
    """EfficientNet-B0.

    Source: Tan and Le, *EfficientNet* (arXiv 1905.11946), table 1; squeeze-and-excitation of a quarter of the channels
    that a block reads, as in the authors' code.

    Parameters
    ----------
    size : pixels of a side, a multiple of 32
    width : factor for all channels, at least 8 of which remain
    """
    return _inverted(Net(pattern, seed), EFFICIENTNET0, size, width, _swish, excited=True)


def unet(pattern: Pattern, size: int, width: float = 1.0, seed: int = 0) -> ModelSpec:
    """A U-Net, which gives one number between 0 and 1 for each pixel.

    Source: Ronneberger, Fischer, Brox, *U-Net* (arXiv 1505.04597), with half its channels, one level less, padded
    convolutions, and on the way up each pixel repeated and a 3x3 in place of a transposed convolution.

    Parameters
    ----------
    size : pixels of a side, a multiple of 8
    width : factor for all channels
    """
    net, x, c_in = Net(pattern, seed), "x", 3
    levels = [int(channels * width) for channels in UNET]
    passed: list[str] = []
    for level, c_out in enumerate(levels):
        x = _twice(net, net.pool(x) if level else x, c_in, c_out)
        passed.append(x)
        c_in = c_out
    for c_out, beside in zip(levels[-2::-1], passed[-2::-1], strict=True):
        x = net.conv(net.add("upsample", (x,), {"factor": (2, 2)}), c_in, c_out, 3)
        x = _twice(net, net.add("concat", (beside, x)), 2 * c_out, c_out)
        c_in = c_out
    return net.finish(net.add("sigmoid", (net.conv(x, c_in, 1, 1, relu=False, masked=False),)), size)


def _inverted(
    net: Net,
    stages: tuple[tuple[int, int, int, int, int], ...],
    size: int,
    width: float,
    activation: Callable[[Net, str], str],
    excited: bool = False,
) -> ModelSpec:
    """A net of inverted residuals, of which the depthwise convolutions may be followed by squeeze-and-excitation."""
    c_in = _narrowed(32, width)
    x = activation(net, net.conv("x", 3, c_in, 3, stride=2, relu=False, masked=False))
    for expansion, channels, count, first_stride, k in stages:
        c_out = _narrowed(channels, width)
        for number in range(count):
            inner, stride = expansion * c_in, 1 if number else first_stride
            y = activation(net, net.conv(x, c_in, inner, 1, relu=False)) if expansion > 1 else x
            y = activation(net, net.depthwise(y, inner, k, stride))
            y = _excited(net, y, inner, c_in // SQUEEZED) if excited else y
            y = net.conv(y, inner, c_out, 1, relu=False)
            x, c_in = net.add("add", (x, y)) if number else y, c_out
    last = _narrowed(1280, width)
    x = net.add("global_average_pool", (activation(net, net.conv(x, c_in, last, 1, relu=False)),))
    return net.finish(net.dense(x, last, classes_for(size)), size)


def _narrowed(channels: int, width: float) -> int:
    return max(LEAST, int(channels * width))


def _relu6(net: Net, x: str) -> str:
    return net.add("clip", (x,), {"low": 0.0, "high": 6.0})


def _swish(net: Net, x: str) -> str:
    return net.add("mul", (x, net.add("sigmoid", (x,))))


def _excited(net: Net, x: str, channels: int, squeezed: int) -> str:
    """Squeeze-and-excitation: each channel times a number between 0 and 1 that all channels' means give."""
    mean = net.add("global_average_pool", (x,))
    pixel = net.add("rearrange", (mean,), {"split": (channels,), "order": (0,), "shape": (1, 1, channels)})
    y = _swish(net, net.conv(pixel, channels, squeezed, 1, relu=False, masked=False))
    y = net.conv(y, squeezed, channels, 1, relu=False, masked=False)
    return net.add("mul", (x, net.add("sigmoid", (y,))))


def _twice(net: Net, x: str, c_in: int, c_out: int) -> str:
    """Two 3x3s with ReLU; the one that reads the picture has all its weights."""
    x = net.conv(x, c_in, c_out, 3, masked=c_in > 3)
    return net.conv(x, c_out, c_out, 3)
