"""The table of true causes against diagnoses: python -m tests.check.diagnose_mutants [--write]; needs torch.

Every mutant of `mutants` goes through the suite; `--write` puts the table into docs/check.md between its marks.
"""

import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from lhc_ref.check import runner
from lhc_ref.check.adapters import Declaration
from lhc_ref.check.process import Target
from tests.check.accepted import ACCEPTED
from tests.check.mutants import MUTANTS, Mutant

DOCS = Path(__file__).parents[2] / "docs" / "check.md"
BEGIN, END = "<!-- mutants -->", "<!-- end of mutants -->"


@dataclass(frozen=True)
class Row:
    """What became of one mutant. `named`: every one of its causes is among the mistakes named."""

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
            yield _row(mutant, f"{module}:{mutant.target}", target)


def _row(mutant: Mutant, name: str, target: Target) -> Row:
    results = runner.run(runner.Plan({mutant.level: name}, ("float32",)), target)
    runner.explain(results)
    failed = results.of("failed")
    diagnosis = tuple(dict.fromkeys(text for f in failed for text in f.diagnosis))
    causes = mutant.name.split("+")
    said = [part for text in diagnosis for part in (text, *text.split(", and "))]
    named = all(any(accepted in said for accepted in ACCEPTED[cause]) for cause in causes)
    return Row(mutant, len(failed), diagnosis, named)


def table(found: list[Row]) -> str:
    """The rows as Markdown, and the counts."""
    lines = ["| true cause | level | failed checks | named | diagnosis |", "|---|---|---|---|---|"]
    for row in found:
        text = "; or: ".join(row.diagnosis) or "none"
        yes = "yes" if row.named else "**no**"
        lines.append(f"| {row.mutant.cause} | {row.mutant.level} | {row.failures} | {yes} | {text} |")
    double = [row for row in found if "+" in row.mutant.name]
    caught, named = (
        sum(bool(v) for v in values) for values in zip(*((r.failures, r.named) for r in found), strict=True)
    )
    summary = (
        f"{len(found)} mutants, {len(double)} of them double faults: {caught} caught, the cause named for {named}."
    )
    return "\n".join([*lines, "", summary])


def main() -> None:
    """Print the table, or write it into the docs."""
    text = table(list(rows()))
    if "--write" in sys.argv[1:]:
        before, _, rest = DOCS.read_text(encoding="utf-8").partition(BEGIN)
        DOCS.write_text(f"{before}{BEGIN}\n{text}\n{END}{rest.partition(END)[2]}", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
