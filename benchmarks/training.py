"""Trains several nets at once, one process and one core each, by the commands that a user would type."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from lhc_ref.config import read_toml
from lhc_ref.errors import LhcError
from lhc_ref.runs import CONFIG, LOG, RESULT
from runtime.threads import available_cores

# Why one: on matrices this small BLAS threads lose more than they gain, and each net can have a core to itself. The
# bits of the weights depend on their number.
ONE_THREAD = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")
POLL_S = 0.2


@dataclass(frozen=True)
class Training:
    """One net to train: its run folder, the options of `lhc-ref train`, and whether a run that is there goes on."""

    folder: Path
    options: tuple[str, ...]
    resume: bool = False

    @property
    def arguments(self) -> list[str]:
        if self.resume and (self.folder / CONFIG).is_file():
            return ["train", "--resume", str(self.folder)]
        return ["train", "--out", str(self.folder), *self.options]

    def epochs_done(self) -> int:
        log = self.folder / LOG
        return log.read_bytes().count(b"\n") if log.exists() else 0

    def epochs(self) -> int:
        """Of both stages; 0 before the process has begun."""
        path = self.folder / CONFIG
        config = read_toml(path) if path.exists() else {}
        return int(config.get("epochs_coarse", 0)) + int(config.get("epochs_fine", 0))


def train_all(trainings: Sequence[Training]) -> None:
    """Train all of them, as many at a time as there are cores; anew, unless they are to go on.

    Raises
    ------
    LhcError : a folder that is there and is no run's, or a training that failed; its own words are passed on.
    """
    for training in trainings:
        if not training.resume:
            _clear(training.folder)
        print(f"$ OPENBLAS_NUM_THREADS=1 lhc-ref {' '.join(training.arguments)}", flush=True)
    waiting = list(trainings)
    running: dict[Training, subprocess.Popen[str]] = {}
    with tqdm(unit="epoch", disable=None, leave=False) as bar:
        try:
            while waiting or running:
                while waiting and len(running) < available_cores():
                    training = waiting.pop(0)
                    running[training] = _start(training)
                time.sleep(POLL_S)
                for training in [t for t, process in running.items() if process.poll() is not None]:
                    _finish(training, running.pop(training), bar)
                _show(bar, trainings, running)
        finally:
            for process in running.values():
                process.terminate()
                process.wait()


def _clear(folder: Path) -> None:
    """Remove the run of an earlier demonstration, and nothing else."""
    if not folder.exists():
        return
    if not (folder / CONFIG).is_file():
        raise LhcError(f"{folder}: expected no folder, or that of an earlier run, got another. Move it away.")
    shutil.rmtree(folder)


def _start(training: Training) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "lhc_ref.cli", *training.arguments, "--quiet"]
    environment = {**os.environ, **ONE_THREAD}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def _finish(training: Training, process: subprocess.Popen[str], bar: "tqdm[None]") -> None:
    """Pass on what a training said at its end."""
    out, err = process.communicate()
    if process.returncode:
        raise LhcError(f"lhc-ref {' '.join(training.arguments)}: {err.strip() or f'exit code {process.returncode}'}")
    bar.clear()
    print(out.rstrip(), flush=True)


def _show(bar: "tqdm[None]", trainings: Sequence[Training], running: dict[Training, subprocess.Popen[str]]) -> None:
    """All epochs of all trainings on one bar; those that have not begun count as long as the longest that has."""
    known = [training.epochs() for training in trainings]
    bar.total = sum(epochs or max(known) for epochs in known) or None
    bar.n = sum(
        training.epochs() if (training.folder / RESULT).exists() else training.epochs_done() for training in trainings
    )
    bar.set_description(", ".join(training.folder.name for training in running), refresh=False)
    bar.refresh()
