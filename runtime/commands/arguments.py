"""Arguments that several commands take."""

import argparse
from collections.abc import Callable


def whole(low: int) -> Callable[[str], int]:
    """A type for argparse: a whole number of at least `low`."""

    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = low - 1
        if value < low:
            raise argparse.ArgumentTypeError(f"expected a whole number of at least {low}, got {text!r}")
        return value

    return parse


def add_run_options(parser: argparse.ArgumentParser, batch: int) -> None:
    """Options of the commands that run a model: threads, batch, raw, json."""
    add_threads(parser)
    parser.add_argument(
        "--batch", type=whole(1), default=batch, metavar="N", help=f"images in one run (default {batch})"
    )
    add_raw(parser)
    add_json(parser)


def add_threads(parser: argparse.ArgumentParser) -> None:
    """The option --threads."""
    parser.add_argument("--threads", type=whole(1), metavar="N", help="cores to use (default: all)")


def add_raw(parser: argparse.ArgumentParser) -> None:
    """The option --raw."""
    parser.add_argument(
        "--raw", action="store_true", help="give the numbers to the net as they are, without the model's preprocessing"
    )


def add_json(parser: argparse.ArgumentParser) -> None:
    """The option --json."""
    parser.add_argument("--json", action="store_true", help="print JSON for programs")
