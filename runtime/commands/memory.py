"""Whether something fits into memory, asked before it is allocated: Linux promises more than it has, and then kills."""

import math
from pathlib import Path

from lhc_ref.errors import InputError


def available_bytes() -> float:
    """Memory that this process may still take, by the system's and the container's word; infinite if neither tells."""
    free = math.inf
    try:
        fields = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
        free = float(fields["MemAvailable"].split()[0]) * 1024
        limit = Path("/sys/fs/cgroup/memory.max").read_text().strip()
        if limit != "max":
            free = min(free, float(limit) - float(Path("/sys/fs/cgroup/memory.current").read_text()))
    except (OSError, ValueError, KeyError):
        pass
    return free


def require(needed_bytes: float, what: str, advice: str) -> None:
    """Raise InputError unless `needed_bytes` are free."""
    free = available_bytes()
    if needed_bytes > free:
        raise InputError(
            f"{what}: expected to need at most the {free / 1e9:,.1f} GB of memory that are free, got "
            f"{needed_bytes / 1e9:,.1f} GB. {advice}"
        )
