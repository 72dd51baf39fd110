"""The one place where commands print: text for people, JSON for programs."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np


def emit(facts: Mapping[str, Any], lines: Iterable[str], as_json: bool) -> None:
    """Print what a command found: `facts` as JSON, or `lines`."""
    text = json.dumps(_plain(facts), indent=1, allow_nan=False) if as_json else "\n".join(lines)
    print(text, flush=True)


def table(head: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> list[str]:
    """Lines of a table with aligned columns; the first `left` columns are texts, the others numbers."""
    cells = [head, *rows]
    widths = [max(len(row[i]) for row in cells) for i in range(len(head))]
    return [
        "  ".join(
            cell.ljust(width) if i < left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in cells
    ]


def shape_text(shape: Iterable[int]) -> str:
    """`8x8x32`."""
    return "x".join(map(str, shape))


def printable(text: str) -> str:
    """A text from a file, safe for a terminal: control characters escaped."""
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)


def time_text(seconds: float) -> str:
    """A duration with a unit that fits: `1.23 s`, `45.6 ms`, `7.89 us`."""
    for unit, scale in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= scale:
            return f"{seconds / scale:.3g} {unit}" if seconds < 1000 * scale else f"{seconds / scale:,.0f} {unit}"
    return f"{seconds / 1e-6:.3g} us"


def _plain(value: Any) -> Any:
    """A value that JSON holds: NumPy's numbers as Python's, NaN and infinities as texts."""
    if isinstance(value, Mapping):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value
