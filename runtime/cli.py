"""`lhc-run`: what the runtime does, from a shell."""

import argparse
import os
import sys

import lhc_ref
from lhc_ref import command
from lhc_ref.errors import InputError
from runtime import kernel_cache
from runtime.commands import bench, convert, info, predict, profile, prune, trial, verify, warmup
from runtime.commands import eval as evaluation
from runtime.commands.arguments import Parser

COMMANDS = (info, predict, evaluation, verify, bench, profile, trial, convert, prune, warmup)


def build_parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    parser = argparse.ArgumentParser(prog="lhc-run", description="Run model files with sparse weights on the CPU.")
    parser.add_argument("--version", action="version", version=f"lhc {lhc_ref.__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", parser_class=Parser)
    for module in COMMANDS:
        module.add_parser(commands)
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run one command.

    Parameters
    ----------
    argv : the arguments after the program's name; None for those of the process

    Returns
    -------
    int
        The exit code: 0, or 1 where `verify` found a difference.

    Raises
    ------
    LhcError : what the user can mend. `entry` makes it one line on stderr and exit code 2.
    SystemExit : wrong usage (2), --help and --version (0).
    """
    arguments = build_parser().parse_args(argv)
    folder = getattr(arguments, "cache_dir", None)
    if folder == "":
        raise InputError("--cache-dir: expected a folder, got ''. Name one, or leave it out.")
    if folder is not None:
        kernel_cache.keep_kernels_in(folder)
        os.environ["NUMBA_CACHE_DIR"] = os.path.abspath(folder)  # of the processes that `bench` starts
    try:
        status: int = arguments.run(arguments)
    except MemoryError as error:
        raise InputError(f"memory: expected enough for this input, got '{error}'. Use a smaller --batch.") from error
    return status


def entry() -> int:
    """The console script: `main` with one line instead of a traceback."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # Why: a model file's names may have letters that the terminal lacks.
            stream.reconfigure(errors="backslashreplace")
    return command.run(main)


if __name__ == "__main__":
    sys.exit(entry())
