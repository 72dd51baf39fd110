"""Everything but convolution over rows. Lanes are adjacent numbers of the output, so memory is used in order."""

import math
from collections.abc import Callable

from numba import cuda
from numpy import float32, int32, uint32

from runtime.cuda.kernels.options import device, kernel
from runtime.cuda.step import ADD, SAME
from runtime.kernels.step import Function

LEAKY_RELU, PRELU, SIGMOID, HARD_SIGMOID, HARD_SWISH, TANH, SCALE, MUL, SUB = (int(function) for function in Function)
ZERO, HALF, ONE, SIXTH = float32(0), float32(0.5), float32(1), float32(1 / 6)


@device
def limit(value, low, high):
    """The value between two limits; NaN stays."""
    if value < low:
        return low
    if value > high:
        return high
    return value


@device
def function_of(function, x, y, first, second, alpha, beta):
    """One number; `y` is of another tensor, `first` and `second` are the channel's, `alpha` and `beta` the step's."""
    if function == SAME:
        return x
    if function == ADD:
        return x + y
    if function == LEAKY_RELU:
        return x if x > ZERO else alpha * x
    if function == PRELU:
        return x if x > ZERO else first * x
    if function == SIGMOID:
        small = float32(math.exp(-abs(x)))
        return (small if x < ZERO else ONE) / (ONE + small)
    if function == HARD_SIGMOID:
        return limit(alpha * x + beta, ZERO, ONE)
    if function == HARD_SWISH:
        return x * limit(SIXTH * x + HALF, ZERO, ONE)
    if function == TANH:
        return float32(math.tanh(x))
    if function == SCALE:
        return first * x + second
    if function == MUL:
        return x * y
    return x - y


@kernel
def map_numbers(steps, number, x, other, weights, vectors, index, out):
    """Each number by itself. Also copies, and changes between float32 and float16."""
    step = steps[number]
    i = int32(cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x)
    if i < step["size"]:
        c, function = step["c"], step["function"]
        channel = int32(i % c)
        y, first, second = ZERO, ZERO, ZERO
        if step["has_other"]:
            image = int32(i // (step["h"] * step["w"] * c))
            y = float32(other[uint32(image * c + channel if step["one_pixel"] else i)])
        if function in (PRELU, SCALE):
            first = vectors[uint32(step["weights_at"] + channel)]
            second = vectors[uint32(step["bias_at"] + channel)]
        value = function_of(function, float32(x[uint32(i)]), y, first, second, step["alpha"], step["beta"])
        out[uint32(i)] = limit(value, step["low"], step["high"])


@kernel
def depthwise(steps, number, x, other, weights, vectors, index, out):
    """Output channel c reads input channel c alone; every tap is computed."""
    step = steps[number]
    i = int32(cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x)
    if i < step["size"]:
        h, w, c = step["h"], step["w"], step["c"]
        pixel, channel = int32(i // c), int32(i % c)
        row = int32(pixel // step["ow"])
        image = int32(row // step["oh"])
        top = int32((row - image * step["oh"]) * step["stride_y"] - step["pad_top"])
        left = int32((pixel - row * step["ow"]) * step["stride_x"] - step["pad_left"])
        total = vectors[uint32(step["bias_at"] + channel)]
        for ky in range(step["kh"]):
            iy = int32(top + ky * step["dilation_y"])
            if iy >= 0 and iy < h:
                for kx in range(step["kw"]):
                    ix = int32(left + kx * step["dilation_x"])
                    if ix >= 0 and ix < w:
                        value = float32(x[uint32(((image * h + iy) * w + ix) * c + channel)])
                        total += value * float32(
                            weights[uint32(step["weights_at"] + (ky * step["kw"] + kx) * c + channel)]
                        )
        if step["has_other"]:
            total += float32(other[uint32(i)])
        out[uint32(i)] = limit(total, step["low"], step["high"])


def pool(maximum: bool) -> Callable:
    """The kernel of max pooling, or of average pooling, which divides by the real pixels."""

    @kernel
    def pool_windows(steps, number, x, other, weights, vectors, index, out):
        step = steps[number]
        i = int32(cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x)
        if i < step["size"]:
            h, w, c = step["h"], step["w"], step["c"]
            pixel, channel = int32(i // c), int32(i % c)
            row = int32(pixel // step["ow"])
            image = int32(row // step["oh"])
            top = int32((row - image * step["oh"]) * step["stride_y"] - step["pad_top"])
            left = int32((pixel - row * step["ow"]) * step["stride_x"] - step["pad_left"])
            found, total = int32(0), ZERO
            for ky in range(step["kh"]):
                iy = int32(top + ky)
                if iy >= 0 and iy < h:
                    for kx in range(step["kw"]):
                        ix = int32(left + kx)
                        if ix >= 0 and ix < w:
                            value = float32(x[uint32(((image * h + iy) * w + ix) * c + channel)])
                            if not maximum:
                                total += value
                            elif found == 0 or value > total or value != value:  # NaN wins
                                total = value
                            found = int32(found + 1)
            if not maximum:
                total = total * (ONE / float32(found))
            out[uint32(i)] = limit(total, step["low"], step["high"])

    return pool_windows


def softmax(threads: int) -> Callable:
    """The kernel of softmax over the channels of a pixel, one block each; subtracts the largest first."""

    @kernel
    def softmax_rows(steps, number, x, other, weights, vectors, index, out):
        step = steps[number]
        shared = cuda.shared.array(threads, float32)
        thread, c = int32(cuda.threadIdx.x), step["c"]
        at = int32(int32(cuda.blockIdx.x) * c)
        largest = float32(x[uint32(at)])
        for i in range(thread, c, threads):
            value = float32(x[uint32(at + i)])
            if value > largest or value != value:
                largest = value
        shared[thread] = largest
        cuda.syncthreads()
        for i in range(threads):
            value = shared[i]
            if value > largest or value != value:
                largest = value
        cuda.syncthreads()
        total = ZERO
        for i in range(thread, c, threads):
            total += float32(math.exp(float32(x[uint32(at + i)]) - largest))
        shared[thread] = total
        cuda.syncthreads()
        total = ZERO
        for i in range(threads):
            total += shared[i]
        for i in range(thread, c, threads):
            out[uint32(at + i)] = float32(math.exp(float32(x[uint32(at + i)]) - largest)) / total

    return softmax_rows


@kernel
def move(steps, number, x, other, weights, vectors, index, out):
    """Numbers taken from elsewhere, some channels of each output pixel: from the place of its pixel and its channel, or
    the step's alpha where either has none.
    """
    step = steps[number]
    i = int32(cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x)
    if i < step["size"]:
        channels, plane = step["channels"], int32(step["oh"] * step["ow"])
        pixel, channel = int32(i // channels), int32(i % channels)
        image = int32(pixel // plane)
        place = int32(pixel - image * plane)
        row = index[uint32(step["pixels_at"] + place)]
        column = index[uint32(step["channels_at"] + place * step["channels_step"] + channel)]
        value = step["alpha"]
        if row >= 0 and column >= 0:
            value = float32(x[uint32(image * (step["h"] * step["w"] * step["c"]) + row + column)])
        out[uint32(pixel * step["out_c"] + step["first_channel"] + channel)] = value
