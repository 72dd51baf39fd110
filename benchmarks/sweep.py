"""Runs one benchmark: ``python -m benchmarks.sweep NAME``. Answers are checked before anything is timed.

Writes JSON with machine, versions, commit and raw times; prints the table, and each limit that we want to hold.
Ctrl-C keeps what was measured.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks import problems, results_file
from benchmarks.catalogue import BENCHMARKS
from benchmarks.environments import python_of
from benchmarks.measuring import How
from benchmarks.suites import EVERY_ENGINE
from lhc_ref import command
from lhc_ref.errors import InputError
from runtime.bench.machine import LOUD_CORES
from runtime.threads import available_cores

FOLDER = Path("build/benchmarks")
TOY = How(rounds=3, seconds=0.01, toy=True, threads=1, engines=("ours",))


def run(name: str, how: How, out: Path | None, arguments: Sequence[str]) -> results_file.Document:
    """Measure, print, and write a results file; what was measured before a failure or Ctrl-C is kept.

    Parameters
    ----------
    out : the file; None: that which the documents tell of

    Raises
    ------
    InputError : no such problem; a file for the documents, and no commit holds all that is measured.
    WrongAnswerError, EngineError : an answer is wrong, or an engine fails.
    """
    benchmark = BENCHMARKS[name]
    document = results_file.begin(name, arguments)
    why = results_file.unclean(document)
    if why and out is None:
        raise InputError(f"--store: expected a clean checkout, got sources {why}. Commit first, or leave --store out.")
    if why and not how.toy:
        print(f"measured {why}: good to look at, not to be stored.")
    out = out or results_file.stored_as(document)
    if not how.toy and document["busy_cores"] > LOUD_CORES:
        print(f"other programs keep {document['busy_cores']} cores busy: do not trust the times.")
    try:
        for result in benchmark.measure(how):
            document["results"].append(result)
            print("\n".join(benchmark.table([result]).sentences()), flush=True)
            for why in result.get("refused", {}).values():
                print(f"NOT MEASURED: {why}", flush=True)
    finally:
        if document["results"]:
            results_file.save(out, document)
            print(f"\n{benchmark.table(document['results']).text()}\n")
            for verdict in () if how.toy else benchmark.verdicts(document["results"]):
                print(verdict)
            print(f"written: {out}", flush=True)
    if not document["results"]:
        raise InputError(
            f"{name}: expected a problem of this benchmark, got {', '.join(how.only)}. Leave it out for all."
        )
    return document


def parse(arguments: Sequence[str], name: str | None = None) -> tuple[str, How, Path | None]:
    """Name, how to measure and where to write, of command line arguments; `name` where the command gives it."""
    parser = argparse.ArgumentParser(
        prog=f"python -m benchmarks.{'run' if name else 'sweep'}",
        description=(__doc__ or "").split("\n\n")[-1],
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="benchmarks:\n" + "\n".join(f"  {key:16}{one.about}" for key, one in BENCHMARKS.items()),
    )
    if name is None:
        parser.add_argument("name", choices=BENCHMARKS, metavar="NAME", help="of a benchmark, see below")
    parser.add_argument("--out", type=Path, help=f"results file; {FOLDER}/NAME.json if left out")
    parser.add_argument("--store", action="store_true", help="in benchmarks/results; refused where files are changed")
    parser.add_argument("--problems", nargs="+", default=[], metavar="NET", help="measure these of it alone")
    parser.add_argument("--engines", nargs="+", default=EVERY_ENGINE, choices=EVERY_ENGINE, metavar="ENGINE")
    parser.add_argument("--threads", type=int, default=available_cores(), help="every core by default")
    parser.add_argument("--rounds", type=int, default=7, help="turns of each engine (7)")
    parser.add_argument(
        "--patience", type=float, default=0.0, help="seconds a round waits for cores that were nearer before (0)"
    )
    parser.add_argument("--seconds", type=float, default=0.3, help="of a turn (0.3)")
    parser.add_argument(
        "--toy", action="store_true", help="small nets, only ours by default: shows that everything runs"
    )
    given = parser.parse_args(arguments)
    name = name or given.name
    for problem in given.problems:
        problems.find(problem)
    engines = tuple(engine for engine in given.engines if python_of(engine) is not None)
    only = tuple(given.problems)
    if given.toy:
        how = replace(TOY, engines=TOY.engines if given.engines is EVERY_ENGINE else engines, only=only)
    else:
        how = How(given.rounds, given.seconds, False, given.threads, engines, only, given.patience)
    out = given.out or FOLDER / f"{name}{'-toy' if given.toy else ''}.json"
    return name, how, None if given.store else out


def main(name: str | None = None, arguments: Sequence[str] | None = None) -> int:
    """The command; gives the exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    command = ["benchmarks.sweep", *([name] if name else []), *arguments]
    name, how, out = parse(arguments, name)
    if not how.toy:
        for engine in EVERY_ENGINE:
            if python_of(engine) is None:
                print(f"{engine}: not measured, its environment is missing. Make it: python -m benchmarks.environments")
    run(name, how, out, command)
    return 0


if __name__ == "__main__":
    sys.exit(command.run(main))
