"""What the project holds its speed and memory to, and whether measured results do.

Ratios hold within one run on one machine; float32, all cores of two.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks import problems
from benchmarks.results_file import median_us, medians_us

SPARSE_ENGINE = "deepsparse"
DENSE_ENGINES = ("onnxruntime", "openvino-f32", "torch", "deepsparse-dense")
# (net, batch): how many times faster than DeepSparse on the sparse net, and than the fastest dense float32 engine.
SPEED = {
    ("vgg16_cifar_d0.1", 64): (1.4, 7.0),
    ("vgg16_cifar_d0.1", 16): (1.4, 6.0),
    ("vgg16_cifar_d0.1", 1): (3.0, 4.0),
    ("vgg16_cifar_d0.2", 64): (1.2, 4.0),
    ("vgg16_cifar_d0.2", 1): (3.0, 3.0),
    ("vgg16_cifar_unstructured_d0.1", 64): (1.0, 5.0),
    ("resnet34_cifar_d0.1", 64): (1.3, 5.0),
    ("resnet34_cifar_d0.1", 1): (3.0, 5.0),
    ("resnet50_imagenet_d0.25", 8): (2.2, 2.0),
    ("resnet50_imagenet_d0.25", 1): (2.0, 1.8),
}
DENSE_SPEED = 0.7  # of the fastest dense engine's, on layers and nets with all their weights
SCALING = {64: 1.85, 1: 1.5}  # batch: speed on two threads over that on one
MEMORY = ("vgg16_cifar_d0.1", 64, 0.5)  # net, batch, at most this share of onnxruntime's growth
LOAD_S, FIRST_LOAD_S = 1.5, 40.0  # a net, kernels compiled before; the very first on a machine
ROOFLINE = ((16, 0.8), (1, 0.6))  # from this batch on: share of what the machine allows for executed work
ROOFLINE_CHANNELS = 32  # input channels that a convolution has at least
TRAINING_STEP, TRAINING_BYTES = 2.5, 3 * 2**30  # times PyTorch's; memory of the process


@dataclass(frozen=True)
class Verdict:
    """A limit beside what was measured. `at_most`: it is an upper one."""

    what: str
    value: float
    limit: float
    unit: str = "x"
    at_most: bool = False

    @property
    def met(self) -> bool:
        return self.value <= self.limit if self.at_most else self.value >= self.limit

    def __str__(self) -> str:
        word = "at most" if self.at_most else "at least"
        met = "met" if self.met else "NOT met"
        return f"{self.what}: {self.value:.2f}{self.unit}, {word} {self.limit:g}{self.unit}: {met}"


def fastest_dense(times: dict[str, float]) -> str | None:
    """The dense float32 engine of the shortest time, None where none was measured."""
    return min((engine for engine in DENSE_ENGINES if engine in times), key=lambda engine: times[engine], default=None)


def fastest_other(times: dict[str, float]) -> str | None:
    """The engine of the shortest time but ours, None where no other was measured."""
    return min(times.keys() - {"ours"}, key=lambda engine: times[engine], default=None)


def speed(results: Sequence[dict[str, Any]]) -> Iterator[Verdict]:
    """Against DeepSparse on the same net and the fastest dense engine."""
    for result in results:
        floors = SPEED.get((result["problem"], result["batch"]))
        times = medians_us(result)
        if floors is None or "ours" not in times:
            continue
        of = _of(result)
        if SPARSE_ENGINE in times:
            yield Verdict(f"{of} against DeepSparse on the same net", times[SPARSE_ENGINE] / times["ours"], floors[0])
        if dense := fastest_dense(times):
            what = f"{of} against the fastest dense engine ({dense})"
            yield Verdict(what, times[dense] / times["ours"], floors[1])


def dense(results: Sequence[dict[str, Any]]) -> Iterator[Verdict]:
    """Layers and nets with all their weights against the fastest dense engine."""
    return _dense(results, fastest_dense, "dense")


def families(results: Sequence[dict[str, Any]]) -> Iterator[Verdict]:
    """Nets with all their weights, on which every engine is a dense one; pruned nets have no limit."""
    full = [result for result in results if problems.find(result["problem"]).density == 1]
    return _dense(full, fastest_other, "other")


def _dense(
    results: Sequence[dict[str, Any]], fastest: Callable[[dict[str, float]], str | None], kind: str
) -> Iterator[Verdict]:
    for result in results:
        times = medians_us(result)
        if "ours" in times and (engine := fastest(times)):
            what = f"{_of(result)} against the fastest {kind} engine ({engine})"
            yield Verdict(what, times[engine] / times["ours"], DENSE_SPEED)


def scaling(results: Sequence[dict[str, Any]]) -> Iterator[Verdict]:
    """Speed on two threads over that on one."""
    found = {(r["problem"], r["batch"], r["threads"]): r["engines"] for r in results}
    for (problem, batch, threads), engines in found.items():
        one = found.get((problem, batch, 1))
        if threads == 2 and one is not None and batch in SCALING and "ours" in engines.keys() & one.keys():
            gain = median_us(one["ours"]) / median_us(engines["ours"])
            yield Verdict(f"{problems.title(problem)}, batch {batch}: 1 to 2 threads", gain, SCALING[batch])


def memory(results: Sequence[dict[str, Any]]) -> Iterator[Verdict]:
    """Packed weights and planned buffers over the growth of onnxruntime's process."""
    problem, batch, share = MEMORY
    for result in results:
        engines = result["engines"]
        if (result["problem"], result["batch"]) == (problem, batch) and {"ours", "onnxruntime"} <= engines.keys():
            own, theirs = planned_bytes(engines["ours"]), growth_bytes(engines["onnxruntime"])
            if own and theirs:
                what = f"{_of(result)}: weights and buffers over onnxruntime's growth"
                yield Verdict(what, own / theirs, share, at_most=True)


def planned_bytes(entry: dict[str, Any]) -> int | None:
    """Packed weights and planned buffers of ours."""
    memory = entry.get("memory_bytes", {})
    return memory["packed"] + memory["buffers"] if {"packed", "buffers"} <= memory.keys() else None


def growth_bytes(entry: dict[str, Any]) -> int | None:
    """Resident memory after the first run less that before the net was loaded, the engine being imported."""
    memory = entry.get("memory_bytes", {})
    return memory["loaded"] - memory["import"] if {"loaded", "import"} <= memory.keys() else None


def _of(result: dict[str, Any]) -> str:
    return f"{problems.title(result['problem'])}, batch {result['batch']}"
