"""Runs, checks and times nets on an NVIDIA GPU in one call of under 10 minutes: ``python -m benchmarks.gpu``.

First the tests of the GPU's kernels, on this GPU. Then the ceilings: what a copy moves and what multiply-adds reach.
Then each net: outputs against float64, the whole net by device events, and each layer with its share of the ceilings;
beside it, where PyTorch is installed, cuDNN on the same net with its zeros, in float32 (TF32 off), TF32 and bfloat16.
Last, where compute-sanitizer is installed, a small net under its checks of memory and of races. What has been found is
written after every net, so that a run that is cut short leaves something.

`--toy` does the same with small nets, in numba's simulator too (NUMBA_ENABLE_CUDASIM=1), where times mean nothing.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks import gpu_peer, machine, problems
from lhc_ref.evaluate import evaluate
from lhc_ref.files import atomic_write_text
from lhc_ref.modelfile import ModelSpec, validate
from runtime.cuda.gate import cuda, simulated
from runtime.cuda.model import GpuModel
from runtime.cuda.plan import GpuPlan

NETS = (
    ("vgg16_cifar_d0.1", 256, 3.0),
    ("vgg16_cifar_d0.1", 1024, 3.0),
    ("resnet34_cifar_d0.1", 256, 3.0),
    ("resnet50_imagenet_d0.25", 64, 1.7),
)  # name, batch, times faster than cuDNN in float32 that we want to be
TOY_NETS = (("conv_8x16_k3s1_4_d0.5", 2, 0.0),)
CHECKED = 8  # images held against float64
TOLERATED = {"float32": 1e-4, "float16": 3e-2, "cudnn-float32": 1e-4, "cudnn-tf32": 1e-2, "cudnn-bfloat16": 1e-1}
TESTS_S, CHECKERS_S = 180, 60  # seconds that the tests, and each checker, may take


def seconds_of(call: Callable[[], Any], rounds: int) -> list[float]:
    """Seconds of so many calls by device events, after two that are not timed."""
    module, times = cuda(), []
    for number in range(rounds + 2):
        before, after = module.event(), module.event()
        before.record()
        call()
        after.record()
        after.synchronize()
        if number > 1:
            times.append(1e-3 * before.elapsed_time(after))
    return times


def ceilings(rounds: int, toy: bool) -> dict[str, float]:
    """Bytes a second of a copy, and multiply-adds a second, as this device has them."""
    module, size = cuda(), 64 if toy else 2**26
    x, y = (module.device_array(size, np.float32) for _ in range(2))
    copy, products = gpu_peer.ceiling_kernels()
    threads, blocks, turns = (4, 2, 2) if toy else (256, 4096, 4096)
    copy_s = median(seconds_of(lambda: copy[-(-size // threads), threads](x, y), rounds))
    products_s = median(seconds_of(lambda: products[blocks, threads](x, turns), rounds))
    macs = gpu_peer.CHAINS * turns * blocks * threads
    return {"bytes_per_s": _rate(8 * size, copy_s), "macs_per_s": _rate(macs, products_s)}


def _rate(amount: float, seconds: float) -> float:
    return amount / seconds if seconds else 0.0


def compare(engine: str, got: np.ndarray, want: np.ndarray) -> float:
    """Largest difference over the largest value; ValueError where that is no rounding error."""
    difference = float(np.abs(got - want).max() / np.abs(want).max())
    if not difference <= TOLERATED[engine]:
        raise ValueError(f"{engine}: expected the reference's outputs, got a relative difference of {difference:.1e}.")
    return difference


def layers(plan: GpuPlan, batch: int, times: Sequence[float], ceiling: dict[str, float]) -> list[dict[str, Any]]:
    """Each launch: seconds, multiply-adds that it computes, bytes it has to move, and shares of the ceilings."""
    found = []
    for launch, seconds in zip(plan.launches, times, strict=True):
        facts = plan.facts[launch.layer] if launch.layer >= 0 else None
        step, size = plan.steps[launch.step], np.dtype(plan.storage).itemsize
        reads = int(step["h"]) * int(step["w"]) * int(step["c"])
        moved = batch * size * (reads + int(step["size"]) * (2 if launch.other else 1)) + (facts.bytes if facts else 0)
        macs = batch * facts.macs_computed if facts else 0
        found.append(
            {
                "layer": facts.layer if facts else "copy",
                "kernel": launch.entry.name(plan.storage),
                "seconds": seconds,
                "macs": macs,
                "bytes": moved,
                "of_macs_ceiling": _rate(_rate(macs, seconds), ceiling["macs_per_s"]),
                "of_bytes_ceiling": _rate(_rate(moved, seconds), ceiling["bytes_per_s"]),
            }
        )
    return found


def measure(name: str, batch: int, floor: float, rounds: int, toy: bool, ceiling: dict[str, float]) -> dict[str, Any]:
    """One net with every engine."""
    spec = validate(problems.find(name, toy).make())
    rng = np.random.default_rng(0)
    x = rng.standard_normal((batch, *spec.inputs[0].shape), np.float32)
    checked = min(batch, CHECKED)
    want = evaluate(spec, {spec.inputs[0].name: x[:checked]})[spec.outputs[0]]
    result: dict[str, Any] = {"problem": name, "batch": batch, "floor": floor, "engines": {}}
    for storage in ("float32", "float16"):
        result["engines"][storage] = _ours(spec, storage, x, want, rounds, ceiling)
    for engine, peer in gpu_peer.engines(spec).items():
        answer = peer.run(x[:checked])
        difference = compare(engine, answer, want)
        times = peer.times(x, rounds)
        result["engines"][engine] = {"relative_difference": difference, "times_s": times, "median_s": median(times)}
    return result


def _ours(
    spec: ModelSpec, storage: str, x: np.ndarray, want: np.ndarray, rounds: int, ceiling: dict[str, float]
) -> dict[str, Any]:
    model = GpuModel(spec, storage=storage)
    difference = compare(storage, model.run(x[: len(want)]), want)
    sent, batch = cuda().to_device(x), len(x)
    made = cuda().device_array((batch, *want.shape[1:]), np.float32)
    before = model.launches
    untuned = seconds_of(lambda: model.run(sent, out=made), rounds)
    each = (model.launches - before) // (rounds + 2)
    trial = {} if simulated() else model.trial(batch)
    times = seconds_of(lambda: model.run(sent, out=made), rounds)
    compare(storage, made.copy_to_host()[: len(want)], want)
    plan = model.gpu_plan(batch)
    return {
        "relative_difference": difference,
        "times_s": times,
        "median_s": median(times),
        "median_before_trial_s": median(untuned),
        "launches": each,
        "trial": trial,
        "layers": layers(plan, batch, model.time_launches(batch, rounds), ceiling),
    }


def lines(result: dict[str, Any]) -> list[str]:
    """A net's results as text."""
    engines = result["engines"]
    text = [f"{result['problem']}, batch {result['batch']}"]
    text += [f"  {name:15} {1e3 * entry['median_s']:9.3f} ms" for name, entry in engines.items()]
    if "cudnn-float32" in engines and engines["float32"]["median_s"]:
        ratio = engines["cudnn-float32"]["median_s"] / engines["float32"]["median_s"]
        verdict = "met" if ratio >= result["floor"] else "NOT met"
        text.append(f"  {ratio:.2f} times faster than cuDNN in float32, wanted {result['floor']:.1f}: {verdict}")
    for row in engines["float32"]["layers"]:
        text.append(
            f"    {row['layer'][:28]:28} {row['kernel'].removesuffix('__cuda'):36} {1e6 * row['seconds']:9.1f} us "
            f"{2e-9 * row['macs']:8.2f} GFLOP {1e-6 * row['bytes']:8.2f} MB "
            f"{row['of_macs_ceiling']:6.1%} of multiply-adds, {row['of_bytes_ceiling']:6.1%} of memory"
        )
    return text


def run_tests(toy: bool) -> dict[str, Any]:
    """The GPU's tests on this GPU; in toy runs only that they are found."""
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "tests/cuda"]
    return _command([*command, "--collect-only"] if toy else command, TESTS_S)


def run_checkers() -> dict[str, Any]:
    """A small net under compute-sanitizer."""
    program = shutil.which("compute-sanitizer") or shutil.which("compute-sanitizer", path="/usr/local/cuda/bin")
    if program is None:
        return {"skipped": "compute-sanitizer is not installed; it comes with the CUDA toolkit"}
    small = [sys.executable, "-m", "benchmarks.gpu", "--toy", "--only-ours", "--out", os.devnull]
    return {
        tool: _command([program, "--tool", tool, "--error-exitcode", "3", *small], CHECKERS_S)
        for tool in ("memcheck", "racecheck")
    }


def _command(command: list[str], limit_s: float) -> dict[str, Any]:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=limit_s)
    except subprocess.TimeoutExpired:
        return {"command": command, "status": f"took more than {limit_s} s"}
    return {"command": command, "status": done.returncode, "output": (done.stdout + done.stderr)[-2000:]}


def main(argv: list[str] | None = None) -> int:
    """Measure and print; exit code 1 where an answer is wrong or a test fails."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("build/benchmarks/gpu.json"))
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=480, help="no net is begun later than this (default 480)")
    parser.add_argument("--toy", action="store_true", help="small nets; shows that everything runs")
    parser.add_argument("--only-ours", action="store_true", help="neither tests nor checkers, which run this program")
    arguments = parser.parse_args(argv)
    if simulated():
        warnings.filterwarnings("ignore", "Simulator timings are bogus")
    began, rounds = time.perf_counter(), 1 if arguments.toy else arguments.rounds
    report: dict[str, Any] = {"machine": {**machine.facts(), **gpu_peer.facts()}, "toy": arguments.toy, "results": []}
    right = True
    if not arguments.only_ours:
        report["tests"] = run_tests(arguments.toy)
        right = report["tests"]["status"] == 0
        print(f"tests: {'passed' if right else report['tests']}", flush=True)
    report["ceilings"] = ceilings(rounds, arguments.toy)
    print(f"ceilings: {report['ceilings']}", flush=True)
    for name, batch, floor in TOY_NETS if arguments.toy else NETS:
        if time.perf_counter() - began > arguments.seconds:
            print(f"{name}, batch {batch}: not measured, no time is left", flush=True)
            continue
        try:
            result = measure(name, batch, floor, rounds, arguments.toy, report["ceilings"])
        except ValueError as error:
            print(error, file=sys.stderr)
            right = False
            continue
        report["results"].append(result)
        print("\n".join(lines(result)), flush=True)
        _write(arguments.out, report)
    if not arguments.only_ours and not simulated():
        report["checkers"] = run_checkers()
        print(f"checkers: {report['checkers']}", flush=True)
    _write(arguments.out, report)
    return 0 if right else 1


def _write(out: Path, report: dict[str, Any]) -> None:
    if out == Path(os.devnull):
        return
    out.parent.mkdir(parents=True, exist_ok=True)
    atomic_write_text(out, json.dumps(report, indent=1))


if __name__ == "__main__":
    sys.exit(main())
