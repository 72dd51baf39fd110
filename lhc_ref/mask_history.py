"""The masks of a run after each epoch that learned them: a small file each, in the run's folder."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lhc_ref import checkpoint
from lhc_ref.errors import CheckpointError

FOLDER = "masks"
Masks = Mapping[str, np.ndarray]
"""Layer -> bool[kh, kw, gi, go], one entry a group, whatever is enabled."""


@dataclass(frozen=True)
class Snapshot:
    """What the scores kept after an epoch of the coarse stage."""

    epoch: int
    masks: Masks


def save(run: Path, epoch: int, masks: Masks) -> None:
    """Keep one epoch's masks, a bit an entry; the same epoch again is written over."""
    folder = run / FOLDER
    folder.mkdir(exist_ok=True)
    shapes = {name: list(mask.shape) for name, mask in masks.items()}
    bits = {name: np.packbits(mask) for name, mask in masks.items()}
    checkpoint.save(folder / f"epoch-{epoch:04}.safetensors", bits, {"epoch": epoch, "shapes": shapes})


def load(run: Path) -> list[Snapshot]:
    """All that was kept, in the order of epochs; none for a run that learns no masks.

    Raises
    ------
    CheckpointError : a file is damaged.
    """
    found = []
    for path in sorted((run / FOLDER).glob("epoch-*.safetensors")):
        bits, value = checkpoint.load(path)
        try:
            shapes = {name: tuple(shape) for name, shape in value["shapes"].items()}
            masks = {
                name: np.unpackbits(bits[name], count=int(np.prod(shape))).reshape(shape).astype(bool)
                for name, shape in shapes.items()
            }
            found.append(Snapshot(value["epoch"], masks))
        except (KeyError, TypeError, ValueError, AttributeError) as e:
            raise CheckpointError(f"{path}: expected masks, got {e}. Delete it: only the comparison needs it.") from e
    return found


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    """Share of all weights that both masks keep; at most the smaller density. The authors call it correlation."""
    return float((a & b).mean())


def iou(a: np.ndarray, b: np.ndarray) -> float:
    """Intersection over union of two masks: 1 for equal ones, 0 for ones without a weight in common."""
    union = int((a | b).sum())
    return int((a & b).sum()) / union if union else 1.0


def correlation(a: np.ndarray, b: np.ndarray) -> float | None:
    """Pearson's correlation of two masks, in [-1, 1]; None where one of them is constant."""
    deviations = a.std() * b.std()
    return float(((a & b).mean() - a.mean() * b.mean()) / deviations) if deviations else None
