"""Makes the environments of the other engines, each apart from ours: ``python -m benchmarks.environments``.

They lie in build/peers/NAME. DeepSparse 1.8 needs Python 3.8 to 3.11 and numpy < 2; where there is no such Python it is
left out, and that is said.
"""

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent / "build" / "peers"
PACKAGES = {
    "dense": ["onnxruntime", "openvino", "onnx", "numpy", "torch==2.13.0"],
    "deepsparse": ["deepsparse==1.8.0", "numpy<2"],
}
ENVIRONMENT_OF = {
    "onnxruntime": "dense",
    "openvino-f32": "dense",
    "openvino-bf16": "dense",
    "torch": "dense",
    "deepsparse": "deepsparse",
    "deepsparse-dense": "deepsparse",
}


def python_of(engine: str) -> str | None:
    """The Python that runs an engine: ours for "ours", None where its environment has not been made."""
    if engine == "ours":
        return sys.executable
    python = ROOT / ENVIRONMENT_OF[engine] / "bin" / "python"
    return str(python) if (python.parent.parent / ".made").exists() else None


def _interpreter(name: str) -> str | None:
    if name != "deepsparse" or sys.version_info[:2] == (3, 11):
        return sys.executable
    return shutil.which("python3.11")


def make(name: str) -> bool:
    """Make one environment unless it is there already; False where no Python fits or the installation fails."""
    home = ROOT / name
    if (home / ".made").exists():
        return True
    interpreter = _interpreter(name)
    if interpreter is None:
        print(f"{name}: expected Python 3.11 on this machine, got none. Left out: install it to measure this engine.")
        return False
    shutil.rmtree(home, ignore_errors=True)
    subprocess.run([interpreter, "-m", "venv", str(home)], check=True)
    done = subprocess.run([str(home / "bin" / "pip"), "install", "--quiet", *PACKAGES[name]])
    if done.returncode != 0:
        print(f"{name}: expected pip to install {' '.join(PACKAGES[name])}, got exit code {done.returncode}. Left out.")
        return False
    (home / ".made").touch()
    return True


def main() -> int:
    """The command; gives how many could not be made."""
    argparse.ArgumentParser(
        prog="python -m benchmarks.environments",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    ).parse_args()
    return sum(not make(name) for name in PACKAGES)


if __name__ == "__main__":
    sys.exit(main())
