"""Plots of results as SVG, one function for each benchmark that has one."""

import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import layers, problems
from benchmarks.results_file import Document, medians_us
from lhc_ref import extras
from lhc_ref.errors import LhcError
from lhc_ref.files import atomic_write_bytes

Result = dict[str, Any]
SIZE = (7.0, 3.8)  # inches
COLOURS = {
    "ours": "#0b6e4f",
    "deepsparse": "#c8553d",
    "onnxruntime": "#4a6fa5",
    "openvino-f32": "#8d6a9f",
    "torch": "#b08900",
    "deepsparse-dense": "#e0a899",
}
MARKS = {"ours": "o", "deepsparse": "s", "onnxruntime": "^", "openvino-f32": "v", "torch": "D", "deepsparse-dense": "x"}


def draw(document: Document, path: Path, digest: str) -> None:
    """Draw a results file's plot; `digest` of the file is written into the picture.

    Raises
    ------
    LhcError : there is no plot of this benchmark.
    MissingExtraError : matplotlib is not installed.
    """
    name = document["benchmark"]
    if name not in PLOTS:
        raise LhcError(
            f"{name}: expected a benchmark with a plot ({', '.join(PLOTS)}), got another. Ask for its table."
        )
    figure = extras.plots().Figure(figsize=SIZE, layout="constrained")
    axes = figure.subplots()
    PLOTS[name](axes, document["results"])
    axes.spines[["top", "right"]].set_visible(False)
    image = io.BytesIO()
    with extras.require("plots", "matplotlib").rc_context({"svg.hashsalt": "lhc"}):
        figure.savefig(
            image, format="svg", metadata={"Date": None, "Description": f"sha256 of the results file: {digest}"}
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic_write_bytes(path, image.getvalue())


def _lines(axes: Any, series: Mapping[str, Mapping[float, float]]) -> None:
    for engine, points in series.items():
        style = {"color": COLOURS.get(engine), "marker": MARKS.get(engine, "o"), "label": engine}
        axes.plot([*points], [*points.values()], linewidth=2.2 if engine == "ours" else 1.2, **style)
    axes.legend(frameon=False)
    axes.grid(alpha=0.25)


def _by_engine(results: Sequence[Result], x: Callable[[Result], float]) -> dict[str, dict[float, float]]:
    """Milliseconds by engine, over something."""
    series: dict[str, dict[float, float]] = {}
    for result in results:
        for engine, time_us in medians_us(result).items():
            series.setdefault(engine, {})[x(result)] = time_us / 1e3
    return series


def density(axes: Any, results: Sequence[Result]) -> None:
    """Time over density."""
    _lines(axes, _by_engine(results, lambda r: problems.find(r["problem"]).density))
    axes.set(xlabel="density of the masked layers", ylabel="ms a batch", ylim=(0, None), xlim=(0, 1))


def batch(axes: Any, results: Sequence[Result]) -> None:
    """Time of an image over the batch."""
    series = _by_engine(results, lambda r: r["batch"])
    _lines(axes, {engine: {n: ms / n for n, ms in points.items()} for engine, points in series.items()})
    axes.set(xlabel="images a batch", ylabel="ms an image", xscale="log", yscale="log")
    axes.set_xticks([r["batch"] for r in results], [str(r["batch"]) for r in results], minor=False)
    axes.minorticks_off()


def threads(axes: Any, results: Sequence[Result]) -> None:
    """Speed over that of one thread."""
    for size in dict.fromkeys(r["batch"] for r in results):
        chosen = {r["threads"]: medians_us(r) for r in results if r["batch"] == size}
        for engine in next(iter(chosen.values())):
            gains = [chosen[1][engine] / times[engine] for times in chosen.values()]
            dashes = "-" if size > 1 else "--"
            label = f"{engine}, batch {size}"
            axes.plot([*chosen], gains, dashes, color=COLOURS.get(engine), marker=MARKS.get(engine, "o"), label=label)
    counts = sorted({r["threads"] for r in results})
    axes.plot(counts, counts, color="grey", linewidth=0.8, label="ideal")
    axes.set(xlabel="threads", ylabel="times faster than one thread", xticks=counts)
    axes.legend(frameon=False)


def bars(axes: Any, results: Sequence[Result]) -> None:
    """How many times as long as ours each engine takes, for each net."""
    engines = [e for e in COLOURS if any(e in r["engines"] for r in results)]
    width = 0.8 / len(engines)
    for number, engine in enumerate(engines):
        at = np.arange(len(results)) + (number - (len(engines) - 1) / 2) * width
        times = (medians_us(r) for r in results)
        axes.barh(at, [t.get(engine, np.nan) / t["ours"] for t in times], width, color=COLOURS[engine], label=engine)
    axes.axvline(1, color="grey", linewidth=0.8)
    names = [f"{problems.title(r['problem'])}, {r['batch']}" for r in results]
    axes.set(xlabel="time of a batch, in ours", yticks=np.arange(len(results)), yticklabels=names)
    axes.invert_yaxis()
    axes.legend(frameon=False, fontsize="small", loc="upper center", bbox_to_anchor=(0.3, -0.12), ncols=3)


def roofline(axes: Any, results: Sequence[Result]) -> None:
    """Share of what a matrix product's speed allows, layer by layer."""
    for result in results:
        shares = [layers.share(layer) for layer in layers.convolutions(result)]
        axes.plot(
            range(1, len(shares) + 1),
            shares,
            marker=".",
            label=f"{problems.title(result['problem'])}, {result['batch']}",
        )
    axes.set(xlabel="convolution", ylabel="of a matrix product's speed", ylim=(0, None))
    axes.legend(frameon=False, fontsize="small")
    axes.grid(alpha=0.25)


PLOTS: dict[str, Callable[[Any, Sequence[Result]], None]] = {
    "speed": bars,
    "density": density,
    "groups": bars,
    "patterns": bars,
    "dense": bars,
    "batch": batch,
    "threads": threads,
    "layers": roofline,
}
