"""The commands of `lhc-ref` that look at nets: `count`."""

import argparse
import json

from lhc_ref import convolutions, counts
from lhc_ref.models import MODELS, make_net


def integers(text: str) -> list[int]:
    """The integers of `16,16`."""
    try:
        return [int(part) for part in text.split(",")]
    except ValueError as e:
        raise argparse.ArgumentTypeError(f"expected integers as in 16,16, got {text!r}. Leave no spaces.") from e


def image_shape(text: str) -> tuple[int, int, int]:
    """(h, w, c) of `32x32x3`."""
    parts = text.split("x")
    if len(parts) != 3 or not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise argparse.ArgumentTypeError(f"expected height x width x channels as in 32x32x3, got {text!r}")
    h, w, c = map(int, parts)
    return h, w, c


def groups(text: str) -> tuple[int, int]:
    """(group_in, group_out) of `16,16`."""
    values = integers(text)
    if len(values) != 2 or min(values) < 1:
        raise argparse.ArgumentTypeError(f"expected two integers of at least 1, as in 16,16, got {text!r}")
    return values[0], values[1]


def add_parsers(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the commands."""
    count = commands.add_parser("count", help="weights, scores and multiplications of a model by layer")
    count.add_argument("model", metavar="MODEL", help=f"one of {', '.join(MODELS)}")
    add_net_options(count)
    count.add_argument("--json", action="store_true", help="print JSON")
    count.set_defaults(act=_count)


def add_net_options(parser: argparse.ArgumentParser) -> None:
    """The options that tell which net of a name is meant."""
    parser.add_argument("--conv", default="standard", help=f"its convolutions: {convolutions.HELP} (standard)")
    parser.add_argument("--groups", type=groups, default=(16, 16), metavar="IN,OUT", help="of LHC layers (16,16)")
    parser.add_argument("--width", type=float, default=1.0, help="channels as a share of the model's own (1.0)")
    parser.add_argument("--image", type=image_shape, metavar="HxWxC", help="size of its images (what it is meant for)")
    parser.add_argument("--classes", type=int, metavar="N", help="its outputs (what it is meant for)")


def _count(args: argparse.Namespace) -> None:
    options = {"image_shape": args.image, "classes": args.classes, "groups": args.groups, "width": args.width}
    found = counts.count(make_net(args.model, args.conv, seed=None, **options))
    print(json.dumps(counts.to_json(found), indent=2) if args.json else counts.table(found))
