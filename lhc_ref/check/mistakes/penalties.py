"""The density regularizer as it is often got wrong: (penalty, its derivative) by the mistake's name."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from lhc_ref.check.cases import Array

Penalty = tuple[Callable[..., Any], Callable[..., Any]]


def _penalty(
    weights: tuple[float, float] = (0.01, 0.99),
    distance: Callable[[float], float] = abs,
    slope: Callable[[float], float] = np.sign,
    by_pixels: bool = True,
    mean_of_layers: bool = False,
    density_by_pixels: bool = False,
    relative: bool = False,
) -> Penalty:
    """`weights[0] * share of the MACs + weights[1] * distance(density - target)`, and its derivative."""

    def parts(masks: Sequence[Array], pixels: Sequence[int]) -> tuple[list[float], list[float]]:
        """What one kept weight of each layer adds to the share and to the density."""
        counted = pixels if by_pixels else [1] * len(masks)
        work = sum(m.size * p for m, p in zip(masks, counted, strict=True))
        size = sum(m.size for m in masks)
        density = [1 / (m.size * len(masks)) if mean_of_layers else 1 / size for m in masks]
        share = [p / work for p in counted]
        return share, share if density_by_pixels else density

    def penalty(*masks: Array, pixels: Sequence[int], target_density: float) -> float:
        share, density = parts(masks, pixels)
        kept = [float(m.sum()) for m in masks]
        off = float(np.dot(density, kept)) - target_density
        off = off / target_density if relative else off
        return weights[0] * float(np.dot(share, kept)) + weights[1] * distance(off)

    def vjp(dy: Array, *masks: Array, pixels: Sequence[int], target_density: float) -> list[Array]:
        share, density = parts(masks, pixels)
        off = float(np.dot(density, [float(m.sum()) for m in masks])) - target_density
        scale = 1 / target_density if relative else 1.0
        each = [weights[0] * s + weights[1] * slope(off) * scale * d for s, d in zip(share, density, strict=True)]
        return [np.full(m.shape, float(dy) * g) for m, g in zip(masks, each, strict=True)]

    return penalty, vjp


PENALTIES: dict[str, Penalty] = {
    "the weights 0.01 and 0.99 swapped": _penalty(weights=(0.99, 0.01)),
    "the share of the MACs left out": _penalty(weights=(0.0, 0.99)),
    "the distance to the target left out": _penalty(weights=(0.01, 0.0)),
    "both weights 1": _penalty(weights=(1.0, 1.0)),
    "the distance to the target without its absolute value": _penalty(distance=lambda d: d, slope=lambda d: 1.0),
    "the distance to the target with the wrong sign": _penalty(distance=lambda d: -d, slope=lambda d: -1.0),
    "the distance to the target squared": _penalty(distance=lambda d: d * d, slope=lambda d: 2 * d),
    "only densities above the target are penalised": _penalty(
        distance=lambda d: max(d, 0), slope=lambda d: float(d > 0)
    ),
    "the distance relative to the target": _penalty(relative=True),
    "the density counted by pixels, as the MACs are": _penalty(density_by_pixels=True),
    "the sign of the distance lost in the gradient": _penalty(slope=lambda d: 1.0),
    "MACs counted without the layers' pixels": _penalty(by_pixels=False),
    "the mean of the layers' densities instead of the density of all weights": _penalty(mean_of_layers=True),
}
