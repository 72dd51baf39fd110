"""`lhc-run bench`: times a net beside other engines, thread by thread and layer by layer, and shows what it found."""

import argparse
import os
import shlex
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import runtime
from lhc_ref.errors import InputError, ModelFileError
from lhc_ref.files import atomic_write_text
from runtime import threads
from runtime.bench import break_even, engines, layers, machine, measure, page, pictures, pinning, roof, tables, verdict
from runtime.bench.subject import ForeignSubject, Subject, WrongAnswerError
from runtime.commands.arguments import add_cache_dir, add_choice, add_device, add_json, choice_of, whole
from runtime.commands.convert import add_shape, parse_shapes
from runtime.commands.report import emit
from runtime.commands.running import note_if_slow, progress
from runtime.onnx import is_onnx

SCENARIOS = {"latency": 1, "throughput": 64}  # and the batch of each
FORMAT = 1  # of the JSON


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command."""
    parser = commands.add_parser("bench", help="time a net beside other engines, by threads and by layers")
    parser.add_argument("file", metavar="MODEL", help="model file or ONNX file")
    parser.add_argument(
        "--scenario",
        choices=SCENARIOS,
        default="latency",
        help="one batch after the other (default), or several streams",
    )
    parser.add_argument(
        "--batch", type=whole(1), metavar="N", help="images in a batch (default: latency 1, throughput 64)"
    )
    parser.add_argument(
        "--threads",
        type=_threads,
        metavar="N,...",
        help="numbers of threads, as 1,2,max (default: 1, 2, 4, ... to all)",
    )
    parser.add_argument(
        "--streams", type=whole(1), metavar="N", help="streams of the throughput scenario (default: one a thread)"
    )
    parser.add_argument(
        "--time",
        type=_seconds,
        default=3.0,
        metavar="S",
        help="seconds for each engine and number of threads (default 3)",
    )
    parser.add_argument(
        "--warmup",
        type=_seconds,
        default=0.5,
        metavar="S",
        help="seconds of each before its clock starts (default 0.5)",
    )
    parser.add_argument(
        "--pin", choices=pinning.CHOICES, default="none", help="core: keep to as many cores as threads (default none)"
    )
    parser.add_argument(
        "--engine",
        type=_engines,
        action="extend",
        metavar="NAME,...",
        help=f"of {', '.join(engines.NAMES)} (default: all that are installed)",
    )
    parser.add_argument(
        "--engine-env",
        type=_environment,
        action="append",
        default=[],
        metavar="NAME=FOLDER",
        help=f"Python environment that has an engine: {', '.join(engines.BY_DEFAULT)}; may be given several times",
    )
    add_device(parser)
    add_choice(parser)
    parser.add_argument("--no-break-even", action="store_true", help="leave out the layer shapes at other densities")
    parser.add_argument(
        "--csv", type=Path, metavar="FILE", help="write the times; the layers go to FILE with .layers before its ending"
    )
    parser.add_argument("--html", type=Path, metavar="FILE", help="write a page that needs no network")
    parser.add_argument("--png", type=Path, metavar="FILE", help="write the plots as a picture (needs matplotlib)")
    add_shape(parser)
    add_cache_dir(parser)
    add_json(parser)
    parser.set_defaults(run=run)


def _threads(text: str) -> tuple[int, ...]:
    most, found = os.cpu_count() or 1, set()
    for part in text.split(","):
        count = threads.available_cores() if part == "max" else int(part) if part.isdigit() else 0
        if not 1 <= count <= most:
            raise argparse.ArgumentTypeError(f"expected numbers from 1 to {most}, or max, as in 1,2,max, got {part!r}")
        found.add(count)
    return tuple(sorted(found))


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"expected a number of seconds above 0, got {text!r}")
    return value


def _engines(text: str) -> tuple[str, ...]:
    names = tuple(text.split(","))
    for name in names:
        if name not in engines.NAMES:
            raise argparse.ArgumentTypeError(f"expected names of {', '.join(engines.NAMES)}, got {name!r}")
    return names


def _environment(text: str) -> dict[str, Path]:
    """Engine -> folder of its environment, of `torch=FOLDER` or `onnxruntime,openvino=FOLDER`."""
    names, _, folder = text.partition("=")
    if not folder or not set(names.split(",")) <= set(engines.BY_DEFAULT):
        raise argparse.ArgumentTypeError(
            f"expected names of {', '.join(engines.BY_DEFAULT)} with a folder, as in torch=FOLDER, got {text!r}"
        )
    return dict.fromkeys(names.split(","), Path(folder))


def powers_of_two(most: int) -> tuple[int, ...]:
    """1, 2, 4, ... below `most`, and `most`."""
    return (*(1 << i for i in range(most.bit_length()) if 1 << i < most), most)


def _threads_by_default(device: str) -> tuple[int, ...]:
    """Why one number for a GPU: its speed does not depend on them."""
    most = threads.available_cores()
    return powers_of_two(most) if device == "cpu" else (most,)


def run(arguments: argparse.Namespace) -> int:
    """Run the command; gives the exit code: 1 for a wrong answer, 130 after Ctrl-C, with what was measured until then
    written.
    """
    for path in (arguments.csv, arguments.html, arguments.png):
        if path is not None and not path.absolute().parent.is_dir():
            raise InputError(f"{path}: expected a folder that exists, got {path.parent}. Make it, or write elsewhere.")
    folders = {name: folder for pair in arguments.engine_env for name, folder in pair.items()}
    pythons = {name: engines.python_in(name, folder) for name, folder in folders.items()}
    batch = arguments.batch or SCENARIOS[arguments.scenario]
    facts: dict[str, Any] = {
        "format": FORMAT,
        "file": arguments.file,
        "command": shlex.join(["lhc-run", *sys.argv[1:]]),
        "machine": {**machine.facts(), "busy_cores_meanwhile": None, "throttled_s": 0.0},
        "notes": [],
        "runs": [],
        "failed": {},
        "scaling": {},
        "profile": None,
        "dense_profile": None,
        "roof": None,
        "layers": [],
        "break_even": [],
        "interrupted": False,
    }
    with tempfile.TemporaryDirectory() as name:
        try:
            _measure(arguments, batch, pythons, Path(name), facts)
        except WrongAnswerError as error:
            print(f"lhc-run: wrong answer: {error}", file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            facts["interrupted"] = True
            if not facts["runs"]:
                raise
    facts["notes"] += _notes(facts)
    found = verdict.verdict(facts)
    facts["verdict"] = None if found is None else asdict(found)
    _write(arguments, facts)
    return 130 if facts["interrupted"] else 0


def _measure(
    arguments: argparse.Namespace, batch: int, pythons: engines.Pythons, folder: Path, facts: dict[str, Any]
) -> None:
    """Everything in its order, into `facts`."""
    subject = _subject(arguments, batch, folder)
    setup = measure.Setup(
        engines=engines.choose(arguments.engine, subject.has_masks, pythons),
        threads=arguments.threads or _threads_by_default(arguments.device),
        scenario=arguments.scenario,
        streams=arguments.streams,
        time_s=arguments.time,
        warmup_s=arguments.warmup,
        pin=arguments.pin,
        pythons=pythons,
    )
    facts["setup"] = {**asdict(setup), "batch": batch, "device": arguments.device}
    facts["model"] = _model_facts(subject)
    facts["machine"]["busy_cores"] = machine.busy_cores()
    with note_if_slow("still computing the float64 reference, with which every answer is compared"):
        for engine in setup.engines:
            subject.form_for(engine)
    measure.measure(subject, setup, folder, facts, progress)
    most = max(setup.threads)
    if facts["profile"] is not None and isinstance(subject, Subject):
        model = runtime.load(arguments.file, **subject.options)
        with note_if_slow("still measuring the machine's own limits"):
            limits = roof.measure(facts["profile"]["threads"]) if arguments.device == "cpu" else None
        facts["roof"] = None if limits is None else asdict(limits)
        lanes = model.layouts(batch)[0][0].lanes if arguments.device == "cpu" else 1
        facts["layers"] = layers.layer_facts(
            model.explain(batch).rows, facts["profile"], facts["dense_profile"], limits, lanes
        )
    alone = not arguments.no_break_even and arguments.device == "cpu" and "ours" in setup.engines
    if isinstance(subject, Subject) and alone:
        others = [name for name in setup.engines if name in engines.BY_DEFAULT and name not in facts["failed"]]
        pythons_of = {name: engines.python_of(name, pythons) for name in ("ours", *others)}
        for found in break_even.measure(subject.spec, batch, most, pythons_of, folder, progress):
            facts["break_even"].append(found)


def _subject(arguments: argparse.Namespace, batch: int, folder: Path) -> Subject | ForeignSubject:
    shapes, path = parse_shapes(arguments.shape) or None, Path(arguments.file)
    try:
        return Subject(path, batch, folder, shapes, arguments.device, choice_of(arguments))
    except ModelFileError as error:
        if not (is_onnx(path) and path.is_file()):
            raise
        if not arguments.engine or any(name.startswith("ours") for name in arguments.engine):
            raise ModelFileError(f"{error} To time other engines alone on it, name them: --engine NAME,...") from error
    return ForeignSubject(path, batch, shapes)


def _model_facts(subject: Subject | ForeignSubject) -> dict[str, Any]:
    """Sizes of the file, the weights and the work."""
    found: dict[str, Any] = {"file_bytes": os.stat(subject.path).st_size}
    if isinstance(subject, Subject):
        found |= subject.counts()
    return found


def _notes(facts: dict[str, Any]) -> list[str]:
    """What a reader has to know of the times."""
    found, here = [], facts["machine"]
    for key, when in (("busy_cores", "before the start"), ("busy_cores_meanwhile", "while this was timed")):
        if (here[key] or 0.0) > machine.LOUD_CORES:
            found.append(f"other programs kept {here[key]:.1f} cores busy {when}: do not trust the times")
    if (device := facts["setup"]["device"]) != "cpu":
        found.append(f"ours ran on {device}, with copies to it and back in its times; other engines ran on the CPU")
    if here["quota_cores"] is not None:
        found.append(f"a CPU quota of {here['quota_cores']:.3g} cores holds here")
    if here["throttled_s"] > 0:
        found.append(f"the CPU quota held threads back for {here['throttled_s']:.1f} s while this was timed")
    return found + [f"left out: {text}" for text in facts["failed"].values()]


def _write(arguments: argparse.Namespace, facts: dict[str, Any]) -> None:
    """Print, and write the files."""
    emit(facts, [*tables.lines(facts), *verdict.lines(facts)], arguments.json)
    texts: dict[Path | None, Callable[[dict[str, Any]], str]] = {arguments.html: page.render}
    if arguments.csv is not None:
        texts[arguments.csv] = tables.csv_of_runs
        texts[arguments.csv.with_suffix(f".layers{arguments.csv.suffix}")] = tables.csv_of_layers
    for path, text in texts.items():
        if path is not None:
            atomic_write_text(path, text(facts))
    if arguments.png is not None:
        pictures.write(arguments.png, facts)
