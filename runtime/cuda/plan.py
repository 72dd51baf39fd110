"""A plan for a GPU: launches in order, weights and index laid out once, and a place for every tensor between layers.

Tensors lie in one of two layouts. In NHWC order, image after image, inputs and outputs on the device are used where
they are. With images innermost, [pixel][channel][image], they are turned at the net's borders: lanes of a kernel are
then images, which lie side by side whatever a layer's window and mask, and four are read at once. Sizes and places are
those of one image: a batch takes as many times as much, at as many times the place, as it has images in memory.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from lhc_ref.modelfile import InputError, ModelSpec, infer_shapes
from runtime.buffers import Lifetime, assign
from runtime.cuda.pack import LIMIT, pack, pack_depthwise, pack_runs
from runtime.cuda.registry import ENTRIES, HWCN, IN_IMAGES, NHWC, Entry, Kernel
from runtime.cuda.select import (
    H200,
    Choice,
    choose_conv,
    estimate_plain,
    estimate_turn,
    images_in_memory,
    reason,
)
from runtime.cuda.step import ADD, LANES, SAME, STEP
from runtime.cuda.tiles import ImagesTile
from runtime.facts import KernelCost, LayerFacts, layer_facts
from runtime.select import is_depthwise
from runtime.spec import FUNCTIONS, Layer, Shape, as_image, to_layers

USER = "\0user"  # after the name of a value: the user's float32 array of it; no name in a file is unprintable
FAMILIES = {
    "max_pool": Kernel.MAX_POOL,
    "average_pool": Kernel.AVERAGE_POOL,
    "softmax": Kernel.SOFTMAX,
    "move": Kernel.MOVE,
    **dict.fromkeys(("add", "activate", "flatten", *FUNCTIONS), Kernel.MAP),
}
Forced = Mapping[str, Entry]


@dataclass(frozen=True)
class Launch:
    """One launch of a kernel: the number of its step, the values that it reads and makes, its layer (-1: none)."""

    entry: Entry
    step: int
    x: str
    other: str | None
    out: str
    layer: int


@dataclass(frozen=True, eq=False)
class GpuPlan:
    """A model laid out for a GPU. Immutable.

    Attributes
    ----------
    storage : "float32" or "float16"
    layout : "nhwc" or "hwcn", images innermost
    launches : in order
    steps : STEP[steps], of one image
    weights : f32 or f16;  vectors : f32, biases and numbers of channels;  index : i32
    places : value -> (first number, numbers) of one image in the arena; what users pass in or get is not in it
    arena_size : numbers of one image
    facts : as `explain` tells them; predictions are of the batch that the plan was made for
    """

    storage: str
    layout: str
    launches: tuple[Launch, ...]
    steps: np.ndarray
    weights: np.ndarray
    vectors: np.ndarray
    index: np.ndarray
    places: Mapping[str, tuple[int, int]]
    arena_size: int
    facts: tuple[LayerFacts, ...]
    most_images: int

    @property
    def bytes(self) -> int:
        """Device memory of weights, vectors, index and steps."""
        return self.weights.nbytes + self.vectors.nbytes + self.index.nbytes + self.steps.nbytes

    @cached_property
    def stretches(self) -> tuple[tuple[Launch, ...], ...]:
        """The launches, cut so that those which use the user's arrays are alone."""
        found: list[list[Launch]] = [[]]
        for launch in self.launches:
            inner = all(name is None or name in self.places for name in (launch.x, launch.other, launch.out))
            if inner:
                found[-1].append(launch)
            else:
                found += [[launch], []]
        return tuple(tuple(launches) for launches in found if launches)

    @property
    def predicted_s(self) -> float:
        """Seconds of a batch of the size that the plan was made for, by the model of the device."""
        return sum(facts.predicted_cycles for facts in self.facts) / H200.clock_hz

    @property
    def copies(self) -> bool:
        """Whether the user's arrays are copied into the layout and storage and back, as values of their own."""
        return _copies(self.storage, self.layout)

    def images_in_memory(self, batch: int) -> int:
        """Images whose place a batch takes."""
        return images_in_memory(batch, self.layout)

    def seconds_of_layers(self, times: Sequence[float]) -> tuple[list[float], tuple[float, float]]:
        """What launches took, by layer; and the copies before and after the layers."""
        of_layer, before, after = [0.0] * len(self.facts), 0.0, 0.0
        numbers = [launch.layer for launch in self.launches]
        for at, (number, seconds) in enumerate(zip(numbers, times, strict=True)):
            if number >= 0:
                of_layer[number] += seconds
            elif max(numbers[:at], default=-1) < 0:
                before += seconds
            else:
                after += seconds
        return of_layer, (before, after)

    def steps_for(self, batch: int) -> np.ndarray:
        """The steps for so many images; InputError where an index would not fit into 32 bits."""
        if batch > self.most_images:
            raise InputError(f"batch: expected at most {self.most_images:,} images, got {batch:,}. Split it.")
        steps, images = self.steps.copy(), self.images_in_memory(batch)
        steps["images"] = batch
        steps["lanes"] = images if self.layout == HWCN else 1
        for field in ("pixels", "size"):
            steps[field] *= images
        return steps


def _copies(storage: str, layout: str) -> bool:
    return storage != "float32" or layout != NHWC


class _Builder:
    """Collects launches, weights and index of a plan."""

    def __init__(
        self, batch: int, storage: str, layout: str, entries: Sequence[Entry], choices: Mapping[str, Choice]
    ) -> None:
        self.batch, self.storage, self.layout, self.choices = batch, storage, layout, choices
        self.images = images_in_memory(batch, layout)
        self.plain = {entry.kernel: entry for entry in entries if entry.tile is None}
        self.number_bytes = np.dtype(storage).itemsize
        self.steps: list[np.void] = []
        self.launches: list[Launch] = []
        self.facts: list[LayerFacts] = []
        self.parts: dict[str, list[np.ndarray]] = {"weights": [], "vectors": [], "index": []}
        self._sizes = dict.fromkeys(self.parts, 0)

    def plain_entry(self, kernel: Kernel) -> Entry:
        """The kernel of a family in this plan's layout."""
        return self.plain[IN_IMAGES.get(kernel, kernel) if self.layout == HWCN else kernel]

    def add(self, array: str, values: np.ndarray) -> int:
        """Append numbers to the weights, vectors or index; gives their place, a multiple of four."""
        gap = -self._sizes[array] % LANES
        if gap:
            self.parts[array].append(np.zeros(gap, values.dtype))
        at = self._sizes[array] = self._sizes[array] + gap
        self.parts[array].append(values.reshape(-1))
        self._sizes[array] += values.size
        return at

    def launch(self, entry: Entry, ends: tuple[str, str | None, str], shape: Shape, out: Shape, layer: int) -> np.void:
        """A launch and its step, with everything that follows from the shapes."""
        step = np.zeros(1, STEP)[0]
        step["h"], step["w"], step["c"] = shape
        step["oh"], step["ow"], step["out_c"] = out
        step["images"], step["pixels"], step["size"] = 1, out[0] * out[1], int(np.prod(out))
        step["low"], step["high"], step["has_other"] = -np.inf, np.inf, ends[1] is not None
        self.launches.append(Launch(entry, len(self.steps), *ends, layer))
        self.steps.append(step)
        return step

    def join(self, array: str, dtype: str) -> np.ndarray:
        """All parts of an array, and one number, since none may be empty."""
        return np.concatenate([*self.parts[array], np.zeros(1)]).astype(dtype)


def _window(step: np.void, layer: Layer) -> None:
    window = layer.window
    step["kh"], step["kw"] = window.size
    step["stride_y"], step["stride_x"] = window.stride
    step["dilation_y"], step["dilation_x"] = window.dilation
    step["pad_top"], step["pad_left"] = window.pad_top, window.pad_left
    step["low"], step["high"] = layer.low, layer.high


def _conv(builder: _Builder, layer: Layer, number: int) -> tuple[Choice, int]:
    """The launch of a convolution; gives the choice and the bytes of its weights and index."""
    ends = layer.x, layer.other, layer.output
    bias = np.zeros(layer.out_shape[2], np.float32) if layer.bias is None else layer.bias
    if is_depthwise(layer):
        estimate = estimate_plain(layer, builder.images, builder.number_bytes)
        choice = Choice.only(builder.plain_entry(Kernel.DEPTHWISE), estimate, f"depthwise: {reason(estimate)}")
        weights = pack_depthwise(layer)
        step = builder.launch(choice.entry, ends, layer.shape, layer.out_shape, number)
        extra = 0
    else:
        choice = builder.choices[layer.name]
        tile = choice.entry.tile
        assert tile is not None, "a convolution kernel has a tile"
        packed = (pack_runs if isinstance(tile, ImagesTile) else pack)(layer, tile.outputs)
        weights = packed.weights
        step = builder.launch(choice.entry, ends, layer.shape, layer.out_shape, number)
        step["tiles"] = packed.tiles
        step["rows_at"], step["starts_at"] = builder.add("index", packed.rows), builder.add("index", packed.index)
        extra = packed.rows.nbytes + packed.index.nbytes
    _window(step, layer)
    step["weights_at"], step["bias_at"] = builder.add("weights", weights), builder.add("vectors", bias)
    return choice, weights.size * builder.number_bytes + bias.nbytes + extra


def _move(builder: _Builder, layer: Layer, number: int) -> int:
    """One launch for each tensor that numbers come from; gives the bytes of the index."""
    first, placed = 0, 0
    for source, move in zip((layer.x, layer.other), layer.moves, strict=False):
        assert source is not None, "a move with two sources names both"
        ends = source, None, layer.output
        step = builder.launch(builder.plain_entry(Kernel.MOVE), ends, move.shape, layer.out_shape, number)
        rows = np.where(move.pixels < 0, -1, move.pixels * move.shape[2]).astype(np.int32)
        columns = move.channels.astype(np.int32)
        highest = int(rows.max(initial=0)) + int(columns.max(initial=0))
        assert highest < np.prod(move.shape), "a move reads inside its tensor"
        step["pixels_at"], step["channels_at"] = builder.add("index", rows), builder.add("index", columns)
        step["channels"], step["first_channel"], step["alpha"] = columns.shape[-1], first, layer.alpha
        step["channels_step"] = columns.shape[1] if columns.ndim == 2 else 0
        step["size"] = len(rows) * columns.shape[-1]
        first += columns.shape[-1]
        placed += rows.nbytes + columns.nbytes
    return placed


def _plain(builder: _Builder, layer: Layer, number: int) -> tuple[Choice, int]:
    """The launch of a layer whose kernel has no choice; gives the bytes of its numbers."""
    entry = builder.plain_entry(FAMILIES[layer.op])
    estimate = estimate_plain(layer, builder.images, builder.number_bytes)
    choice = Choice.only(entry, estimate, f"the only kernel for this operator: {reason(estimate)}")
    if layer.op == "move":
        return choice, _move(builder, layer, number)
    step = builder.launch(entry, (layer.x, layer.other, layer.output), layer.shape, layer.out_shape, number)
    _window(step, layer)
    if entry.kernel is Kernel.MAP:
        step["function"] = {"add": ADD, "activate": SAME, "flatten": SAME}.get(layer.op, FUNCTIONS.get(layer.op, SAME))
        step["alpha"], step["beta"], step["one_pixel"] = layer.alpha, layer.beta, layer.one_pixel
    for field, values in zip(("weights_at", "bias_at"), [*layer.vectors, *layer.vectors][:2], strict=False):
        step[field] = builder.add("vectors", values)
    return choice, sum(values.nbytes for values in layer.vectors)


def _copy(builder: _Builder, x: str, out: str, shape: Shape) -> None:
    """A launch that changes between float32 and float16, and turns the user's images where they lie innermost."""
    kernel = Kernel.TRANSPOSE if builder.layout == HWCN else Kernel.MAP
    step = builder.launch(builder.plain_entry(kernel), (x, None, out), shape, shape, -1)
    step["function"], step["to_lanes"] = SAME, x.endswith(USER)


def _places(launches: Sequence[Launch], sizes: Mapping[str, int], users: set[str]) -> tuple[dict, int]:
    """Where values between layers lie; those alive together never overlap."""
    first: dict[str, int] = {}
    last: dict[str, int] = {}
    for number, launch in enumerate(launches):
        for name in (launch.x, launch.other, launch.out):
            if name is not None and name not in users:
                first.setdefault(name, number)
                last[name] = number
    offsets, size = assign([Lifetime(name, sizes[name], first[name], last[name]) for name in first])
    return {name: (at, sizes[name]) for name, at in offsets.items()}, size


def _choices(
    layers: Sequence[Layer], layout: str, batch: int, number_bytes: int, entries: Sequence[Entry], forced: Forced
) -> dict[str, Choice]:
    """A kernel for each convolution in a layout, by its name; a forced one where that is of this layout."""
    able = [entry for entry in entries if entry.tile is not None and entry.layout == layout]
    found = {}
    for layer in layers:
        if layer.op == "conv2d" and not is_depthwise(layer):
            wanted = forced.get(layer.name)
            found[layer.name] = choose_conv(
                layer, [wanted] if wanted is not None and wanted.layout == layout else able, batch, number_bytes
            )
    return found


def _choose_layout(
    layers: Sequence[Layer], ends: Sequence[Shape], choices: Mapping[str, Mapping[str, Choice]], batch: int, size: int
) -> str:
    """The layout in which the model predicts less time for convolutions and what comes with the layout."""

    def seconds(layout: str) -> float:
        images = images_in_memory(batch, layout)
        turns = [estimate_turn(shape, batch, size).seconds for shape in ends] if _copies("float32", layout) else []
        plain = [estimate_plain(layer, images, size).seconds for layer in layers if layer.name not in choices[layout]]
        return sum([*turns, *plain, *(choice.estimate.seconds for choice in choices[layout].values())])

    return min(choices, key=seconds)


def build(
    spec: ModelSpec,
    batch: int,
    storage: str = "float32",
    entries: Sequence[Entry] = ENTRIES,
    forced: Forced | None = None,
    layout: str | None = None,
) -> GpuPlan:
    """Lay a validated model out. O(weights).

    Parameters
    ----------
    batch : images for which layout and tiles are chosen; the plan runs any number
    entries : kernels to choose among
    forced : layer's name -> the kernel that it shall have in the layout that this one works in, as a trial found
    layout : "nhwc" or "hwcn"; None: the one with the least predicted time, among those that `entries` can run
    """
    layers = to_layers(spec, pooled=False)
    shapes = {name: as_image(shape) for name, shape in infer_shapes(spec).items()}
    shapes |= {layer.output: layer.out_shape for layer in layers}
    inputs = [entry.name for entry in spec.inputs]
    number_bytes = np.dtype(storage).itemsize
    able = {entry.layout for entry in entries if entry.tile is not None}
    layouts = [layout] if layout else [one for one in (NHWC, HWCN) if one in able]
    choices = {one: _choices(layers, one, batch, number_bytes, entries, forced or {}) for one in layouts}
    ends = [shapes[name] for name in (*inputs, *spec.outputs)]
    layout = _choose_layout(layers, ends, choices, batch, number_bytes)
    builder = _Builder(batch, storage, layout, entries, choices[layout])
    users = {*inputs, *spec.outputs}
    if _copies(storage, layout):
        users = {name + USER for name in users}
        for name in inputs:
            _copy(builder, name + USER, name, shapes[name])
    for number, layer in enumerate(layers):
        choice, bytes_ = (_conv if layer.op == "conv2d" else _plain)(builder, layer, number)
        macs = choice.estimate.macs // builder.images
        candidates = [
            KernelCost(entry.name(storage), estimate.seconds * H200.clock_hz) for entry, estimate in choice.candidates
        ]
        cycles = choice.estimate.seconds * H200.clock_hz
        builder.facts.append(
            layer_facts(layer, choice.entry.name(storage), choice.why, macs, cycles, bytes_, candidates)
        )
    if _copies(storage, layout):
        for name in spec.outputs:
            _copy(builder, name, name + USER, shapes[name])
    sizes = {name: int(np.prod(shape)) for name, shape in shapes.items()}
    places, arena_size = _places(builder.launches, sizes, users)
    return GpuPlan(
        storage,
        layout,
        tuple(builder.launches),
        np.array(builder.steps, STEP),
        builder.join("weights", storage),
        builder.join("vectors", "float32"),
        builder.join("index", "int32"),
        places,
        arena_size,
        tuple(builder.facts),
        (LIMIT - 1) // max(sizes.values()) // LANES * LANES if layout == HWCN else (LIMIT - 1) // max(sizes.values()),
    )
