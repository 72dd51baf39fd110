"""`lhc-ref check`: the options, and what is done with them."""

import argparse
import io
import math
import os
import sys
import threading
from pathlib import Path

from lhc_ref.check import export, failures, report, runner
from lhc_ref.check.adapters import ADAPTERS, Declaration
from lhc_ref.check.cases import LEVELS
from lhc_ref.check.precision import ALGORITHMS, FORMATS
from lhc_ref.check.process import Target
from lhc_ref.check.protocol import ACTIVATION_LAYOUTS, KERNEL_LAYOUTS
from lhc_ref.errors import ConfigError
from lhc_ref.files import atomic_write_bytes, atomic_write_text

DESCRIPTION = "Check somebody's LHC layer: outputs, masks and gradients against the reference, with a diagnosis."


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Hook the command into a program's subcommands."""
    parser = commands.add_parser("check", help="check somebody's layer against the reference", description=DESCRIPTION)
    add = parser.add_argument
    add("target", nargs="?", metavar="PACKAGE.MODULE:OBJECT", help="a class or function: see docs/check.md")
    add("--framework", choices=sorted(ADAPTERS), default="numpy", help="how it is called (numpy: the protocol itself)")
    add(
        "--levels",
        type=_names,
        metavar="A,B",
        help=f"what it implements, of {', '.join(LEVELS)} (free)",
    )
    add("--also", type=_pair, action="append", default=[], metavar="LEVEL=TARGET", help="another target, for one level")
    add("--layout", choices=ACTIVATION_LAYOUTS, help="of activations (NHWC; for torch NCHW)")
    add("--kernel-layout", choices=KERNEL_LAYOUTS, help="of kernels, masks and scores (HWIO; for torch OIHW)")
    add("--square", action="store_true", help="it takes one number as kernel_size, stride, dilation and padding")
    add("--names", type=_pairs, default={}, metavar="OURS=YOURS,..", help="what the layer calls kernel, scores, ...")
    add("--dtypes", type=_names, default=("float32", "float64"), metavar="A,B", help=f"of {', '.join(FORMATS)}")
    add(
        "--accumulate",
        type=_pairs,
        default={},
        metavar="DTYPE=SUMS,..",
        help="formats that sums are kept in (see docs)",
    )
    add("--algorithm", choices=ALGORITHMS, default="direct", help="of the convolution; fast ones get normwise budgets")
    add("--seed", type=_seed, default=0, help="another seed, other numbers (0)")
    add("--long", action="store_true", help="four times as many cases")
    add("--case", action="append", default=[], metavar="ID", help="replay one case, as a report names it")
    add("--timeout", type=_seconds, default=20.0, metavar="S", help="seconds for one call (20)")
    add("--xfail", type=Path, metavar="FILE", help="lines LEVEL/AREA that are expected to fail")
    add("--json", type=Path, metavar="FILE", help="write the report as JSON (- for stdout, in place of the table)")
    add("--junit", type=Path, metavar="FILE", help="write the report as JUnit XML")
    add("--export", type=Path, metavar="DIR", help="write the cases and their answers as .npy files, and check nothing")
    parser.set_defaults(act=act)


def _names(text: str) -> tuple[str, ...]:
    names = tuple(part for part in text.split(",") if part)
    if not names:
        raise argparse.ArgumentTypeError(f"expected names with commas between them, got {text!r}. Write at least one.")
    return names


def _seed(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"expected a whole number from 0, got {text!r}. Write such as 7.")
    return int(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds <= threading.TIMEOUT_MAX:
        raise argparse.ArgumentTypeError(f"expected seconds above 0, got {text!r}. Write such as 20.")
    return seconds


def _pair(text: str) -> tuple[str, str]:
    left, equals, right = text.partition("=")
    if not equals or not left or not right:
        raise argparse.ArgumentTypeError(f"expected NAME=VALUE, got {text!r}. Leave no spaces.")
    return left, right


def _pairs(text: str) -> dict[str, str]:
    return dict(_pair(part) for part in text.split(","))


def plan_of(args: argparse.Namespace) -> runner.Plan:
    """What the options ask for.

    Raises
    ------
    ConfigError : no target for what is to be checked, or unknown names.
    """
    targets = dict.fromkeys(args.levels or ("free",), args.target) | dict(args.also) if args.target else dict(args.also)
    if not targets:
        raise ConfigError(
            "check: expected a target, got none. Name it as PACKAGE.MODULE:OBJECT, or use --export alone."
        )
    return runner.Plan(
        targets, args.dtypes, args.accumulate, args.algorithm, args.seed, args.long, tuple(args.case)
    )  # fmt: skip


def declaration_of(args: argparse.Namespace) -> Declaration:
    """Layouts and names; torch's own layouts unless others are declared."""
    torch = args.framework == "torch"
    layout, kernels = args.layout or ("NCHW" if torch else "NHWC"), args.kernel_layout or ("OIHW" if torch else "HWIO")
    return Declaration(layout, kernels, args.names, args.square)


def act(args: argparse.Namespace) -> int:
    """Run the command: 0 all passed, 1 failures. What cannot be run at all is raised, for exit code 2."""
    if args.export:
        levels = args.levels or LEVELS
        count = export.export(args.export, levels, args.dtypes, args.accumulate, args.seed, args.long)
        print(f"{args.export}: {count} cases")
        return 0
    plan = plan_of(args)
    lines = report.read_expected(args.xfail, plan.targets) if args.xfail else {}
    results = runner.Results(plan)
    try:
        with Target(args.framework, declaration_of(args), args.timeout, (os.getcwd(),)) as target:
            runner.run(plan, target, results)
            failures.explain(results, target)
            failures.shrink(results, target)
    except KeyboardInterrupt:
        done = f"interrupted after {len(results.outcomes)} of {len(plan.chosen())} cases; what they showed:"
        print(done, report.table(results), sep="\n\n", file=sys.stderr)
        raise
    stale = report.expect(results, lines)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # what the target said may be in any alphabet
    print(report.dumps(results) if str(args.json) == "-" else report.table(results))
    for line in stale:
        print(line, file=sys.stderr)
    if args.junit:
        atomic_write_bytes(args.junit, report.junit(results))
    if args.json and str(args.json) != "-":
        atomic_write_text(args.json, report.dumps(results))
    return 1 if stale or results.of("failed") else 0
