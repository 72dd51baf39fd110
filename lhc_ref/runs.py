"""Run folders: a training run on disk, with its configuration, checkpoint, log and result.

`config.toml` is the resolved configuration, `checkpoint.safetensors` the state to go on from, `log.jsonl` a line for
each epoch, `masks/` what was kept after each epoch that learned it, `result.json` what came out. A folder is never
overwritten; `resume` goes on with it.
"""

import contextlib
import json
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType

from tqdm import tqdm

from lhc_ref import blas, checkpoint, data, export, mask_history
from lhc_ref.config import TrainConfig, read_toml, resolve, to_toml
from lhc_ref.errors import CheckpointError, ConfigError
from lhc_ref.files import atomic_write_text
from lhc_ref.modelfile import ModelSpec
from lhc_ref.selection import Record
from lhc_ref.training import DivergedError, Trainer

CONFIG, CHECKPOINT, LOG, RESULT = "config.toml", "checkpoint.safetensors", "log.jsonl", "result.json"


@dataclass(frozen=True)
class Run:
    """A folder's configuration and its trainer, at the last saved state."""

    folder: Path
    config: TrainConfig
    trainer: Trainer


def train(config: TrainConfig, folder: Path, *, show: bool = True) -> Record:
    """Train in a new folder.

    Parameters
    ----------
    config : what to train
    folder : made if it is not there; it must be empty.
    show : print what is chosen, and on a terminal a progress bar, on stderr

    Returns
    -------
    The result: test_accuracy, density, kept, total, qualified, weights_hash, seconds ...; also in `result.json`.

    Raises
    ------
    ConfigError : the folder holds files.
    DataError : the data cannot be used.
    DivergedError : a loss or weight was no finite number; the last good state is in the folder.
    KeyboardInterrupt : Ctrl-C, after the state was saved.

    Notes
    -----
    The same configuration gives the same weights hash on one machine with one number of BLAS threads, however often the
    run is stopped, killed and resumed.
    """
    folder = Path(folder)
    if config.data != data.DIGITS:
        config = replace(config, data=str(Path(config.data).resolve()))  # Why: to be resumed from any folder.
    trainer = Trainer(config, _dataset(config), _say(show))
    if folder.exists() and (not folder.is_dir() or set(folder.iterdir()) - set(_leftovers(folder))):
        raise ConfigError(
            f"{folder}: expected a new or empty folder, got one in use. Use --resume {folder}, or another."
        )
    folder.mkdir(parents=True, exist_ok=True)
    atomic_write_text(folder / CONFIG, to_toml(config))
    return _go_on(Run(folder, config, trainer), show)


def resume(folder: Path, *, show: bool = True) -> Record:
    """Go on with the run in a folder from its last saved state; returns and raises as `train`.

    A run that is done gives its result again. A run without a checkpoint yet starts.
    """
    return _go_on(load(folder, show=show, started=False, device=None), show)


def load(folder: Path, *, show: bool = False, started: bool = True, device: str | None = "cpu") -> Run:
    """The run in a folder at its last saved state.

    Parameters
    ----------
    folder : that `train` made
    show : print what is chosen from here on
    started : whether a checkpoint must be there
    device : where to put the net; None is where it is trained

    Raises
    ------
    CheckpointError : no run in the folder, or a checkpoint that cannot be used.
    ConfigError, DataError : its configuration or data cannot be read any more.
    """
    folder = Path(folder)
    if not (folder / CONFIG).is_file():
        raise CheckpointError(f"{folder}: expected the folder of a run, got none with {CONFIG}. Check the path.")
    config = resolve(read_toml(folder / CONFIG))
    trainer = Trainer(config, _dataset(config), _say(show), device)
    if started or (folder / CHECKPOINT).exists():
        trainer.restore(*checkpoint.load(folder / CHECKPOINT))
    return Run(folder, config, trainer)


def to_spec(folder: Path, *, softmax: bool = True) -> ModelSpec:
    """The net of a run that is done, as a model file's graph with preprocessing, class names and metadata.

    Raises
    ------
    CheckpointError : the run is not done; or as `load`.
    """
    run = load(folder)
    config, dataset, progress = run.config, run.trainer.dataset, run.trainer.progress
    if not run.trainer.done:
        raise CheckpointError(
            f"{folder}: expected a run that is done, got one in its {progress.stage} stage. Resume it."
        )
    metadata = {
        "data": dataset.name,
        "model": config.model,
        "conv": config.conv,
        "seed": str(config.seed),
        "density": str(progress.result["density"]),
        "target_density": str(config.target_density) if config.learns_masks else "1.0",
        "test_accuracy": str(progress.result["test_accuracy"]),
        "weights_hash": progress.result["weights_hash"],
    }
    preprocessing = {"subtract": dataset.subtract.tolist(), "divide": dataset.divide.tolist()}
    return export.to_spec(
        run.trainer.net, preprocessing=preprocessing, classes=dataset.classes, metadata=metadata, softmax=softmax
    )


def _go_on(run: Run, show: bool) -> Record:
    """Step until the run is done, saving at the start, after each epoch and where the configuration asks for it."""
    trainer, progress, folder = run.trainer, run.trainer.progress, run.folder
    if not trainer.done:
        _note_threads(trainer)
    for leftover in _leftovers(folder):
        leftover.unlink(missing_ok=True)
    atomic_write_text(folder / LOG, "".join(json.dumps(record) + "\n" for record in progress.history))
    if not (folder / CHECKPOINT).exists():
        checkpoint.save(folder / CHECKPOINT, *trainer.capture())
    started = time.monotonic()
    with _interrupts() as interrupted, _bar(run, show) as bar:
        while not trainer.done:
            try:
                record = trainer.step()
                if record or interrupted.is_set() or _due(progress.step, run.config.checkpoint_steps):
                    now = time.monotonic()
                    progress.seconds, started = progress.seconds + now - started, now
                    checkpoint.save(folder / CHECKPOINT, *trainer.capture())
            except DivergedError as e:
                raise DivergedError(f"{e}; the last good state is kept in {folder / CHECKPOINT}.") from e
            bar.set_postfix_str(_live(trainer), refresh=False)
            bar.update()
            if record:
                if record["stage"] == "coarse" and trainer.masks:
                    mask_history.save(folder, record["epoch"], trainer.masks)
                with open(folder / LOG, "a", encoding="utf-8") as f:
                    f.write(json.dumps(record) + "\n")
            if interrupted.is_set() and not trainer.done:
                raise KeyboardInterrupt(
                    f"stopped in the {progress.stage} stage, epoch {progress.epoch}, step {progress.step}, and saved. "
                    f"Go on with: lhc-ref train --resume {folder}"
                )
    result = {**progress.result, "seconds": round(progress.seconds, 1), "blas_threads": progress.blas_threads}
    atomic_write_text(folder / RESULT, json.dumps(result, indent=2) + "\n")
    return result


def _dataset(config: TrainConfig) -> data.Dataset:
    return data.load(config.data, normalisation=config.normalisation, validation=config.validation)


def _note_threads(trainer: Trainer) -> None:
    """Keep how many BLAS threads there are, and say so where a run goes on with others."""
    now, used = blas.threads(), trainer.progress.blas_threads
    if used and used[-1] != now:
        trainer.say(
            f"This run has used {used[-1]} BLAS threads and goes on with {now}: its weights will not be those, bit for "
            f"bit, that it would have had. Stop it and set OPENBLAS_NUM_THREADS={used[-1]} for the same bits."
        )
    if used[-1:] != [now]:
        used.append(now)


def _leftovers(folder: Path) -> list[Path]:
    """Temporary files of a process that was killed while it wrote."""
    return [path for name in (CONFIG, CHECKPOINT, LOG, RESULT) for path in folder.glob(f".{name}.*.tmp")]


def _due(step: int, every: int) -> bool:
    return every > 0 and step % every == 0


def _say(show: bool) -> Callable[[str], None]:
    return tqdm.write if show else lambda text: None


def _bar(run: Run, show: bool) -> tqdm:
    """How much is done, how long the rest takes, and `_live`: on a terminal only, of which 80 columns are enough."""
    config, trainer = run.config, run.trainer
    steps = len(trainer.batches)
    return tqdm(
        bar_format="{percentage:3.0f}% {remaining}{postfix}",
        total=(config.epochs_coarse + config.epochs_fine) * steps,
        initial=len(trainer.progress.history) * steps + trainer.progress.step,
        disable=None if show else True,
        dynamic_ncols=True,
    )


def _live(trainer: Trainer) -> str:
    """This epoch so far, and what the last one came to."""
    progress = trainer.progress
    parts = []
    if progress.step:
        images = min(progress.step * trainer.config.batch, len(trainer.batches.order))
        parts.append(f"loss {progress.loss_sum / images:.2f}, acc {progress.hits / images:.1%}")
    if not trainer.done:
        parts.append(f"rate {trainer.rate():.3g}")
    if progress.history:
        last = progress.history[-1]
        parts.append(f"last density {last['density']:.3f}, val acc {last['validation_accuracy']:.1%}")
    return f"{progress.stage} {progress.epoch}: {', '.join(parts)}"


@contextlib.contextmanager
def _interrupts() -> Iterator[threading.Event]:
    """An event that Ctrl-C or SIGTERM sets instead of cutting a step short; a second one cuts it short after all."""
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked  # Why: Python hands signals to the main thread alone.
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def ask(number: int, frame: FrameType | None) -> None:
        asked.set()
        restore()

    try:
        for number in before:
            signal.signal(number, ask)
        yield asked
    finally:
        restore()
