"""A single image's pixels in the lanes: how a layer is cut into blocks, how a task's memory is used, its weights."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from runtime import topology
from runtime.costs import TASK_CYCLES, with_weights
from runtime.kernels.machine import LANES
from runtime.kernels.pixels import MEMORY_SIZE, SQUARE_SIZE
from runtime.kernels.tiles import Tile
from runtime.layer import Layer
from runtime.layout import round_up
from runtime.pack import Lists, PlanError, as_i32, bias_of

PLANES_SIZE = 256 * 1024 // 4  # elements of planes that stay in the second-level cache beside the weights,
SINGLE_PLANES_SIZE = 64 * 1024 // 4  # and those of which a multiply-add each loads a vector
TASKS = 8  # into which output channels are cut, if there are fewer blocks; more make no thread wait less
TOGETHER = 4  # vectors of output channels that are stored pixel by pixel, or each line would lie far from the last
MAX_ROWS = 64  # of pixels in a block
# Cycles of a square of LANES pixels x LANES channels turned into planes, and turned back, pooled and stored, both by as
# many exchanges as it has vectors times log2(LANES); of a register tile beside its rows; and of a sum's way to memory
# and back. Fitted to 170 cases on an AMD Zen 5 core, and held against 66 compiled for AVX2.
COPY_CYCLES, STORE_CYCLES = (cycles * LANES * math.log2(LANES) / 64 for cycles in (48.0, 66.0))
TILE_CYCLES, SUM_CYCLES = 14.0, 1.3


def fits(layer: Layer) -> bool:
    """Whether the kernel computes a layer: where pooling follows, nothing is added."""
    return layer.pool == (1, 1) or layer.other is None


@dataclass(frozen=True)
class Block:
    """A block of pixels and its planes; lengths in elements.

    height, width : output pixels, before pooling
    row, plane, channel : from one row of a plane to the next, from one phase to the next, and to the next channel
    size : of all planes that are there at a time
    channels, parts : input channels that are there at a time, and how many times
    squares : vectors of output channels of a task
    cycles, row_cycles : predicted of the whole layer, and of one row of a tile in it
    until : these cycles and half of the largest task's: so long, on average, one of two threads waits for the other
    """

    height: int
    width: int
    row: int
    plane: int
    channel: int
    size: int
    channels: int
    parts: int
    squares: int
    cycles: float
    row_cycles: float
    until: float

    @property
    def vectors(self) -> int:
        """Vectors of pixels from the first output to the last."""
        return int(_vectors(self.height, self.width, self.row))

    @property
    def waiting(self) -> int:
        """Vectors of output channels whose sums are there at a time."""
        return self.squares if self.parts > 1 else min(self.squares, TOGETHER)

    @property
    def memory(self) -> int:
        """Elements of a task's memory."""
        return LANES + self.size + self.waiting * self.vectors * SQUARE_SIZE

    @classmethod
    def of(cls, layer: Layer, tile: Tile, rows: int) -> "Block | None":
        """The soonest done of those whose planes stay in the cache, for a layer whose tiles have so many rows together;
        or the smallest, or None where none has room.
        """
        best, smallest, squares = None, None, -(-layer.shape[2] // LANES)
        for part in sorted({-(-squares // n) for n in range(1, squares + 1)}, reverse=True):
            block, near = cls._soonest(layer, tile, rows, part)
            if not near:
                smallest = block or smallest
            elif best is None or (block is not None and block.until < best.until):
                best = block
            else:
                break
        return best or smallest

    @classmethod
    def _soonest(cls, layer: Layer, tile: Tile, rows: int, near_squares: int) -> "tuple[Block | None, bool]":
        """Of blocks with so many vectors of input channels at a time, and whether its planes stay in the cache; or the
        smallest.
        """
        (oh, ow, c_out), squares_in = layer.conv_shape, -(-layer.shape[2] // LANES)
        (shift_y, shift_x), phases = (max(shifts(layer, axis)) for axis in (0, 1)), math.prod(layer.window.stride)
        squares_out, parts = -(-c_out // LANES), -(-squares_in // near_squares)
        height, width = _sizes(layer, shift_x)
        row = width + shift_x - (width == ow) * _shared(layer, shift_x)
        vectors, bands, columns = _vectors(height, width, row), -(-oh // height), -(-ow // width)
        plane = -(-(vectors * LANES + shift_y * row + shift_x) // LANES) * LANES
        channel = (phases * plane // LANES | 1) * LANES  # odd, so that channels fall into different sets of a cache
        size = near_squares * LANES * channel
        squares = -(-squares_out // np.clip(-(-TASKS // bands), 1, squares_out))
        waiting = squares if parts > 1 else np.minimum(squares, TOGETHER)
        room = LANES + size + waiting * vectors * SQUARE_SIZE <= MEMORY_SIZE
        if not room.any():
            return None, False
        near = room & (size <= (PLANES_SIZE if tile.outputs > 1 else SINGLE_PLANES_SIZE))
        calls, row_cycles, made = _work(layer, tile, height, width, row)
        copied = bands * columns * -(-squares_out // squares) * squares_in * (phases * plane // LANES)
        visits = parts * LANES // tile.outputs * calls * TILE_CYCLES
        sums = made * (STORE_CYCLES + (parts - 1) * LANES * SUM_CYCLES)
        cycles = copied * COPY_CYCLES + rows * row_cycles + squares_out * (visits + sums)
        largest = np.maximum(height / oh * squares / squares_out, 1 / TASKS)  # task's part of the layer
        until = cycles + np.maximum(largest * cycles, TASK_CYCLES) / 2
        best = int(np.where(near, until, np.inf).argmin() if near.any() else np.where(room, size, np.inf).argmin())
        weights = rows * tile.outputs * int(bands[best] * columns[best])
        block = cls(
            height=int(height[best]),
            width=int(width[best]),
            row=int(row[best]),
            plane=int(plane[best]),
            channel=int(channel[best]),
            size=int(size[best]),
            channels=near_squares * LANES,
            parts=parts,
            squares=int(squares[best]),
            cycles=with_weights(float(cycles[best]), weights),
            row_cycles=float(row_cycles[best]),
            until=float(until[best]),
        )
        return block, bool(near.any())


def block_of(layer: Layer, tile: Tile) -> Block | None:
    """The blocks in which a layer runs with such tiles."""
    return Block.of(layer, tile, int(topology.of_layer(layer).rows(tile.outputs).sum()))


def shifts(layer: Layer, axis: int) -> list[int]:
    """How far in its phase's plane each tap of an axis lies from the window's first pixel."""
    window = layer.window
    return [k * window.dilation[axis] // window.stride[axis] for k in range(window.size[axis])]


def _sizes(layer: Layer, shift: int) -> tuple[np.ndarray, np.ndarray]:
    """Heights and widths that a block may have: whole rows, or as many pixels as fill a plane's row of vectors."""
    (oh, ow, _), (ph, pw) = layer.conv_shape, layer.pool
    filled = ((k * LANES - shift) // pw * pw for k in range(1, 9))
    heights, widths = np.arange(ph, min(oh, MAX_ROWS) + 1, ph), [ow, *(n for n in filled if 0 < n < ow)]
    return np.repeat(heights, len(widths)), np.tile(widths, len(heights))


def _shared(layer: Layer, shift: int) -> int:
    """Columns of padding that stand once for the end of a row and the beginning of the next: of whole rows, where no
    pixel is skipped.
    """
    window, w = layer.window, layer.shape[1]
    behind = layer.conv_shape[1] + shift - window.pad_left - w
    return max(0, min(window.pad_left, behind)) if window.stride[1] == 1 else 0


def _vectors(height: Any, width: Any, row: Any) -> Any:
    return -(-((height - 1) * row + width) // LANES)


def _work(
    layer: Layer, tile: Tile, height: np.ndarray, width: np.ndarray, row: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of the blocks of a whole layer together: register tiles, the largest first; cycles of a row of them all; and
    vectors of pixels.
    """
    (oh, ow, _), (calls, cycles, made) = layer.conv_shape, np.zeros((3, len(height)))
    for high, down in ((height, oh // height), (oh % height, oh % height > 0)):
        for wide, across in ((width, ow // width), (ow % width, ow % width > 0)):
            blocks = down * across
            left = _vectors(high, wide, row) * (blocks > 0)
            made += blocks * left
            for size, cost in zip(tile.pixels, tile.cycles, strict=True):
                calls += blocks * (left // size)
                cycles += blocks * (left // size) * cost
                left = left % size
    return calls, cycles, made


@dataclass(frozen=True, eq=False)
class Turned(Lists):
    """A convolution ready for the kernel of pixels.

    Parameters
    ----------
    weights : f32[rows * outputs], for each row of each tile its weights, zero where another output keeps the row
    bias : f32[tiles * outputs]
    rows : i32[rows], offset of each row's plane and tap from the first channel's plane
    starts : i32[parts * tiles + 1], where the rows of each part, and in it of each tile, begin
    """


def pack_turned(layer: Layer, tile: Tile, block: Block) -> Turned:
    """Rows and weights of a convolution, tile by tile for each part of the input. O(weights)."""
    kernel, outputs = topology.full_kernel(layer), tile.outputs
    kh, kw, c_in, c_out = kernel.shape
    made, parts, channels = round_up(c_out, LANES), block.parts, block.channels
    kept = np.zeros((made // outputs, kh, kw, parts * channels), bool)
    kept[: -(-c_out // outputs), ..., :c_in] = topology.of_layer(layer).rows(outputs)
    kept = kept.reshape(-1, kh, kw, parts, channels).transpose(3, 0, 1, 2, 4)
    whole = np.zeros((kh, kw, parts * channels, made), np.float32)
    whole[..., :c_in, :c_out] = kernel
    by_part = whole.reshape(kh, kw, parts, channels, -1, outputs).transpose(2, 4, 0, 1, 3, 5)
    jumps = layer.window.stride
    (down, py), (across, px) = (
        (np.array(shifts(layer, axis)), np.arange(layer.window.size[axis]) * layer.window.dilation[axis] % jumps[axis])
        for axis in (0, 1)
    )
    taps = (py[:, None] * jumps[1] + px) * block.plane + down[:, None] * block.row + across
    places = taps[..., None] + np.arange(channels) * block.channel
    packed = Turned(
        np.ascontiguousarray(by_part[kept]).reshape(-1),
        bias_of(layer, made),
        as_i32(np.broadcast_to(places, kept.shape)[kept]),
        as_i32(np.r_[0, np.cumsum(kept.reshape(parts * made // outputs, -1).sum(1))]),
    )
    prove_turned(packed, layer, tile, block)
    return packed


def prove_turned(packed: Turned, layer: Layer, tile: Tile, block: Block) -> None:
    """Raise PlanError unless a task's memory holds what the kernel puts and reads there, and weights and bias are as
    many as it reads. What it reads and writes of images the kernel bounds by the images themselves.
    """
    c_in, c_out, rows = layer.shape[2], layer.out_shape[2], packed.rows
    made, (ph, pw), channels = round_up(c_out, LANES), layer.pool, block.channels
    if not packed.covers(block.parts * made // tile.outputs, tile.outputs):
        raise PlanError(f"plan of {layer.name}: expected row starts that cover {len(rows)} rows, got others.")
    if len(packed.bias) != made:
        raise PlanError(f"plan of {layer.name}: expected a bias for {made} channels, got {len(packed.bias)}.")
    if not (fits(layer) and block.height % ph == block.width % pw == 0 and LANES % tile.outputs == 0):
        raise PlanError(f"plan of {layer.name}: expected blocks of whole windows of {ph} x {pw}, got others.")
    if not (block.parts - 1) * channels < c_in <= block.parts * channels or channels % LANES:
        raise PlanError(f"plan of {layer.name}: expected parts of {c_in} channels, got {block.parts} of {channels}.")
    phases = math.prod(layer.window.stride)
    if block.size < channels * block.channel or block.channel < phases * block.plane or block.plane % LANES:
        raise PlanError(f"plan of {layer.name}: expected room for {channels} channels, got {block.size} elements.")
    if block.memory > MEMORY_SIZE:
        raise PlanError(f"plan of {layer.name}: expected {MEMORY_SIZE} elements, got {block.memory}.")
    reach = block.vectors * LANES
    if rows.size and not 0 <= rows.min() <= rows.max() <= block.size - reach:
        raise PlanError(
            f"plan of {layer.name}: expected reads within 0..{block.size}, got {rows.min()}..{rows.max() + reach}."
        )
