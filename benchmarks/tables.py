"""Tables of results, for the terminal and for the documents."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks import problems
from benchmarks.floors import SPARSE_ENGINE, Verdict, fastest_dense, fastest_other, growth_bytes, planned_bytes
from benchmarks.results_file import medians_us
from lhc_ref.inspect.tables import table

MIB = 2**20
BF16 = "openvino-bf16"


@dataclass(frozen=True)
class Table:
    """Texts; the first `left` columns are names, the others numbers."""

    head: tuple[str, ...]
    rows: list[tuple[str, ...]]
    left: int = 1

    def text(self) -> str:
        """For a terminal."""
        return table(self.head, self.rows, left=self.left)

    def sentences(self) -> list[str]:
        """One for each row, which needs no head above it."""
        named = ((row[: self.left], zip(self.head[self.left :], row[self.left :], strict=True)) for row in self.rows)
        return [f"{', '.join(names)}: " + "; ".join(f"{h} {c}" for h, c in cells if c) for names, cells in named]

    def markdown(self) -> str:
        """For a document."""
        rules = ["---"] * self.left + ["---:"] * (len(self.head) - self.left)
        return "\n".join(f"| {' | '.join(cells)} |" for cells in (self.head, rules, *self.rows))


def speed(results: Sequence[dict[str, Any]]) -> Table:
    """Milliseconds a batch: ours, DeepSparse, the fastest dense engine, and bf16."""
    rows = []
    for result in results:
        times = medians_us(result)
        dense = fastest_dense(times)
        ours, sparse = times["ours"], times.get(SPARSE_ENGINE)
        rows.append(
            (
                name(result),
                _ms(ours),
                _ms(sparse),
                f"{_ms(times[dense])} ({dense})" if dense else "",
                _ms(times.get(BF16)),
                _factor(sparse, ours),
                _factor(times[dense] if dense else None, ours),
            )
        )
    head = ("net, batch", "ours, ms", "DeepSparse", "fastest dense", "openvino bf16", "x DeepSparse", "x dense")
    return Table(head, rows)


def by_engine(results: Sequence[dict[str, Any]]) -> Table:
    """Milliseconds a batch of every engine."""
    engines = list(dict.fromkeys(engine for r in results for engine in (*r["engines"], *r.get("refused", ()))))
    rows = []
    for result in results:
        cells = dict.fromkeys(result.get("refused", ()), "refused")
        cells |= {engine: _ms(time) for engine, time in medians_us(result).items()}
        rows.append((name(result), str(result["threads"]), *(cells.get(engine, "") for engine in engines)))
    return Table(("net, batch", "threads", *(f"{engine}, ms" for engine in engines)), rows)


def against_fastest(results: Sequence[dict[str, Any]]) -> Table:
    """The same, and how many times as fast as the fastest other engine ours is."""
    plain = by_engine(results)
    rows = []
    for row, times in zip(plain.rows, map(medians_us, results), strict=True):
        other = fastest_other(times)
        rows.append((*row, _factor(times[other] if other else None, times["ours"])))
    return Table((*plain.head, "x fastest other"), rows)


def memory(results: Sequence[dict[str, Any]]) -> Table:
    """MiB: growth and peak of every engine's process beyond its imports, and what ours plans."""
    rows = []
    for result in results:
        for engine, entry in result["engines"].items():
            seen = entry["memory_bytes"]
            planned, growth = planned_bytes(entry), growth_bytes(entry)
            cells = (planned, growth, seen["peak"] - seen["import"] if "peak" in seen else None)
            rows.append((name(result), engine, *map(_mib, cells)))
    return Table(("net, batch", "engine", "weights and buffers, MiB", "growth", "growth at its peak"), rows, left=2)


def of_verdicts(verdicts: Sequence[Verdict]) -> Table:
    """Limits that we want to hold, beside what was measured."""
    rows = [
        (
            v.what,
            f"{v.value:.2f}{v.unit}",
            f"{'<=' if v.at_most else '>='} {v.limit:g}{v.unit}",
            "yes" if v.met else "**no**",
        )
        for v in verdicts
    ]
    return Table(("what", "measured", "limit", "met"), rows)


def name(result: dict[str, Any]) -> str:
    """Net and batch, for people."""
    return f"{problems.title(result['problem'])}, {result['batch']}"


def _ms(time_us: float | None) -> str:
    return "" if time_us is None else f"{time_us / 1e3:.2f}"


def _factor(theirs: float | None, ours: float) -> str:
    return "" if theirs is None else f"{theirs / ours:.2f}"


def _mib(size: int | None) -> str:
    return "" if size is None else f"{size / MIB:,.1f}"
