"""A probe's report as pictures (extra `plots`): PNG files made to be read on their own."""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from lhc_ref import extras
from lhc_ref.files import atomic_write
from lhc_ref.inspect.probe import Pattern, Probed, Report

KEPT, MISSING, SECOND = "#1f5a94", "#e4e4e4", "#d1702b"
COMMON = 10
NAMES_A_COLUMN = 20


def save(report: Report, folder: Path) -> list[Path]:
    """Write `layers.png`, and where there is something to show `patterns.png`, `scores.png` and `masks.png`.

    Returns
    -------
    What was written.

    Raises
    ------
    MissingExtraError : matplotlib is not there.
    LhcError : a file cannot be written.
    """
    figure = extras.plots().Figure
    masked = [p for p in report.layers if p.patterns]
    scored = [p for p in masked if p.scores]
    drawn = {"layers": _layers(figure, report)}
    if masked:
        drawn["patterns"] = _patterns(figure, report, masked)
    if scored:
        drawn["scores"] = _scores(figure, report, scored)
    if report.epochs:
        drawn["masks"] = _masks(figure, report)
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, picture in drawn.items():
        path = folder / f"{name}.png"
        atomic_write(path, partial(picture.savefig, dpi=150, format="png"))
        paths.append(path)
    return paths


def _layers(figure: Any, report: Report) -> Any:
    """Density, and multiplications, of each layer."""
    layers = report.layers
    at = np.arange(len(layers))
    fig = figure(figsize=(10, 1.6 + 0.3 * len(layers)), layout="constrained")
    left, right = fig.subplots(1, 2, sharey=True)
    left.barh(at, [100 * p.density for p in layers], color=KEPT)
    for y, p in zip(at, layers, strict=True):
        left.text(100 * p.density + 1, y, f"{100 * p.density:.1f} %", va="center", fontsize=8)
    left.set(xlabel="weights kept (% of the layer's)", xlim=(0, 115), title="Density")
    left.set_yticks(at, [p.layer for p in layers])
    left.set_ylim(len(layers) - 0.4, -0.6)
    right.barh(at, [p.macs / 1e6 for p in layers], color=MISSING, label="as if no weight were missing")
    right.barh(at, [p.executed_macs / 1e6 for p in layers], height=0.5, color=SECOND, label="executed")
    right.set(xlabel="multiply-accumulates of one image (millions)", title="Work")
    fig.legend(loc="outside lower right", ncols=2, fontsize=8)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    fig.suptitle(f"{_name(report)}: density and work by layer")
    return fig


def _patterns(figure: Any, report: Report, layers: list[Probed]) -> Any:
    """A row of pictures for each layer: its most common patterns, sorted by taps."""
    fig = figure(figsize=(11, 1.1 * len(layers) + 0.9), layout="constrained")
    grid = fig.subplots(len(layers), COMMON, squeeze=False)
    for row, layer in zip(grid, layers, strict=True):
        common = sorted(layer.patterns, key=lambda p: -p.pairs)[:COMMON]
        common.sort(key=lambda p: (p.taps, -p.pairs))
        for axes in row:
            axes.set(xticks=[], yticks=[])
            axes.set_frame_on(False)
        for axes, pattern in zip(row, common, strict=False):
            axes.pcolormesh(
                _picture(pattern)[::-1], cmap=_two_colours(), vmin=0, vmax=1, edgecolors="white", linewidth=1
            )
            axes.set_aspect("equal")
            axes.set_xlabel(f"{100 * pattern.share:.1f} %", fontsize=8, labelpad=2)
        patterns = f"{len(layer.patterns)} pattern{'s' * (len(layer.patterns) > 1)}"
        label = f"{layer.layer}\ndensity {layer.density:.2f}\n{patterns}"
        row[0].set_ylabel(label, rotation=0, ha="right", va="center", fontsize=8)
    fig.suptitle(
        f"{_name(report)}: the {COMMON} most common patterns of each layer, sorted by taps\n"
        f"dark: kept tap; below: share of the layer's (input, output) channel pairs",
        fontsize=11,
    )
    return fig


def _picture(pattern: Pattern) -> np.ndarray:
    """1 where a tap is kept, f64[kh, kw]."""
    return np.array([[float(tap == "#") for tap in row] for row in pattern.picture.split("/")])


def _two_colours() -> Any:
    """Light for a missing tap, dark for a kept one."""
    return extras.require("plots", "matplotlib.colors").ListedColormap([MISSING, KEPT])


def _scores(figure: Any, report: Report, layers: list[Probed]) -> Any:
    """A histogram for each layer."""
    columns = min(4, len(layers))
    rows = -(-len(layers) // columns)
    fig = figure(figsize=(3.2 * columns + 0.6, 2.2 * rows + 0.8), layout="constrained")
    grid = fig.subplots(rows, columns, squeeze=False).ravel()
    lines = []
    for axes, layer in zip(grid, layers, strict=False):
        scores = layer.scores
        if scores is None:
            continue
        axes.stairs(scores.counts, scores.edges, fill=True, color=KEPT)
        if scores.kind == "free":
            lines = [axes.axvline(0, color=SECOND, linewidth=1.2, label="0: above it a tap is kept")]
        axes.set_title(layer.layer, fontsize=9)
        axes.tick_params(labelsize=8)
        axes.yaxis.get_major_locator().set_params(integer=True)
        axes.spines[["top", "right"]].set_visible(False)
    for axes in grid[len(layers) :]:
        axes.set_visible(False)
    fig.supxlabel("score (no unit)", fontsize=10)
    fig.supylabel("scores in a bin", fontsize=10)
    if lines:
        fig.legend(handles=lines, loc="outside lower right", fontsize=8)
    fig.suptitle(f"{_name(report)}: scores by layer")
    return fig


def _masks(figure: Any, report: Report) -> Any:
    """How masks move: density and IoU with the last over epochs, a line a layer."""
    names = list(dict.fromkeys(c.layer for c in report.epochs))
    columns = -(-len(names) // NAMES_A_COLUMN)
    fig = figure(figsize=(10 + 1.3 * columns, 4.4), layout="constrained")
    left, right = fig.subplots(1, 2)
    colours = extras.require("plots", "matplotlib").colormaps["viridis"](np.linspace(0, 0.9, len(names)))
    for name, colour in zip(names, colours, strict=True):
        own = [c for c in report.epochs if c.layer == name]
        epochs = [c.epoch for c in own]
        left.plot(epochs, [100 * c.density for c in own], color=colour, label=name)
        right.plot(epochs, [c.iou_last for c in own], color=colour, label=name)
    left.set(
        xlabel="epoch of the coarse stage", ylabel="entries kept (% of the layer's)", ylim=(0, None), title="Density"
    )
    right.set(
        xlabel="epoch of the coarse stage",
        ylabel="intersection over union (no unit)",
        ylim=(0, 1.03),
        title="Likeness to the last epoch's mask",
    )
    fig.legend(*right.get_legend_handles_labels(), loc="outside right", title="layer", fontsize=8, ncols=columns)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
        axes.xaxis.get_major_locator().set_params(integer=True)
    fig.suptitle(f"{_name(report)}: masks while they are learned")
    return fig


def _name(report: Report) -> str:
    return Path(report.source).name
