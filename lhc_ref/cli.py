"""`lhc-ref`: train a net, look at a run, export it, write out its data."""

import argparse
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from lhc_ref import command, data, modelfile, runs
from lhc_ref.check import cli as check
from lhc_ref.config import PRESETS, TrainConfig, read_toml, resolve
from lhc_ref.errors import ConfigError
from lhc_ref.files import atomic_write
from lhc_ref.inspect import cli as inspect_cli
from lhc_ref.training import measure


def entry() -> int:
    """The console script `lhc-ref`."""
    return command.run(main)


def main(argv: list[str] | None = None) -> int:
    """Run one command.

    Parameters
    ----------
    argv : arguments without the program's name; None takes the process's.

    Returns
    -------
    Exit code: 0, or what the command makes it. What goes wrong is raised, for `command.run` to report.
    """
    args = _parser().parse_args(argv)
    return args.act(args) or 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="lhc-ref", description="Train nets with learnable heterogeneous convolution.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    train = commands.add_parser("train", help="train a net in a run folder, or go on with one")
    where = train.add_mutually_exclusive_group(required=True)
    where.add_argument("--out", type=Path, metavar="RUN_DIR", help="a new folder for the run")
    where.add_argument("--resume", type=Path, metavar="RUN_DIR", help="go on with the run in this folder")
    train.add_argument(
        "--config", type=Path, metavar="FILE", help="TOML file of the options below, which flags override"
    )
    train.add_argument(
        "--preset", choices=PRESETS, default=argparse.SUPPRESS, help="recipe that options start from (sound)"
    )
    train.add_argument("--quiet", action="store_true", help="no progress bar, the result alone")
    for f in fields(TrainConfig):
        default: Any = f.default
        kind = type(default)
        if kind is bool:
            flag = f"--{f.name.replace('_', '-')}"
            helped = f"{f.metadata['help']} ({'yes' if default else 'no'})"
            train.add_argument(flag, action=argparse.BooleanOptionalAction, default=argparse.SUPPRESS, help=helped)
            continue
        train.add_argument(
            f"--{f.name.replace('_', '-')}",
            type=inspect_cli.integers if kind is tuple else kind,
            default=argparse.SUPPRESS,
            metavar="IN,OUT" if kind is tuple else kind.__name__.upper(),
            help=f"{f.metadata['help']} ({','.join(map(str, default)) if kind is tuple else default})",
        )
    train.set_defaults(act=_train)

    show = commands.add_parser("show", help="where a run stands, or its result")
    show.add_argument("run", type=Path, metavar="RUN_DIR")
    show.set_defaults(act=_show)

    evaluate = commands.add_parser("evaluate", help="accuracy of a run's net, computed by the reference")
    evaluate.add_argument("run", type=Path, metavar="RUN_DIR")
    evaluate.add_argument(
        "--split", choices=data.SPLITS, default="validation", help="part of the run's data (validation)"
    )
    evaluate.set_defaults(act=_evaluate)

    export = commands.add_parser("export", help="write the model file of a run that is done")
    export.add_argument("run", type=Path, metavar="RUN_DIR")
    export.add_argument("file", type=Path, metavar="NET.lhc")
    export.add_argument("--logits", action="store_true", help="end in logits instead of probabilities")
    export.set_defaults(act=_export)

    split = commands.add_parser("data", help="write one split of a data set: raw x f32[n, h, w, c] and y i64[n]")
    split.add_argument("source", metavar="SOURCE", help="digits, an .npz file or a folder")
    split.add_argument("file", type=Path, metavar="OUT.npz")
    split.add_argument("--split", choices=data.SPLITS, default="test", help="which part (test)")
    split.set_defaults(act=_data)

    inspect_cli.add_parsers(commands)
    check.add_parser(commands)
    return parser


def _train(args: argparse.Namespace) -> None:
    names = ["preset", *(f.name for f in fields(TrainConfig))]
    flags = {name: getattr(args, name) for name in names if hasattr(args, name)}
    values: dict[str, Any] = {**(read_toml(args.config) if args.config else {}), **flags}
    if args.resume and values:
        raise ConfigError(
            f"--resume: expected no other options, got {', '.join(values)}. A run keeps those it began with."
        )
    show = not args.quiet
    try:
        result = (
            runs.resume(args.resume, show=show) if args.resume else runs.train(resolve(values), args.out, show=show)
        )
    except KeyboardInterrupt as stopped:
        print(*stopped.args, file=sys.stderr)
        raise
    _print_result(args.resume or args.out, result)


def _print_result(folder: Path, result: dict[str, Any]) -> None:
    """What came out, a line each."""
    print(f"{folder}: test accuracy {result['test_accuracy']:.2%}, in {result['seconds']:.0f} s")
    if result["total"]:
        print(f"  kept {result['kept']} of {result['total']} weights: density {result['density']:.4f}")
    if not result["qualified"]:
        print(
            "  the epoch that the coarse stage chose does not qualify: its density is above 1.1 times the target, "
            "or not every channel used its mask"
        )
    print(f"  weights {result['weights_hash']}")


def _show(args: argparse.Namespace) -> None:
    run = runs.load(args.run)
    progress = run.trainer.progress
    print(f"{run.config.model}, {run.config.conv}, {run.config.data}, seed {run.config.seed}")
    if run.trainer.done:
        _print_result(args.run, {**progress.result, "seconds": progress.seconds})
    else:
        print(f"in the {progress.stage} stage, epoch {progress.epoch}, step {progress.step}")
    for stage, record in progress.chosen.items():
        print(
            f"  {stage}: epoch {record['epoch']}, validation accuracy {record['validation_accuracy']:.2%}, "
            f"density {record['density']:.4f}"
        )


def _evaluate(args: argparse.Namespace) -> None:
    run = runs.load(args.run)
    dataset = run.trainer.dataset
    logits = run.trainer.net.predict(dataset.normalised(args.split, run.config.dtype))
    accuracy, loss = measure(logits, dataset.y[args.split])
    print(f"{args.split}: {len(logits)} images, accuracy {accuracy:.2%}, cross-entropy {loss:.4f}")


def _export(args: argparse.Namespace) -> None:
    spec = runs.to_spec(args.run, softmax=not args.logits)
    modelfile.save(args.file, spec)
    print(f"{args.file}: {args.file.stat().st_size} bytes")


def _data(args: argparse.Namespace) -> None:
    dataset = data.load(args.source)
    x, y, names = dataset.x[args.split].astype(np.float32), dataset.y[args.split], np.array(dataset.classes)
    atomic_write(args.file, lambda f: np.savez(f, x=x, y=y, classes=names))
    print(f"{args.file}: {len(x)} images, {len(names)} classes")


if __name__ == "__main__":
    sys.exit(entry())
