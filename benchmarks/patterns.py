"""A picture of the patterns that a net has learned."""

import os
from collections.abc import Sequence

import numpy as np

from lhc_ref import extras
from lhc_ref.files import atomic_write
from lhc_ref.modelfile import MaskedKernel, ModelSpec

KEPT, DROPPED = "#17406d", "#e3e7eb"
PICTURE_INCHES = 0.46  # side of one pattern with its gap
LARGEST_INCHES = 40.0


def masked_kernels(spec: ModelSpec) -> dict[str, MaskedKernel]:
    """The kernels with masks, by layer."""
    kernels = {node.name: node.tensors.get("kernel") for node in spec.nodes}
    return {name: kernel for name, kernel in kernels.items() if isinstance(kernel, MaskedKernel)}


def draw(spec: ModelSpec, path: str | os.PathLike[str], title: str) -> None:
    """Write a PNG: for each layer its patterns, one small picture for each pair of input and output groups.

    Raises
    ------
    MissingExtraError : without matplotlib.
    """
    kernels = masked_kernels(spec)
    columns = [kernel.mask.shape[3] for kernel in kernels.values()]
    rows = max((kernel.mask.shape[2] for kernel in kernels.values()), default=1)
    inches = min(PICTURE_INCHES, LARGEST_INCHES / (sum(columns) + 2 * len(columns) + 1))
    size = (inches * (sum(columns) + 2 * len(columns)) + 0.6, inches * rows + 1.9)
    figure = extras.plots().Figure(figsize=(max(size[0], 6.0), size[1]), dpi=150, layout="constrained")
    figure.suptitle(title, x=0.01, ha="left", fontsize=12)
    figure.supxlabel(
        "Each small picture is the pattern that one group of input channels (down) and one group of output channels "
        "(across) share:\ndark taps are kept, light ones are dropped and never computed.",
        x=0.01,
        ha="left",
        fontsize=9,
    )
    panels = figure.subplots(1, len(kernels), squeeze=False, width_ratios=columns)[0] if kernels else []
    for axes, (name, kernel) in zip(panels, kernels.items(), strict=True):
        _panel(axes, name, kernel)
    atomic_write(path, lambda file: figure.savefig(file, format="png"))


def _panel(axes, name: str, kernel: MaskedKernel) -> None:
    """One layer: its patterns on a grid, channels as labels."""
    kh, kw, c_in, c_out = kernel.shape
    for gi, go in np.ndindex(kernel.mask.shape[2:]):
        pattern = kernel.mask[:, :, gi, go]
        for ky, kx in np.ndindex(pattern.shape):
            colour = KEPT if pattern[ky, kx] else DROPPED
            corner = go * (kw + 1) + kx + 0.04, gi * (kh + 1) + ky + 0.04
            axes.add_patch(_square(corner, colour))
    axes.set_xlim(-0.5, kernel.mask.shape[3] * (kw + 1) - 0.5)
    axes.set_ylim(kernel.mask.shape[2] * (kh + 1) - 0.5, -0.5)
