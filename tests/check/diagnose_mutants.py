"""The table of true causes against diagnoses: python -m tests.check.diagnose_mutants [--write] [NAME ...]; needs torch.

Every mutant of `mutants` and `later` goes through the default suite; `--write` puts their tables into docs/check.md
between its marks. With names, only those, also of `familiar`.
"""

import sys
import tempfile
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from lhc_ref.check import failures, runner
from lhc_ref.check.adapters import Declaration
from lhc_ref.check.process import Target
from tests.check import familiar, later
from tests.check.accepted import ACCEPTED
from tests.check.mutants import MUTANTS, NAMED_LATER, Mutant

DOCS = Path(__file__).parents[2] / "docs" / "check.md"
TARGETS = {
    "free": "LhcConv2d", "rigid": "LhcConv2d", "hetconv": "hetconv", "csg": "csg", "lean": "lean", "nm": "nm",
    "regularizer": "penalty",
}  # fmt: skip
BAR = "\\|"  # inside a cell of a table
BEGIN, END = "<!-- mutants{} -->", "<!-- end of mutants{} -->"


@dataclass(frozen=True)
class Row:
    """What became of one mutant. `named`: every one of its faults is among the mistakes named."""

    mutant: Mutant
    failures: int
    diagnosis: tuple[str, ...]
    named: bool


def rows(mutants: Sequence[Mutant] = MUTANTS) -> Iterator[Row]:
    """What the suite says of each, one process for all of them."""
    with (
        tempfile.TemporaryDirectory() as folder,
        Target("torch", Declaration("NCHW", "OIHW"), paths=(folder,)) as target,
    ):
        for mutant in mutants:
            module = "mutant_" + mutant.name.replace("-", "_").replace("+", "__")
            (Path(folder) / f"{module}.py").write_text(mutant.source(), encoding="utf-8")
            yield _row(mutant, {level: f"{module}:{TARGETS[level]}" for level in mutant.levels}, target)


def _row(mutant: Mutant, targets: dict[str, str], target: Target) -> Row:
    results = runner.run(runner.Plan(targets), target)
    failures.explain(results, target)
    failed = results.of("failed")
    diagnosis = tuple(dict.fromkeys(text for f in failed for text in f.diagnosis))
    said = [part for text in diagnosis for part in (text, *text.split(", and "))]
    named = all(any(accepted in said for accepted in ACCEPTED[part]) for part in mutant.name.split("+"))
    return Row(mutant, len(failed), diagnosis, named)


def table(found: Sequence[Row], at_once: Collection[str]) -> str:
    """The rows as Markdown."""
    lines = ["| true cause | level | failed checks | named | diagnosis |", "|---|---|---|---|---|"]
    for row in found:
        text = "; or: ".join(row.diagnosis) or "none"
        yes = "**no**" if not row.named else "yes" if row.mutant.name in at_once else "yes, later"
        cells = ["; ".join(row.mutant.faults), ", ".join(row.mutant.levels), str(row.failures), yes, text]
        lines.append(f"| {' | '.join(cell.replace('|', BAR) for cell in cells)} |")
    return "\n".join(lines)


def counts(found: Sequence[Row], at_once: Collection[str]) -> str:
    """How many were caught and named."""
    caught, named = sum(row.failures > 0 for row in found), sum(row.named for row in found)
    double, first = sum("+" in r.mutant.name for r in found), sum(r.named and r.mutant.name in at_once for r in found)
    return (
        f"{len(found)} mutants, {double} of them double faults: {caught} caught, the cause named for {named}.\n"
        f'Not counting those marked "later": {first}.'
    )


def main() -> None:
    """Print the tables, or write them into the docs."""
    names = [name for name in sys.argv[1:] if name != "--write"]
    every = {m.name for m in (*MUTANTS, *familiar.MUTANTS)}
    if names:
        chosen = [m for m in (*MUTANTS, *familiar.MUTANTS, *later.MUTANTS) if m.name in names]
        print(table(list(rows(chosen)), every - NAMED_LATER | later.NAMED_AT_ONCE))
        return
    for mark, mutants, at_once in ("", MUTANTS, every - NAMED_LATER), (" later", later.MUTANTS, later.NAMED_AT_ONCE):
        found = list(rows(mutants))
        text = f"{table(found, at_once)}\n\n{counts(found, at_once)}"
        if "--write" in sys.argv[1:]:
            begin, end = BEGIN.format(mark), END.format(mark)
            before, _, rest = DOCS.read_text(encoding="utf-8").partition(begin)
            DOCS.write_text(f"{before}{begin}\n{text}\n{end}{rest.partition(end)[2]}", encoding="utf-8")
        print(text)


if __name__ == "__main__":
    main()
