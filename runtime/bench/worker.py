"""One engine in a process of its own, driven over stdin: run as a script by the Python that has the engine.

    python worker.py ENGINE

Each line on stdin is a request as JSON, and is answered by one line of JSON:

    {"do": "load", "model": PATH, "inputs": X.npz, "names": [...], "answers": Y.npz, "threads": N, "streams": S}
        Loads a net in the place of the one before, runs it once on the arrays of X.npz, whose names are given in their
        order, and saves its outputs. Gives their "names", "version", "phases_s" (seconds by phase: import, compile,
        load, plan, first run), "memory_bytes" (import: once the engine was imported, loaded: after the first run) and,
        of ours, "packed_bytes".
    {"do": "time", "calls": N}
        Each of the S streams makes N calls. Gives "times_s" of all calls, "wall_s" and "peak_bytes" of the process.

A request that fails is answered by {"error": TEXT}. S streams call at the same time, each with its share of the
threads. Needs NumPy and the engine, and nothing of this project except for the engine "ours". Python 3.8 is enough.
"""

from __future__ import annotations

import os
import sys

# Why first: Python puts this script's folder in front, and an engine would import our modules for its own.
sys.path[:] = [entry for entry in sys.path if os.path.abspath(entry) != os.path.dirname(os.path.abspath(__file__))]

import json
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Callable, Dict, List

import numpy as np

try:
    import resource
except ImportError:  # not on every system
    resource = None  # type: ignore[assignment]

Arrays = Dict[str, np.ndarray]
Call = Callable[[], Arrays]


class Start:
    """What an engine is asked to load, and the clock of its phases."""

    def __init__(self, request: Dict[str, Any], inputs: Arrays) -> None:
        self.model, self.device = str(request["model"]), str(request.get("device", "cpu"))
        self.threads, self.streams = int(request["threads"]), int(request.get("streams", 1))
        self.inputs = inputs
        self.phases: Dict[str, float] = {}
        self.facts: Dict[str, Any] = {}
        self.imported_bytes = 0
        self._began = time.perf_counter()

    @property
    def batch(self) -> int:
        return len(next(iter(self.inputs.values())))

    @property
    def threads_each(self) -> int:
        """Of one stream."""
        return max(1, self.threads // self.streams)

    def lap(self, phase: str) -> None:
        """End a phase."""
        now = time.perf_counter()
        self.phases[phase], self._began = now - self._began, now
        if phase == "import":
            self.imported_bytes = resident_bytes()


def resident_bytes(key: str = "VmRSS") -> int:
    """Memory of this process, now or (VmHWM) at most so far; 0 where the system does not tell the first.

    Why not ru_maxrss alone: a process inherits it from the one that started it.
    """
    try:
        with open("/proc/self/status", encoding="ascii", errors="replace") as file:
            return next(1024 * int(line.split()[1]) for line in file if line.startswith(key))
    except (OSError, StopIteration):
        if resource is None or key == "VmRSS":
            return 0
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def ours(start: Start) -> list[Call]:
    import lhc_ref
    import runtime
    from runtime.commands.warmup import compile_all

    start.lap("import")
    start.facts["version"] = lhc_ref.__version__
    compile_all()
    start.lap("compile")
    model = runtime.load(start.model)
    start.lap("load")
    start.facts["packed_bytes"] = model.explain(start.batch).bytes
    start.lap("plan")
    names = list(model.views[1])

    def call() -> Arrays:
        y = model.run(start.inputs, threads=start.threads_each)
        return y if isinstance(y, dict) else {names[0]: y}

    return [call] * start.streams


def onnxruntime(start: Start) -> list[Call]:
    import onnxruntime as engine

    start.lap("import")
    start.facts["version"] = engine.__version__

    def session() -> Call:
        options = engine.SessionOptions()
        options.intra_op_num_threads = start.threads_each
        made = engine.InferenceSession(start.model, options, providers=["CPUExecutionProvider"])
        names = [item.name for item in made.get_outputs()]
        return lambda: dict(zip(names, made.run(names, start.inputs)))

    sessions = [session() for _ in range(start.streams)]
    start.lap("load")
    return sessions


def openvino(precision: str) -> Callable[[Start], list[Call]]:
    def begin(start: Start) -> list[Call]:
        import openvino as engine

        start.lap("import")
        start.facts["version"] = engine.__version__
        core = engine.Core()
        model = core.read_model(start.model)
        model.reshape({name: list(x.shape) for name, x in start.inputs.items()})
        start.lap("load")
        hints = {
            "INFERENCE_PRECISION_HINT": precision,
            "INFERENCE_NUM_THREADS": start.threads,
            "PERFORMANCE_HINT": "LATENCY" if start.streams == 1 else "THROUGHPUT",
            "NUM_STREAMS": start.streams,
        }
        compiled = core.compile_model(model, "CPU", hints)
        start.lap("compile")
        names = [item.get_any_name() for item in compiled.outputs]

        def infer(request: Any) -> Arrays:
            return dict(zip(names, request.infer(start.inputs).values()))

        requests = [compiled.create_infer_request() for _ in range(start.streams)]
        return [lambda request=request: infer(request) for request in requests]  # type: ignore[misc]

    return begin


def deepsparse(start: Start) -> list[Call]:
    import deepsparse as engine

    start.lap("import")
    start.facts["version"] = engine.__version__
    several = {} if start.streams == 1 else {"num_streams": start.streams, "scheduler": engine.Scheduler.multi_stream}
    net = engine.Engine(start.model, batch_size=start.batch, num_cores=start.threads, **several)
    start.lap("compile")
    given = [np.ascontiguousarray(start.inputs[name]) for name in net.input_names]
    return [lambda: dict(zip(net.output_names, net.run(given)))] * start.streams


def torch(start: Start) -> list[Call]:
    import onnx
    import torch as engine
    from onnx import numpy_helper

    start.lap("import")
    start.facts["version"] = engine.__version__
    engine.set_num_threads(start.threads_each)
    graph = onnx.load(start.model).graph
    weights = {t.name: engine.from_numpy(numpy_helper.to_array(t).copy()) for t in graph.initializer}
    names = [item.name for item in graph.output]

    class Net(engine.nn.Module):
        def forward(self, *given):  # type: ignore[no-untyped-def]
            values = dict(zip((item.name for item in graph.input), given))
            for node in graph.node:
                a = {i.name: onnx.helper.get_attribute_value(i) for i in node.attribute}
                args = [values[n] if n in values else weights[n] for n in node.input]
                if node.op_type == "Conv":
                    y = engine.nn.functional.conv2d(*args, stride=a["strides"], padding=a["pads"][:2])
                elif node.op_type == "MaxPool":
                    y = engine.nn.functional.max_pool2d(args[0], a["kernel_shape"], a["strides"], a["pads"][:2])
                elif node.op_type == "Gemm":
                    y = engine.addmm(args[2], args[0], args[1])
                else:
                    y = {
                        "Relu": engine.relu,
                        "Add": engine.add,
                        "Flatten": lambda v: v.flatten(1),
                        "GlobalAveragePool": lambda v: v.mean((2, 3), keepdim=True),
                    }[node.op_type](*args)
                values[node.output[0]] = y
            return tuple(values[name] for name in names)

    given = tuple(engine.from_numpy(start.inputs[item.name]) for item in graph.input)
    start.lap("load")
    with engine.no_grad():
        net = engine.jit.optimize_for_inference(engine.jit.freeze(engine.jit.trace(Net().eval(), given)))
    start.lap("compile")

    def call() -> Arrays:
        with engine.inference_mode():
            return {name: y.numpy() for name, y in zip(names, net(*given))}

    return [call] * start.streams


ENGINES: Dict[str, Callable[[Start], List[Call]]] = {
    "ours": ours,
    "onnxruntime": onnxruntime,
    "openvino": openvino("f32"),
    "openvino-bf16": openvino("bf16"),
    "torch": torch,
    "deepsparse": deepsparse,
}


class Worker:
    """Answers requests for one engine."""

    def __init__(self, engine: str) -> None:
        self._engine = ENGINES[engine]
        self._calls: List[Call] = []

    def answer(self, request: Dict[str, Any]) -> Dict[str, Any]:
        """The reply to one request."""
        return {"load": self._load, "time": self._time}[request["do"]](request)

    def _load(self, request: Dict[str, Any]) -> Dict[str, Any]:
        self._calls = []  # Why first: two nets need not fit into memory.
        with np.load(request["inputs"]) as archive:
            inputs = dict(zip(request["names"], (archive[f"arr_{i}"] for i in range(len(archive.files)))))
        start = Start(request, inputs)
        self._calls = self._engine(start)
        outputs = self._calls[0]()
        start.lap("first run")
        memory = {"import": start.imported_bytes, "loaded": resident_bytes()}
        np.savez(request["answers"], *(np.asarray(y) for y in outputs.values()))  # Why no names: "file" is no keyword
        return {**start.facts, "names": list(outputs), "phases_s": start.phases, "memory_bytes": memory}

    def _time(self, request: Dict[str, Any]) -> Dict[str, Any]:
        def stream(call: Call) -> List[float]:
            times = []
            for _ in range(int(request["calls"])):
                began = time.perf_counter()
                call()
                times.append(time.perf_counter() - began)
            return times

        began = time.perf_counter()
        if len(self._calls) == 1:
            times = stream(self._calls[0])
        else:
            with ThreadPoolExecutor(len(self._calls)) as pool:
                times = [t for part in pool.map(stream, self._calls) for t in part]
        wall = time.perf_counter() - began
        return {"times_s": times, "wall_s": wall, "peak_bytes": resident_bytes("VmHWM")}


def main(engine: str) -> None:
    worker = Worker(engine)
    for line in sys.stdin:
        try:
            reply = worker.answer(json.loads(line))
        except Exception as error:  # Why all: an engine may raise anything, and its words are the answer.
            reply = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(reply), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
