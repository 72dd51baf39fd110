"""The commands of `lhc-ref` that look at nets and take them in: `count`, `probe`, `import-keras`."""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from lhc_ref import export, keras_file, modelfile
from lhc_ref.errors import ConfigError
from lhc_ref.inspect import counts, probe
from lhc_ref.inspect import plots as probe_plots
from lhc_ref.inspect import text as probe_text
from lhc_ref.models import MODELS, convolutions, make_net


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

    look = commands.add_parser("probe", help="density, patterns, masks and scores of a trained net by layer")
    look.add_argument("source", type=Path, metavar="FILE|RUN_DIR", help="a model file, or the folder of a run")
    look.add_argument("--json", action="store_true", help="print JSON, every pattern included")
    look.add_argument(
        "--plots", type=Path, metavar="DIR", help="also write PNG pictures into this folder (extra plots)"
    )
    look.set_defaults(act=_probe)

    keras = commands.add_parser("import-keras", help="make a model file of the authors' Keras weights (extra keras)")
    keras.add_argument("source", type=Path, metavar="FILE.h5")
    keras.add_argument("file", type=Path, metavar="OUT.lhc")
    keras.add_argument("--model", required=True, help=f"one of {', '.join(MODELS)}")
    add_size_options(keras, (32, 16))
    keras.add_argument(
        "--subtract", type=numbers, metavar="R,G,B", help="preprocessing: subtract from each channel (none)"
    )
    keras.add_argument("--divide", type=numbers, metavar="R,G,B", help="preprocessing: then divide by (1)")
    keras.add_argument("--logits", action="store_true", help="end in logits instead of probabilities")
    keras.set_defaults(act=_import_keras)


def add_net_options(parser: argparse.ArgumentParser) -> None:
    """The options that tell which net of a name is meant."""
    parser.add_argument("--conv", default="standard", help=f"its convolutions: {convolutions.HELP} (standard)")
    add_size_options(parser, (16, 16))


def add_size_options(parser: argparse.ArgumentParser, default: tuple[int, int]) -> None:
    """Those that tell its size; `default` are the groups."""
    text = ",".join(map(str, default))
    parser.add_argument("--groups", type=groups, default=default, metavar="IN,OUT", help=f"of LHC layers ({text})")
    parser.add_argument("--width", type=float, default=1.0, help="channels as a share of the model's own (1.0)")
    parser.add_argument("--image", type=image_shape, metavar="HxWxC", help="size of its images (what it is meant for)")
    parser.add_argument("--classes", type=int, metavar="N", help="its outputs (what it is meant for)")


def numbers(text: str) -> list[float]:
    """The numbers of `125.3,123,113.9`."""
    try:
        return [float(part) for part in text.split(",")]
    except ValueError as e:
        raise argparse.ArgumentTypeError(f"expected numbers as in 125.3,123,113.9, got {text!r}") from e


def _size(args: argparse.Namespace) -> dict[str, Any]:
    return {"image_shape": args.image, "classes": args.classes, "groups": args.groups, "width": args.width}


def _count(args: argparse.Namespace) -> None:
    found = counts.count(make_net(args.model, args.conv, seed=None, **_size(args)))
    print(json.dumps(counts.to_json(found), indent=2) if args.json else counts.table(found))


def _probe(args: argparse.Namespace) -> None:
    report = probe.probe(args.source)
    print(json.dumps(probe.to_json(report), indent=2) if args.json else probe_text.text(report))
    if args.plots:
        for path in probe_plots.save(report, args.plots):
            print(f"wrote {path}", file=sys.stderr)


def _import_keras(args: argparse.Namespace) -> None:
    net = keras_file.to_net(keras_file.read(args.source), str(args.source), args.model, **_size(args))
    channels = net.image_shape[2]
    preprocessing = None
    if args.subtract or args.divide:
        preprocessing = {"subtract": args.subtract or [0.0] * channels, "divide": args.divide or [1.0] * channels}
        if any(len(values) != channels for values in preprocessing.values()):
            raise ConfigError(f"preprocessing: expected {channels} numbers, one a channel, got others. Give as many.")
    metadata = {"model": args.model, "imported_from": args.source.name, "density": str(net.density())}
    spec = export.to_spec(net, preprocessing=preprocessing, metadata=metadata, softmax=not args.logits)
    modelfile.save(args.file, spec)
    kept, total = net.kept()
    masks = f", kept {kept} of {total} weights: density {net.density():.4f}" if total else ""
    print(f"{args.file}: {args.file.stat().st_size} bytes{masks}")
