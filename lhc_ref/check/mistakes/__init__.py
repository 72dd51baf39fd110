"""Known mistakes, each as the reference's chain with another function in one place, so that it gives its numbers."""

from lhc_ref.check.mistakes.base import Mistake
from lhc_ref.check.mistakes.gradients import factors, gradients, slopes
from lhc_ref.check.mistakes.levels import other_levels
from lhc_ref.check.mistakes.masks import masks
from lhc_ref.check.mistakes.windows import reads, windows

ALL: tuple[Mistake, ...] = (
    *reads(), *windows(), *masks(), *slopes(), *gradients(), *factors(), *other_levels(),
)  # fmt: skip


def mistakes(level: str) -> list[Mistake]:
    """All that a level can have."""
    return [m for m in ALL if level in m.levels]


__all__ = ["ALL", "Mistake", "mistakes"]
