"""Which cores a process keeps to."""

import os
from pathlib import Path

from lhc_ref.modelfile import InputError

CHOICES = ("none", "core")
TOPOLOGY = Path("/sys/devices/system/cpu")
# What OpenMP does with its threads within the cores of the process.
VARIABLES = {"OMP_PROC_BIND": "true", "OMP_PLACES": "cores"}


def cores_for(pin: str, threads: int) -> list[int]:
    """The cores for so many threads: none in particular, or as many as there are threads, hardware cores first.

    Raises InputError where the system cannot pin, or the process may not use as many cores.
    """
    if pin == "none":
        return []
    if not hasattr(os, "sched_setaffinity"):
        raise InputError("--pin core: expected a system that can keep a process to cores, got another. Leave it out.")
    usable = hardware_first(sorted(os.sched_getaffinity(0)))
    if threads > len(usable):
        raise InputError(f"--pin core: expected at most {len(usable)} threads, got {threads}. Use fewer.")
    return usable[:threads]


def hardware_first(cores: list[int], topology: Path = TOPOLOGY) -> list[int]:
    """One hardware thread of each core, then the others."""
    first: list[int] = []
    others: list[int] = []
    seen: set[str] = set()
    for core in cores:
        try:
            siblings = (topology / f"cpu{core}" / "topology" / "thread_siblings_list").read_text().strip()
        except OSError:
            siblings = str(core)
        (others if siblings in seen else first).append(core)
        seen.add(siblings)
    return first + others
