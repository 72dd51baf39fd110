"""What times depend on: the processor, the versions, other load and the control group's CPU quota."""

import os
import platform
import subprocess
import time
from collections.abc import Collection, Sequence
from importlib import metadata
from math import isfinite
from pathlib import Path
from typing import Any

import lhc_ref
from runtime import threads
from runtime.bench import ping
from runtime.commands.info import machine_facts

PACKAGES = ("numpy", "numba", "llvmlite", "scipy", "safetensors")
LOUD_CORES = 0.2  # other load from which on times should not be trusted
HERE = Path(__file__).parent
TICKS = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100  # of the kernel's clock in a second


def facts() -> dict[str, Any]:
    """For the head of a results file: processor, system, threads, quota (cores; None without one), nanoseconds from
    core to core (None where they cannot be measured), versions, and the commit of a checkout (None outside one).
    """
    quota, way = threads.quota_cores(), ping.measure()
    return {
        "cpu": cpu_name(),
        "system": platform.platform(),
        **machine_facts(),
        "quota_cores": quota if isfinite(quota) else None,
        "nearest_core_ns": None if way is None else round(way.nearest_ns, 1),
        "farthest_core_ns": None if way is None else round(way.farthest_ns, 1),
        "python": platform.python_version(),
        "lhc": lhc_ref.__version__,
        **{name: metadata.version(name) for name in PACKAGES},
        "commit": commit(),
    }


RESULTS = "benchmarks/results"  # in a checkout: what was measured, not what is


def commit(folder: Path = HERE) -> str | None:
    """The commit of the checkout that holds a folder, with `+changes` where files differ from it, results that were
    stored since aside; None where git knows nothing of the folder, such as that of an installed package.
    """
    git = ["git", "-C", os.fspath(folder)]
    try:
        if not _output([*git, "ls-files", "."]):
            return None
        return _output([*git, "rev-parse", "HEAD"]) + "+changes" * bool(
            _output([*git, "status", "--porcelain", "-uno", "--", ":/", f":(top,exclude){RESULTS}"])
        )
    except (OSError, subprocess.CalledProcessError):
        return None


def _output(command: Sequence[str]) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def cpu_name() -> str:
    """The processor's name."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or "unknown"
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def busy_cores(seconds: float = 0.5) -> float:
    """How many cores others keep busy while this process sleeps; 0 where the system does not tell."""
    load = OtherLoad([])
    time.sleep(seconds)
    return load.cores([])


class OtherLoad:
    """How many cores others keep busy from now on."""

    def __init__(self, own: Collection[int]) -> None:
        """`own` : ids of our processes that run already."""
        self._busy_s, self._own_s, self._began = _busy_s(), {p: cpu_s(p) for p in own}, time.perf_counter()

    def cores(self, own: Collection[int]) -> float:
        """Cores without what our processes took, which run still; 0 where the system does not tell."""
        own_s = sum(cpu_s(process) - self._own_s.get(process, 0.0) for process in own)
        return max(0.0, (_busy_s() - self._busy_s - own_s) / (time.perf_counter() - self._began))


def cpu_s(process: int) -> float:
    """Seconds that all threads of a process have worked; 0 where the system does not tell."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / TICKS  # utime and stime, fields 14 and 15 of proc(5)


def _busy_s() -> float:
    """Seconds that all cores together have worked since the start, or were taken by a hypervisor."""
    try:
        fields = Path("/proc/stat").read_text().splitlines()[0].split()[1:]
    except OSError:
        return 0.0
    user, nice, system, _, _, irq, softirq, steal = map(int, fields[:8])
    return (user + nice + system + irq + softirq + steal) / TICKS


def throttled_s(groups: Sequence[Path] | None = None) -> float:
    """Seconds that CPU quotas have held the threads of this process's control group back so far, or of one around it,
    whichever is most; 0 where the system does not tell.
    """
    return max(map(_throttled_s, threads.groups() if groups is None else groups), default=0.0)


def _throttled_s(group: Path) -> float:
    try:
        fields = dict(line.split() for line in (group / "cpu.stat").read_text().splitlines())
    except (OSError, ValueError):
        return 0.0
    # Version 2 of control groups counts microseconds, version 1 nanoseconds.
    return float(fields.get("throttled_usec", 0)) / 1e6 or float(fields.get("throttled_time", 0)) / 1e9
