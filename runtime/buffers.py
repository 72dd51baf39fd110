"""Assigns activations to places in one arena, so that those never alive together share memory."""
from dataclasses import dataclass

ALIGN = 32                  # elements: tensors begin at multiples of 128 bytes


@dataclass(frozen=True)
class Lifetime:
    """A tensor's size in elements, and the first and last step that touches it."""

    name: str
    size: int
    first: int
    last: int


def assign(lifetimes: list[Lifetime]) -> tuple[dict[str, int], int]:
    """Offset of each tensor and the arena's size, in elements: largest first, at the lowest place free over its lifetime."""
    placed: list[tuple[int, int, Lifetime]] = []
    offsets: dict[str, int] = {}
    for item in sorted(lifetimes, key=lambda t: (-t.size, t.first, t.name)):
        at = 0
        for begin, end, other in sorted(placed, key=lambda p: p[0]):
            if other.first <= item.last and item.first <= other.last and at < end:
                if begin - at >= item.size:
                    break
                at = end
        offsets[item.name] = at
        placed.append((at, -(-(at + item.size) // ALIGN) * ALIGN, item))
    return offsets, max((end for _, end, _ in placed), default=0)
