"""What results depend on: the machine, the versions, the commit."""

import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

import lhc_ref
from runtime.commands.info import machine_facts

ROOT = Path(__file__).parents[1]
PACKAGES = ("numpy", "numba", "llvmlite", "scipy", "safetensors")


def facts() -> dict[str, Any]:
    """For the head of a results file."""
    return {
        "cpu": _cpu(),
        "system": platform.platform(),
        **machine_facts(),
        "python": platform.python_version(),
        "lhc": lhc_ref.__version__,
        **{name: metadata.version(name) for name in PACKAGES},
        "commit": _commit(),
    }


def _cpu() -> str:
    """The processor's name."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or "unknown"
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def _commit() -> str | None:
    """The commit of the checkout, with `+changes` if the files differ from it; None outside one."""
    git = ["git", "-C", os.fspath(ROOT)]
    try:
        commit = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
        changed = subprocess.run([*git, "status", "--porcelain", "-uno"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return commit + "+changes" * bool(changed.stdout)
