"""`lhc-run verify`: does the runtime compute what the float64 reference does, within what float32 rounding explains?"""

import argparse
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial
from math import prod
from typing import Any

import numpy as np

from lhc_ref.errors import InputError
from lhc_ref.evaluate import Bounded, evaluate_with_bounds
from lhc_ref.modelfile import ModelSpec, infer_shapes
from runtime import Model, load, threads
from runtime.commands import memory
from runtime.commands.arguments import add_cache_dir, add_device, add_json, add_raw, add_threads, where, whole
from runtime.commands.inputs import Arrays, open_inputs, to_net
from runtime.commands.report import emit, table
from runtime.commands.running import FIRST_RUN, note_if_slow, progress
from runtime.cuda.model import GpuModel
from runtime.cuda.plan import layers_of as gpu_layers
from runtime.kernels.machine import LANES
from runtime.layer import Layer
from runtime.layout import LAYOUTS, Layout
from runtime.spec import to_layers

Ways = Mapping[str, Callable[[ModelSpec], Model]]  # every way in which a batch can be run, by name
SAMPLES = max(layout.lanes for layout in LAYOUTS) + 1  # a whole group of images, and one that starts the next
CHUNK_BYTES = 2**29  # of values alive at a time


@dataclass(frozen=True)
class Comparison:
    """Float32 results beside the reference's values.

    Attributes
    ----------
    inside : whether every difference is within its bound; NaN is not
    ratio, difference, bound, index : at the element of the largest ratio difference / bound; the index's first entry
        is the image
    largest_value, largest_difference, largest_bound : each over all elements
    """

    inside: bool
    ratio: float
    difference: float
    bound: float
    index: tuple[int, ...]
    largest_value: float
    largest_difference: float
    largest_bound: float

    @classmethod
    def of(cls, result: np.ndarray, reference: Bounded, first: int) -> "Comparison":
        """Compare results f32[n, ...] of images first..first+n-1."""
        with np.errstate(all="ignore"):
            difference = np.abs(result - reference.value)
            inside = difference <= reference.bound
            ratio = difference / reference.bound
        ratio[np.isnan(ratio)] = 0.0  # 0 of 0, or infinitely far where float32 may overflow
        ratio[np.isnan(difference)] = np.inf
        worst = np.unravel_index(int(ratio.argmax()), ratio.shape)
        return cls(
            inside=bool(inside.all()),
            ratio=float(ratio[worst]),
            difference=float(difference[worst]),
            bound=float(reference.bound[worst]),
            index=(first + int(worst[0]), *map(int, worst[1:])),
            largest_value=float(np.abs(reference.value).max()),
            largest_difference=float(difference.max()),
            largest_bound=float(reference.bound.max()),
        )

    def merge(self, other: "Comparison") -> "Comparison":
        """Of the images of both."""
        return replace(
            other if other.ratio > self.ratio else self,
            inside=self.inside and other.inside,
            largest_value=max(self.largest_value, other.largest_value),
            largest_difference=float(np.maximum(self.largest_difference, other.largest_difference)),  # NaN wins
            largest_bound=max(self.largest_bound, other.largest_bound),
        )


class OneWay(Model):
    """A CPU model that runs every batch in one layout."""

    def __init__(self, spec: ModelSpec, layout: Layout) -> None:
        super().__init__(spec)
        self._layout = layout

    def layouts(self, batch: int) -> list[tuple[Layout, int]]:
        return [(self._layout, batch)] if batch else []


CPU_WAYS: Ways = {layout.name: partial(OneWay, layout=layout) for layout in LAYOUTS}


def ways_of(device: str) -> Ways:
    """The ways to run a batch on a device."""
    return CPU_WAYS if device == "cpu" else {device: partial(GpuModel, device=device)}


def layers_of(spec: ModelSpec, device: str) -> list[Layer]:
    """The layers of a plan for a device whose values are those of nodes; a layer that only moves numbers makes none."""
    made = {node.output for node in spec.nodes}
    layers = to_layers(spec) if device == "cpu" else gpu_layers(spec)
    return [layer for layer in layers if layer.output in made]


def with_values_shown(spec: ModelSpec, layers: Sequence[Layer]) -> ModelSpec:
    """The same graph, of which every value between two layers of the plan is an output; the layers stay the same."""
    return replace(spec, outputs=tuple(layer.output for layer in layers), classes=())


class Verification:
    """The comparisons of one model: its outputs, and layer by layer.

    Attributes
    ----------
    layers : the layers of the plan, fused as it runs them
    outputs : (path, output) -> results of the plan that is used, against bounds carried through the whole net; these
        grow with each layer and say little of deep nets
    values : (path, layer's output) -> results of the same plan when it also gives out what passes between its layers,
        each against the reference computed from the runtime's own values before it: bounds that stay tight
    carried : layer's output -> largest bound carried to it from the input
    different : paths where both plans do not give the same outputs to the last bit
    """

    def __init__(self, spec: ModelSpec, workers: int, device: str = "cpu") -> None:
        self.spec, self.workers = spec, workers
        self.layers, ways = layers_of(spec, device), ways_of(device)
        shown = with_values_shown(spec, self.layers)
        self.paths = list(ways)
        self._used = {path: make(spec) for path, make in ways.items()}
        self._shown = {path: make(shown) for path, make in ways.items()}
        self.outputs: dict[tuple[str, str], Comparison] = {}
        self.values: dict[tuple[str, str], Comparison] = {}
        self.carried: dict[str, float] = {}
        self.different: set[str] = set()

    @property
    def inside(self) -> bool:
        """Whether everything agrees."""
        compared = (*self.outputs.values(), *self.values.values())
        return not self.different and all(found.inside for found in compared)

    @cached_property
    def _transformed(self) -> frozenset[str]:
        """Nodes that any of the plans computes by Winograd's transform."""
        models = (*self._used.values(), *self._shown.values())
        return frozenset().union(*(model.transformed(1) for model in models))

    def run(self, x: Arrays) -> None:
        """Compare for inputs f32[n, ...] by name, a part of the images at a time."""
        count = len(next(iter(x.values())))
        values = sum(prod(shape) for shape in infer_shapes(self.spec).values())
        engine_bytes, reference_bytes = 4 * (len(self.paths) + 1) * values, 8 * 4 * values  # of one image
        several = max(LANES, CHUNK_BYTES // engine_bytes)
        few = max(1, CHUNK_BYTES // reference_bytes)
        needed = min(several, count) * engine_bytes + min(few, count) * reference_bytes
        memory.require(needed, f"{min(several, count)} images with every value kept", "Use fewer --samples.")
        with progress(count, "images") as bar:
            for start in range(0, count, several):
                with note_if_slow(FIRST_RUN if start == 0 else "still running"):
                    made = self._run_engine(_part(x, start, start + several))
                for first in range(start, min(start + several, count), few):
                    stop = min(first + few, start + several, count)
                    results = {path: _part(found, first - start, stop - start) for path, found in made.items()}
                    self._compare(_part(x, first, stop), results, first)
                    bar.update(stop - first)

    def _run_engine(self, x: Arrays) -> dict[tuple[str, bool], Arrays]:
        """(path, whether all values are shown) -> values by name."""
        made = {}
        for path in self.paths:
            for shown, model in ((False, self._used[path]), (True, self._shown[path])):
                y = model.run(x, threads=self.workers)
                made[path, shown] = y if isinstance(y, dict) else {model.spec.outputs[0]: y}
        return made

    def _compare(self, x: Arrays, results: Mapping[tuple[str, bool], Arrays], first: int) -> None:
        carried = evaluate_with_bounds(self.spec, x, keep=True, winograd=self._transformed)
        for layer in self.layers:
            largest = float(carried[layer.output].bound.max())
            self.carried[layer.output] = max(self.carried.get(layer.output, 0.0), largest)
        for path in self.paths:
            used, shown = results[path, False], results[path, True]
            for name, result in used.items():
                _add(self.outputs, (path, name), Comparison.of(result, carried[name], first))
                if not np.array_equal(result, shown[name], equal_nan=True):
                    self.different.add(path)
            observed = {name: value for name, value in shown.items() if np.isfinite(value).all()}
            own = evaluate_with_bounds(self.spec, x, keep=True, observed=observed, winograd=self._transformed)
            for name, result in shown.items():
                _add(self.values, (path, name), Comparison.of(result, own[name], first))


def _part(arrays: Arrays, start: int, stop: int) -> Arrays:
    return {name: array[start:stop] for name, array in arrays.items()}


def _add(found: dict[tuple[str, str], Comparison], key: tuple[str, str], comparison: Comparison) -> None:
    found[key] = found[key].merge(comparison) if key in found else comparison


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command."""
    parser = commands.add_parser(
        "verify", help="compare the runtime with the float64 reference; exit code 0 inside the bounds, 1 outside"
    )
    parser.add_argument("file", metavar="FILE", help="model file")
    parser.add_argument("input", metavar="INPUT", nargs="*", help="as for predict; random numbers if none is given")
    parser.add_argument(
        "--samples", type=whole(1), metavar="N", help=f"images (default: {SAMPLES} random ones, or all of INPUT)"
    )
    parser.add_argument("--seed", type=whole(0), default=0, metavar="S", help="of the random numbers (default 0)")
    add_device(parser)
    add_threads(parser)
    add_raw(parser)
    add_cache_dir(parser)
    add_json(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run the command; gives the exit code."""
    loaded = load(arguments.file, device=arguments.device)
    spec = loaded.spec
    if arguments.input:
        source = open_inputs(spec, arguments.input, loaded.views[0])
        count = min(source.count, arguments.samples or source.count)
        if not count:
            raise InputError(f"{arguments.input[0]}: expected at least one example, got none. Give another file.")
        x, origin = to_net(spec, source.read(0, count), arguments.raw), "given"
    else:
        count = arguments.samples or SAMPLES
        x, origin = _random(spec, count, arguments.seed), f"random, normal, seed {arguments.seed}"
    workers = threads.resolve(arguments.threads)
    done = Verification(spec, workers, arguments.device)
    done.run(x)
    facts = {
        "inside": done.inside,
        "samples": count,
        "input": origin,
        "device": arguments.device,
        "threads": workers,
        "outputs": [{"path": path, "output": name, **asdict(found)} for (path, name), found in done.outputs.items()],
        "layers": [
            {
                "path": path,
                "layer": "+".join(layer.nodes),
                "value": layer.output,
                "carried_bound": done.carried[layer.output],
                **asdict(done.values[path, layer.output]),
            }
            for path in done.paths
            for layer in done.layers
        ],
        "different": sorted(done.different),
    }
    emit(facts, _lines(done, facts), arguments.json)
    return 0 if done.inside else 1


def _random(spec: ModelSpec, count: int, seed: int) -> Arrays:
    """f32[count, ...], normal numbers for each input: what a net reads after preprocessing."""
    size = 4 * count * sum(prod(entry.shape) for entry in spec.inputs)
    memory.require(size, f"{count:,} random images", "Use fewer --samples.")
    rng = np.random.default_rng(seed)
    return {entry.name: rng.standard_normal((count, *entry.shape), np.float32) for entry in spec.inputs}


def _lines(done: Verification, facts: Mapping[str, Any]) -> Iterator[str]:
    """The text for people."""
    place = where(facts["device"], facts["threads"])
    yield f"{facts['samples']} images ({facts['input']}), {place}, each way to run a batch:"
    if facts["device"] == "cpu":
        for layout in LAYOUTS:
            yield f"  {layout.name}: {layout.meaning}"
    yield ""
    yield "outputs against float64; bounds carried from the input, which grow with each layer"
    head = ("  output", "path", "|value| max", "|difference| max", "ratio max", "= |difference|", "/ bound", "at")
    yield from table(head, [_output_row(*key, found) for key, found in done.outputs.items()], left=2)
    yield ""
    yield "layer by layer, each from the runtime's own values before it; bounds that stay tight (largest of each)"
    columns = (f"{path} {what}" for path in done.paths for what in ("|difference|", "ratio"))
    rows = []
    for layer in done.layers:
        found = [done.values[path, layer.output] for path in done.paths]
        measured = [text for one in found for text in (f"{one.largest_difference:.2g}", _ratio(one))]
        bounds = f"{done.carried[layer.output]:.2g}", f"{found[0].largest_bound:.2g}"
        rows.append(("  " + "+".join(layer.nodes), f"{found[0].largest_value:.3g}", *bounds, *measured))
    yield from table(("  layer", "|value|", "carried bound", "own bound", *columns), rows)
    yield ""
    for path in facts["different"]:
        yield f"{path}: the plan gives other outputs when it also gives out the values between its layers"
    outside = [" ".join(key) for found in (done.outputs, done.values) for key, one in found.items() if not one.inside]
    if outside:
        yield f"OUTSIDE the bounds: {', '.join(dict.fromkeys(outside))}"
    if done.inside:
        yield "inside: every output and every layer is within its bound"


def _output_row(path: str, name: str, found: Comparison) -> tuple[str, ...]:
    return (
        f"  {name}",
        path,
        f"{found.largest_value:.3g}",
        f"{found.largest_difference:.2g}",
        _ratio(found),
        f"{found.difference:.2g}",
        f"{found.bound:.2g}",
        str(list(found.index)),
    )


def _ratio(found: Comparison) -> str:
    return f"{found.ratio:.2g}" + " !" * (not found.inside)
