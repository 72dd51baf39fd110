"""A picture of the patterns that a net has learned."""

import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from lhc_ref import extras
from lhc_ref.files import atomic_write
from lhc_ref.modelfile import MaskedKernel, ModelSpec

COLOURS = np.array([(222, 228, 234), (23, 64, 109), (255, 255, 255)], np.uint8)  # a dropped tap, a kept one, a gap
GAP = 2
TAP_PIXELS, GAP_PIXELS = 12, 10  # of one tap with its line, and between two patterns
PATTERN_INCHES, WIDEST_INCHES = 0.42, 16.0
ROW_PATTERNS = 48  # side by side in one row of layers
MOST_LABELS = 8


def masked_kernels(spec: ModelSpec) -> dict[str, MaskedKernel]:
    """The kernels with masks, by layer."""
    kernels = {node.name: node.tensors.get("kernel") for node in spec.nodes}
    return {name: kernel for name, kernel in kernels.items() if isinstance(kernel, MaskedKernel)}


def to_json(kernels: Mapping[str, MaskedKernel]) -> dict[str, Any]:
    """The masks as values for JSON, a bit a tap: what a picture is drawn from, without the weights."""
    return {
        name: {
            "shape": list(kernel.shape),
            "groups": [kernel.group_in, kernel.group_out],
            "mask": np.packbits(kernel.mask).tobytes().hex(),
        }
        for name, kernel in kernels.items()
    }


def from_json(layers: Mapping[str, Any]) -> dict[str, MaskedKernel]:
    """What `to_json` was given, with ones for weights."""
    kernels = {}
    for name, layer in layers.items():
        (kh, kw, c_in, c_out), (group_in, group_out) = layer["shape"], layer["groups"]
        shape = kh, kw, -(-c_in // group_in), -(-c_out // group_out)
        bits = np.frombuffer(bytes.fromhex(layer["mask"]), np.uint8)
        mask = np.unpackbits(bits, count=int(np.prod(shape))).astype(bool).reshape(shape)
        ones = np.ones((kh, kw, c_in, c_out), np.float32)
        kernels[name] = MaskedKernel.from_dense(ones, mask, group_in, group_out)
    return kernels


def draw(kernels: Mapping[str, MaskedKernel], path: str | os.PathLike[str], title: str, dpi: int = 150) -> None:
    """Write a PNG: for each layer its patterns, one small picture for each pair of input and output groups.

    Parameters
    ----------
    kernels : at least one, by layer
    path, title : of the picture
    dpi : its pixels an inch

    Raises
    ------
    MissingExtraError : without matplotlib.
    """
    rows = _rows(kernels)
    across = [sum(kernels[name].mask.shape[3] for name in row) for row in rows]
    down = [max(kernels[name].mask.shape[2] for name in row) for row in rows]
    inches = min(PATTERN_INCHES, WIDEST_INCHES / max(across))
    width = max(inches * max(across) + 0.8 * max(map(len, rows)), 7.0)
    heights = [inches * count + 1.2 for count in down]
    figure = extras.plots().Figure(figsize=(width, sum(heights) + 1.0), dpi=dpi, layout="constrained")
    figure.suptitle(title, x=0.01, ha="left", fontsize=13)
    figure.supxlabel(
        "One small picture for each group of input channels (down) and group of output channels (across): "
        "the pattern that they share.\nDark taps are kept. Light taps are dropped: not stored, not computed.",
        x=0.01,
        ha="left",
        fontsize=9,
    )
    parts = figure.subfigures(len(rows), 1, squeeze=False, height_ratios=heights)[:, 0]
    for part, row, count in zip(parts, rows, across, strict=True):
        # Why one more, empty: all rows have one scale.
        widths = [*(kernels[name].mask.shape[3] for name in row), max(across) - count + 1e-3]
        *panels, rest = part.subplots(1, len(widths), squeeze=False, width_ratios=widths)[0]
        rest.set_axis_off()
        for axes, name in zip(panels, row, strict=True):
            _panel(axes, name, kernels[name])
    atomic_write(path, lambda file: figure.savefig(file, format="png"))


def _rows(kernels: Mapping[str, MaskedKernel]) -> list[list[str]]:
    """The layers in rows of at most `ROW_PATTERNS` patterns side by side, or of one layer."""
    rows: list[list[str]] = [[]]
    count = 0
    for name, kernel in kernels.items():
        count += kernel.mask.shape[3]
        if rows[-1] and count > ROW_PATTERNS:
            rows.append([])
            count = kernel.mask.shape[3]
        rows[-1].append(name)
    return rows


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
