"""A run that is killed without warning, over and over, ends with the same weights as one that is left alone."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lhc_ref import runs
from lhc_ref.config import to_toml
from tests.lhc_ref.training_cases import bars, small_config

ROOT = Path(__file__).parents[2]
PAUSE_S = 0.02
MOMENTS = 5  # of a write, see train_slowly
PATIENCE_S = 120


class Killer:
    """Starts the run's process again and again, and kills it."""

    def __init__(self, folder, config, seed):
        self.folder, self.config, self.random = folder, config, random.Random(seed)
        self.kills, self.half_written, self.ended = 0, 0, []

    def begin(self):
        """A new folder, as `runs.train` has it before its first checkpoint."""
        folder = self.folder / str(len(self.ended))
        if not folder.exists():
            folder.mkdir(parents=True)
            (folder / runs.CONFIG).write_text(to_toml(self.config))
        return folder

    def kill_at(self, awaited, count):
        """Kill at a random instant after the `count`th line that starts so; a run that ends before that is noted."""
        folder = self.begin()
        command = [sys.executable, "-m", "tests.lhc_ref.train_slowly", str(folder), str(PAUSE_S)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT, text=True) as process:
            for line in process.stdout:
                if line.startswith("done"):
                    self.ended.append(line.split()[1])
                    return
                count -= line.startswith(awaited)
                if count == 0:
                    break
            time.sleep(self.random.uniform(0, PAUSE_S / 2))
            os.kill(process.pid, signal.SIGKILL)
            process.wait(PATIENCE_S)
            assert process.returncode == -signal.SIGKILL
        self.kills += 1
        self.half_written += bool(list(folder.glob(f".{runs.CHECKPOINT}.*.tmp")))

    def finish(self):
        """Let the last run end; give the hashes of all that ended."""
        runs_ended = len(self.ended)
        while len(self.ended) == runs_ended:
            self.kill_at("none", -1)
        return self.ended


def kill_and_compare(tmp_path, inside, anywhere, seed):
    """Kill so many times inside a write, spread over its moments, and so many times at any instant."""
    config = small_config(bars(tmp_path / "bars.npz"), checkpoint_steps=3)
    whole = runs.train(config, tmp_path / "whole", show=False)
    killer = Killer(tmp_path / "killed", config, seed)
    kinds = [f"inside {k % MOMENTS}" for k in range(inside)] + ["step"] * anywhere
    killer.random.shuffle(kinds)
    for kind in kinds:
        before = killer.kills
        while killer.kills == before:
            assert len(killer.ended) < 20, f"the moment {kind!r} never comes"
            killer.kill_at(kind, killer.random.randint(1, 3) if kind != "step" else killer.random.randint(1, 9))
    assert killer.kills == inside + anywhere
    # Moments 0 to 3 leave a temporary file: proof that the process was inside a write.
    assert killer.half_written >= sum(kind in {f"inside {m}" for m in range(4)} for kind in kinds)
    assert set(killer.finish()) == {whole["weights_hash"]}


def test_a_run_killed_three_times_in_a_write_and_twice_anywhere(tmp_path):
    kill_and_compare(tmp_path, inside=3, anywhere=2, seed=0)


@pytest.mark.long
def test_a_run_killed_forty_times_of_which_fifteen_in_a_write(tmp_path):
    kill_and_compare(tmp_path, inside=15, anywhere=25, seed=1)
