"""Convolution over lists of kept rows: structured, unstructured, dense and grouped layers, and dense layers.

A *row* is one kept (tap, input channel) of a tile of output channels, as on the CPU, in the order (ky, kx, ci). A block
makes `pixels` x `outputs` numbers: it stages `depth` rows at a time in shared memory, activations of all its pixels and
weights of all its outputs, and each thread adds the products to its part in registers. The lanes that stage are rows:
where adjacent input channels are kept together, as masks of groups keep them, they read adjacent numbers of a pixel.
The lanes that multiply are pixels: they read side by side, and weights all at one address. One number of padding behind
every row of activations keeps both free of bank conflicts.
"""

from collections.abc import Callable

from numba import cuda
from numpy import float32, int32, uint32

from runtime.cuda.kernels.options import kernel
from runtime.cuda.kernels.other import limit
from runtime.cuda.tiles import Tile

HELD = 8  # activations that a thread has on their way from memory at once


def conv(tile: Tile) -> Callable:
    """The kernel for a tile. Blocks: output tiles of a group of pixels come one after the other."""
    pixels, outputs, depth, threads = tile.pixels, tile.outputs, tile.depth, tile.threads
    mine, wide = tile.thread_pixels, tile.thread_outputs
    activations, weights_shape, places = (depth, pixels + 1), (depth, outputs), (3, pixels)
    accumulators = (mine, wide)
    across = pixels // mine  # threads side by side along the pixels
    apart = threads // depth  # pixels that are staged at once
    loads = pixels // apart
    held = HELD if loads % HELD == 0 else 1
    weight_count = depth * outputs

    @kernel
    def conv_rows(steps, number, x, other, weights, vectors, index, out):
        step = steps[number]
        staged = cuda.shared.array(activations, float32)
        staged_weights = cuda.shared.array(weights_shape, float32)
        begin = cuda.shared.array(places, int32)
        sums = cuda.local.array(accumulators, float32)
        values = cuda.local.array(mine, float32)
        flight = cuda.local.array(held, float32)
        thread = int32(cuda.threadIdx.x)
        tiles, count, c_out = step["tiles"], step["pixels"], step["out_c"]
        tile_number = int32(int32(cuda.blockIdx.x) % tiles)
        first_pixel = int32(int32(cuda.blockIdx.x) // tiles * pixels)
        first_output = int32(tile_number * outputs)
        h, w, plane, ow = step["h"], step["w"], int32(step["oh"] * step["ow"]), step["ow"]

        for i in range(thread, pixels, threads):  # where each pixel's window begins: row, column, place
            pixel = int32(first_pixel + i)
            if pixel >= count:
                pixel = int32(count - 1)
            image = int32(pixel // plane)
            inside = int32(pixel - image * plane)
            oy = int32(inside // ow)
            iy = int32(oy * step["stride_y"] - step["pad_top"])
            ix = int32((inside - oy * ow) * step["stride_x"] - step["pad_left"])
            begin[0, i] = iy
            begin[1, i] = ix
            begin[2, i] = int32(((image * h + iy) * w + ix) * step["c"])
        for i in range(mine):
            for j in range(wide):
                sums[i, j] = float32(0)
        cuda.syncthreads()

        row_here, pixel_here = int32(thread % depth), int32(thread // depth)
        across_here, output_here = int32(thread % across), int32(thread // across * wide)
        row, last = index[uint32(step["starts_at"] + tile_number)], index[uint32(step["starts_at"] + tile_number + 1)]
        while row < last:
            dy, dx, ahead, live = int32(0), int32(0), int32(0), row + row_here < last
            if live:
                at = int32(step["rows_at"] + 3 * (row + row_here))
                dy, dx, ahead = index[uint32(at)], index[uint32(at + 1)], index[uint32(at + 2)]
            for first in range(pixel_here, pixels, apart * held):
                for i in range(held):
                    place = int32(first + i * apart)
                    iy, ix = int32(begin[0, place] + dy), int32(begin[1, place] + dx)
                    flight[i] = float32(0)
                    if live and iy >= 0 and iy < h and ix >= 0 and ix < w:
                        flight[i] = float32(x[uint32(begin[2, place] + ahead)])
                for i in range(held):
                    staged[row_here, int32(first + i * apart)] = flight[i]
            left = int32((last - row) * outputs)
            for i in range(thread, weight_count, threads):
                value = float32(0)
                if i < left:
                    value = float32(weights[uint32(step["weights_at"] + row * outputs + i)])
                staged_weights[int32(i // outputs), int32(i % outputs)] = value
            cuda.syncthreads()
            for k in range(depth):
                for i in range(mine):
                    values[i] = staged[k, int32(across_here + i * across)]
                for j in range(wide):
                    weight = staged_weights[k, int32(output_here + j)]
                    for i in range(mine):
                        sums[i, j] += values[i] * weight
            cuda.syncthreads()
            row = int32(row + depth)

        # Through shared memory, so that lanes write adjacent channels of a pixel.
        low, high, bias_at, has_other = step["low"], step["high"], step["bias_at"], step["has_other"]
        for part in range(0, outputs, depth):
            if output_here // depth * depth == part:
                for j in range(wide):
                    for i in range(mine):
                        staged[int32(output_here - part + j), int32(across_here + i * across)] = sums[i, j]
            cuda.syncthreads()
            channel = int32(first_output + part + row_here)
            if channel < c_out and part + row_here < outputs:
                bias = vectors[uint32(bias_at + channel)]
                for each in range(pixel_here, pixels, apart):
                    if first_pixel + each < count:
                        target = uint32((first_pixel + each) * c_out + channel)
                        total = staged[row_here, int32(each)] + bias
                        if has_other:
                            total += float32(other[target])
                        out[target] = limit(total, low, high)
            cuda.syncthreads()

    return conv_rows
