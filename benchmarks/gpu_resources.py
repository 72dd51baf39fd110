"""What GPU kernels take of a multiprocessor, told by the assembler: ``python -m benchmarks.gpu_resources``.

Compiles every registered kernel to PTX for several architectures and assembles it, without a GPU. Needs NVVM and an
assembler: both come with ``pip install 'lhc[cuda]'`` (numba-cuda with nvJitLink), or with a CUDA toolkit (numba's own
target with ptxas). Registers, spilled bytes and shared memory are kept in a table by the version of PTX, since another
compiler allocates otherwise; tests hold the kernels against it.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import patch

import numpy as np
from numba import cuda, float32, int32
from numba.np.numpy_support import from_dtype
from tqdm import tqdm

from lhc_ref.files import atomic_write_text
from runtime.cuda.kernels.table import kernel_of
from runtime.cuda.registry import ENTRIES, Entry
from runtime.cuda.step import STEP

ARCHITECTURES = (75, 80, 90)  # Turing, Ampere, Hopper
STORAGES = ("float32", "float16")
TABLE = Path(__file__).parents[1] / "tests" / "cuda" / "resources.json"
Assembler = Callable[[str, int, list[str]], str]  # (PTX, architecture, options) -> the log


class MissingToolError(RuntimeError):
    """No NVVM, or no assembler."""


def signature(storage: str) -> tuple:
    """The types of a kernel's arguments."""
    tensor = from_dtype(np.dtype(storage))[::1]
    return from_dtype(STEP)[::1], int32, tensor, tensor, tensor, float32[::1], int32[::1], tensor


def ptx_of(entry: Entry, storage: str, architecture: int) -> str:
    """A kernel's PTX."""
    capability = divmod(architecture, 10)
    with _device_of(capability):
        try:
            text, _ = cuda.compile_ptx(kernel_of(entry).py_func, signature(storage), cc=capability)
        except (ImportError, OSError) as error:  # Why: what numba raises where it finds no NVVM.
            raise MissingToolError(f"NVVM: {error}") from error
    return text


@contextmanager
def _device_of(capability: tuple[int, int]) -> Iterator[None]:
    """numba's own target asks the device for what to compile functions that kernels call; there is none."""
    dispatcher = import_module("numba.cuda.dispatcher")
    if not hasattr(dispatcher, "get_current_device"):
        yield
        return
    with patch.object(dispatcher, "get_current_device", lambda: SimpleNamespace(compute_capability=capability)):
        yield


def assembler() -> Assembler:
    """nvJitLink, which comes with numba-cuda; else ptxas of a CUDA toolkit or of NVIDIA's wheels."""
    try:
        link = import_module("cuda.bindings.nvjitlink")
        link.version()
    except (ImportError, RuntimeError):
        return _ptxas()
    return partial(_linked, link)


def _linked(link: SimpleNamespace, text: str, architecture: int, options: list[str]) -> str:
    data = text.encode() + b"\0"
    options = [f"-arch=sm_{architecture}", "-verbose", *options]
    handle = link.create(len(options), options)
    try:
        link.add_data(handle, link.InputType.PTX, data, len(data), "kernel")
        link.complete(handle)
        log = bytearray(link.get_info_log_size(handle))
        link.get_info_log(handle, log)
    finally:
        link.destroy(handle)
    return log.decode()


def toolkit_program(name: str) -> str | None:
    """A program of a CUDA toolkit, or of NVIDIA's wheels; None where there is none."""
    homes = [os.environ.get("CUDA_HOME", ""), "/usr/local/cuda", *(f"{path}/nvidia/cu13" for path in sys.path)]
    places = [shutil.which(name), *(shutil.which(name, path=f"{home}/bin") for home in homes)]
    return next((place for place in places if place), None)


def _ptxas() -> Assembler:
    program = toolkit_program("ptxas")
    if program is None:
        raise MissingToolError("assembler: found neither nvJitLink nor ptxas. Install one: pip install 'lhc[cuda]'")

    def assemble(text: str, architecture: int, options: list[str]) -> str:
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder) / "kernel.ptx"
            source.write_text(text)
            command = [program, "-v", *options, f"-arch=sm_{architecture}", str(source), "-o", f"{folder}/kernel.cubin"]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"ptxas: expected to assemble, got: {done.stderr}")
        return done.stderr

    return assemble


def resources(log: str) -> dict[str, int]:
    """Registers of a thread, its bytes outside them (spilled, or arrays that did not fit), bytes shared by a block."""
    spilled = re.search(r"(?:(\d+) bytes stack frame, )?(\d+) bytes spill stores, (\d+) bytes spill loads", log)
    registers, shared = re.search(r"[Uu]sed (\d+) registers", log), re.search(r"(\d+) bytes smem", log)
    if spilled is None or registers is None:
        raise RuntimeError(f"assembler: expected registers and spills in its log, got: {log}")
    return {
        "registers": int(registers[1]),
        "spilled_bytes": max(int(spilled[1] or 0), int(spilled[2]) + int(spilled[3])),
        "shared_bytes": int(shared[1]) if shared else 0,
    }


def ptx_version(text: str) -> str:
    """The version of PTX that the compiler writes."""
    found = re.search(r"^\.version (\S+)", text, re.MULTILINE)
    assert found, "every PTX names its version"
    return found[1]


def measure(entry: Entry, storage: str, architecture: int) -> tuple[str, dict[str, int]]:
    """(version of PTX, resources) of one kernel."""
    text, most = ptx_of(entry, storage, architecture), kernel_of(entry).targetoptions.get("max_registers")
    options = [f"-maxrregcount={most}"] if most else []
    return ptx_version(text), resources(assembler()(text, architecture, options))


def main(argv: list[str] | None = None) -> int:
    """Print the table of this machine's compiler; with --write, keep it."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu_resources", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--write", action="store_true", help=f"put it into {TABLE.name}, beside other versions' of PTX")
    parser.add_argument("--kernels", default="", metavar="TEXT", help="only those whose name holds this text")
    arguments = parser.parse_args(argv)
    cases = [(e, s, a) for e in ENTRIES for s in STORAGES for a in ARCHITECTURES if arguments.kernels in e.name(s)]
    table: dict[str, dict] = {}
    try:
        for entry, storage, architecture in tqdm(cases, leave=False):
            version, found = measure(entry, storage, architecture)
            table[f"{entry.name(storage)} sm_{architecture}"] = found
    except MissingToolError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"PTX {version}: registers, spilled bytes, shared bytes")
    for name, found in table.items():
        print(f"  {name:56} {found['registers']:4} {found['spilled_bytes']:4} {found['shared_bytes']:6}")
    if arguments.write:
        kept = json.loads(TABLE.read_text()) if TABLE.exists() else {}
        kept[version] = dict(sorted((kept.get(version, {}) | table).items()))
        atomic_write_text(TABLE, json.dumps(kept, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
