"""`make demo`: train a net on handwritten digits with ordinary and with learnable heterogeneous convolutions, freeze
both, run them on every core, check and time them. Everything it makes is left in one folder.

With several seeds (`make demo-seeds`) it also holds accuracies and densities against what the method promises.
"""

import argparse
import contextlib
import io
import json
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import lhc_ref.cli
import runtime
import runtime.cli
from benchmarks import patterns, reasons
from benchmarks.training import Training, train_all
from lhc_ref import command, extras
from lhc_ref.errors import LhcError
from lhc_ref.evaluate import evaluate_with_bounds
from lhc_ref.files import atomic_write_text
from lhc_ref.modelfile import InputSpec, MaskedKernel, ModelSpec, Node
from runtime.bench import machine
from runtime.bench.timing import interleaved, median
from runtime.commands.inputs import to_net
from runtime.commands.report import table, time_text

KINDS = {"dense": "standard", "lhc": "lhc-free"}  # our word, and the option of `lhc-ref train --conv`
BATCHES = (64, 1)
TIMING_S = 3.0  # for each batch size
LOWEST_ACCURACY, LARGEST_DENSITY, LARGEST_GAP = 0.97, 0.15, 0.01


@dataclass(frozen=True)
class Net:
    """A trained net in the demonstration's folder."""

    kind: str
    seed: int
    out: Path

    @property
    def name(self) -> str:
        return f"{self.kind}-{self.seed}"

    @property
    def run(self) -> Path:
        return self.out / self.name

    @property
    def file(self) -> Path:
        return self.out / f"{self.name}.lhc"

    @property
    def predictions(self) -> Path:
        return self.out / f"{self.name}.npy"

    @property
    def training(self) -> dict[str, Any]:
        """What came out of the training."""
        result: dict[str, Any] = json.loads((self.run / "result.json").read_text())
        return result


def main(argv: list[str] | None = None) -> int:
    """Run the demonstration; gives the exit code: 1 where a check fails."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.demo", description=(__doc__ or "").split(".")[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="of the trainings (0)")
    parser.add_argument("--out", type=Path, default=Path("build/demo"), help="folder for the results (build/demo)")
    parser.add_argument("--data", default="digits", help="digits, or an .npz file with x [n, h, w, c] and y [n]")
    parser.add_argument("--train", default="", metavar="OPTIONS", help="more options of `lhc-ref train`, for all nets")
    options = parser.parse_args(argv)
    began = time.perf_counter()
    extras.plots()  # Why here: what is missing should be said before the training, not after it.
    options.out.mkdir(parents=True, exist_ok=True)
    nets = [Net(kind, seed, options.out) for seed in options.seeds for kind in KINDS]
    test = options.out / "test.npz"

    _title("Train: the same net with ordinary convolutions, and with those that learn which taps to keep")
    train_all([_training(net, options.data, options.train.split()) for net in nets])
    _title("Freeze: one model file each")
    for net in nets:
        _ref("export", net.run, net.file)
    _ref("data", options.data, test)
    _title("Run: the test images, on every core")
    compile_s = _compile()
    for net in nets:
        _run("predict", net.file, test, "-o", net.predictions)
    _title("Check: every output and every layer against float64, within bounds of what float32 rounding can do")
    checks = {net.name: _verify(net, test) for net in nets}

    figures = {net.name: _figures(net, test, checks[net.name]) for net in nets}
    dense, lhc = nets[:2]
    _title("Measure: both nets in turns, after the outputs were compared")
    timing = _time(dense, lhc, test)
    picture = options.out / "patterns.png"
    patterns.draw(patterns.masked_kernels(runtime.load(lhc.file).spec), picture, _caption(figures[lhc.name]))
    _title("Result")
    for line in _table(figures[dense.name], figures[lhc.name], timing):
        print(line)
    failures = [f"{name}: outside the bounds" for name, check in checks.items() if not check["inside"]]
    if len(options.seeds) > 1:
        lines, missed = judge([figures[net.name] for net in nets])
        _title(f"Seeds {', '.join(map(str, options.seeds))}")
        print("\n".join(lines))
        failures += missed
    total = time.perf_counter() - began
    results = {
        "machine": machine.facts(),
        "nets": figures,
        "timing": timing,
        "compile_s": compile_s,
        "total_s": total,
        "failures": failures,
    }
    atomic_write_text(options.out / "results.json", json.dumps(results, indent=1) + "\n")
    print(f"\nThe picture of the patterns: {picture}. All figures and raw times: {options.out / 'results.json'}.")
    for failure in failures:
        print(f"FAILED: {failure}")
    print(f"Total time: {total:.0f} s")
    return 1 if failures else 0


def _title(text: str) -> None:
    print(f"\n== {text}", flush=True)


def _training(net: Net, data: str, options: Sequence[str]) -> Training:
    return Training(net.run, ("--data", data, "--conv", KINDS[net.kind], "--seed", str(net.seed), *options))


def _ref(*arguments: object) -> None:
    """Show and run a command of `lhc-ref`."""
    print(f"$ lhc-ref {' '.join(map(str, arguments))}", flush=True)
    lhc_ref.cli.main([str(argument) for argument in arguments])


def _run(*arguments: object) -> int:
    """Show and run a command of `lhc-run`; gives its exit code."""
    print(f"$ lhc-run {' '.join(map(str, arguments))}", flush=True)
    return runtime.cli.main([str(argument) for argument in arguments])


def _compile() -> float:
    """Compile before anything is timed; gives the seconds."""
    print("The first run on a machine compiles the kernels, in less than a minute, and keeps them.", flush=True)
    began = time.perf_counter()
    _run("warmup")
    return time.perf_counter() - began


def _verify(net: Net, test: Path) -> dict[str, Any]:
    """What `lhc-run verify` finds for a net."""
    text = io.StringIO()
    with contextlib.redirect_stdout(text):
        _run("verify", net.file, test, "--json")
    shown, _, found = text.getvalue().partition("\n")
    check: dict[str, Any] = json.loads(found)
    print(shown)
    difference = max(float(one["largest_difference"]) for one in check["outputs"])
    layer = max(check["layers"], key=lambda one: float(one["ratio"]))
    print(
        f"{'inside' if check['inside'] else 'OUTSIDE'}: outputs differ from float64 by up to {difference:.1e}; "
        f"layer by layer no value uses more than {float(layer['ratio']):.2f} of its bound ({layer['layer']})"
    )
    return check


def _figures(net: Net, test: Path, check: dict[str, Any]) -> dict[str, Any]:
    """What one net comes to; the accuracy is that of the runtime's predictions."""
    model = runtime.load(net.file)
    with np.load(test) as data:
        accuracy = float((np.load(net.predictions).argmax(axis=1) == data["y"]).mean())
    kernels = patterns.masked_kernels(model.spec).values()
    rows = model.explain(max(BATCHES)).rows
    tensors = [tensor for node in model.spec.nodes for tensor in node.tensors.values()]
    return {
        "kind": net.kind,
        "seed": net.seed,
        "accuracy": accuracy,
        "accuracy_of_reference": net.training["test_accuracy"],
        "density": sum(k.kept for k in kernels) / sum(int(np.prod(k.shape)) for k in kernels) if kernels else 1.0,
        "weights_kept": sum(t.kept if isinstance(t, MaskedKernel) else t.size for t in tensors),
        "macs_nominal": sum(row.macs_nominal for row in rows),
        "macs_kept": sum(row.macs_kept for row in rows),
        "macs_executed": sum(row.macs_executed for row in rows),
        "file_bytes": net.file.stat().st_size,
        "train_s": net.training["seconds"],
        "largest_ratio_to_bound": max(float(one["ratio"]) for one in (*check["outputs"], *check["layers"])),
    }


def _time(dense: Net, lhc: Net, test: Path) -> dict[str, Any]:
    """Raw times of both nets, and of one without layers, by batch."""
    models = {net.kind: runtime.load(net.file) for net in (dense, lhc)}
    spec = models["dense"].spec
    models["nothing"] = runtime.Model(_empty_net(spec))
    with np.load(test) as data:
        name = spec.inputs[0].name
        x = to_net(spec, {name: data["x"]}, raw=False)[name]
    timing: dict[str, Any] = {
        "other_load_cores": machine.busy_cores(),
        "threads": machine.facts()["threads"],
        "batches": {},
    }
    for batch in BATCHES:
        images = np.ascontiguousarray(x[:batch])
        for model in models.values():
            _compare(model, images)
        runs = {name: (lambda model=model, images=images: model.run(images)) for name, model in models.items()}
        samples = interleaved(runs, TIMING_S)
        medians = {name: median(times) for name, times in samples.items()}
        why = reasons.explain(batch, medians, {kind: models[kind].explain(batch).rows for kind in KINDS})
        timing["batches"][batch] = {"median_s": medians, "why": why, "samples_s": samples}
        print(f"batch {batch}: {len(samples['lhc'])} rounds of A B A B")
    return timing


def _empty_net(spec: ModelSpec) -> ModelSpec:
    """A net of one trivial layer: what it takes to run is what any net takes beside its layers."""
    entry = spec.inputs[0]
    node = Node("global_average_pool", "nothing", (entry.name,), "nothing")
    return ModelSpec((InputSpec(entry.name, entry.shape),), ("nothing",), (node,))


def _compare(model: runtime.Model, images: np.ndarray) -> None:
    """Refuse to time what is wrong."""
    name = model.spec.inputs[0].name
    reference = evaluate_with_bounds(model.spec, {name: images}, winograd=model.transformed(len(images)))[
        model.spec.outputs[0]
    ]
    if not (np.abs(model.run(images) - reference.value) <= reference.bound).all():
        raise LhcError(f"{model.path}: expected outputs within their bounds, got others. This is a bug: please report.")


def _caption(figures: dict[str, Any]) -> str:
    return (
        f"What the net for handwritten digits learned to keep: density {figures['density']:.3f}, "
        f"test accuracy {figures['accuracy']:.2%}"
    )


def _table(dense: dict[str, Any], lhc: dict[str, Any], timing: dict[str, Any]) -> list[str]:
    """The one table, and below it what has to be said of its times."""

    def row(what: str, key: str, form: str, factor: bool = True) -> tuple[str, str, str, str]:
        less = f"{dense[key] / lhc[key]:.1f}x less" if factor else ""
        return what, format(dense[key], form), format(lhc[key], form), less

    rows = [
        row("test accuracy", "accuracy", ".2%", factor=False),
        row("density of the layers that learn it", "density", ".3f"),
        row("weights in the file", "weights_kept", ",d"),
        row("MACs an image: nominal", "macs_nominal", ",d", factor=False),
        row("  of kept weights", "macs_kept", ",d"),
        row("  executed (padding left out)", "macs_executed", ",d"),
        row("file, bytes", "file_bytes", ",d"),
    ]
    notes = []
    for batch, measured in timing["batches"].items():
        times = [measured["median_s"][kind] / batch for kind in KINDS]
        gain = times[0] / times[1]
        verdict = f"{gain:.2f}x faster" if gain >= reasons.CLEAR_GAIN else f"not faster ({gain:.2f}x)"
        rows.append((f"time an image, batch {batch}", *map(time_text, times), verdict))
        notes += ["", *measured["why"]]
    if timing["other_load_cores"] > 0.2:
        notes += ["", f"Other programs kept {timing['other_load_cores']:.1f} cores busy: do not trust the times."]
    head = ("", "dense", "LHC", "")
    return [*table(head, rows), *notes]


def judge(figures: Sequence[dict[str, Any]]) -> tuple[list[str], list[str]]:
    """The accuracies and densities of several seeds as lines of text, and which promises they break."""
    by_kind = {kind: [one for one in figures if one["kind"] == kind] for kind in KINDS}
    pairs = list(zip(by_kind["dense"], by_kind["lhc"], strict=True))
    gaps = [d["accuracy"] - s["accuracy"] for d, s in pairs]
    rows = [
        (str(d["seed"]), f"{d['accuracy']:.2%}", f"{s['accuracy']:.2%}", f"{s['density']:.4f}", f"{100 * gap:.2f}")
        for (d, s), gap in zip(pairs, gaps, strict=True)
    ]
    gap = statistics.mean(gaps)
    lines = table(("seed", "dense", "LHC", "density", "gap, points"), rows)
    lines.append(f"mean gap: {100 * gap:.2f} percentage points")
    failures = [
        f"seed {d['seed']}: dense accuracy {d['accuracy']:.2%}, less than {LOWEST_ACCURACY:.0%}"
        for d, _ in pairs
        if not d["accuracy"] >= LOWEST_ACCURACY
    ]
    failures += [
        f"seed {s['seed']}: density {s['density']:.4f}, more than {LARGEST_DENSITY}"
        for _, s in pairs
        if not s["density"] <= LARGEST_DENSITY
    ]
    if not gap <= LARGEST_GAP + 1e-9:  # Why more: accuracies are counts over a count, and 0.97 - 0.96 > 0.01
        failures.append(f"mean gap {100 * gap:.2f} points, more than {100 * LARGEST_GAP:.0f}")
    return lines, failures


if __name__ == "__main__":
    sys.exit(command.run(main))
