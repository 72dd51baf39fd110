"""Convolution over runs of kept rows, whatever the mask: structured, unstructured, dense, grouped; and dense layers.

A *run* is some adjacent input channels of one tap that a tile of output channels keeps. A warp makes one tile for 128
numbers of a channel (pixels times images): each lane has four images of a pixel, and their sums with all outputs of the
tile, in registers. For each run the warp copies the weights to shared memory of its own and then reads, for each row,
four images at once. Lanes read side by side whatever the tap; taps outside the image are skipped. A warp waits for
no other, except where `split` warps share the runs of a tile and add up their sums at the end.
"""

from collections.abc import Callable

from numba import cuda, float32, int32
from numpy import uint32

from runtime.cuda.kernels.options import device, kernel_of_registers
from runtime.cuda.kernels.other import ended, limit
from runtime.cuda.kernels.wide import WIDTH, load4, quotient, remainder, store4, sync_warp
from runtime.cuda.step import RUN_CHANNELS, RUN_NUMBERS, SAME
from runtime.cuda.tiles import Tile

REGISTERS = 128  # at most, half of them sums: a multiprocessor then holds 16 warps


def conv(tile: Tile) -> Callable:
    """The kernel for a tile. Blocks: those of one output tile follow each other, the tiles as they are packed."""
    outputs, warps, split, lanes = tile.outputs, tile.warps, tile.split, tile.lanes
    groups = warps // split  # of pixels and images that a block works on
    quarters, each = outputs // WIDTH, WIDTH * lanes
    copies = -(-RUN_CHANNELS * outputs // each)  # by each lane, of a run's weights
    of_warp = tile.warp_numbers  # of shared memory
    sums_shape, staged_numbers = (WIDTH, outputs), warps * of_warp

    @device
    def add_column(sums, output, weight, a, b, c, d):
        """Four images times one weight."""
        sums[0, output] += a * weight
        sums[1, output] += b * weight
        sums[2, output] += c * weight
        sums[3, output] += d * weight

    @device
    def add_row(sums, weights, at, a, b, c, d):
        """Four images of a row times the weights of all outputs, which begin at `at`."""
        for j in range(quarters):
            w0, w1, w2, w3 = load4(weights, at, int32(WIDTH * j))
            add_column(sums, WIDTH * j, w0, a, b, c, d)
            add_column(sums, WIDTH * j + 1, w1, a, b, c, d)
            add_column(sums, WIDTH * j + 2, w2, a, b, c, d)
            add_column(sums, WIDTH * j + 3, w3, a, b, c, d)

    @device
    def emit(step, vectors, other, out, pixel, image, channel, y0, y1, y2, y3):
        """Bias, residual, limits: four images of an output, written."""
        c_out, images, low, high = step["out_c"], step["lanes"], step["low"], step["high"]
        if channel < c_out:
            bias = vectors[uint32(step["bias_at"] + channel)]
            target = uint32((pixel * c_out + channel) * images + image)
            y0, y1, y2, y3 = y0 + bias, y1 + bias, y2 + bias, y3 + bias
            if step["has_other"]:
                r0, r1, r2, r3 = load4(other, target, int32(0))
                y0, y1, y2, y3 = y0 + r0, y1 + r1, y2 + r2, y3 + r3
            y0, y1 = limit(y0, low, high), limit(y1, low, high)
            y2, y3 = limit(y2, low, high), limit(y3, low, high)
            store4(out, target, y0, y1, y2, y3)

    @device
    def put(sums, output, staged, at):
        """Four images of a warp's sums for an output, for the other warps of its tile."""
        store4(staged, at, sums[0, output], sums[1, output], sums[2, output], sums[3, output])

    @device
    def share(sums, first, staged, warp, lane, part, live, step, vectors, other, out, pixel, image, channel):
        """Four outputs of the warps that share a tile, added up in their order; each warp adds and writes some."""
        place = int32(WIDTH * lane)
        put(sums, first, staged, uint32(warp * of_warp + place))
        put(sums, first + 1, staged, uint32(warp * of_warp + each + place))
        put(sums, first + 2, staged, uint32(warp * of_warp + 2 * each + place))
        put(sums, first + 3, staged, uint32(warp * of_warp + 3 * each + place))
        cuda.syncthreads()
        k = part
        while live and k < WIDTH:
            at = uint32((warp - part) * of_warp + k * each + place)
            y0, y1, y2, y3 = load4(staged, at, int32(0))
            for number in range(1, split):
                z0, z1, z2, z3 = load4(staged, at, int32(number * of_warp))
                y0, y1, y2, y3 = y0 + z0, y1 + z1, y2 + z2, y3 + z3
            emit(step, vectors, other, out, pixel, image, int32(channel + k), y0, y1, y2, y3)
            k = int32(k + split)
        cuda.syncthreads()

    @device
    def finish(step, vectors, index, out):
        """The function that ends a convolution, and its limits, of what the block has written.

        Not of the sums: registers that the function needs would be spilled where there is none, too.
        """
        c_out, images, of_block = step["out_c"], step["lanes"], groups * lanes
        low, high = step["last_low"], step["last_high"]
        of_pixel = quotient(images, int32(WIDTH))
        positions = int32(step["oh"] * step["ow"] * of_pixel)
        across = quotient(int32(positions + of_block - 1), int32(of_block))
        place_of_tile = quotient(int32(cuda.blockIdx.x), across)
        first = index[uint32(step["starts_at"] + step["tiles"] + 1 + place_of_tile)]
        begin = int32((cuda.blockIdx.x - place_of_tile * across) * of_block)
        for i in range(cuda.threadIdx.x, of_block * outputs, warps * lanes):
            output = quotient(int32(i), int32(of_block))
            channel, position = int32(first + output), int32(begin + i - output * of_block)
            if channel < c_out and position < positions:
                pixel = quotient(position, of_pixel)
                target = uint32((pixel * c_out + channel) * images + (position - pixel * of_pixel) * WIDTH)
                y0, y1, y2, y3 = load4(out, target, int32(0))
                y0, y1, y2, y3 = ended(step, vectors, channel, y0, y1, y2, y3)
                y0, y1 = limit(y0, low, high), limit(y1, low, high)
                y2, y3 = limit(y2, low, high), limit(y3, low, high)
                store4(out, target, y0, y1, y2, y3)

    @kernel_of_registers(REGISTERS)
    def conv_runs(steps, number, x, other, weights, vectors, index, out):
        step = steps[number]
        sums = cuda.local.array(sums_shape, float32)
        staged = cuda.shared.array(staged_numbers, float32)
        thread = int32(cuda.threadIdx.x)
        warp, lane = quotient(thread, int32(lanes)), remainder(thread, int32(lanes))
        mine, part = int32(warp * of_warp), remainder(warp, int32(split))
        h, w, ow, images = step["h"], step["w"], step["ow"], step["lanes"]
        of_pixel = quotient(images, int32(WIDTH))
        positions = int32(step["oh"] * ow * of_pixel)
        across = quotient(int32(positions + groups * lanes - 1), int32(groups * lanes))
        place_of_tile = quotient(int32(cuda.blockIdx.x), across)
        group = int32(remainder(int32(cuda.blockIdx.x), across) * groups + quotient(warp, int32(split)))
        position = int32(group * lanes + lane)
        live = position < positions
        alike = remainder(of_pixel, int32(lanes)) == 0  # all lanes of a warp have one pixel
        if not live:
            position = int32(0)
        pixel = quotient(position, of_pixel)
        image = int32((position - pixel * of_pixel) * WIDTH)
        oy = quotient(pixel, ow)
        top = int32(oy * step["stride_y"] - step["pad_top"])
        left = int32((pixel - oy * ow) * step["stride_x"] - step["pad_left"])
        begin = int32((top * w + left) * step["c"])
        for i in range(WIDTH):
            for j in range(outputs):
                sums[i, j] = float32(0)

        starts = int32(step["starts_at"] + place_of_tile)
        run, last = index[uint32(starts)], index[uint32(starts + 1)]
        while run < last:  # as often for all warps of a block, whether they have a run or not
            at = int32(step["runs_at"] + RUN_NUMBERS * (run + part))
            channels, inside, place = int32(0), False, int32(0)
            if run + part < last:
                iy, ix = int32(top + index[uint32(at)]), int32(left + index[uint32(at + 1)])
                inside = live and iy >= 0 and iy < h and ix >= 0 and ix < w
                place = int32((begin + index[uint32(at + 2)]) * images + image)
                channels = index[uint32(at + 3)]
            sync_warp()
            if channels > 0 and (inside or not alike):
                first = uint32(step["weights_at"] + index[uint32(at + 4)])
                for i in range(copies):
                    k = int32(i * each + WIDTH * lane)
                    if k < channels * outputs:
                        w0, w1, w2, w3 = load4(weights, first, k)
                        store4(staged, uint32(mine + k), w0, w1, w2, w3)
            sync_warp()
            if inside:
                row = int32(0)
                while row + 4 <= channels:
                    a0, a1, a2, a3 = load4(x, uint32(place), int32(0))
                    b0, b1, b2, b3 = load4(x, uint32(place), images)
                    c0, c1, c2, c3 = load4(x, uint32(place), int32(2 * images))
                    d0, d1, d2, d3 = load4(x, uint32(place), int32(3 * images))
                    add_row(sums, staged, uint32(mine + row * outputs), a0, a1, a2, a3)
                    add_row(sums, staged, uint32(mine + (row + 1) * outputs), b0, b1, b2, b3)
                    add_row(sums, staged, uint32(mine + (row + 2) * outputs), c0, c1, c2, c3)
                    add_row(sums, staged, uint32(mine + (row + 3) * outputs), d0, d1, d2, d3)
                    place = int32(place + 4 * images)
                    row = int32(row + 4)
                left_over = int32(channels - row)
                if left_over > 0:  # loads first; instead of a row that is not there the first one again
                    second, third = int32(images if left_over > 1 else 0), int32(2 * images if left_over > 2 else 0)
                    a0, a1, a2, a3 = load4(x, uint32(place), int32(0))
                    b0, b1, b2, b3 = load4(x, uint32(place), second)
                    c0, c1, c2, c3 = load4(x, uint32(place), third)
                    add_row(sums, staged, uint32(mine + row * outputs), a0, a1, a2, a3)
                    if left_over > 1:
                        add_row(sums, staged, uint32(mine + (row + 1) * outputs), b0, b1, b2, b3)
                    if left_over > 2:
                        add_row(sums, staged, uint32(mine + (row + 2) * outputs), c0, c1, c2, c3)
            run = int32(run + split)

        first = index[uint32(step["starts_at"] + step["tiles"] + 1 + place_of_tile)]
        if split > 1:
            sync_warp()
            share(sums, 0, staged, warp, lane, part, live, step, vectors, other, out, pixel, image, first)
            if quarters > 1:
                share(
                    sums, 4, staged, warp, lane, part, live, step, vectors, other, out, pixel, image, int32(first + 4)
                )
            if quarters > 2:
                share(
                    sums, 8, staged, warp, lane, part, live, step, vectors, other, out, pixel, image, int32(first + 8)
                )
            if quarters > 3:
                share(
                    sums, 12, staged, warp, lane, part, live, step, vectors, other, out, pixel, image, int32(first + 12)
                )
        elif live:
            for j in range(outputs):
                channel, y0, y1, y2, y3 = int32(first + j), sums[0, j], sums[1, j], sums[2, j], sums[3, j]
                emit(step, vectors, other, out, pixel, image, channel, y0, y1, y2, y3)
        if step["function"] != SAME:
            cuda.syncthreads()
            finish(step, vectors, index, out)

    return conv_runs
