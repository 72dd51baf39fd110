"""What a plan does, layer by layer, as a table or JSON."""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass

from runtime.facts import LayerFacts


@dataclass(frozen=True)
class Part:
    """Images of a batch that run together: how many, how they lie in memory, bytes of the weights as they are packed
    for that, and what each layer does. MACs are of one image; computed ones include stored zeros, also of padding.
    """

    images: int
    layout: str
    bytes: int
    rows: tuple[LayerFacts, ...]


@dataclass(frozen=True)
class Explanation:
    """How a batch size runs: in one part, or in two or three with kernels of their own, one after the other."""

    batch: int
    parts: tuple[Part, ...]

    @property
    def layout(self) -> str:
        """Of the first part."""
        return self.parts[0].layout

    @property
    def rows(self) -> tuple[LayerFacts, ...]:
        """The layers in the first part."""
        return self.parts[0].rows

    @property
    def bytes(self) -> int:
        """Packed weights of all parts."""
        return sum(part.bytes for part in self.parts)

    def json(self) -> str:
        """The facts as JSON."""
        return json.dumps(asdict(self) | {"bytes": self.bytes}, indent=1)

    def __str__(self) -> str:
        if len(self.parts) == 1:
            return "\n".join(_table(f"batch {self.batch}, layout {self.layout}", self.parts[0]))
        lines = [f"batch {self.batch}, in {len(self.parts)} parts, {self.bytes:,} bytes of packed weights"]
        for part in self.parts:
            lines += ["", *_table(f"{part.images} of the images, layout {part.layout}", part)]
        return "\n".join(lines)


HEAD = ("layer", "shape", "kernel", "tile", "density", "MACs nominal", "kept", "executed", "computed", "bytes", "share")
TEXTS = 4  # columns at the front that are no numbers


def _table(title: str, part: Part) -> list[str]:
    profiled = any(facts.share is not None for facts in part.rows)
    columns = len(HEAD) - (not profiled)
    cells = [HEAD[:columns], *(tuple(_row(facts))[:columns] for facts in part.rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(columns)]
    whys = ["why", *(facts.why for facts in part.rows)]
    lines = [
        "  ".join(
            cell.ljust(w) if i < TEXTS else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        )
        for row in cells
    ]
    title += f", {part.bytes:,} bytes of packed weights"
    return [title, *(f"{line}  {why}".rstrip() for line, why in zip(lines, whys, strict=True))]


def _row(f: LayerFacts) -> Iterator[str]:
    yield f.layer
    yield "x".join(map(str, f.shape)) + " > " + "x".join(map(str, f.out_shape))
    yield f.kernel
    yield f.tile
    yield "" if f.density is None else f"{f.density:.3f}"
    macs = f.macs_nominal, f.macs_kept, f.macs_executed, f.macs_computed
    yield from (f"{n:,}" if f.macs_nominal else "" for n in macs)
    yield f"{f.bytes:,}"
    yield "" if f.share is None else f"{f.share:.1%}"
