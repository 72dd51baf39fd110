"""Training steps of one engine, driven over stdin: run as a script by the Python of that engine's environment.

    python train_worker.py ENGINE PROBLEM.npz THREADS ANSWER.npy

PROBLEM.npz holds `net` (a JSON list of layers: ["conv", name], ["relu"], ["max_pool"], ["average"], ["dense", name]),
`images` f32[n, h, w, c], `labels`, how many images to check by, and the weights by name. Saves loss and gradients of
those first images, prints a JSON line {"version", "step_growth_bytes", "peak_bytes"}; then for each
line N on stdin makes N steps (forward, backward, SGD with Nesterov momentum) and prints their times in seconds as a
JSON list. Needs NumPy and the engine, nothing of this project except for the engine "ours".
"""

import ctypes
import json
import resource
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

RATE, MOMENTUM = 1e-3, 0.9
WARM_UPS = 2


def ours(problem: Any, threads: int) -> tuple[str, Callable[[int], tuple[float, dict[str, np.ndarray]]]]:
    """The reference, as `lhc-ref train` steps; its threads are those of BLAS, set in the environment."""
    import lhc_ref
    from lhc_ref import ops
    from lhc_ref.layers import Pass
    from lhc_ref.models import make_net
    from lhc_ref.optim import SGD
    from lhc_ref.tape import Tape, apply

    images, labels = problem["images"], problem["labels"]
    net = make_net(
        str(problem["model"]),
        str(problem["conv"]),
        image_shape=images.shape[1:],
        width=float(problem["width"]),
        dtype=str(images.dtype),
    )
    for name, weight in net.weights.items():
        if name in problem:
            weight[...] = problem[name]
    optimizer = SGD(MOMENTUM)

    def step(count: int) -> tuple[float, dict[str, np.ndarray]]:
        tape = Tape()
        run = Pass(tape)
        loss = apply(ops.softmax_cross_entropy, net(images[:count], run), labels[:count])
        gradients = dict(zip(run.variables, tape.gradients(loss, list(run.variables.values())), strict=True))
        optimizer.update(net.weights, gradients, RATE)
        return float(loss.value), gradients

    return lhc_ref.__version__, step


def torch(problem: Any, threads: int, channels_last: bool = False) -> tuple[str, Callable]:
    """PyTorch, eager, in its default layout or in its NHWC one."""
    import torch as engine

    engine.set_num_threads(threads)
    layout = engine.channels_last if channels_last else engine.contiguous_format
    layers = json.loads(str(problem["net"]))
    images = engine.from_numpy(problem["images"].transpose(0, 3, 1, 2).copy()).to(memory_format=layout)
    labels = engine.from_numpy(problem["labels"])
    weights = {}
    for name in (f"{layer[1]}.{role}" for layer in layers if len(layer) > 1 for role in ("kernel", "bias")):
        array = problem[name]
        tensor = engine.from_numpy(array.transpose(3, 2, 0, 1).copy() if array.ndim == 4 else array.copy())
        weights[name] = tensor.to(
            memory_format=layout if array.ndim == 4 else engine.contiguous_format
        ).requires_grad_()
    optimizer = engine.optim.SGD(weights.values(), lr=RATE, momentum=MOMENTUM, nesterov=True)
    functional = engine.nn.functional

    def forward(x: Any) -> Any:
        for kind, *name in layers:
            if kind == "conv":
                x = functional.conv2d(x, weights[f"{name[0]}.kernel"], weights[f"{name[0]}.bias"], padding=1)
            elif kind == "dense":
                x = engine.addmm(weights[f"{name[0]}.bias"], x, weights[f"{name[0]}.kernel"])
            elif kind == "relu":
                x = functional.relu(x)
            elif kind == "max_pool":
                x = functional.max_pool2d(x, 2, ceil_mode=True)
            else:
                x = x.mean((2, 3))
        return x

    def step(count: int) -> tuple[float, dict[str, np.ndarray]]:
        optimizer.zero_grad(set_to_none=True)
        loss = functional.cross_entropy(forward(images[:count]), labels[:count])
        loss.backward()
        optimizer.step()
        return float(loss.detach()), {name: weight.grad.numpy() for name, weight in weights.items()}

    return engine.__version__, step


ENGINES = {
    "ours": ours,
    "torch": torch,
    "torch-channels-last": lambda problem, threads: torch(problem, threads, channels_last=True),
}


def answer_of(loss: float, gradients: dict[str, np.ndarray]) -> np.ndarray:
    """f64[1 + weights]: the loss, then the gradients in the order of their names, kernels as HWIO."""
    parts = [np.array([loss])]
    for _, g in sorted(gradients.items()):
        parts.append(np.asarray(g, np.float64).ravel())
    return np.concatenate(parts)


def peak_bytes() -> int:
    """The most memory that this process has had at once."""
    if sys.platform == "linux":
        # Why not getrusage: there a process begins with the peak of the one that started it.
        lines = Path("/proc/self/status").read_text().splitlines()
        (kibibytes,) = (line.split()[1] for line in lines if line.startswith("VmHWM:"))
        return int(kibibytes) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def main(engine: str, problem_path: str, threads: str, answer_path: str) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: a stopped worker ends with the one who asks
    with np.load(problem_path) as archive:
        problem = {name: archive[name] for name in archive}
    version, step = ENGINES[engine](problem, int(threads))
    before = peak_bytes()
    loss, gradients = step(int(problem["checked"]))
    if engine != "ours":
        gradients = {name: g.transpose(2, 3, 1, 0) if g.ndim == 4 else g for name, g in gradients.items()}
    np.save(answer_path, answer_of(loss, gradients))
    del gradients
    whole = len(problem["images"])
    for _ in range(WARM_UPS):
        step(whole)
    facts = {"version": version, "step_growth_bytes": peak_bytes() - before, "peak_bytes": peak_bytes()}
    print(json.dumps(facts), flush=True)
    for line in sys.stdin:
        times = []
        for _ in range(int(line)):
            start = time.perf_counter()
            step(whole)
            times.append(time.perf_counter() - start)
        print(json.dumps(times), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
