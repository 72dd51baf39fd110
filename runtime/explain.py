"""What a plan does, layer by layer, as a table or JSON."""

import json
from dataclasses import asdict, dataclass

from runtime.facts import LayerFacts


@dataclass(frozen=True)
class Explanation:
    """Facts of every layer for one batch size. MACs are of one image; computed ones include stored zeros."""

    batch: int
    layout: str
    rows: tuple[LayerFacts, ...]
    bytes: int

    def json(self) -> str:
        """The facts as JSON."""
        return json.dumps(asdict(self), indent=1)

    def __str__(self) -> str:
        head = ("layer", "shape", "kernel", "density", "MACs nominal", "kept", "executed", "computed", "bytes")
        table = [head] + [self._row(f) for f in self.rows]
        widths = [max(len(row[i]) for row in table) for i in range(len(head))]
        lines = [
            "  ".join(
                cell.ljust(w) if i < 3 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))
            )
            for row in table
        ]
        for i, facts in enumerate(self.rows, start=1):
            lines[i] += f"  {facts.why}"
        lines[0] += "  why"
        return f"batch {self.batch}, layout {self.layout}, {self.bytes:,} bytes of packed weights\n" + "\n".join(
            line.rstrip() for line in lines
        )

    @staticmethod
    def _row(f: LayerFacts) -> tuple[str, ...]:
        shape = "x".join(map(str, f.shape)) + " > " + "x".join(map(str, f.out_shape))
        numbers = (f.macs_nominal, f.macs_kept, f.macs_executed, f.macs_computed)
        return (
            f.layer,
            shape,
            f.kernel,
            "" if f.density is None else f"{f.density:.3f}",
            *(f"{n:,}" if n else "" for n in numbers),
            f"{f.bytes:,}",
        )
