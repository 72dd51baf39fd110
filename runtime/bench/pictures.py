"""The plots as one PNG picture, for papers and slides."""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from lhc_ref import extras
from lhc_ref.files import atomic_write_bytes
from runtime.bench.tables import first_node, shape_name
from runtime.commands.report import time_text

Facts = Mapping[str, Any]
OURS, OTHER, LIGHT = "#1f5fd0", "#b9c3cf", "#8fb2ee"


def write(path: Path, facts: Facts) -> None:
    """Draw engines, threads, layers and break-even densities, as far as they were measured.

    Raises
    ------
    MissingExtraError : matplotlib is not installed.
    LhcError : the file cannot be written.
    """
    panels = [draw for draw, found in ((_engines, "runs"), (_threads, "scaling"), (_layers, "layers")) if facts[found]]
    panels += [_break_even] * bool(facts["break_even"])
    most_rows = max([len(facts["layers"]), len(facts["break_even"]), 8])
    rows = -(-len(panels) // 2)
    figure = extras.plots().Figure(figsize=(13, rows * max(3.5, 0.24 * most_rows)), layout="constrained", dpi=120)
    figure.suptitle(f"{Path(facts['file']).name}, batch {facts['setup']['batch']}, {facts['machine']['cpu']}")
    for axes, draw in zip(np.ravel(figure.subplots(rows, 2, squeeze=False)), [*panels, None], strict=False):
        if draw is None:
            axes.set_axis_off()
        else:
            draw(axes, facts)
    picture = io.BytesIO()
    figure.savefig(picture, format="png")
    atomic_write_bytes(path, picture.getvalue())


def _engines(axes: Any, facts: Facts) -> None:
    most = max(facts["setup"]["threads"])
    timed = [run for run in facts["runs"] if run["threads"] == most and "batch_s" in run]
    timed.sort(key=lambda run: -run["batch_s"])
    seconds = [run["batch_s"] * 1e3 for run in timed]
    bars = axes.barh([run["engine"] for run in timed], seconds, color=[_colour(run["engine"]) for run in timed])
    axes.bar_label(bars, [time_text(run["batch_s"]) for run in timed], padding=4)
    axes.margins(x=0.15)
    axes.set(title=f"Time of a batch, {most} threads", xlabel="milliseconds")


def _threads(axes: Any, facts: Facts) -> None:
    counts = sorted(facts["setup"]["threads"])
    axes.plot(counts, [n / counts[0] for n in counts], "--", color="grey", label="ideal")
    for name, found in facts["scaling"].items():
        points = [(p["threads"], p["speedup"]) for p in found["points"]]
        axes.plot(
            *zip(*points, strict=True), "o-", label=name, **({"color": OURS, "lw": 2.5} if name == "ours" else {})
        )
    axes.legend()
    axes.set(title="Speed-up by threads", xlabel="threads", xticks=counts, ylim=(0, None))


def _layers(axes: Any, facts: Facts) -> None:
    rows = facts["layers"][::-1]
    names = [first_node(row["layer"]) for row in rows]
    axes.barh(names, [row["seconds"] * 1e6 for row in rows], color=OURS, label="measured")
    least = [(row["least_s"] or 0.0) * 1e6 for row in rows]
    axes.barh(names, least, height=0.35, color=LIGHT, label="least by the machine's limits")
    axes.tick_params(axis="y", labelsize=7)
    axes.legend()
    axes.set(title="Time by layer", xlabel="microseconds")


def _break_even(axes: Any, facts: Facts) -> None:
    rows = facts["break_even"][::-1]
    names = [shape_name(row) for row in rows]
    for key, label, fill in (("fastest", "against the fastest dense", "none"), ("ours", "against ours dense", OURS)):
        found = [row["break_even"][key] for row in rows]
        axes.scatter(found, range(len(rows)), edgecolors=OURS, facecolors=fill, label=label, zorder=3)
    axes.set_yticks(range(len(rows)), names, fontsize=7)
    axes.grid(alpha=0.3)
    axes.legend()
    axes.set(title="Break-even density by layer shape", xlabel="density", xlim=(-0.02, 1.02))


def _colour(engine: str) -> str:
    return OURS if engine == "ours" else OTHER
