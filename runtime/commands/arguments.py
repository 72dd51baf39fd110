"""Arguments that several commands take."""

import argparse


def whole(low: int) -> "type[int]":
    """A type for argparse: a whole number of at least `low`."""

    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = low - 1
        if value < low:
            raise argparse.ArgumentTypeError(f"expected a whole number of at least {low}, got {text!r}")
        return value

    return parse  # type: ignore[return-value]
