"""What the wheel and the sdist hold, and that an installation into an empty environment works."""

import subprocess
import sys
import tarfile
import venv
import zipfile
from collections.abc import Iterator
from email import message_from_bytes
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
VERSION = "0.1.0"
IN_SDIST = {
    *("CHANGELOG.md", "CITATION.cff", "CONTRIBUTING.md", "LICENSE", "Makefile", "PKG-INFO", "README.md"),
    "pyproject.toml",
    *(f"tests/golden/{name}.npz" for name in ("layers", "mask_loss", "trajectory_free", "trajectory_rigid")),
}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist, and the wheel made from that sdist."""
    folder = tmp_path_factory.mktemp("built")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def sources(*folders: str) -> Iterator[str]:
    """Path below the root of every Python file in `folders`."""
    for folder in folders:
        yield from (path.relative_to(ROOT).as_posix() for path in (ROOT / folder).rglob("*.py"))


def test_wheel_holds_the_two_packages_only(built: Path) -> None:
    with zipfile.ZipFile(built / f"lhc-{VERSION}-py3-none-any.whl") as wheel:
        names = set(wheel.namelist())
        entry_points = wheel.read(f"lhc-{VERSION}.dist-info/entry_points.txt").decode()
        metadata = message_from_bytes(wheel.read(f"lhc-{VERSION}.dist-info/METADATA"))
    of_packages = {name for name in names if ".dist-info/" not in name}
    assert of_packages == {*sources("lhc_ref", "runtime"), "lhc_ref/py.typed", "runtime/py.typed"}
    assert f"lhc-{VERSION}.dist-info/licenses/LICENSE" in names
    assert "lhc-ref = lhc_ref.cli:entry" in entry_points
    assert "lhc-run = runtime.cli:entry" in entry_points
    assert (metadata["Name"], metadata["Version"], metadata["License-Expression"]) == ("lhc", VERSION, "Apache-2.0")
    core = {line for line in metadata.get_all("Requires-Dist", []) if "extra ==" not in line}
    assert {line.partition(">")[0] for line in core} == {"numpy", "numba", "scipy", "tqdm", "safetensors"}


def test_sdist_holds_what_building_and_testing_need(built: Path) -> None:
    with tarfile.open(built / f"lhc-{VERSION}.tar.gz") as sdist:
        names = {name.removeprefix(f"lhc-{VERSION}/") for name in sdist.getnames()}
    assert {*IN_SDIST, *sources("lhc_ref", "runtime", "tests", "benchmarks")} <= names
    assert {name.partition("/")[0] for name in names} <= {path.name for path in ROOT.iterdir()} | {"PKG-INFO"}
    assert not [name for name in names if "__pycache__" in name or name.startswith((".venv", "build", "dist", ".ci"))]


def test_versions_agree() -> None:
    for name in ("pyproject.toml", "lhc_ref/__init__.py", "CITATION.cff", "CHANGELOG.md"):
        assert VERSION in (ROOT / name).read_text(encoding="utf-8"), name


@pytest.mark.long
def test_install_into_an_empty_environment(tmp_path: Path) -> None:
    venv.create(tmp_path / "env", with_pip=True)
    programs = tmp_path / "env" / ("Scripts" if sys.platform == "win32" else "bin")

    def run(program: str, *arguments: str) -> str:
        command = [str(programs / program), *arguments]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    run("python", "-m", "pip", "install", str(ROOT))
    run("python", "-m", "pip", "check")
    assert run("lhc-ref", "--help").startswith("usage: lhc-ref")
    assert run("lhc-run", "--help").startswith("usage: lhc-run")
    gate = "from lhc_ref import errors, extras\ntry: extras.demo()\nexcept errors.MissingExtraError as e: print(e)"
    assert "No module named 'sklearn'" in run("python", "-c", gate)
