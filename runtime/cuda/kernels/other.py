"""What is neither a convolution nor a pool. Lanes are adjacent numbers of the output, so memory is used in order."""

import math
from collections.abc import Callable

from numba import cuda
from numpy import float32, int32, uint32

from runtime.cuda.kernels.options import device, kernel
from runtime.cuda.kernels.wide import quotient, remainder
from runtime.cuda.step import ADD
from runtime.kernels.step import Function

LEAKY_RELU, PRELU, SIGMOID, HARD_SIGMOID, HARD_SWISH, TANH, SCALE, MUL, SUB, DIV, SWISH = (int(f) for f in Function)
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
def sigmoid(x):
    """1 / (1 + e**-x); nothing overflows."""
    small = float32(math.exp(-abs(x)))
    return (small if x < ZERO else ONE) / (ONE + small)


@device
def function_of(function, x, slope, alpha, beta):
    """A function of one number; `slope` is the channel's, `alpha` and `beta` the step's."""
    if function == LEAKY_RELU:
        return x if x > ZERO else alpha * x
    if function == PRELU:
        return x if x > ZERO else slope * x
    if function == SIGMOID:
        return sigmoid(x)
    if function == SWISH:
        return x * sigmoid(x)
    if function == HARD_SIGMOID:
        return limit(alpha * x + beta, ZERO, ONE)
    if function == HARD_SWISH:
        return x * limit(SIXTH * x + HALF, ZERO, ONE)
    if function == TANH:
        return float32(math.tanh(x))
    return x


@device
def ended(step, vectors, channel, y0, y1, y2, y3):
    """Four images of a channel after the function that ends a convolution."""
    function, alpha, beta, slope = step["function"], step["alpha"], step["beta"], ZERO
    if function == PRELU:
        slope = vectors[uint32(step["slope_at"] + channel)]
    return (
        function_of(function, y0, slope, alpha, beta),
        function_of(function, y1, slope, alpha, beta),
        function_of(function, y2, slope, alpha, beta),
        function_of(function, y3, slope, alpha, beta),
    )


@device
def mapped(function, x, y, first, second, alpha, beta):
    """One number; `y` is of another tensor, `first` and `second` are the channel's, `alpha` and `beta` the step's."""
    if function == ADD:
        return x + y
    if function == MUL:
        return x * y
    if function == SUB:
        return x - y
    if function == DIV:
        return x / y
    if function == SCALE:
        return first * x + second
    return function_of(function, x, first, alpha, beta)


@kernel
def map_numbers(steps, number, x, other, weights, vectors, index, out):
    """Each number by itself."""
    step = steps[number]
    i = int32(cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x)
    if i < step["size"]:
        lanes, function = step["lanes"], step["function"]
        place = remainder(i, int32(step["c"] * lanes))
        y, first, second = ZERO, ZERO, ZERO
        if step["has_other"]:
            y = float32(other[uint32(place if step["one_pixel"] else i)])
        if function in (PRELU, SCALE):
            channel = quotient(place, lanes)
            first = vectors[uint32(step["slope_at"] + channel)]
            if function == SCALE:
                second = vectors[uint32(step["bias_at"] + channel)]
        value = mapped(function, float32(x[uint32(i)]), y, first, second, step["alpha"], step["beta"])
        out[uint32(i)] = limit(value, step["low"], step["high"])


def softmax(threads: int) -> Callable:
    """The kernel of softmax over the channels of an image's pixel, one block each; subtracts the largest first."""

    @kernel
    def softmax_rows(steps, number, x, other, weights, vectors, index, out):
        step = steps[number]
        shared = cuda.shared.array(threads, float32)
        thread, block, c, lanes = int32(cuda.threadIdx.x), int32(cuda.blockIdx.x), step["c"], step["lanes"]
        pixel = quotient(block, lanes)
        at = int32(pixel * lanes * c + block - pixel * lanes)
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
        lanes, channels = step["lanes"], int32(step["channels"] * step["lanes"])
        pixel = quotient(i, channels)
        place = int32(i - pixel * channels)
        channel = quotient(place, lanes)
        row = index[uint32(step["pixels_at"] + pixel)]
        column = index[uint32(step["channels_at"] + pixel * step["channels_step"] + channel)]
        value = step["alpha"]
        if row >= 0 and column >= 0:
            value = float32(x[uint32((row + column) * lanes + place - channel * lanes)])
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
        across = quotient(int32(columns + side - 1), int32(side))
        block, thread = int32(cuda.blockIdx.x), int32(cuda.threadIdx.x)
        left, top = int32(remainder(block, across) * side), int32(quotient(block, across) * side)
        here, first = remainder(thread, int32(side)), quotient(thread, int32(side))
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
