"""Pooling and depthwise convolution: a thread makes four images of a number at once."""

from collections.abc import Callable

from numba import cuda, float32, int32
from numpy import uint32

from runtime.cuda.kernels.options import device, kernel
from runtime.cuda.kernels.other import ZERO, ended, limit
from runtime.cuda.kernels.wide import WIDTH, load4, quotient, store4
from runtime.cuda.step import SAME


@device
def larger(one, other):
    """The larger of two numbers; NaN wins."""
    return other if other > one or other != other else one


@device
def window_of(step, i):
    """(row width of x, place in it, top, left) of the window that makes the fours of images number i."""
    c, ow = int32(step["c"] * step["lanes"]), step["ow"]
    quads = quotient(c, int32(WIDTH))
    pixel = quotient(i, quads)
    place, oy = int32((i - pixel * quads) * WIDTH), quotient(pixel, ow)
    top = int32(oy * step["stride_y"] - step["pad_top"])
    left = int32((pixel - oy * ow) * step["stride_x"] - step["pad_left"])
    return c, place, top, left


def pool(maximum: bool) -> Callable:
    """The kernel of max pooling, or of average pooling, which divides by the real pixels."""

    @kernel
    def pool_windows(steps, number, x, other, weights, vectors, index, out):
        step = steps[number]
        i = int32(cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x)
        if WIDTH * i < step["size"]:
            h, w = step["h"], step["w"]
            c, place, top, left = window_of(step, i)
            found, y0, y1, y2, y3 = int32(0), ZERO, ZERO, ZERO, ZERO
            for ky in range(step["kh"]):
                iy = int32(top + ky)
                if iy >= 0 and iy < h:
                    for kx in range(step["kw"]):
                        ix = int32(left + kx)
                        if ix >= 0 and ix < w:
                            x0, x1, x2, x3 = load4(x, uint32((iy * w + ix) * c + place), int32(0))
                            if not maximum:
                                y0, y1, y2, y3 = y0 + x0, y1 + x1, y2 + x2, y3 + x3
                            elif found == 0:
                                y0, y1, y2, y3 = x0, x1, x2, x3
                            else:
                                y0, y1, y2, y3 = larger(y0, x0), larger(y1, x1), larger(y2, x2), larger(y3, x3)
                            found = int32(found + 1)
            if not maximum:
                share = float32(1) / float32(found)
                y0, y1, y2, y3 = y0 * share, y1 * share, y2 * share, y3 * share
            low, high = step["low"], step["high"]
            y0, y1, y2, y3 = limit(y0, low, high), limit(y1, low, high), limit(y2, low, high), limit(y3, low, high)
            store4(out, uint32(WIDTH * i), y0, y1, y2, y3)

    return pool_windows


@kernel
def depthwise(steps, number, x, other, weights, vectors, index, out):
    """Output channel c reads input channel c alone; every tap is computed."""
    step = steps[number]
    i = int32(cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x)
    if WIDTH * i < step["size"]:
        h, w, channels = step["h"], step["w"], step["c"]
        c, place, top, left = window_of(step, i)
        channel = quotient(place, step["lanes"])
        bias = vectors[uint32(step["bias_at"] + channel)]
        y0, y1, y2, y3 = bias, bias, bias, bias
        for ky in range(step["kh"]):
            iy = int32(top + ky * step["dilation_y"])
            if iy >= 0 and iy < h:
                for kx in range(step["kw"]):
                    ix = int32(left + kx * step["dilation_x"])
                    if ix >= 0 and ix < w:
                        x0, x1, x2, x3 = load4(x, uint32((iy * w + ix) * c + place), int32(0))
                        tap = int32(ky * step["kw"] + kx)
                        weight = float32(weights[uint32(step["weights_at"] + tap * channels + channel)])
                        y0, y1, y2, y3 = y0 + x0 * weight, y1 + x1 * weight, y2 + x2 * weight, y3 + x3 * weight
        if step["has_other"]:
            r0, r1, r2, r3 = load4(other, uint32(WIDTH * i), int32(0))
            y0, y1, y2, y3 = y0 + r0, y1 + r1, y2 + r2, y3 + r3
        if step["function"] != SAME:
            y0, y1, y2, y3 = ended(step, vectors, channel, y0, y1, y2, y3)
        low, high = step["last_low"], step["last_high"]
        y0, y1, y2, y3 = limit(y0, low, high), limit(y1, low, high), limit(y2, low, high), limit(y3, low, high)
        store4(out, uint32(WIDTH * i), y0, y1, y2, y3)
