"""Times the runtime beside other engines, every answer checked first: ``python -m benchmarks.run``.

Each engine works in a process and environment of its own (`benchmarks.environments` makes them). For every net and
batch the engines take turns, A B C A B C, and the raw times are kept. Dense engines run the twin with zeros for the
missing weights. Writes JSON with machine, versions and commit, and prints the ratios beside the floors that we want to
hold.
"""

import argparse
import json
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from tqdm import tqdm

from benchmarks import machine, problems
from benchmarks.environments import ENVIRONMENT_OF, python_of
from lhc_ref import modelfile
from lhc_ref.evaluate import evaluate
from lhc_ref.files import atomic_write_text
from runtime.bench import onnx_twin
from runtime.bench.machine import busy_cores
from runtime.bench.processes import EngineError, EngineProcess
from runtime.bench.twins import dense_twin

DENSE = ("onnxruntime", "openvino-f32", "torch", "deepsparse-dense")
# (net, batch): how many times faster than DeepSparse on the sparse net, and than the fastest dense float32 engine.
FLOORS = {
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
# Largest difference from the float64 reference over the largest value that still counts as the same net.
TOLERATED = {"openvino-bf16": 0.1}
TOLERATED_F32 = 1e-4


def input_for(size: int, batch: int) -> np.ndarray:
    """f32[batch, 3, size, size], the same for every engine."""
    return np.random.default_rng(0).standard_normal((batch, 3, size, size)).astype(np.float32)


def check(engine: str, answer: np.ndarray, reference: np.ndarray) -> float:
    """Largest difference over the largest value; ValueError where that is no rounding error."""
    difference = float(np.abs(answer - reference).max() / np.abs(reference).max())
    if not difference <= TOLERATED.get(engine, TOLERATED_F32):
        raise ValueError(f"{engine}: expected the reference's outputs, got a relative difference of {difference:.1e}.")
    return difference


def measure(
    problem: problems.Problem, batch: int, engines: list[str], threads: int, rounds: int, seconds: float
) -> dict:
    """Time one net at one batch with all engines in turns."""
    spec = modelfile.validate(problem.make())
    dense = modelfile.validate(dense_twin(spec))
    x = np.ascontiguousarray(input_for(spec.inputs[0].shape[0], batch).transpose(0, 2, 3, 1))
    output = spec.outputs[0]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = {
            "ours": folder / f"{problem.name}.lhc",
            "sparse": folder / f"{problem.name}.onnx",
            "dense": folder / f"{problem.name}.dense.onnx",
        }
        modelfile.save(files["ours"], spec)
        onnx_twin.write(files["sparse"], spec)
        onnx_twin.write(files["dense"], dense)
        nchw = np.ascontiguousarray(x.transpose(0, 3, 1, 2))
        references = {False: evaluate(spec, {"x": x})[output]}
        if "deepsparse-dense" in engines:
            references[True] = evaluate(dense, {"x": x})[output]
        results: dict[str, dict] = {}
        with ExitStack() as running:
            workers = []
            for engine in engines:
                is_dense = engine.endswith("-dense")
                model = files["ours" if engine == "ours" else "dense" if is_dense else "sparse"]
                kind = engine.removesuffix("-dense").removesuffix("-f32")
                worker = EngineProcess(kind, folder, name=engine, python=str(python_of(engine)))
                running.callback(worker.stop)
                facts, answers = worker.load(model, {"x": x if engine == "ours" else nchw}, threads=threads)
                difference = check(engine, answers[output], references[is_dense])
                workers.append(worker)
                results[engine] = {**facts, "relative_difference": difference, "times_s": []}
            calls = {w.name: max(1, int(seconds / max(min(w.time(3)["times_s"]), 1e-6))) for w in workers}
            for _ in tqdm(range(rounds), desc=f"{problem.name} batch {batch}", leave=False):
                for worker in workers:
                    results[worker.name]["times_s"].append(worker.time(calls[worker.name])["times_s"])
    return {"problem": problem.name, "batch": batch, "threads": threads, "engines": results}


def median_ms(entry: dict) -> float:
    """Median over the rounds of each round's median, in milliseconds."""
    return 1e3 * float(np.median([np.median(times) for times in entry["times_s"]]))


def lines(result: dict) -> list[str]:
    """The result as text, with ratios against the floors."""
    times = {engine: median_ms(entry) for engine, entry in result["engines"].items()}
    head = f"{result['problem']}, batch {result['batch']}: " + ", ".join(f"{e} {t:.2f} ms" for e, t in times.items())
    dense = {e: t for e, t in times.items() if e in DENSE}
    against_sparse, against_dense = FLOORS.get((result["problem"], result["batch"]), (None, None))
    text = [head]
    if "ours" in times and "deepsparse" in times:
        text.append(_ratio("DeepSparse on the same net", times["deepsparse"] / times["ours"], against_sparse))
    if "ours" in times and dense:
        fastest = min(dense, key=lambda e: dense[e])
        text.append(_ratio(f"the fastest dense engine ({fastest})", dense[fastest] / times["ours"], against_dense))
    return text


def _ratio(what: str, ratio: float, floor: float | None) -> str:
    verdict = "" if floor is None else f", floor {floor:.1f}: {'met' if ratio >= floor else 'NOT met'}"
    return f"    {ratio:.2f}x against {what}{verdict}"


def main(argv: list[str] | None = None) -> int:
    """Measure and print; exit code 1 where an answer is wrong or an engine fails."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.run", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("build/benchmarks/speed.json"))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=0.5, help="of calls in a round, for each engine")
    parser.add_argument("--problems", nargs="*", help="names of nets; all by default")
    parser.add_argument("--engines", nargs="*", default=["ours", *ENVIRONMENT_OF])
    parser.add_argument("--toy", action="store_true", help="a net of toy size, only ours: shows that everything runs")
    arguments = parser.parse_args(argv)
    chosen = problems.TOY if arguments.toy else problems.PROBLEMS
    if arguments.problems:
        chosen = tuple(p for p in chosen if p.name in arguments.problems)
    wanted = ["ours"] if arguments.toy else arguments.engines
    engines = [e for e in wanted if python_of(e) is not None]
    for engine in set(wanted) - set(engines):
        print(f"{engine}: not measured, its environment is missing. Make it: python -m benchmarks.environments")
    report = {
        "machine": machine.facts(),
        "busy_cores": busy_cores(),
        "command": ["benchmarks.run", *(argv or sys.argv[1:])],
        "results": [],
    }
    try:
        for problem in chosen:
            for batch in problem.batches:
                result = measure(problem, batch, engines, arguments.threads, arguments.rounds, arguments.seconds)
                report["results"].append(result)
                print("\n".join(lines(result)), flush=True)
    except (EngineError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    finally:
        if report["results"]:
            arguments.out.parent.mkdir(parents=True, exist_ok=True)
            atomic_write_text(arguments.out, json.dumps(report, indent=1))
            print(f"written: {arguments.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
