"""How close each convolution comes to what the machine allows: its share of the roofline.

The roof is the machine's own: the rate of its multiply-add units, and the rate at which every core reads a cache or
memory. A layer can be no faster than its executed multiply-adds at the one rate, or its weights, inputs and outputs at
the other, whichever takes longer. Beside it stands what NumPy's matrix product, measured in turns with the net, allows
in the place of the first rate: that is what tuned dense code reaches here, and the limits that we want to hold are of
it. How far it is from the roof depends on NumPy's BLAS, so that a share of it may exceed 1.
"""

import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

import runtime
from benchmarks.floors import ROOFLINE, ROOFLINE_CHANNELS, Verdict
from benchmarks.measuring import How, Prepared, check, shown
from benchmarks.results_file import micros
from benchmarks.tables import Table, name
from runtime.bench import roof
from runtime.bench.layers import layer_facts
from runtime.kernels.machine import LANES

ABOUT = "Share of the roofline that each convolution reaches."
PROBLEMS = (
    ("vgg16_cifar_d0.1", 64),
    ("vgg16_cifar_d0.1", 16),
    ("vgg16_cifar_d0.1", 1),
    ("resnet50_imagenet_d0.25", 8),
    ("resnet50_imagenet_d0.25", 1),
)
SIDE = 1024  # of the square matrices
TRIES = 5  # of their product, in a turn
REPEATS = 10  # profiled runs in a turn
SETTLE_S = 0.3  # until threads of a matrix product no longer spin: with them, two threads of ours had one core


def measure(how: How) -> Iterator[dict[str, Any]]:
    """Times of every layer, with the least that the machine allows."""
    chosen = [case for case in (PROBLEMS[:1] if how.toy else PROBLEMS) if not how.only or case[0] in how.only]
    memory = roof.measure(how.threads) if chosen else None
    for problem, batch in chosen:
        yield _measure(problem, 4 if how.toy else batch, memory, how)


def _measure(problem: str, batch: int, memory: roof.Roof | None, how: How) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        prepared = Prepared(problem, Path(folder), how.toy)
        model = runtime.load(prepared.model("ours"))
        (x,) = prepared.inputs("ours", batch).values()
        check("ours", model.run(x, threads=how.threads), prepared.answer("ours", batch))
        products, profiles = [], []
        for _ in shown(range(how.rounds), f"{problem}, batch {batch}"):
            products.append(product_flops(64 if how.toy else SIDE))
            _settle(model, x, how)
            profiles.append(model.profile(x, threads=how.threads, repeats=REPEATS))
    flops = float(np.median(products))
    rows, profile = model.explain(batch).rows, asdict(profiles[0])
    product = None if memory is None else replace(memory, flops=flops)
    facts, by_roof = (layer_facts(rows, profile, None, limits, LANES) for limits in (product, memory))
    times = zip(*([layer.seconds for layer in profile.layers] for profile in profiles), strict=True)
    return {
        "problem": problem,
        "batch": batch,
        "threads": how.threads,
        "gflops": round(flops / 1e9, 1),
        **({} if memory is None else {"peak_gflops": round(memory.flops / 1e9, 1)}),
        "layers": [_layer(*given, micros(seconds)) for *given, seconds in zip(facts, by_roof, times, strict=True)],
    }


def _settle(model: runtime.Model, x: np.ndarray, how: How) -> None:
    """Wait for the threads of what ran before to sleep, and for ours to be awake."""
    time.sleep(0 if how.toy else SETTLE_S)
    until = time.perf_counter() + how.seconds
    while time.perf_counter() < until:
        model.run(x, threads=how.threads)


def _layer(facts: dict[str, Any], by_roof: dict[str, Any], times: list[float]) -> dict[str, Any]:
    shapes = ["x".join(map(str, facts[key])) for key in ("shape", "out_shape")]
    bounded = facts["least_s"] is not None
    return {
        "name": facts["layer"],
        "kernel": facts["kernel"],
        "shape": " > ".join(shapes),
        **({} if facts["density"] is None else {"density": round(facts["density"], 4)}),
        "macs_executed": facts["macs_executed"],
        **({"least_us": micros([facts["least_s"]])[0], "limited_by": facts["limited_by"]} if bounded else {}),
        **({"roof_least_us": micros([by_roof["least_s"]])[0]} if bounded else {}),
        "times_us": times,
    }


def product_flops(side: int) -> float:
    """Floating-point operations a second of NumPy's product of square float32 matrices, by all its threads; the best
    of a few, since a rate of the machine is what nothing disturbed.
    """
    a = np.ones((side, side), np.float32)
    out, times = np.empty_like(a), []
    for _ in range(TRIES):
        began = time.perf_counter()
        np.matmul(a, a, out=out)
        times.append(time.perf_counter() - began)
    return 2 * side**3 / min(times)


def share(layer: dict[str, Any]) -> float:
    """The least time that the rates of NumPy's matrix product and of memory allow over the time that a layer takes."""
    return layer["least_us"] / float(np.median(layer["times_us"]))


def share_of_roof(layer: dict[str, Any]) -> float:
    """The same with the rate of the multiply-add units: the share of the roofline."""
    return layer["roof_least_us"] / float(np.median(layer["times_us"]))


def convolutions(result: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Layers whose share is held to a limit."""
    for layer in result["layers"]:
        inputs = layer["shape"].split(" > ")[0].split("x")
        if (
            layer["macs_executed"]
            and "least_us" in layer
            and len(inputs) == 3
            and int(inputs[2]) >= ROOFLINE_CHANNELS
            and int(inputs[0]) > 1
        ):
            yield layer


def verdicts(results: Sequence[dict[str, Any]]) -> Iterator[Verdict]:
    """The worst layer of each net and batch."""
    for result in results:
        limit = next(limit for batch, limit in ROOFLINE if result["batch"] >= batch)
        shares = {layer["name"]: share(layer) for layer in convolutions(result)}
        if shares:
            worst = min(shares, key=shares.__getitem__)
            kept = sum(value >= limit for value in shares.values())
            what = f"{name(result)}: of a matrix product's speed, {kept} of {len(shares)} layers; worst {worst}"
            yield Verdict(what, shares[worst], limit, "")


def table(results: Sequence[dict[str, Any]]) -> Table:
    """Layer by layer; the share of the roofline where a file has it, which older ones have not."""
    rows, roofed = [], all("roof_least_us" in layer for result in results for layer in convolutions(result))
    for result in results:
        for layer in result["layers"]:
            if not layer["macs_executed"] or "least_us" not in layer:
                continue
            time_us = float(np.median(layer["times_us"]))
            rate = 2 * layer["macs_executed"] * result["batch"] / (1e3 * time_us)
            net = name(result)
            cells = (
                f"{layer['density']:.3f}",
                f"{time_us:.0f}",
                f"{rate:.1f}",
                layer["limited_by"],
                f"{share(layer):.2f}",
                *([f"{share_of_roof(layer):.2f}"] if roofed else []),
            )
            rows.append((net, layer["name"], layer["shape"], *cells))
    head = ("net, batch", "layer", "shape", "density", "us", "GFLOP/s", "limited by", "of a matrix product")
    return Table((*head, *(["of the roofline"] if roofed else [])), rows, left=3)
