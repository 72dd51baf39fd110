"""How many cores there are for this process: by affinity, and by its container's CPU quota."""

import math
import os
from functools import cache
from pathlib import Path

import numpy as np

from lhc_ref.modelfile import InputError
from runtime.kernels.vector import COMPILED

CGROUPS = Path("/sys/fs/cgroup")


@cache
def quota_cores() -> float:
    """Cores that the CPU quotas of this process's control group and of all around it allow; infinite without one. Asked
    once.
    """
    return min((_quota(folder) for folder in groups()), default=math.inf)


def groups() -> list[Path]:
    """The folders of the control group (version 2, or version 1's for the CPU) and of those around it."""
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        lines = []
    folders = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        top = CGROUPS if not controllers else CGROUPS / "cpu"
        if not controllers or "cpu" in controllers.split(","):
            inner = top / path.lstrip("/")
            folders += [folder for folder in (inner, *inner.parents) if folder.is_relative_to(top)]
    return [*folders, CGROUPS, CGROUPS / "cpu"]


def _quota(folder: Path) -> float:
    try:
        quota, period = (folder / "cpu.max").read_text().split()[:2]
    except (OSError, ValueError):
        try:
            quota = (folder / "cpu.cfs_quota_us").read_text().strip()
            period = (folder / "cpu.cfs_period_us").read_text().strip()
        except OSError:
            return math.inf
    return math.inf if quota in ("max", "-1") else int(quota) / int(period)


@cache
def machine_cores() -> int:
    """Cores of the machine, whoever may use them. Asked once: the system reads a file for it."""
    return os.cpu_count() or 1


def available_cores() -> int:
    """Cores this process may use: affinity and CPU quota respected, at least 1."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else machine_cores()
    return max(1, math.ceil(min(cores, quota_cores())))


def resolve(threads: int | None) -> int:
    """The number of workers for a request: None means every available core; never more than the machine has cores.
    Raises InputError for less than 1.
    """
    if threads is None:
        threads = available_cores()
    if not isinstance(threads, int | np.integer) or isinstance(threads, bool) or threads < 1:
        raise InputError(
            f"threads: expected a whole number of at least 1, got {threads!r}. Leave it out to use every core."
        )
    return min(int(threads), machine_cores()) if COMPILED else 1


def check_pin(pin: str | None) -> None:
    """Raise InputError unless `pin` is None, or "core" on a system that can."""
    if pin not in (None, "core"):
        raise InputError(f"pin: expected None or 'core', got {pin!r}. Leave it out to let the system place threads.")
    if pin is not None and not hasattr(os, "sched_setaffinity"):
        raise InputError("pin: expected a system with sched_setaffinity, which Linux is, got another. Leave it out.")
