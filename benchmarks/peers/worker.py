"""One engine on one net and batch, driven over stdin: run as a script by the Python of that engine's environment.

    python worker.py ENGINE MODEL THREADS BATCH ANSWER.npy

Loads, saves the answer to the seeded input, prints a JSON line {"version", "load_s", "rss_bytes"}; then for each line N
on stdin makes N calls and prints their times in seconds as a JSON list. Needs NumPy and the engine, nothing of this
project except for the engine "ours".
"""

import json
import resource
import sys
import time
from collections.abc import Callable

import numpy as np


def input_for(size: int, batch: int) -> np.ndarray:
    """f32[batch, 3, size, size], the same for every engine."""
    return np.random.default_rng(0).standard_normal((batch, 3, size, size)).astype(np.float32)


def ours(path: str, x: np.ndarray, threads: int) -> tuple[str, Callable[[], np.ndarray]]:
    import lhc_ref
    import runtime

    model = runtime.load(path)
    nhwc = np.ascontiguousarray(x.transpose(0, 2, 3, 1))
    return lhc_ref.__version__, lambda: model.run(nhwc, threads=threads)


def onnxruntime(path: str, x: np.ndarray, threads: int) -> tuple[str, Callable[[], np.ndarray]]:
    import onnxruntime as engine

    options = engine.SessionOptions()
    options.intra_op_num_threads = threads
    session = engine.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return engine.__version__, lambda: session.run(None, {"x": x})[0]


def openvino(precision: str) -> Callable:
    def start(path: str, x: np.ndarray, threads: int) -> tuple[str, Callable[[], np.ndarray]]:
        import openvino as engine

        core = engine.Core()
        model = core.read_model(path)
        model.reshape({"x": list(x.shape)})
        hints = {"INFERENCE_PRECISION_HINT": precision, "INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY"}
        request = core.compile_model(model, "CPU", hints).create_infer_request()
        return engine.__version__, lambda: next(iter(request.infer({"x": x}).values()))

    return start


def deepsparse(path: str, x: np.ndarray, threads: int) -> tuple[str, Callable[[], np.ndarray]]:
    import deepsparse as engine

    net = engine.Engine(path, batch_size=len(x), num_cores=threads)
    return engine.__version__, lambda: net.run([x])[0]


def torch(path: str, x: np.ndarray, threads: int) -> tuple[str, Callable[[], np.ndarray]]:
    import onnx
    import torch as engine
    from onnx import numpy_helper

    engine.set_num_threads(threads)
    graph = onnx.load(path).graph
    weights = {t.name: engine.from_numpy(numpy_helper.to_array(t).copy()) for t in graph.initializer}

    class Net(engine.nn.Module):
        def forward(self, value):  # type: ignore[no-untyped-def]
            values = {"x": value}
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
            return values[graph.output[0].name]

    xt = engine.from_numpy(x)
    with engine.no_grad():
        net = engine.jit.optimize_for_inference(engine.jit.freeze(engine.jit.trace(Net().eval(), xt)))

    def call() -> np.ndarray:
        with engine.inference_mode():
            return net(xt).numpy()

    return engine.__version__, call


ENGINES = {
    "ours": ours,
    "onnxruntime": onnxruntime,
    "openvino-f32": openvino("f32"),
    "openvino-bf16": openvino("bf16"),
    "deepsparse": deepsparse,
    "torch": torch,
}


def main(engine: str, path: str, threads: str, batch: str, answer_path: str) -> None:
    x = input_for(224 if "imagenet" in path else 32, int(batch))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    begin = time.perf_counter()
    version, call = ENGINES[engine](path, x, int(threads))
    answer = np.array(call())
    load_s = time.perf_counter() - begin
    for _ in range(3):
        call()
    growth = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    np.save(answer_path, answer)
    print(json.dumps({"version": version, "load_s": load_s, "rss_growth_bytes": growth}), flush=True)
    for line in sys.stdin:
        times = []
        for _ in range(int(line)):
            start = time.perf_counter()
            call()
            times.append(time.perf_counter() - start)
        print(json.dumps(times), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
