"""Runs, checks and times nets on an NVIDIA GPU in one call of under 10 minutes: ``python -m benchmarks.gpu``.

First the tests of the GPU's kernels, on this GPU. Then the ceilings: what a copy moves and what multiply-adds reach.
Then each net: outputs against float64, the whole net by device events as it is called, and each launch without the gaps
between launches, with its share of the ceilings; beside it, where PyTorch is installed, cuDNN on the same net with its
zeros, in float32 (TF32 off), TF32 and bfloat16. Last, where compute-sanitizer is installed, every tile and operator
under its checks of memory and of races. An engine that fails is named and the others go on; what has been found is
written after every engine and checker, so that a run that is cut short leaves something.

`--toy` does the same with small nets, in numba's simulator too (NUMBA_ENABLE_CUDASIM=1), where times mean nothing.
"""

import argparse
import json
import os
import shlex
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks import gpu_checks, gpu_peer, problems
from lhc_ref.evaluate import evaluate
from lhc_ref.files import atomic_write_text
from lhc_ref.modelfile import InputError, ModelSpec, validate
from runtime.bench import machine
from runtime.commands.arguments import whole
from runtime.cuda.gate import cuda, event, occupy, require_device, simulated
from runtime.cuda.model import OCCUPIED_TURNS, GpuModel
from runtime.cuda.plan import GpuPlan
from runtime.cuda.registry import ENTRIES, conv_entries, plain_entries
from runtime.cuda.select import images_in_memory
from runtime.cuda.tiles import Tile

NETS = (
    ("vgg16_cifar_d0.1", 256, 3.0),
    ("resnet34_cifar_d0.1", 256, 3.0),
    ("resnet50_imagenet_d0.25", 64, 1.7),
    ("vgg16_cifar_d0.1", 1024, 3.0),
    ("vgg16_cifar_d0.1", 16, 0.0),
    ("vgg16_cifar_d0.1", 1, 0.0),
)  # name, batch, times faster than cuDNN in float32 that we want to be; 0: no matter
TOY_NETS = (("conv_8x16_k3s1_4_d0.5", 2, 0.0),)
QUEUED = 10  # calls that follow each other without waiting
CHECKED, CHECKED_NUMBERS = 8, 400_000  # images held against float64, and numbers of these
TOLERATED = {"float32": 1e-4, "float16": 3e-2, "cudnn-float32": 1e-4, "cudnn-tf32": 1e-2, "cudnn-bfloat16": 1e-1}
TOTAL_S, TESTS_S, CHECKERS_S, NET_S = 540, 180, 60, 60  # seconds: of all; of the tests, each checker, and a net at most
# The simulator runs every thread as one of Python's, slower the more there are.
SIMULATED_ENTRIES = (*conv_entries((Tile(16, 2, 2, 2),)), *plain_entries(8, 2, 4))
PARTS = ("tests", "nets", "engines", "trial", "checkers")
NO_TIME = "not measured, no time is left"

Report = dict[str, Any]


def seconds_of(call: Callable[[], Any], rounds: int, busy: Any = None) -> list[float]:
    """Seconds of so many calls by device events, after two that are not timed; with an array to keep the `busy` device
    at work meanwhile, what Python takes to launch is not in them.
    """
    times = []
    for number in range(rounds + 2):
        before, after = event(), event()
        if busy is not None:
            occupy(busy, 1 if simulated() else OCCUPIED_TURNS)
        before.record()
        call()
        after.record()
        after.synchronize()
        if number > 1:
            times.append(1e-3 * before.elapsed_time(after))
    return times


def ceilings(rounds: int, toy: bool) -> dict[str, float]:
    """Bytes a second of a copy, and multiply-adds a second, as this device has them."""
    module, size = cuda(), 64 if toy else 2**28
    x, y = (module.to_device(np.ones(size, np.float32)) for _ in range(2))
    busy, products = module.to_device(np.ones(1, np.float32)), gpu_peer.products_kernel()
    threads, blocks, turns = (4, 2, 2) if toy else (256, 4096, 256)
    copy_s = median(seconds_of(lambda: y.copy_to_device(x), rounds, busy))
    products_s = median(seconds_of(lambda: products[blocks, threads](x, turns), rounds, busy))
    macs = gpu_peer.CHAINS * gpu_peer.REPEATED * turns * blocks * threads
    return {"bytes_per_s": 8 * size / copy_s, "macs_per_s": macs / products_s}


def compare(engine: str, got: np.ndarray, want: np.ndarray) -> float:
    """Largest difference over the largest value; ValueError where that is no rounding error."""
    difference = float(np.abs(got - want).max() / np.abs(want).max())
    if not difference <= TOLERATED[engine]:
        raise ValueError(f"{engine}: expected the reference's outputs, got a relative difference of {difference:.1e}.")
    return difference


def layers(plan: GpuPlan, batch: int, times: Sequence[float], ceiling: dict[str, float]) -> list[dict[str, Any]]:
    """Each launch: seconds, multiply-adds that have to be, bytes it has to move, and shares of the ceilings."""
    found = []
    for launch, seconds in zip(plan.launches, times, strict=True):
        facts = plan.facts[launch.layer] if launch.layer >= 0 else None
        step, size = plan.steps[launch.step], np.dtype(plan.storage).itemsize
        reads, images = int(step["h"]) * int(step["w"]) * int(step["c"]), images_in_memory(batch)
        moved = images * size * (reads + int(step["size"]) * (2 if launch.other else 1)) + (facts.bytes if facts else 0)
        macs = images * facts.macs_executed if facts else 0
        found.append(
            {
                "layer": facts.layer if facts else "copy",
                "kernel": launch.entry.name(plan.storage),
                "seconds": seconds,
                "macs": macs,
                "bytes": moved,
                "of_macs_ceiling": macs / seconds / ceiling["macs_per_s"],
                "of_bytes_ceiling": moved / seconds / ceiling["bytes_per_s"],
            }
        )
    return found


def measure(
    result: Report,
    rounds: int,
    toy: bool,
    ceiling: dict[str, float],
    without: Sequence[str],
    end: float = np.inf,
    keep: Callable[[], None] = lambda: None,
) -> None:
    """One net with every engine, into the result's "engines", with a call of `keep` after each. What went wrong with
    one stands in its entry, under "error", as does that the clock's second `end` was over before its turn.
    """
    began, batch = time.perf_counter(), result["batch"]
    spec = validate(problems.find(result["problem"], toy).make())
    rng = np.random.default_rng(0)
    x = rng.standard_normal((batch, *spec.inputs[0].shape), np.float32)
    checked = min(batch, CHECKED, max(1, CHECKED_NUMBERS // x[0].size))
    want = evaluate(spec, {spec.inputs[0].name: x[:checked]})[spec.outputs[0]]
    calls: dict[str, Callable[[], dict[str, Any]]] = {
        storage: partial(
            _ours, spec, storage, x, want, rounds, ceiling, storage == "float32" and "trial" not in without
        )
        for storage in ("float32", "float16")
    }
    if "engines" not in without:
        calls |= {
            engine: partial(_theirs, engine, make, x, want, rounds) for engine, make in gpu_peer.engines(spec).items()
        }
    for engine, call in calls.items():
        if time.perf_counter() > end:
            result["engines"][engine] = {"error": NO_TIME}
            continue
        try:
            result["engines"][engine] = call()
            result["engines"][engine]["took_s"] = time.perf_counter() - began
        except Exception as error:  # Why so wide: a wrong answer, or whatever PyTorch or a driver raises
            result["engines"][engine] = {"error": f"{type(error).__name__}: {error}"[:500]}
        keep()


def _theirs(
    engine: str, make: Callable[[bool], gpu_peer.Peer], x: np.ndarray, want: np.ndarray, rounds: int
) -> dict[str, Any]:
    """An engine at its best: the fastest of both orders of a tensor, each called as it is and as a CUDA graph."""
    ways: dict[str, list[float]] = {}
    differences = []
    for channels_last in (True, False):
        peer = make(channels_last)
        differences.append(compare(engine, peer.run(x[: len(want)]), want))
        order = "NHWC" if channels_last else "NCHW"
        ways |= {f"{order} {way}": times for way, times in peer.times(x, rounds).items()}
    best = min(ways, key=lambda way: median(ways[way]))
    medians = {way: median(times) for way, times in ways.items()}
    return {
        "relative_difference": max(differences),
        "way": best,
        "medians_s": medians,
        "times_s": ways[best],
        "median_s": medians[best],
    }


def _ours(
    spec: ModelSpec,
    storage: str,
    x: np.ndarray,
    want: np.ndarray,
    rounds: int,
    ceiling: dict[str, float],
    tried: bool,
) -> dict[str, Any]:
    """The model as it chooses by itself, and where that is wanted once more after a trial of all kernels."""
    model = GpuModel(spec, storage=storage, entries=SIMULATED_ENTRIES if simulated() else ENTRIES)
    sent, batch = cuda().to_device(x), len(x)
    made = cuda().device_array((batch, *want.shape[1:]), np.float32)

    def call() -> None:
        model.run(sent, out=made)

    def check() -> float:
        return compare(storage, made.copy_to_host()[: len(want)], want)

    call()
    differences, before = [check()], (model.launches, model.calls)
    times = seconds_of(call, rounds)  # of the two that are not timed, the second is recorded as a graph
    launches, calls = (model.launches - before[0]) // (rounds + 2), (model.calls - before[1]) // (rounds + 2)
    differences.append(check())  # what the graph made
    queued = seconds_of(lambda: [call() for _ in range(QUEUED)], rounds)
    plan, of_launches = model.gpu_plan(batch), model.time_launches(batch, rounds)
    found = {
        "relative_difference": max(differences),
        "times_s": times,
        "median_s": median(times),
        "median_queued_s": median(queued) / QUEUED,
        "launches_alone_s": sum(of_launches),
        "launches": launches,
        "calls": calls,
        "layers": layers(plan, batch, of_launches, ceiling),
    }
    if tried:
        found["trial"] = model.trial(batch)
        call()
        check()
        found["median_tried_s"] = median(seconds_of(call, rounds))
    return found


def lines(result: dict[str, Any]) -> list[str]:
    """A net's results as text."""
    engines = result["engines"]
    text = [f"{result['problem']}, batch {result['batch']}"]
    for name, entry in engines.items():
        if "error" in entry:
            text.append(f"  {name:15} {entry['error']}")
            continue
        text.append(f"  {name:15} {1e3 * entry['median_s']:9.3f} ms, {_how(entry)}")
    theirs, ours = (engines.get(name, {}).get("median_s") for name in ("cudnn-float32", "float32"))
    if theirs and ours:
        verdict = "met" if theirs / ours >= result["floor"] else "NOT met"
        text.append(
            f"  {theirs / ours:.2f} times faster than cuDNN in float32, wanted {result['floor']:.1f}: {verdict}"
        )
    for row in engines["float32"].get("layers", []):
        text.append(
            f"    {row['layer'][:28]:28} {row['kernel'].removesuffix('__cuda'):36} {1e6 * row['seconds']:9.1f} us "
            f"{2e-9 * row['macs']:8.2f} GFLOP {1e-6 * row['bytes']:8.2f} MB "
            f"{row['of_macs_ceiling']:6.1%} of multiply-adds, {row['of_bytes_ceiling']:6.1%} of memory"
        )
    return text


def _how(entry: dict[str, Any]) -> str:
    if "way" in entry:
        return entry["way"]
    alone, queued = (f"{1e3 * entry[key]:.3f}" for key in ("launches_alone_s", "median_queued_s"))
    tried = ""
    if "trial" in entry:
        tried = f", {1e3 * entry['median_tried_s']:.3f} after a trial"
    return (
        f"{queued} one after the other, {alone} its kernels alone{tried}; "
        f"{entry['launches']} launches in {entry['calls']} calls"
    )


COLUMNS = ("float32", "float16", "cudnn-float32", "cudnn-tf32", "cudnn-bfloat16")


def rows(report: dict[str, Any]) -> list[str]:
    """A report's nets as rows of a table in Markdown: milliseconds, and times faster than cuDNN in float32."""
    text = []
    for result in report["results"]:
        medians = [result["engines"].get(name, {}).get("median_s") for name in COLUMNS]
        times = [f"{1e3 * seconds:.2f}" if seconds else "-" for seconds in medians]
        ratio = f"{medians[2] / medians[0]:.1f}x" if medians[0] and medians[2] else "-"
        text.append(f"| {problems.find(result['problem']).title}, {result['batch']} | {' | '.join(times)} | {ratio} |")
    return text


def main(argv: list[str] | None = None) -> int:
    """Measure and print; exit code 1: a wrong answer, a test or engine that fails, no time left; 2: no GPU."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("build/benchmarks/gpu.json"))
    parser.add_argument("--rounds", type=whole(1), default=20)
    parser.add_argument("--seconds", type=float, default=TOTAL_S, help=f"that all may take (default {TOTAL_S})")
    parser.add_argument("--toy", action="store_true", help="small nets; shows that everything runs")
    parser.add_argument("--without", nargs="+", default=[], choices=PARTS, help="what to leave out")
    arguments = parser.parse_args(argv)
    try:
        require_device("cuda")
    except InputError as error:
        print(error, file=sys.stderr)
        return 2
    warnings.filterwarnings("ignore", ".*Grid size")  # of small batches, and of toy runs
    report: Report = {
        "command": shlex.join(["python", "-m", "benchmarks.gpu", *(sys.argv[1:] if argv is None else argv)]),
        "machine": {**machine.facts(), **gpu_peer.facts()},
        "toy": arguments.toy,
        "results": [],
    }
    keep = partial(_write, arguments.out, report)
    keep()  # Why before anything is found: a file that cannot be written is told at once
    return 0 if _run(arguments, report, keep) else 1


def _run(arguments: argparse.Namespace, report: Report, keep: Callable[[], None]) -> bool:
    """All parts, each kept when it is done; whether nothing failed and there was time for all."""
    end, without, right = time.perf_counter() + arguments.seconds, arguments.without, True
    checked = "checkers" not in without and not simulated()
    program = gpu_checks.sanitizer() if checked else None
    end_of_nets = end - (len(gpu_checks.TOOLS) * CHECKERS_S if program else 0)
    if "tests" not in without:
        left_s = end_of_nets - time.perf_counter()
        tests = gpu_checks.run_tests(arguments.toy, left_s if "nets" in without else min(TESTS_S, left_s))
        report["tests"], right = tests, tests["status"] == 0
        print("tests: passed" if right else f"tests: {tests}", flush=True)
        keep()
    if "nets" not in without:
        right &= _run_nets(arguments, end_of_nets, report, keep)
    if checked:
        right &= _run_checkers(program, end, report, keep)
    return right


def _run_nets(arguments: argparse.Namespace, end: float, report: Report, keep: Callable[[], None]) -> bool:
    """The ceilings and every net; whether nothing failed and there was time for all."""
    rounds, toy, right = 1 if arguments.toy else arguments.rounds, arguments.toy, True
    report["ceilings"] = ceilings(rounds, toy)
    print(f"ceilings: {report['ceilings']}", flush=True)
    keep()
    for name, batch, floor in TOY_NETS if toy else NETS:
        if end - time.perf_counter() < NET_S:
            print(f"{name}, batch {batch}: {NO_TIME}", flush=True)
            right = False
            continue
        result: Report = {"problem": name, "batch": batch, "floor": floor, "engines": {}}
        report["results"].append(result)
        measure(result, rounds, toy, report["ceilings"], arguments.without, end, keep)
        right &= not any("error" in entry for entry in result["engines"].values())
        print("\n".join(lines(result)), flush=True)
    return right


def _run_checkers(program: str | None, end: float, report: Report, keep: Callable[[], None]) -> bool:
    """Each checker, where there is one, in its share of the time that is left; whether they found nothing."""
    report["checkers"] = found = {}
    if program is None:
        found["skipped"] = gpu_checks.NO_SANITIZER
        print(f"checkers: {gpu_checks.NO_SANITIZER}", flush=True)
    else:
        for number, tool in enumerate(gpu_checks.TOOLS):
            limit_s = max((end - time.perf_counter()) / (len(gpu_checks.TOOLS) - number), CHECKERS_S)
            found[tool] = gpu_checks.run_checker(program, tool, limit_s)
            print(f"{tool}: {'clean' if found[tool]['status'] == 0 else found[tool]}", flush=True)
            keep()
    keep()
    return program is None or all(done["status"] == 0 for done in found.values())


def _write(out: Path, report: Report) -> None:
    if out == Path(os.devnull):
        return
    out.parent.mkdir(parents=True, exist_ok=True)
    atomic_write_text(out, json.dumps(report, indent=1))


if __name__ == "__main__":
    sys.exit(main())
