"""Runs a model over many examples: a few at a time, on every core, with progress where it takes long."""

import math
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from tqdm import tqdm

from lhc_ref.modelfile import ModelSpec, infer_shapes
from runtime import Model, threads
from runtime.commands import memory
from runtime.commands.inputs import Arrays, Source, to_net

BATCH = 256  # Why: whole vectors of images for 16 cores at once, and memory that stays small.
SLOW_S = 2.0
FIRST_RUN = "still in the first batch"


@dataclass(frozen=True)
class Outcome:
    """What a model made of all examples, by output name; the time inside `Model.run`; the threads used."""

    outputs: Arrays
    seconds: float
    threads: int


def run_all(model: Model, source: Source, *, batch: int, workers: int | None, raw: bool, warm_up: bool) -> Outcome:
    """Run every example of a source through a model, `batch` at a time.

    Parameters
    ----------
    batch : images in one run; if it is a multiple of the vector width, no bit of the outputs depends on it
    workers : threads, None for every core
    raw : leave the model's preprocessing out
    warm_up : run the first batch once more beforehand, so that compiling and planning are not in `seconds`

    Raises
    ------
    InputError : a batch or outputs that do not fit into memory; what the source or the runtime refuse.
    """
    used, batch = threads.resolve(workers), max(1, min(batch, source.count))
    require_memory(model, source.count, batch, used)
    outputs = empty_outputs(model.spec, source.count)
    seconds = 0.0
    with progress(source.count, "images") as bar, note_if_slow(FIRST_RUN) as first_done:
        for start in range(0, source.count, batch):
            stop = min(start + batch, source.count)
            x = to_net(model.spec, source.read(start, stop), raw)
            out = {name: array[start:stop] for name, array in outputs.items()}
            if warm_up and start == 0:
                model.run(x, threads=used, out=out)
            began = time.perf_counter()
            model.run(x, threads=used, out=out)
            seconds += time.perf_counter() - began
            first_done()
            bar.update(stop - start)
    return Outcome(outputs, seconds, used)


def empty_outputs(spec: ModelSpec, count: int) -> Arrays:
    """f32[count, ...] for each output of a model, by name."""
    shapes = infer_shapes(spec)
    return {name: np.empty((count, *shapes[name]), np.float32) for name in spec.outputs}


def require_memory(model: Model, count: int, batch: int, workers: int) -> None:
    """Raise InputError where the least that a run of `batch` and the outputs of `count` examples take isn't free."""
    shapes = infer_shapes(model.spec)
    made = sum(math.prod(shapes[name]) for name in model.spec.outputs)
    read = sum(math.prod(entry.shape) for entry in model.spec.inputs)
    memory.require(4 * count * made, f"outputs of {count:,} images", "Split the input.")
    working = 4 * batch * (2 * read + made) + model.working_bytes(batch, workers)
    memory.require(working, f"a batch of {batch:,} images", "Use a smaller --batch.")


@contextmanager
def progress(total: int, unit: str) -> Iterator["tqdm[None]"]:
    """A progress bar with remaining time, on a terminal, for what takes longer than 2 seconds."""
    with tqdm(total=total, unit=f" {unit}", delay=SLOW_S, disable=None, leave=False) as bar:
        yield bar


@contextmanager
def note_if_slow(text: str) -> Iterator[Callable[[], None]]:
    """Print a line on stderr unless the block is left, or what it gives is called, within 2 seconds."""
    timer = threading.Timer(SLOW_S, print, (text,), {"file": sys.stderr, "flush": True})
    timer.daemon = True
    timer.start()
    try:
        yield timer.cancel
    finally:
        timer.cancel()
