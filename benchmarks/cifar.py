"""Trains VGG16 at a quarter of its width on CIFAR-10, with ordinary and with learnable heterogeneous convolutions, and
reports what came of it: ``python -m benchmarks.cifar FOLDER`` (FOLDER: CIFAR-10's binary version).

Six runs: dense and target densities .2 and .1, two seeds each, all by the same recipe, the dense ones first. A run that
is there goes on, so that the command can be stopped with Ctrl-C at any time and typed again; one that the log of all
runs has as finished is not made again (name another ``--log`` for that). The report is made from the runs' own logs:
what is not done yet is listed as such.
"""

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

from benchmarks import cifar_report
from benchmarks.training import Training, train_all
from lhc_ref import command

RECIPE = (
    "--model vgg16-bn --width 0.25 --groups 8,8 --epochs-coarse 13 --epochs-fine 11 --enable-epochs 3 --ramp-epochs 3 "
    "--batch 64 --lr 0.1 --lr-fine 0.05 --shift 0 --crop 4 --flip --checkpoint-steps 200"
)
SEEDS = (0, 1)
DENSE = "dense"
CONVOLUTIONS = {
    DENSE: "--conv standard",
    "lhc20": "--conv lhc-free --target-density 0.2",
    "lhc10": "--conv lhc-free --target-density 0.1",
}
"""Name -> its own options."""


@dataclass(frozen=True)
class Planned:
    """A run that is to be made."""

    kind: str
    seed: int

    @property
    def name(self) -> str:
        return f"{self.kind}-{self.seed}"

    def options(self, data: str) -> list[str]:
        """Of `lhc-ref train`."""
        return ["--data", data, *RECIPE.split(), *CONVOLUTIONS[self.kind].split(), "--seed", str(self.seed)]


PLAN = [Planned(kind, seed) for kind in CONVOLUTIONS for seed in SEEDS]


def main(argv: list[str] | None = None) -> int:
    """Train what is not trained, and report."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cifar", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("data", metavar="FOLDER", help="with data_batch_1.bin ... test_batch.bin, batches.meta.txt")
    parser.add_argument("--runs", type=Path, default=Path("build/cifar10"), help="folder of the runs (build/cifar10)")
    parser.add_argument("--page", type=Path, default=Path("docs/cifar10.md"), help="the report (docs/cifar10.md)")
    parser.add_argument(
        "--log",
        type=Path,
        default=Path("benchmarks/results/cifar10/epochs.jsonl"),
        help="all epochs of all runs (benchmarks/results/cifar10/epochs.jsonl)",
    )
    parser.add_argument(
        "--speed",
        type=Path,
        default=Path("benchmarks/results/cifar10/speed.json"),
        help="the finished nets in the runtime (benchmarks/results/cifar10/speed.json)",
    )
    alone = parser.add_mutually_exclusive_group()
    alone.add_argument("--measure", action="store_true", help="train nothing: run the finished nets, and report")
    alone.add_argument("--report", action="store_true", help="train and run nothing: report on what is there")
    options = parser.parse_args(argv)

    def logs() -> list[cifar_report.RunLog]:
        return [cifar_report.read(options.runs / run.name, run.kind, run.seed, options.log) for run in PLAN]

    if not (options.report or options.measure):
        wanted = [run for run, log in zip(PLAN, logs(), strict=True) if log.folder is not None]
        train_all([Training(options.runs / run.name, tuple(run.options(options.data)), True) for run in wanted])
    found = logs()
    if not options.report:
        cifar_report.measure_speed(found, options.data, options.speed)
    cifar_report.write(found, options.page, options.log, options.speed)
    print(f"{options.page}: {sum(log.done for log in found)} of {len(found)} runs are done")
    return 0


if __name__ == "__main__":
    sys.exit(command.run(main))
