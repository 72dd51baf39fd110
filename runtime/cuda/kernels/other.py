"""Everything but convolution over rows. Lanes are adjacent numbers of the output, so memory is used in order.

The kernels serve both layouts: a tensor with images innermost, [pixel][channel][image], is one image in NHWC order with
`lanes` times as many channels, of which `lanes` in a row are one channel.
"""

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
        lanes, function = step["lanes"], step["function"]
        c = int32(step["c"] * lanes)
        place = int32(i % c)
        channel = int32(place // lanes)
        y, first, second = ZERO, ZERO, ZERO
        if step["has_other"]:
            image = int32(i // (step["h"] * step["w"] * c))
            y = float32(other[uint32(image * c + place if step["one_pixel"] else i)])
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
        h, w, lanes, channels = step["h"], step["w"], step["lanes"], step["c"]
        c = int32(channels * lanes)
        pixel, place = int32(i // c), int32(i % c)
        channel = int32(place // lanes)
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
                        value = float32(x[uint32(((image * h + iy) * w + ix) * c + place)])
                        total += value * float32(
                            weights[uint32(step["weights_at"] + (ky * step["kw"] + kx) * channels + channel)]
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
            h, w, c = step["h"], step["w"], int32(step["c"] * step["lanes"])
            pixel, place = int32(i // c), int32(i % c)
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
                            value = float32(x[uint32(((image * h + iy) * w + ix) * c + place)])
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
    """The kernel of softmax over the channels of an image's pixel, one block each; subtracts the largest first."""

    @kernel
    def softmax_rows(steps, number, x, other, weights, vectors, index, out):
        step = steps[number]
        shared = cuda.shared.array(threads, float32)
        thread, block, c, lanes = int32(cuda.threadIdx.x), int32(cuda.blockIdx.x), step["c"], step["lanes"]
        at = int32(block // lanes * lanes * c + block % lanes)
        largest = float32(x[uint32(at)])
        for i in range(thread, c, threads):
            value = float32(x[uint32(at + i * lanes)])
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
            total += float32(math.exp(float32(x[uint32(at + i * lanes)]) - largest))
        shared[thread] = total
        cuda.syncthreads()
        total = ZERO
        for i in range(threads):
            total += shared[i]
        for i in range(thread, c, threads):
            out[uint32(at + i * lanes)] = float32(math.exp(float32(x[uint32(at + i * lanes)]) - largest)) / total

    return softmax_rows


@kernel
def move(steps, number, x, other, weights, vectors, index, out):
    """Numbers taken from elsewhere, some channels of each output pixel: from the place of its pixel and its channel, or
    the step's alpha where either has none.
    """
    step = steps[number]
    i = int32(cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x)
    if i < step["size"]:
        lanes, channels, plane = step["lanes"], int32(step["channels"] * step["lanes"]), int32(step["oh"] * step["ow"])
        pixel, place = int32(i // channels), int32(i % channels)
        channel = int32(place // lanes)
        image = int32(pixel // plane)
        inside = int32(pixel - image * plane)
        row = index[uint32(step["pixels_at"] + inside)]
        column = index[uint32(step["channels_at"] + inside * step["channels_step"] + channel)]
        value = step["alpha"]
        if row >= 0 and column >= 0:
            from_image = int32(image * (step["h"] * step["w"] * step["c"]))
            value = float32(x[uint32((from_image + row + column) * lanes + place - channel * lanes)])
        out[uint32((pixel * step["out_c"] + step["first_channel"]) * lanes + place)] = value


def transpose(threads: int) -> Callable:
    """The kernel that turns the user's images, [image][number], into [number][image], or back; a square of numbers a
    block, through shared memory, so that lanes read and write side by side. Images that fill up the last four are zero.
    """
    side = math.isqrt(4 * threads)
    rows_at_once = side // 4
    square = (side, side + 1)  # one number of padding against bank conflicts

    @kernel
    def turn(steps, number, x, other, weights, vectors, index, out):
        step = steps[number]
        shared = cuda.shared.array(square, float32)
        numbers, images, lanes = int32(step["h"] * step["w"] * step["c"]), step["images"], step["lanes"]
        rows, columns, row_size, column_size = numbers, images, lanes, numbers
        if step["to_lanes"]:
            rows, columns, row_size, column_size = images, numbers, numbers, lanes
        across = int32((columns + side - 1) // side)
        block, thread = int32(cuda.blockIdx.x), int32(cuda.threadIdx.x)
        left, top = int32(block % across * side), int32(block // across * side)
        here, first = int32(thread % side), int32(thread // side)
        for i in range(first, side, rows_at_once):
            row, column, value = int32(top + i), int32(left + here), ZERO
            if row < rows and column < columns:
                value = float32(x[uint32(row * row_size + column)])
            shared[i, here] = value
        cuda.syncthreads()
        for i in range(first, side, rows_at_once):
            row, column = int32(top + here), int32(left + i)
            if column < columns and row < column_size:
                out[uint32(column * column_size + row)] = shared[here, i]

    return turn
