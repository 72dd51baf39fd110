"""Arguments that several commands take."""

import argparse
from collections.abc import Callable
from typing import Any


class Parser(argparse.ArgumentParser):
    """A parser whose options may stand between arguments: argparse itself cannot read `FILE --threads 2 INPUT...`."""

    _intermixed = False

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        if self._intermixed:
            return super().parse_known_args(args, namespace)
        self._intermixed = True
        try:
            return self.parse_known_intermixed_args(args, namespace)
        finally:
            self._intermixed = False


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
    """Options of the commands that run a model: device, threads, batch, raw, cache-dir, json."""
    add_device(parser)
    add_threads(parser)
    parser.add_argument(
        "--batch", type=whole(1), default=batch, metavar="N", help=f"images in one run (default {batch})"
    )
    add_raw(parser)
    add_cache_dir(parser)
    add_json(parser)


def add_device(parser: argparse.ArgumentParser) -> None:
    """The option --device."""
    parser.add_argument(
        "--device", default="cpu", metavar="D", help="cpu (default), or an NVIDIA GPU: cuda, or cuda:1 for the second"
    )


def add_choice(parser: argparse.ArgumentParser) -> None:
    """The options that tell how kernels are chosen: --trial, --no-winograd; `choice_of` reads them."""
    parser.add_argument(
        "--trial", metavar="FILE", help="choose kernels by the times in this file of `lhc-run trial` (CPU only)"
    )
    parser.add_argument(
        "--no-winograd", action="store_true", help="compute every convolution by its definition, faster ways or not"
    )


def choice_of(arguments: argparse.Namespace) -> dict[str, Any]:
    """What --trial and --no-winograd are to `runtime.load`, where they were given."""
    trial = {} if arguments.trial is None else {"trial": arguments.trial}
    return trial | ({"winograd": False} if arguments.no_winograd else {})


def where(device: str, workers: int) -> str:
    """What something ran on, in words."""
    return f"{workers} threads" if device == "cpu" else device


def add_threads(parser: argparse.ArgumentParser) -> None:
    """The option --threads."""
    parser.add_argument("--threads", type=whole(1), metavar="N", help="cores of the CPU to use (default: all)")


def add_raw(parser: argparse.ArgumentParser) -> None:
    """The option --raw."""
    parser.add_argument(
        "--raw", action="store_true", help="give the numbers to the net as they are, without the model's preprocessing"
    )


def add_json(parser: argparse.ArgumentParser) -> None:
    """The option --json."""
    parser.add_argument("--json", action="store_true", help="print JSON for programs")


def add_cache_dir(parser: argparse.ArgumentParser) -> None:
    """The option --cache-dir, which `runtime.cli.main` acts on."""
    parser.add_argument(
        "--cache-dir", metavar="DIR", help="keep compiled kernels there, or take those that are (as NUMBA_CACHE_DIR)"
    )
