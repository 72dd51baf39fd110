"""`lhc-run profile`: where the time of a run goes, layer by layer."""

import argparse
from collections.abc import Iterator
from dataclasses import asdict

import numpy as np

import runtime
from lhc_ref.modelfile import infer_shapes
from runtime.commands.arguments import (
    add_cache_dir,
    add_choice,
    add_device,
    add_json,
    add_threads,
    choice_of,
    where,
    whole,
)
from runtime.commands.report import emit, table
from runtime.commands.running import FIRST_RUN, note_if_slow
from runtime.profile import Profile

INDENT = "  "


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command."""
    parser = commands.add_parser("profile", help="time each layer of a run on random numbers")
    parser.add_argument("file", metavar="FILE", help="model file")
    parser.add_argument("--batch", type=whole(1), default=64, metavar="N", help="images in a run (default 64)")
    add_device(parser)
    add_choice(parser)
    add_threads(parser)
    parser.add_argument("--repeats", type=whole(1), default=20, metavar="N", help="timed runs (default 20)")
    add_cache_dir(parser)
    add_json(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run the command; gives the exit code."""
    model = runtime.load(arguments.file, device=arguments.device, **choice_of(arguments)).as_stored()
    shapes = infer_shapes(model.spec)
    rng = np.random.default_rng(0)
    x = {
        entry.name: rng.standard_normal((arguments.batch, *shapes[entry.name]), np.float32)
        for entry in model.spec.inputs
    }
    with note_if_slow(FIRST_RUN):
        profile = model.profile(x, threads=arguments.threads, repeats=arguments.repeats)
    facts = {"file": arguments.file, "device": model.device, **asdict(profile)}
    emit(facts, _lines(profile, where(model.device, profile.threads)), arguments.json)
    return 0


def _lines(profile: Profile, place: str) -> Iterator[str]:
    """The text for people."""
    yield (f"batch {profile.batch} on {place}: {profile.run_s * 1e3:.3f} ms, median of {profile.repeats} runs")
    rows = [
        (INDENT + name, kernel, f"{seconds * 1e6:,.1f}", f"{seconds / profile.run_s:.1%}")
        for name, kernel, seconds in profile.rows()
    ]
    yield from table((INDENT + "layer", "kernel", "us", "share"), rows, left=2)
