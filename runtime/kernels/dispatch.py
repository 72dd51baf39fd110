"""One task of any step: picks the compiled kernel for it."""

from runtime.kernels import mapping, other, tiles
from runtime.kernels.conv import conv, conv_scattered
from runtime.kernels.options import entry_kernel, kernel
from runtime.kernels.step import Kernel
from runtime.kernels.vector import CHANNELS, DEPTHWISE, IMAGES, LANES, marker

IMPORT, EXPORT, FLATTEN, SOFTMAX = int(Kernel.IMPORT), int(Kernel.EXPORT), int(Kernel.FLATTEN), int(Kernel.SOFTMAX)
CONV_IMAGES, CONV_CHANNELS, CONV_DEPTHWISE = int(Kernel.CONV_IMAGES), int(Kernel.CONV_CHANNELS), int(Kernel.DEPTHWISE)
CONV_SCATTERED, MAP, GATHER = int(Kernel.CONV_SCATTERED), int(Kernel.MAP), int(Kernel.GATHER)
MAX_POOL, AVERAGE_POOL, ADD, ACTIVATE = (
    int(Kernel.MAX_POOL),
    int(Kernel.AVERAGE_POOL),
    int(Kernel.ADD),
    int(Kernel.ACTIVATE),
)

_IMAGES, _CHANNELS = tiles.images_tiles(), tiles.channels_tiles()
_WIDE = tiles.wide_tiles() or _IMAGES  # without wide tiles nothing new is compiled for them
I0, I1, I2 = (marker(t.outputs) for t in (_IMAGES[0], _IMAGES[-2], _IMAGES[-1]))
I0_SIZES, I1_SIZES, I2_SIZES = (tuple(map(marker, t.pixels)) for t in (_IMAGES[0], _IMAGES[-2], _IMAGES[-1]))
W0, W1, W2 = (marker(t.outputs) for t in _WIDE)
W0_SIZES, W1_SIZES, W2_SIZES = (tuple(marker(n * t.vectors) for n in t.pixels) for t in _WIDE)
ONE, SIDE_BY_SIDE = marker(1), marker(_WIDE[0].vectors)
SCATTERED_SIZES = tuple(map(marker, tiles.scattered_tile().pixels))
C0, C1 = (marker(t.outputs) for t in _CHANNELS)
C0_SIZES, C1_SIZES = (tuple(map(marker, t.pixels)) for t in _CHANNELS)


@kernel
def run_convolution(step, task, base, arena, weights, index):
    """One task of a convolution: picks the compiled kernel for the layer's tile."""
    outputs = step["tile_outputs"]
    if step["kernel"] == CONV_IMAGES and step["lanes"] > LANES:
        if outputs == len(W0):
            conv(IMAGES, W0, W0_SIZES, SIDE_BY_SIDE, step, task, base, arena, weights, index)
        elif outputs == len(W1):
            conv(IMAGES, W1, W1_SIZES, SIDE_BY_SIDE, step, task, base, arena, weights, index)
        else:
            conv(IMAGES, W2, W2_SIZES, SIDE_BY_SIDE, step, task, base, arena, weights, index)
    elif step["kernel"] == CONV_IMAGES:
        if outputs == len(I0):
            conv(IMAGES, I0, I0_SIZES, ONE, step, task, base, arena, weights, index)
        elif outputs == len(I1):
            conv(IMAGES, I1, I1_SIZES, ONE, step, task, base, arena, weights, index)
        else:
            conv(IMAGES, I2, I2_SIZES, ONE, step, task, base, arena, weights, index)
    elif step["kernel"] == CONV_CHANNELS:
        if outputs == len(C0):
            conv(CHANNELS, C0, C0_SIZES, ONE, step, task, base, arena, weights, index)
        else:
            conv(CHANNELS, C1, C1_SIZES, ONE, step, task, base, arena, weights, index)
    elif step["kernel"] == CONV_SCATTERED:
        conv_scattered(SCATTERED_SIZES, step, task, base, arena, weights, index)
    else:
        conv(DEPTHWISE, C1, C1_SIZES, ONE, step, task, base, arena, weights, index)


@entry_kernel
def run_task(step, task, base, first, count, arena, weights, index):
    """One task of any step, for the image group whose arena begins at `base` and which holds images
    first..first+count-1.
    """
    kind = step["kernel"]
    if kind in (CONV_IMAGES, CONV_CHANNELS, CONV_DEPTHWISE, CONV_SCATTERED):
        run_convolution(step, task, base, arena, weights, index)
    elif kind == MAX_POOL:
        other.pool(True, step, task, base, arena)
    elif kind == AVERAGE_POOL:
        other.pool(False, step, task, base, arena)
    elif kind == ADD:
        other.elementwise(True, step, task, base, arena)
    elif kind == ACTIVATE:
        other.elementwise(False, step, task, base, arena)
    elif kind == FLATTEN:
        other.flatten(step, task, base, arena)
    elif kind == SOFTMAX:
        other.softmax(step, task, base, arena)
    elif kind == MAP:
        mapping.map_numbers(step, task, base, arena, weights)
    elif kind == GATHER:
        mapping.gather(step, task, base, arena, index)
    elif kind == IMPORT:
        other.import_images(step, task, base, arena, first, count)
    elif kind == EXPORT:
        other.export_images(step, task, base, arena, first, count)
