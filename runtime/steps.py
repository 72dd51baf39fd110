"""Fills the steps of a plan: what each kernel is told of its layer, and how its work is cut into tasks."""

import math

import numpy as np

from runtime.costs import TASK_CYCLES
from runtime.kernels.machine import LANES
from runtime.kernels.registry import ROWS, Entry, entries_for
from runtime.kernels.step import NO_FUNCTION, STEP, Kernel
from runtime.kernels.tiles import Tile
from runtime.layer import Layer, Shape
from runtime.layout import CLOSE, Layout, round_up
from runtime.mapping import fill_function, fill_gather
from runtime.pack import Packed, pack, pack_depthwise
from runtime.patches import Patch, Scattered, pack_scattered
from runtime.pixels import Turned, block_of, pack_turned
from runtime.select import Choice, tile_channels
from runtime.windows import sights
from runtime.winograd import Blocking, Transformed, pack_transformed, positions

BORDER_CYCLES = 0.5  # of copying a number between a user's array and a layout
NEAR_WEIGHT_BYTES = 16 * 1024  # weights of the tiles of a single image that walk over the pixels together
TASK_CHANNELS = 256  # output channels that share a patch: with fewer, its copies would count
# Of Winograd's transform: with as many tasks cores end together, and with as many output channels in each the inputs
# are not transformed too often; single images of VGG16, ResNet34 and a U-Net on two cores.
TRANSFORMED_TASKS, TRANSFORMED_CHANNELS = 12, 32
TILE_WEIGHT_BYTES = 24 * 1024  # weights of the tiles that a task walks over should stay in the first-level cache


class Builder:
    """Collects steps, weights and index of a plan."""

    def __init__(self, layout: Layout, offsets: dict[str, int], close: set[str]) -> None:
        self.layout, self.offsets, self.close = layout, offsets, close
        self.steps: list[np.void] = []
        self.weights: list[np.ndarray] = []
        self.index: list[np.ndarray] = []
        self._weights_size = self._index_size = 0

    def layout_of(self, value: str) -> Layout:
        """How a value lies."""
        return CLOSE if value in self.close else self.layout

    def add_weights(self, values: np.ndarray) -> int:
        """Append float32 values at a multiple of one vector; gives their place."""
        return self._append(self.weights, values, "_weights_size")

    def add_index(self, values: np.ndarray) -> int:
        """Append int32 values; gives their place."""
        return self._append(self.index, values, "_index_size")

    def _append(self, parts: list[np.ndarray], values: np.ndarray, counter: str) -> int:
        at = getattr(self, counter)
        padded = np.zeros(round_up(values.size, LANES), values.dtype)
        padded[: values.size] = values.reshape(-1)
        parts.append(padded)
        setattr(self, counter, at + padded.size)
        return at

    def new_step(self, entry: Entry, x: str, shape: Shape, out_shape: Shape) -> np.void:
        """A step with everything that follows from the layout of x and from shapes."""
        step = np.zeros(1, STEP)[0]
        layout = self.layout_of(x)
        lanes, x_block, out_block = layout.lanes, layout.block(shape[2]), layout.block(out_shape[2])
        step["kernel"], step["row"] = entry.kernel, ROWS[entry.name]
        step["tasks"], step["residual_at"], step["lanes"] = 1, -1, lanes
        step["h"], step["w"], step["c"] = shape
        step["oh"], step["ow"], step["out_c"] = out_shape
        step["x_block"], step["x_pixel"] = x_block, layout.pixel(shape[2])
        step["x_row"] = step["x_pixel"] * shape[1]
        step["out_block"], step["out_pixel"] = out_block, layout.pixel(out_shape[2])
        step["low"], step["high"], step["rows_per_task"] = -np.inf, np.inf, 1
        step["function"] = NO_FUNCTION
        self.steps.append(step)
        return step


def _split_tasks(step: np.void, count: int, cycles: float) -> None:
    """Cut `count` pieces of work worth `cycles` in all into tasks of equal numbers of pieces."""
    each = max(1, min(count, int(TASK_CYCLES / max(cycles / max(count, 1), 1e-9))))
    step["rows_per_task"], step["tasks"] = each, -(-count // each)


def _conv_tasks(step: np.void, packed: Packed, cycles: float) -> None:
    """Tasks of a convolution: as many tiles as fit in cache with their weights, as many output rows as make it worth
    while.
    """
    oh, tiles, near = int(step["oh"]), packed.tiles, int(step["tiles_near"])
    fit = max(1, int(TILE_WEIGHT_BYTES * tiles / max(packed.weights.nbytes, 1)))
    rows_if_all_tiles = max(1, min(oh, int(TASK_CYCLES * oh / max(cycles, 1.0))))
    if fit >= tiles:
        per_tiles, per_rows = tiles, rows_if_all_tiles
    else:
        per_tiles = min(tiles, max(fit // near, 1) * near)
        per_rows = max(1, min(oh, int(TASK_CYCLES * oh * tiles / max(cycles * per_tiles, 1.0))))
    step["tiles_per_task"], step["rows_per_task"] = per_tiles, per_rows
    step["tile_chunks"] = -(-tiles // per_tiles)
    step["tasks"] = step["tile_chunks"] * -(-oh // per_rows)


def _whole_tasks(builder: Builder, step: np.void, layer: Layer, tile: Tile, cycles: float) -> None:
    """What a kernel of whole lines wants to know beside: which pixels see each tap, and its tasks, some tiles each."""
    seen = sights(layer, tile.rows)
    assert seen is not None, "such a kernel is chosen only where each tap has its rectangle"
    step["sights_at"] = builder.add_index(seen)
    _split_tasks(step, int(step["tiles"]), cycles)
    step["tiles_per_task"], step["tile_chunks"], step["rows_per_task"] = (
        step["rows_per_task"],
        step["tasks"],
        step["oh"],
    )


def _tiles_near(tile: Tile, packed: Packed, layout: Layout) -> int:
    """Output tiles that walk over the pixels together. A single image's lie side by side in each pixel: as many as
    share the first-level cache with their weights, so that lines of memory that lie together are written together.
    """
    if layout.lanes > 1:
        return tile.near
    fit = NEAR_WEIGHT_BYTES * packed.tiles // max(packed.weights.nbytes, 1)
    return 1 << max(0, fit.bit_length() - 1)


def _window_step(builder: Builder, layer: Layer, choice: Choice) -> tuple[np.void, int]:
    """The step of a convolution, with all that any kernel wants to know of its window and of what ends it; the bytes of
    its slopes.
    """
    window = layer.window
    step = builder.new_step(choice.entry, layer.x, layer.shape, layer.out_shape)
    step["x_at"], step["out_at"] = builder.offsets[layer.x], builder.offsets[layer.output]
    if layer.other is not None:
        step["residual_at"] = builder.offsets[layer.other]
    step["kh"], step["kw"] = window.size
    step["taps"] = window.size[0] * window.size[1]
    step["stride_y"], step["stride_x"] = window.stride
    step["dilation_y"], step["dilation_x"] = window.dilation
    step["pad_top"], step["pad_left"] = window.pad_top, window.pad_left
    if layer.function is None:
        step["low"], step["high"] = layer.low, layer.high
    step["last_low"], step["last_high"] = layer.low, layer.high
    return step, fill_function(step, builder, layer)


def _add_packed(builder: Builder, step: np.void, packed: Packed | Scattered | Transformed | Turned) -> None:
    step["weights_at"], step["bias_at"] = builder.add_weights(packed.weights), builder.add_weights(packed.bias)
    step["rows_at"], step["starts_at"] = builder.add_index(packed.rows), builder.add_index(packed.starts)
    if isinstance(packed, Packed | Scattered):
        step["runs_at"], step["runs"] = builder.add_index(packed.runs), len(packed.runs)


def conv_step(builder: Builder, layer: Layer, choice: Choice) -> int:
    """Fill the step of a convolution; gives the bytes of its packed weights and index."""
    kernel, layout, tile = choice.entry.kernel, builder.layout_of(layer.x), choice.entry.tile
    assert tile is not None, "a convolution kernel has a tile"
    if kernel == Kernel.CONV_SCATTERED:
        return _scattered_step(builder, layer, choice, tile)
    if kernel == Kernel.CONV_WINOGRAD:
        return _winograd_step(builder, layer, choice, tile)
    if kernel == Kernel.CONV_PIXELS:
        return _pixels_step(builder, layer, choice, tile)
    step, placed = _window_step(builder, layer, choice)
    channels = tile_channels(choice.entry)
    depthwise, whole = kernel == Kernel.DEPTHWISE, kernel == Kernel.CONV_WHOLE
    packed = pack_depthwise(layer, layout, tile) if depthwise else pack(layer, layout, tile, channels)
    wide = layout.lanes > LANES
    step["pool_h"], step["pool_w"] = layer.pool
    step["x_column"] = layer.window.stride[1] * step["x_pixel"]
    step["x_stride"] = LANES if wide else step["x_column"] * (1 if whole else layer.pool[1])
    step["out_stride"], step["apart"] = LANES if wide else step["out_pixel"], max(layout.lanes, LANES)
    step["tiles_near"] = math.gcd(_tiles_near(tile, packed, layout), int(step["out_block"]) // channels)
    step["x_tile"] = channels if depthwise else 0
    step["tiles"], step["tile_channels"] = packed.tiles, channels
    step["row_size"] = channels
    _add_packed(builder, step, packed)
    step["row_taps_at"] = builder.add_index(packed.row_taps)
    if whole:
        _whole_tasks(builder, step, layer, tile, choice.cycles)
    else:
        _conv_tasks(step, packed, choice.cycles)
    return packed.bytes + placed


def _scattered_step(builder: Builder, layer: Layer, choice: Choice, tile: Tile) -> int:
    """Fill the step of a convolution whose weights share no pattern; gives the bytes of its packed weights and
    index.
    """
    step, placed = _window_step(builder, layer, choice)
    patch = Patch.of(layer, tile)
    packed = pack_scattered(layer, tile, patch)
    c_out = layer.out_shape[2]
    step["near_h"], step["near_w"], step["near_size"] = patch.height, patch.width, patch.lines * LANES
    step["near_row"], step["near_channel"] = patch.row * LANES, patch.channel * LANES
    step["parts"], step["part_channels"] = patch.parts(layer), patch.channels
    _add_packed(builder, step, packed)
    bands = -(-layer.out_shape[0] // tile.rows)
    _split_tasks(step, bands, choice.cycles)
    chunks = max(1, min(c_out // TASK_CHANNELS, int(choice.cycles / (TASK_CYCLES * bands))))
    step["rows_per_task"] *= tile.rows
    step["tiles"], step["tile_channels"], step["tiles_per_task"] = c_out, 1, -(-c_out // chunks)
    step["tile_chunks"] = -(-c_out // int(step["tiles_per_task"]))
    step["tasks"] *= step["tile_chunks"]
    return packed.bytes + placed


def _winograd_step(builder: Builder, layer: Layer, choice: Choice, tile: Tile) -> int:
    """Fill the step of a convolution by Winograd's transform; gives the bytes of its packed weights and index."""
    step, placed = _window_step(builder, layer, choice)
    layout, made = builder.layout, tile_channels(choice.entry)
    blocking = Blocking.of(layer, layout, tile, made)
    packed = pack_transformed(layer, layout, tile, made, blocking)
    step["pool_h"], step["pool_w"] = layer.pool
    step["windows"], step["parts"], step["part_channels"] = blocking.windows, blocking.parts, blocking.channels
    step["x_stride"], step["near_channel"], step["near_size"] = blocking.stride, blocking.channel, blocking.size
    _add_packed(builder, step, packed)
    step["zeros_at"] = builder.add_weights(np.zeros(made, np.float32))
    step["tiles"], step["tile_channels"], step["row_size"] = len(packed.bias) // made, made, made
    rows, wide = positions(layer)
    each = max(1, min(rows, -(-blocking.windows // wide)))
    step["rows_per_task"] = each * 2 // layer.pool[0]
    tiles, row_tasks = int(step["tiles"]), -(-rows // each)
    chunks = min(-(-TRANSFORMED_TASKS // row_tasks), tiles * made // TRANSFORMED_CHANNELS)
    step["tiles_per_task"] = min(blocking.tiles, -(-tiles // max(1, chunks)))
    step["tile_chunks"] = -(-tiles // int(step["tiles_per_task"]))
    step["tasks"] = step["tile_chunks"] * row_tasks
    return packed.bytes + placed


def _pixels_step(builder: Builder, layer: Layer, choice: Choice, tile: Tile) -> int:
    """Fill the step of a convolution with pixels in the lanes; gives the bytes of its packed weights and index."""
    step, placed = _window_step(builder, layer, choice)
    block = block_of(layer, tile)
    assert block is not None, "such a kernel is chosen only where a block has room"
    packed = pack_turned(layer, tile, block)
    step["pool_h"], step["pool_w"] = layer.pool
    step["x_column"] = layer.window.stride[1] * step["x_pixel"]
    step["block_h"], step["block_w"], step["near_w"] = block.height, block.width, block.row
    step["near_plane"], step["near_channel"], step["near_size"] = block.plane, block.channel, block.size
    _add_packed(builder, step, packed)
    step["tiles"], step["tile_channels"] = len(packed.bias) // tile.outputs, tile.outputs
    step["parts"], step["part_channels"], step["waiting"] = block.parts, block.channels, block.waiting
    step["tiles_per_task"] = block.squares * (LANES // tile.outputs)
    step["tile_chunks"] = -(-int(step["tiles"]) // int(step["tiles_per_task"]))
    step["rows_per_task"] = block.height // layer.pool[0]
    step["tasks"] = step["tile_chunks"] * -(-layer.out_shape[0] // int(step["rows_per_task"]))
    return packed.bytes + placed


def other_step(builder: Builder, layer: Layer, choice: Choice) -> int:
    """Fill the step of any other layer; gives the bytes of its vectors and index."""
    step = builder.new_step(choice.entry, layer.x, layer.shape, layer.out_shape)
    window, layout = layer.window, builder.layout
    step["x_at"], step["out_at"] = builder.offsets[layer.x], builder.offsets[layer.output]
    if layer.other is not None:
        step["residual_at"] = builder.offsets[layer.other]
    step["kh"], step["kw"] = window.size
    step["stride_y"], step["stride_x"] = window.stride
    step["dilation_y"] = step["dilation_x"] = 1
    step["pad_top"], step["pad_left"] = window.pad_top, window.pad_left
    step["low"], step["high"] = layer.low, layer.high
    placed = 0
    if choice.entry.kernel == Kernel.MAP:
        placed = fill_function(step, builder, layer)
    elif choice.entry.kernel == Kernel.GATHER:
        placed = fill_gather(step, builder, layer)
    h, w, c = layer.out_shape
    blocks = round_up(c, layout.block(c)) // layout.block(c)
    pieces = {
        "max_pool": blocks * h,
        "average_pool": blocks * h,
        "flatten": layer.shape[0] * layer.shape[1],
        "softmax": h * w * layout.lanes,
        "move": h * w,
    }.get(layer.op, layout.size(layer.out_shape) // LANES)
    step["tiles"] = blocks if layer.op.endswith("pool") else pieces
    _split_tasks(step, pieces, choice.cycles)
    return placed


def border_step(builder: Builder, kernel: Kernel, name: str, shape: Shape) -> int:
    """A step between the user's array and a layout."""
    (entry,) = entries_for(kernel, builder.layout.name)
    step = builder.new_step(entry, name, shape, shape)
    step["x_at" if kernel == Kernel.EXPORT else "out_at"] = builder.offsets[name]
    _split_tasks(step, shape[0], BORDER_CYCLES * builder.layout_of(name).size(shape))
    return len(builder.steps) - 1
