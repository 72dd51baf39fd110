"""Assigns activations to places in one arena, so that those never alive together share memory."""

import math
from dataclasses import dataclass

import numpy as np

ALIGN = 32  # elements: tensors begin at multiples of 128 bytes
LARGE = 16 * 1024  # elements that take longer to write than an address to compute


def aligned_zeros(size: int, dtype: type) -> np.ndarray:
    """dtype[size], zero, beginning at a multiple of 128 bytes: a vector that straddles cache lines costs two loads."""
    raw = np.zeros(size * np.dtype(dtype).itemsize + 4 * ALIGN, np.uint8)
    begin = -raw.ctypes.data % (4 * ALIGN)
    return raw[begin : begin + size * np.dtype(dtype).itemsize].view(dtype)


def aligned_empty(shape: tuple[int, ...]) -> np.ndarray:
    """f32 of the shape, not set; a large one begins at a multiple of 128 bytes, so that vectors fill whole lines."""
    size = math.prod(shape)
    if size < LARGE:
        return np.empty(shape, np.float32)
    raw = np.empty(size + ALIGN, np.float32)
    begin = -raw.ctypes.data // raw.itemsize % ALIGN
    return raw[begin : begin + size].reshape(shape)


def aligned_copy(parts: list[np.ndarray], dtype: type) -> np.ndarray:
    """The parts one after the other, in aligned memory."""
    whole = aligned_zeros(sum(part.size for part in parts), dtype)
    np.concatenate(parts, out=whole)
    return whole


@dataclass(frozen=True)
class Lifetime:
    """A tensor's size in elements, and the first and last step that touches it."""

    name: str
    size: int
    first: int
    last: int


def assign(lifetimes: list[Lifetime]) -> tuple[dict[str, int], int]:
    """Offset of each tensor and the arena's size, in elements: largest first, at the lowest place free over its
    lifetime.
    """
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
