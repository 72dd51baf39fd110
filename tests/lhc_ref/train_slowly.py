"""A process to be killed: goes on with a run, tells each step and each moment inside a checkpoint write on stdout.

    python -m tests.lhc_ref.train_slowly RUN_DIR [PAUSE_S]

Lines: `step` after a step, `inside N` at the Nth of the moments of a write (0 nothing written, 1 half, 2 all, 3 synced,
4 renamed), followed by a pause; at the end `done HASH`.
"""

import os
import sys
import time
from pathlib import Path

from lhc_ref import checkpoint, files, runs
from lhc_ref.training import Trainer


def tell(line):
    os.write(1, f"{line}\n".encode())


def main(folder, pause_s=0.0):
    def inside(moment):
        tell(f"inside {moment}")
        time.sleep(pause_s)

    def in_two_halves(path, content):
        def write(f):
            inside(0)
            for moment, part in ((1, content[: len(content) // 2]), (2, content[len(content) // 2 :])):
                f.write(part)
                f.flush()
                inside(moment)

        files.atomic_write(path, write)

    replace, step = os.replace, Trainer.step

    def telling_replace(source, target):
        watched = Path(target).name == runs.CHECKPOINT
        if watched:
            inside(3)
        replace(source, target)
        if watched:
            inside(4)

    def telling_step(trainer):
        record = step(trainer)
        tell("step")
        return record

    checkpoint.atomic_write_bytes, os.replace, Trainer.step = in_two_halves, telling_replace, telling_step
    tell(f"done {runs.resume(Path(folder), show=False)['weights_hash']}")


if __name__ == "__main__":
    main(sys.argv[1], *map(float, sys.argv[2:]))
