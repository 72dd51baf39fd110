"""Runs every benchmark at toy size: ``python -m benchmarks.smoke``. Nothing of it tells anything of speed.

It fails where a benchmark no longer runs, an answer is wrong, a results file does not fit its schema, or a table, a
plot or a comparison cannot be made of it.
"""

import argparse
import hashlib
import sys
import tempfile
import time
from pathlib import Path

from benchmarks import compare, plots, results_file, sweep
from benchmarks.catalogue import BENCHMARKS
from lhc_ref import command


def main() -> int:
    """The command; gives the exit code."""
    argparse.ArgumentParser(
        prog="python -m benchmarks.smoke", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for benchmark in BENCHMARKS:
            print(f"\n== {benchmark}", flush=True)
            out = folder / f"{benchmark}.json"
            sweep.run(benchmark, sweep.TOY, out, ["benchmarks.smoke"])
            document = results_file.load(out)
            BENCHMARKS[benchmark].table(document["results"]).markdown()
            if benchmark in plots.PLOTS:
                plots.draw(document, folder / f"{benchmark}.svg", hashlib.sha256(out.read_bytes()).hexdigest())
            if benchmark == "speed":
                changed = [one for one in compare.changes(document, document, []) if one.verdict != "no change"]
                assert not changed, "a file differs from itself"
    print(f"\n{len(BENCHMARKS)} benchmarks ran in {time.perf_counter() - began:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(command.run(main))
