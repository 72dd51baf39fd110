"""What results depend on: the machine, the versions, the commit."""

import os
import subprocess
from pathlib import Path
from typing import Any

from runtime.bench import machine

ROOT = Path(__file__).parents[1]


def facts() -> dict[str, Any]:
    """For the head of a results file."""
    return {**machine.facts(), "commit": _commit()}


def _commit() -> str | None:
    """The commit of the checkout, with `+changes` if the files differ from it; None outside one."""
    git = ["git", "-C", os.fspath(ROOT)]
    try:
        commit = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
        changed = subprocess.run([*git, "status", "--porcelain", "-uno"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return commit + "+changes" * bool(changed.stdout)
