"""What times depend on: the processor, the versions, other load and the container's CPU quota."""

import platform
import time
from importlib import metadata
from math import isfinite
from pathlib import Path
from typing import Any

import lhc_ref
from runtime import threads
from runtime.commands.info import machine_facts

PACKAGES = ("numpy", "numba", "llvmlite", "scipy", "safetensors")
LOUD_CORES = 0.2  # other load from which on times should not be trusted


def facts() -> dict[str, Any]:
    """Processor, system, threads, quota (cores; None without one) and versions, for the head of a results file."""
    quota = threads.quota_cores()
    return {
        "cpu": cpu_name(),
        "system": platform.platform(),
        **machine_facts(),
        "quota_cores": quota if isfinite(quota) else None,
        "python": platform.python_version(),
        "lhc": lhc_ref.__version__,
        **{name: metadata.version(name) for name in PACKAGES},
    }


def cpu_name() -> str:
    """The processor's name."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or "unknown"
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def busy_cores(seconds: float = 0.5) -> float:
    """How many cores others keep busy while this process sleeps; 0 where the system does not tell."""
    before, began = _busy_s(), time.perf_counter()
    time.sleep(seconds)
    return max(0.0, (_busy_s() - before) / (time.perf_counter() - began))


def _busy_s() -> float:
    """Seconds that all cores together have worked since the start; steps of 10 milliseconds."""
    try:
        fields = Path("/proc/stat").read_text().splitlines()[0].split()[1:]
    except OSError:
        return 0.0
    user, nice, system, _, _, irq, softirq, steal = map(int, fields[:8])
    return (user + nice + system + irq + softirq + steal) / 100


def throttled_s(path: Path = Path("/sys/fs/cgroup/cpu.stat")) -> float:
    """Seconds that the CPU quota has held this container's threads back so far; 0 where the system does not tell."""
    try:
        fields = dict(line.split() for line in path.read_text().splitlines())
        return float(fields["throttled_usec"]) / 1e6
    except (OSError, ValueError, KeyError):
        return 0.0
