"""`lhc-run warmup`: compile every kernel now, so that no later run has to."""

import argparse
import time

import numpy as np
from tqdm import tqdm

from lhc_ref.modelfile import InputError, InputSpec, ModelSpec, Node
from runtime import kernel_cache
from runtime.commands.arguments import add_cache_dir
from runtime.kernels.indirect import task_address
from runtime.kernels.machine import LANES, MACHINE
from runtime.kernels.registry import ROWS
from runtime.kernels.vector import COMPILED
from runtime.model import Model


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Declare the command."""
    parser = commands.add_parser("warmup", help="compile the kernels beforehand, for all nets")
    add_cache_dir(parser)
    parser.set_defaults(run=run)


def compile_all() -> float:
    """Compile what is not in the cache yet; gives the seconds it took. All nets choose among the same functions."""
    begin = time.perf_counter()
    for row in tqdm(ROWS.values(), desc="kernels", leave=False, disable=None):
        task_address(row)
    node = Node("conv2d", "conv", ("x",), "y", {}, {"kernel": np.ones((3, 3, 64, 64), np.float32)})
    model = Model(ModelSpec((InputSpec("x", (8, 8, 64)),), ("y",), (node,)))
    for threads in (1, 2):
        for batch in (1, LANES, 2 * LANES):  # all workers on one step, and each on images of its own
            model.run(np.ones((batch, 8, 8, 64), np.float32), threads=threads)
    return time.perf_counter() - begin


def run(arguments: argparse.Namespace) -> int:
    """Compile, and say how long it took and where it is kept."""
    folder = kernel_cache.kept_in()
    if COMPILED and folder is None:
        raise InputError(
            "cache of compiled kernels: expected a folder that can be written, got none. "
            "Name one, here and for later runs: --cache-dir DIR, or the environment variable NUMBA_CACHE_DIR."
        )
    kernel_cache.expected()
    print(f"compiling for {MACHINE.name} ...", flush=True)
    print(f"ready after {compile_all():.1f} s, kept in {folder}")
    return 0
