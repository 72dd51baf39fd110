"""A plan for a GPU: launches in order, weights and index laid out once, and a place for every tensor between layers.

Tensors lie with images innermost, [pixel][channel][image], and the user's are turned at the net's borders: lanes of a
kernel are images, which lie side by side whatever a layer's window and mask, and four are read at once. Sizes and
places are those of one image: a batch takes as many times as much, at as many times the place, as it has images in
memory.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from lhc_ref.modelfile import InputError, ModelSpec, infer_shapes
from runtime.buffers import Lifetime, assign
from runtime.cuda.pack import LIMIT, pack, pack_depthwise
from runtime.cuda.registry import ENTRIES, Entry, Kernel
from runtime.cuda.select import H200, Choice, choose_conv, estimate_plain, images_in_memory, reason
from runtime.cuda.step import ADD, LANES, SAME, STEP
from runtime.facts import KernelCost, LayerFacts, layer_facts
from runtime.layer import FUNCTIONS, Layer, Shape, as_image
from runtime.select import is_depthwise
from runtime.spec import to_layers

USER = "\0user"  # after the name of a value: the user's float32 array of it; no name in a file is unprintable
FAMILIES = {
    "max_pool": Kernel.MAX_POOL,
    "average_pool": Kernel.AVERAGE_POOL,
    "softmax": Kernel.SOFTMAX,
    "move": Kernel.MOVE,
    **dict.fromkeys(("add", "activate", "flatten", *FUNCTIONS), Kernel.MAP),
}


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
    launches : in order; first the user's inputs are turned, last the outputs
    steps : STEP[steps], of one image
    weights : f32 or f16;  vectors : f32, biases and numbers of channels;  index : i32
    places : value -> (first number, numbers) of one image in the arena; what users pass in or get is not in it
    arena_size : numbers of one image
    facts : as `explain` tells them; predictions are of the batch that the plan was made for
    most_images : of a batch, so that every index is below `LIMIT`
    """

    storage: str
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
        steps, images = self.steps.copy(), images_in_memory(batch)
        steps["images"], steps["lanes"] = batch, images
        for field in ("pixels", "size"):
            steps[field] *= images
        return steps


class _Builder:
    """Collects launches, weights and index of a plan."""

    def __init__(self, batch: int, storage: str, entries: Sequence[Entry], forced: Mapping[str, Entry]) -> None:
        self.batch, self.storage, self.forced = batch, storage, forced
        self.convolutions = [entry for entry in entries if entry.tile is not None]
        self.plain = {entry.kernel: entry for entry in entries if entry.tile is None}
        self.number_bytes = np.dtype(storage).itemsize
        self.steps: list[np.void] = []
        self.launches: list[Launch] = []
        self.facts: list[LayerFacts] = []
        self.parts: dict[str, list[np.ndarray]] = {"weights": [], "vectors": [], "index": []}
        self._sizes = dict.fromkeys(self.parts, 0)

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
        step["function"] = SAME
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


def _function(builder: _Builder, step: np.void, layer: Layer) -> int:
    """The function of single numbers that a step is, or ends in; gives the bytes of its vectors."""
    if layer.function is None:
        return 0
    step["function"], step["alpha"], step["beta"] = FUNCTIONS[layer.function], layer.alpha, layer.beta
    step["one_pixel"] = layer.one_pixel
    for field, values in zip(("slope_at", "bias_at"), layer.vectors, strict=False):
        step[field] = builder.add("vectors", values)
    return sum(values.nbytes for values in layer.vectors)


def _conv(builder: _Builder, layer: Layer, number: int) -> tuple[Choice, int]:
    """The launch of a convolution; gives the choice and the bytes of its weights and index."""
    ends = layer.x, layer.other, layer.output
    bias = np.zeros(layer.out_shape[2], np.float32) if layer.bias is None else layer.bias
    if is_depthwise(layer):
        estimate = estimate_plain(layer, images_in_memory(builder.batch), builder.number_bytes)
        choice = Choice.only(builder.plain[Kernel.DEPTHWISE], estimate, f"depthwise: {reason(estimate)}")
        weights = pack_depthwise(layer)
        step = builder.launch(choice.entry, ends, layer.shape, layer.out_shape, number)
        extra = 0
    else:
        forced = builder.forced.get(layer.name)
        entries = builder.convolutions if forced is None else (forced,)
        choice = choose_conv(layer, entries, builder.batch, builder.number_bytes)
        assert choice.entry.tile is not None, "a convolution kernel has a tile"
        packed = pack(layer, choice.entry.tile.outputs)
        weights = packed.weights
        step = builder.launch(choice.entry, ends, layer.shape, layer.out_shape, number)
        step["tiles"] = packed.tiles
        step["runs_at"], step["starts_at"] = builder.add("index", packed.runs), builder.add("index", packed.tables)
        extra = packed.runs.nbytes + packed.tables.nbytes
    _window(step, layer)
    extra += _function(builder, step, layer)
    step["last_low"], step["last_high"] = layer.low, layer.high
    if layer.function is not None:
        step["low"], step["high"] = -np.inf, np.inf
    step["weights_at"], step["bias_at"] = builder.add("weights", weights), builder.add("vectors", bias)
    return choice, weights.size * builder.number_bytes + bias.nbytes + extra


def _move(builder: _Builder, layer: Layer, number: int) -> int:
    """One launch for each tensor that numbers come from; gives the bytes of the index."""
    first, placed = 0, 0
    for source, move in zip((layer.x, layer.other), layer.moves, strict=False):
        assert source is not None, "a move with two sources names both"
        ends = source, None, layer.output
        step = builder.launch(builder.plain[Kernel.MOVE], ends, move.shape, layer.out_shape, number)
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
    entry = builder.plain[FAMILIES[layer.op]]
    estimate = estimate_plain(layer, images_in_memory(builder.batch), builder.number_bytes)
    choice = Choice.only(entry, estimate, f"the only kernel for this operator: {reason(estimate)}")
    if layer.op == "move":
        return choice, _move(builder, layer, number)
    step = builder.launch(entry, (layer.x, layer.other, layer.output), layer.shape, layer.out_shape, number)
    _window(step, layer)
    if layer.op == "add":
        step["function"] = ADD
    return choice, _function(builder, step, layer)


def _turn(builder: _Builder, x: str, out: str, shape: Shape) -> None:
    """A launch that turns the user's images to lie innermost, or back, and changes between float32 and float16."""
    step = builder.launch(builder.plain[Kernel.TRANSPOSE], (x, None, out), shape, shape, -1)
    step["to_lanes"] = x.endswith(USER)


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


def layers_of(spec: ModelSpec) -> list[Layer]:
    """The layers of a validated model as a GPU runs them: its convolutions do not pool."""
    return to_layers(spec, pooled=False)


def build(
    spec: ModelSpec,
    batch: int,
    storage: str = "float32",
    entries: Sequence[Entry] = ENTRIES,
    forced: Mapping[str, Entry] | None = None,
) -> GpuPlan:
    """Lay a validated model out. O(weights).

    Parameters
    ----------
    batch : images for which tiles are chosen; the plan runs any number
    entries : kernels to choose among
    forced : layer's name -> the kernel that it shall have, as a trial found
    """
    layers = layers_of(spec)
    builder = _Builder(batch, storage, entries, forced or {})
    shapes = {name: as_image(shape) for name, shape in infer_shapes(spec).items()}
    shapes |= {layer.output: layer.out_shape for layer in layers}
    inputs = [entry.name for entry in spec.inputs]
    for name in inputs:
        _turn(builder, name + USER, name, shapes[name])
    for number, layer in enumerate(layers):
        choice, bytes_ = (_conv if layer.op == "conv2d" else _plain)(builder, layer, number)
        macs = choice.estimate.macs // images_in_memory(batch)
        candidates = [
            KernelCost(entry.name(storage), estimate.seconds * H200.clock_hz) for entry, estimate in choice.candidates
        ]
        cycles = choice.estimate.seconds * H200.clock_hz
        builder.facts.append(
            layer_facts(layer, choice.entry.name(storage), choice.why, macs, cycles, bytes_, candidates)
        )
    for name in spec.outputs:
        _turn(builder, name, name + USER, shapes[name])
    sizes = {name: int(np.prod(shape)) for name, shape in shapes.items()}
    places, arena_size = _places(builder.launches, sizes, {name + USER for name in (*inputs, *spec.outputs)})
    return GpuPlan(
        storage,
        tuple(builder.launches),
        np.array(builder.steps, STEP),
        builder.join("weights", storage),
        builder.join("vectors", "float32"),
        builder.join("index", "int32"),
        places,
        arena_size,
        tuple(builder.facts),
        (LIMIT - 1) // max(sizes.values()) // LANES * LANES,
    )
