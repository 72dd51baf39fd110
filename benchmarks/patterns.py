"""A picture of the patterns that a net has learned."""

import os
from typing import Any

import numpy as np

from lhc_ref import extras
from lhc_ref.files import atomic_write
from lhc_ref.modelfile import MaskedKernel, ModelSpec

COLOURS = np.array([(222, 228, 234), (23, 64, 109), (255, 255, 255)], np.uint8)  # a dropped tap, a kept one, a gap
GAP = 2
TAP_PIXELS, GAP_PIXELS = 12, 10  # of one tap with its line, and between two patterns
PATTERN_INCHES, WIDEST_INCHES = 0.42, 40.0
MOST_LABELS = 8


def masked_kernels(spec: ModelSpec) -> dict[str, MaskedKernel]:
    """The kernels with masks, by layer."""
    kernels = {node.name: node.tensors.get("kernel") for node in spec.nodes}
    return {name: kernel for name, kernel in kernels.items() if isinstance(kernel, MaskedKernel)}


def draw(spec: ModelSpec, path: str | os.PathLike[str], title: str, dpi: int = 150) -> None:
    """Write a PNG: for each layer its patterns, one small picture for each pair of input and output groups.

    Parameters
    ----------
    spec : a net with at least one masked kernel
    path, title : of the picture
    dpi : its pixels an inch

    Raises
    ------
    MissingExtraError : without matplotlib.
    """
    kernels = masked_kernels(spec)
    across = [kernel.mask.shape[3] for kernel in kernels.values()]
    down = max(kernel.mask.shape[2] for kernel in kernels.values())
    inches = min(PATTERN_INCHES, WIDEST_INCHES / sum(across))
    size = (max(inches * sum(across) + 0.8 * len(across), 7.0), inches * down + 2.2)
    figure = extras.plots().Figure(figsize=size, dpi=dpi, layout="constrained")
    figure.suptitle(title, x=0.01, ha="left", fontsize=13)
    figure.supxlabel(
        "One small picture for each group of input channels (down) and group of output channels (across): "
        "the pattern that they share.\nDark taps are kept. Light taps are dropped: not stored, not computed.",
        x=0.01,
        ha="left",
        fontsize=9,
    )
    panels = figure.subplots(1, len(kernels), squeeze=False, width_ratios=across)[0]
    for axes, (name, kernel) in zip(panels, kernels.items(), strict=True):
        _panel(axes, name, kernel)
    atomic_write(path, lambda file: figure.savefig(file, format="png"))


def _panel(axes: Any, name: str, kernel: MaskedKernel) -> None:
    """One layer's patterns on a grid, channels at its sides."""
    kh, kw, c_in, c_out = kernel.shape
    down, across = kernel.mask.shape[2:]
    axes.imshow(mosaic(kernel.mask), interpolation="nearest", extent=(0, across, down, 0), aspect=kh / kw)
    axes.set_title(f"{name}\n{kh}x{kw}, {c_in} → {c_out}\ndensity {kernel.density:.3f}", fontsize=9, loc="left")
    axes.set_anchor("NW")
    axes.set_xticks(*_labels(across, kernel.group_out, c_out), rotation=90, fontsize=7)
    axes.set_yticks(*_labels(down, kernel.group_in, c_in), fontsize=7)
    axes.set_xlabel("output channels", fontsize=8, loc="left")
    axes.set_ylabel("input channels", fontsize=8, loc="top")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)


def _labels(count: int, group: int, channels: int) -> tuple[list[float], list[str]]:
    """Places and texts like `0-15` for the groups along one side, not all of them where there are many."""
    chosen = range(0, count, -(-count // MOST_LABELS))
    ends = [min((i + 1) * group, channels) - 1 for i in chosen]
    return [i + 0.5 for i in chosen], [
        f"{i * group}-{end}" if end > i * group else str(end) for i, end in zip(chosen, ends, strict=True)
    ]


def mosaic(mask: np.ndarray) -> np.ndarray:
    """u8[rows, columns, 3]: the patterns of bool[kh, kw, down, across] side by side, taps as squares."""
    taps = mask.transpose(2, 0, 3, 1).astype(np.uint8)
    squares = taps.repeat(TAP_PIXELS, axis=1).repeat(TAP_PIXELS, axis=3)
    squares[:, ::TAP_PIXELS] = GAP
    squares[:, :, :, ::TAP_PIXELS] = GAP
    half = GAP_PIXELS // 2
    spaced = np.pad(squares, ((0, 0), (half, half), (0, 0), (half, half)), constant_values=GAP)
    return COLOURS[spaced.reshape(spaced.shape[0] * spaced.shape[1], -1)]
