"""Times the runtime beside other engines, every answer checked first: ``python -m benchmarks.run``.

Each engine works in a process and environment of its own (`benchmarks.environments` makes them). For every net and
batch the engines take turns, A B C A B C, and the raw times are kept. Dense engines run the twin with zeros for the
missing weights. Writes JSON with machine, versions and commit, and prints the ratios beside the floors that we want to
hold.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from benchmarks import machine, onnx_twin, problems
from benchmarks.environments import ENVIRONMENT_OF, python_of
from benchmarks.peers.worker import input_for
from benchmarks.timing import busy_cores
from lhc_ref import modelfile
from lhc_ref.evaluate import evaluate
from lhc_ref.files import atomic_write_text
from lhc_ref.modelfile import MaskedKernel, ModelSpec

WORKER = Path(__file__).parent / "peers" / "worker.py"
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


@dataclass
class Worker:
    """One engine's process, ready to be asked for calls."""

    engine: str
    process: subprocess.Popen
    facts: dict
    answer: np.ndarray

    @classmethod
    def start(cls, engine: str, model: Path, threads: int, batch: int, folder: Path) -> "Worker":
        """Start it and wait for its first answer. RuntimeError, with what it wrote, when it fails."""
        python, answer = python_of(engine), folder / f"{engine}.npy"
        assert python is not None, "only engines with an environment are started"
        name = engine.removesuffix("-dense")
        environment = dict(os.environ, PYTHONPATH=str(WORKER.parent.parent.parent) if engine == "ours" else "")
        command = [python, str(WORKER), name, str(model), str(threads), str(batch), str(answer)]
        return cls.launch(engine, command, answer, folder / f"{engine}.err", environment)

    @classmethod
    def launch(
        cls, engine: str, command: list[str], answer: Path, errors: Path, environment: dict[str, str]
    ) -> "Worker":
        """Start a command that saves an answer, prints its facts, and then times calls as asked over its pipes."""
        with errors.open("w") as written:
            process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=written,
                text=True,
                env=environment,
            )
        worker = cls(engine, process, {}, np.empty(0))
        try:
            worker.facts = worker._reply()
            worker.answer = np.load(answer)
        except RuntimeError as error:
            worker.stop()
            raise RuntimeError(f"{error}\n{errors.read_text()[-2000:]}") from error
        return worker

    def _reply(self) -> dict | list:
        assert self.process.stdout is not None, "started with pipes"
        for line in self.process.stdout:  # engines print greetings of their own
            if line.startswith(("{", "[")):
                return json.loads(line)
        raise RuntimeError(f"{self.engine}: expected an answer, got exit code {self.process.wait()}.")

    def time(self, calls: int) -> list[float]:
        """Seconds of so many calls."""
        assert self.process.stdin is not None, "started with pipes"
        self.process.stdin.write(f"{calls}\n")
        self.process.stdin.flush()
        times = self._reply()
        assert isinstance(times, list), "a worker replies with times"
        return times

    def stop(self) -> None:
        """End the process by closing its pipes."""
        assert self.process.stdin is not None, "started with pipes"
        assert self.process.stdout is not None, "started with pipes"
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait()


def dense_twin(spec: ModelSpec) -> ModelSpec:
    """The same net with small random numbers in the place of the missing weights."""
    rng, nodes = np.random.default_rng(1), []
    for node in spec.nodes:
        kernel = node.tensors.get("kernel")
        if isinstance(kernel, MaskedKernel):
            noise = rng.standard_normal(kernel.shape).astype(np.float32) * np.float32(1e-3)
            full = np.where(kernel.expanded_mask(), kernel.dense(), noise)
            node = modelfile.Node(
                node.op, node.name, node.inputs, node.output, node.attrs, {**node.tensors, "kernel": full}
            )
        nodes.append(node)
    return ModelSpec(spec.inputs, spec.outputs, tuple(nodes))


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
        references = {False: evaluate(spec, {"x": x})[output]}
        if "deepsparse-dense" in engines:
            references[True] = evaluate(dense, {"x": x})[output]
        results: dict[str, dict] = {}
        with ExitStack() as running:
            workers = []
            for engine in engines:
                is_dense = engine.endswith("-dense")
                model = files["ours" if engine == "ours" else "dense" if is_dense else "sparse"]
                worker = Worker.start(engine, model, threads, batch, folder)
                running.callback(worker.stop)
                difference = check(engine, worker.answer, references[is_dense])
                workers.append(worker)
                results[engine] = {**worker.facts, "relative_difference": difference, "times_s": []}
            calls = {w.engine: max(1, int(seconds / max(min(w.time(3)), 1e-6))) for w in workers}
            for _ in tqdm(range(rounds), desc=f"{problem.name} batch {batch}", leave=False):
                for worker in workers:
                    results[worker.engine]["times_s"].append(worker.time(calls[worker.engine]))
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
    except (RuntimeError, ValueError) as error:
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
