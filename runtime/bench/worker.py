"""One engine in a process of its own, driven over stdin: run as a script by the Python that has the engine.

    python worker.py ENGINE

Each line on stdin is a request as JSON, and is answered by one line of JSON:

    {"do": "load", "net": NAME, "model": PATH, "inputs": X.npz, "names": [...], "answers": Y.npz,
     "threads": N, "streams": S, "cores": [...], "options": {...}}
        Loads a net in the place of the one of that name, with options of `runtime.load` for ours, and runs it once on
        the arrays of X.npz, whose names are given in their order; all on these cores, unless the list is empty. Saves
        its outputs and gives their "names", "version", "phases_s" (seconds by phase: import, compile, load, plan, first
        run), "memory_bytes" (import: once the engine was imported, loaded: after the first run) and, of ours,
        "packed_bytes".
    {"do": "time", "net": NAME, "calls": N}
        Each of the S streams makes N calls. Gives "times_s" of all calls, "wall_s" and "peak_bytes" of the process.
    {"do": "profile", "net": NAME, "repeats": N}
        Ours alone: gives what `Model.profile` finds, as its fields.

A request that fails is answered by {"error": TEXT}. S streams call at the same time, each with its share of the
threads. Needs NumPy and the engine, and nothing of this project except for the engine "ours". Python 3.8 is enough.
"""

from __future__ import annotations

import os
import sys

# Why first: Python puts this script's folder in front, and an engine would import our modules for its own.
sys.path[:] = [entry for entry in sys.path if os.path.abspath(entry) != os.path.dirname(os.path.abspath(__file__))]

import ctypes
import json
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Callable, Dict, List, Tuple

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
        self.model, self.options = str(request["model"]), dict(request.get("options", {}))
        self.threads, self.streams = int(request["threads"]), int(request.get("streams", 1))
        # Why not in streams: a pinned run starts at the first core, and they would all share it.
        self.pin = "core" if request.get("cores") and self.streams == 1 else None
        self.inputs = inputs
        self.phases: Dict[str, float] = {}
        self.facts: Dict[str, Any] = {}
        self.imported_bytes = 0
        self.profile: Any = None  # of ours: gives a Profile
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

    start.lap("import")
    start.facts["version"] = lhc_ref.__version__
    options = dict(start.options)
    if "shapes" in options:
        options["shapes"] = {name: tuple(shape) for name, shape in options["shapes"].items()}  # JSON has no tuples
    model = runtime.load(start.model, **options)
    start.lap("load")
    start.facts["packed_bytes"] = model.packed_bytes(start.batch)
    start.lap("plan")
    names = list(model.views[1])
    start.profile = lambda repeats: model.profile(
        start.inputs, threads=start.threads_each, repeats=repeats, pin=start.pin
    )

    def call() -> Arrays:
        y = model.run(start.inputs, threads=start.threads_each, pin=start.pin)
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
    """The ONNX twin's graph, traced and frozen."""
    import onnx
    import torch as engine
    from onnx import numpy_helper

    start.lap("import")
    start.facts["version"] = engine.__version__
    engine.set_num_threads(start.threads_each)
    graph = onnx.load(start.model).graph
    constants = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
    weights = {name: engine.from_numpy(array.copy()) for name, array in constants.items() if array.ndim}
    names, operators = [item.name for item in graph.output], torch_operators(engine)

    class Net(engine.nn.Module):
        def forward(self, *given):  # type: ignore[no-untyped-def]
            values = dict(zip((item.name for item in graph.input), given))
            for node in graph.node:
                attrs = {i.name: onnx.helper.get_attribute_value(i) for i in node.attribute}
                plain = [constants[n].tolist() for n in node.input if n in constants]
                args = [values[n] if n in values else weights.get(n) for n in node.input]
                values[node.output[0]] = operators[node.op_type](attrs, plain, *args)
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


def torch_operators(engine: Any) -> Dict[str, Callable[..., Any]]:
    """Each operator of `onnx_twin`, called with its attributes, its constants as lists, and its inputs as tensors."""
    functional = engine.nn.functional

    def padded(a: Dict[str, Any], x: Any, value: float) -> Any:
        top, left, bottom, right = a["pads"]
        return functional.pad(x, (left, right, top, bottom), value=value) if any(a["pads"]) else x

    def conv(a: Dict[str, Any], _: Any, x: Any, kernel: Any, bias: Any = None) -> Any:
        even = a["pads"][:2] == a["pads"][2:]
        x, padding = (x, a["pads"][:2]) if even else (padded(a, x, 0.0), 0)
        return functional.conv2d(x, kernel, bias, a["strides"], padding, a["dilations"], a["group"])

    def max_pool(a: Dict[str, Any], _: Any, x: Any) -> Any:
        return functional.max_pool2d(padded(a, x, -float("inf")), a["kernel_shape"], a["strides"])

    def average_pool(a: Dict[str, Any], _: Any, x: Any) -> Any:
        sums, ones = (padded(a, values, 0.0) for values in (x, engine.ones_like(x[:1, :1])))
        sums, ones = (functional.avg_pool2d(values, a["kernel_shape"], a["strides"]) for values in (sums, ones))
        return sums / ones if any(a["pads"]) else sums

    def gemm(a: Dict[str, Any], _: Any, x: Any, kernel: Any, bias: Any = None) -> Any:
        return x @ kernel if bias is None else engine.addmm(bias, x, kernel)

    def pad(a: Dict[str, Any], plain: Any, x: Any, *_: Any) -> Any:
        pads, value = plain
        return padded({"pads": [pads[2], pads[3], pads[6], pads[7]]}, x, value)

    def cut(a: Dict[str, Any], plain: Any, x: Any, *_: Any) -> Any:
        spans = {axis: slice(start, stop, step) for start, stop, axis, step in zip(*plain)}
        return x[tuple(spans.get(axis, slice(None)) for axis in range(x.ndim))]

    def repeat(a: Dict[str, Any], plain: Any, x: Any, *_: Any) -> Any:
        factors = [int(factor) for factor in plain[0]]
        return x.repeat_interleave(factors[2], 2).repeat_interleave(factors[3], 3)

    return {
        "Conv": conv,
        "Gemm": gemm,
        "MaxPool": max_pool,
        "AveragePool": average_pool,
        "GlobalAveragePool": lambda a, _, x: x.mean((2, 3), keepdim=True),
        "BatchNormalization": lambda a, _, x, scale, bias, mean, variance: functional.batch_norm(
            x, mean, variance, scale, bias, eps=a["epsilon"]
        ),
        "Relu": lambda a, _, x: engine.relu(x),
        "Clip": lambda a, plain, x, *_: x.clamp(*plain),
        "LeakyRelu": lambda a, _, x: functional.leaky_relu(x, a["alpha"]),
        "PRelu": lambda a, _, x, slope: functional.prelu(x, slope.flatten()),
        "Sigmoid": lambda a, _, x: x.sigmoid(),
        "HardSigmoid": lambda a, _, x: (a["alpha"] * x + a["beta"]).clamp(0.0, 1.0),
        "HardSwish": lambda a, _, x: functional.hardswish(x),
        "Tanh": lambda a, _, x: x.tanh(),
        "Softmax": lambda a, _, x: x.softmax(a["axis"]),
        "Add": lambda a, _, x, y: x + y,
        "Sub": lambda a, _, x, y: x - y,
        "Mul": lambda a, _, x, y: x * y,
        "Div": lambda a, _, x, y: x / y,
        "Concat": lambda a, _, *xs: engine.cat(xs, a["axis"]),
        "Flatten": lambda a, _, x: x.flatten(1),
        "Transpose": lambda a, _, x: x.permute(*a["perm"]),
        "Reshape": lambda a, plain, x, *_: x.reshape(plain[0]),
        "Pad": pad,
        "Slice": cut,
        "Resize": lambda a, plain, x, *_: x.repeat_interleave(int(plain[0][2]), 2).repeat_interleave(
            int(plain[0][3]), 3
        ),
    }


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
        self._nets: Dict[str, Tuple[Start, List[Call]]] = {}

    def answer(self, request: Dict[str, Any]) -> Dict[str, Any]:
        """The reply to one request."""
        if request["do"] == "load":
            return self._load(request)
        start, calls = self._nets[request["net"]]
        if request["do"] == "profile":
            return dict(json.loads(start.profile(int(request["repeats"])).json()))
        return time_calls(calls, int(request["calls"]))

    def _load(self, request: Dict[str, Any]) -> Dict[str, Any]:
        self._nets.pop(request["net"], None)  # Why first: two nets need not fit into memory.
        with np.load(request["inputs"]) as archive:
            inputs = dict(zip(request["names"], (archive[f"arr_{i}"] for i in range(len(archive.files)))))
        if request.get("cores"):
            os.sched_setaffinity(0, request["cores"])
        start = Start(request, inputs)
        calls = self._engine(start)
        outputs = calls[0]()
        start.lap("first run")
        self._nets[request["net"]] = start, calls
        memory = {"import": start.imported_bytes, "loaded": resident_bytes()}
        np.savez(request["answers"], *(np.asarray(y) for y in outputs.values()))  # Why no names: "file" is no keyword
        return {**start.facts, "names": list(outputs), "phases_s": start.phases, "memory_bytes": memory}


def time_calls(calls: List[Call], count: int) -> Dict[str, Any]:
    """Each stream makes `count` calls, all streams at once."""

    def stream(call: Call) -> List[float]:
        times = []
        for _ in range(count):
            began = time.perf_counter()
            call()
            times.append(time.perf_counter() - began)
        return times

    began = time.perf_counter()
    if len(calls) == 1:
        times = stream(calls[0])
    else:
        with ThreadPoolExecutor(len(calls)) as pool:
            times = [t for part in pool.map(stream, calls) for t in part]
    wall = time.perf_counter() - began
    return {"times_s": times, "wall_s": wall, "peak_bytes": resident_bytes("VmHWM")}


def end_with_parent() -> None:
    """Be killed when the one who asks ends: nobody else would wake a stopped worker to see its pipes closed. Linux."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def main(engine: str) -> None:
    end_with_parent()
    worker = Worker(engine)
    for line in sys.stdin:
        try:
            reply = worker.answer(json.loads(line))
        except Exception as error:  # Why all: an engine may raise anything, and its words are the answer.
            reply = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(reply), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
