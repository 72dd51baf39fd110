"""`lhc-run verify`: does the runtime compute what the float64 reference does, within what float32 rounding explains?"""

import argparse
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from math import prod
from typing import Any

import numpy as np

from lhc_ref.errors import InputError
from lhc_ref.evaluate import Bounded, evaluate_with_bounds
from lhc_ref.modelfile import ModelSpec, infer_shapes
from runtime import Model, load, threads
from runtime.commands import memory
from runtime.commands.arguments import add_json, add_raw, add_threads, whole
from runtime.commands.inputs import Arrays, open_inputs, to_net
from runtime.commands.report import emit, table
from runtime.commands.running import FIRST_RUN, note_if_slow, progress
from runtime.kernels.machine import LANES
from runtime.layout import CHANNELS, IMAGES, Layout

PATHS = (IMAGES, CHANNELS)  # every way in which a batch can be run
SAMPLES = LANES + 1  # a whole group of images, and one that starts the next
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
    """A model that runs every batch in one layout."""

    def __init__(self, spec: ModelSpec, layout: Layout) -> None:
        super().__init__(spec)
        self._layout = layout

    def layouts(self, batch: int) -> list[tuple[Layout, int]]:
        return [(self._layout, batch)] if batch else []


class Verification:
    """The comparisons of one model: its outputs, and layer by layer.

    Attributes
    ----------
    outputs : (path, output) -> results of the plan that is used, against bounds carried through the whole net
    layers : (path, value) -> results of a plan that keeps every value, each against the reference computed from the
        runtime's own values of the layers before, so that the bounds stay tight in deep nets
    carried : value -> largest bound carried to it from the input
    """

    def __init__(self, spec: ModelSpec, workers: int) -> None:
        self.spec, self.workers = spec, workers
        self.shown = replace(spec, outputs=tuple(node.output for node in spec.nodes), classes=())
        self._used = {path.name: OneWay(spec, path) for path in PATHS}
        self._kept = {path.name: OneWay(self.shown, path) for path in PATHS}
        self.outputs: dict[tuple[str, str], Comparison] = {}
        self.layers: dict[tuple[str, str], Comparison] = {}
        self.carried: dict[str, float] = {}

    @property
    def inside(self) -> bool:
        """Whether everything agrees."""
        return all(found.inside for found in (*self.outputs.values(), *self.layers.values()))

    def run(self, x: Arrays) -> None:
        """Compare for inputs f32[n, ...] by name, a part of the images at a time."""
        count = len(next(iter(x.values())))
        values = sum(prod(shape) for shape in infer_shapes(self.spec).values())
        engine_bytes, reference_bytes = 4 * (len(PATHS) + 1) * values, 8 * 4 * values  # of one image
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
        """(path, whether every value is kept) -> values by name."""
        made = {}
        for path in PATHS:
            for keep, model in ((False, self._used[path.name]), (True, self._kept[path.name])):
                y = model.run(x, threads=self.workers)
                made[path.name, keep] = y if isinstance(y, dict) else {model.spec.outputs[0]: y}
        return made

    def _compare(self, x: Arrays, results: Mapping[tuple[str, bool], Arrays], first: int) -> None:
        carried = evaluate_with_bounds(self.spec, x, keep=True)
        for name in self.shown.outputs:
            self.carried[name] = max(self.carried.get(name, 0.0), float(carried[name].bound.max()))
        for path in PATHS:
            for name, result in results[path.name, False].items():
                _add(self.outputs, (path.name, name), Comparison.of(result, carried[name], first))
            kept = results[path.name, True]
            observed = {name: value for name, value in kept.items() if np.isfinite(value).all()}
            local = evaluate_with_bounds(self.spec, x, keep=True, observed=observed)
            for name, result in kept.items():
                _add(self.layers, (path.name, name), Comparison.of(result, local[name], first))


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
    add_threads(parser)
    add_raw(parser)
    add_json(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run the command; gives the exit code."""
    spec = load(arguments.file).spec
    if arguments.input:
        source = open_inputs(spec, arguments.input)
        count = min(source.count, arguments.samples or source.count)
        if not count:
            raise InputError(f"{arguments.input[0]}: expected at least one example, got none. Give another file.")
        x, origin = to_net(spec, source.read(0, count), arguments.raw), "given"
    else:
        count = arguments.samples or SAMPLES
        x, origin = _random(spec, count, arguments.seed), f"random, normal, seed {arguments.seed}"
    workers = threads.resolve(arguments.threads)
    done = Verification(spec, workers)
    done.run(x)
    facts = {
        "inside": done.inside,
        "samples": count,
        "input": origin,
        "threads": workers,
        "outputs": [{"path": path, "output": name, **asdict(found)} for (path, name), found in done.outputs.items()],
        "layers": [
            {"path": path, "value": name, "carried_bound": done.carried[name], **asdict(found)}
            for (path, name), found in done.layers.items()
        ],
    }
    emit(facts, _lines(spec, done, facts), arguments.json)
    return 0 if done.inside else 1


def _random(spec: ModelSpec, count: int, seed: int) -> Arrays:
    """f32[count, ...], normal numbers for each input: what a net reads after preprocessing."""
    size = 4 * count * sum(prod(entry.shape) for entry in spec.inputs)
    memory.require(size, f"{count:,} random images", "Use fewer --samples.")
    rng = np.random.default_rng(seed)
    return {entry.name: rng.standard_normal((count, *entry.shape), np.float32) for entry in spec.inputs}


def _lines(spec: ModelSpec, done: Verification, facts: Mapping[str, Any]) -> Iterator[str]:
    """The text for people."""
    yield f"{facts['samples']} images ({facts['input']}), {facts['threads']} threads, each way to run a batch:"
    yield f"  {IMAGES.name}: {LANES} images in the lanes of a vector; {CHANNELS.name}: one image, channels in the lanes"
    yield ""
    yield "outputs against float64, bounds carried from the input"
    head = ("  output", "path", "|value| max", "|difference| max", "ratio max", "= |difference|", "/ bound", "at")
    yield from table(head, [_output_row(*key, found) for key, found in done.outputs.items()], left=2)
    yield ""
    yield "layer by layer, each from the runtime's own values before it (largest of each)"
    paths = [path.name for path in PATHS]
    columns = (f"{path} {what}" for path in paths for what in ("|difference|", "ratio"))
    rows = [
        (
            f"  {node.name}",
            node.op,
            f"{done.layers[paths[0], node.output].largest_value:.3g}",
            f"{done.carried[node.output]:.2g}",
            f"{done.layers[paths[0], node.output].largest_bound:.2g}",
            *(
                text
                for path in paths
                for text in (
                    f"{done.layers[path, node.output].largest_difference:.2g}",
                    _ratio(done.layers[path, node.output]),
                )
            ),
        )
        for node in spec.nodes
    ]
    yield from table(("  layer", "op", "|value|", "carried bound", "own bound", *columns), rows, left=2)
    yield ""
    outside = [" ".join(key) for found in (done.outputs, done.layers) for key, one in found.items() if not one.inside]
    if outside:
        yield f"OUTSIDE the bounds: {', '.join(dict.fromkeys(outside))}"
    else:
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
