"""From which density on sparse wins: each layer shape of a net alone, at several densities, beside it dense."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from lhc_ref import modelfile
from lhc_ref.modelfile import InputSpec, MaskedKernel, ModelSpec, Node, infer_shapes
from runtime import topology
from runtime.bench import onnx_twin
from runtime.bench.engines import kind
from runtime.bench.measure import FAST_S, Progress
from runtime.bench.processes import EngineError, EngineProcess

DENSITIES = (0.05, 0.1, 0.2, 0.3, 0.5, 0.75)
GROUPS = (32, 16)  # of layers that have no mask, as `lhc-run prune` makes them
ROUNDS, SLOT_S = 5, 0.01


@dataclass(frozen=True)
class LayerShape:
    """A convolution's shape, the channels that share a pattern, and the layers that have it."""

    node: Node
    input_shape: tuple[int, ...]
    groups: tuple[int, int]
    layers: tuple[str, ...]

    @property
    def kernel_shape(self) -> tuple[int, ...]:
        """kh, kw, c_in, c_out."""
        return self.node.tensors["kernel"].shape

    def spec(self, density: float) -> ModelSpec:
        """The layer alone: random weights, of which a share of the blocks exists; the same for the same density."""
        rng = np.random.default_rng(0)
        kernel: np.ndarray | MaskedKernel = rng.standard_normal(self.kernel_shape).astype(np.float32)
        if density < 1:
            kh, kw, c_in, c_out = self.kernel_shape
            size = kh, kw, -(-c_in // self.groups[0]), -(-c_out // self.groups[1])
            order = rng.permutation(int(np.prod(size)))
            mask = (order < max(1, round(density * order.size))).reshape(size)
            assert isinstance(kernel, np.ndarray), "made so above"
            kernel = MaskedKernel.from_dense(kernel, mask, *self.groups)
        bias = {"bias": np.zeros(self.kernel_shape[3], np.float32)}
        node = Node("conv2d", "layer", ("x",), "y", self.node.attrs, {"kernel": kernel, **bias})
        return modelfile.validate(ModelSpec((InputSpec("x", self.input_shape),), ("y",), (node,)))


def layer_shapes(spec: ModelSpec) -> list[LayerShape]:
    """The different convolutions of a net, in its order; grouped ones and those of one input channel left out."""
    shapes = infer_shapes(spec)
    found: dict[tuple, LayerShape] = {}
    for node in spec.nodes:
        kernel = node.tensors.get("kernel")
        if node.op != "conv2d" or kernel is None or node.attrs["groups"] > 1 or kernel.shape[2] == 1:
            continue
        groups = GROUPS
        if isinstance(kernel, MaskedKernel) and kernel.density < 1:
            mask = kernel.expanded_mask()
            groups = topology.shared_by(mask, 2), topology.shared_by(mask, 3)
        shape = shapes[node.inputs[0]]
        key = (kernel.shape, shape, groups, *(str(node.attrs[name]) for name in ("stride", "padding", "dilation")))
        if key in found:
            found[key] = replace(found[key], layers=(*found[key].layers, node.name))
        else:
            found[key] = LayerShape(node, shape, groups, (node.name,))
    return list(found.values())


def crossing(densities: Sequence[float], sparse_s: Sequence[float], dense_s: float) -> float:
    """The density under which sparse is faster than a dense time: linear between the densities measured, which rise.

    1.0 where sparse wins at every density measured, 0.0 where at none.
    """
    for i in reversed(range(len(densities))):
        if sparse_s[i] <= dense_s:
            if i == len(densities) - 1:
                return 1.0
            low, high = densities[i], densities[i + 1]
            return low + (high - low) * (dense_s - sparse_s[i]) / (sparse_s[i + 1] - sparse_s[i])
    return 0.0


def measure(
    spec: ModelSpec, batch: int, threads: int, engines: Mapping[str, str], folder: Path, progress: Progress
) -> Iterator[dict[str, Any]]:
    """A dict for each layer shape as soon as it is measured.

    Parameters
    ----------
    engines : ours and others, whose dense times are measured beside it, each with its Python; one that fails is left
        out from then on
    """
    shapes = layer_shapes(spec)
    with ExitStack() as running, progress(len(shapes), "layer shapes") as bar:
        processes = {
            engine: EngineProcess(kind(engine), folder, name=engine, python=python)
            for engine, python in engines.items()
        }
        for process in processes.values():
            running.callback(process.stop)
        for shape in shapes:
            times = _times(shape, batch, threads, processes, folder)
            bar.update(1)
            yield _facts(shape, times)


def _times(
    shape: LayerShape, batch: int, threads: int, processes: dict[str, EngineProcess], folder: Path
) -> dict[tuple[str, float], float]:
    """(engine, density) -> median seconds; all in turns."""
    x = np.random.default_rng(1).standard_normal((batch, *shape.input_shape), np.float32)
    calls: dict[tuple[str, float], int] = {}
    for engine in list(processes):
        for density in (*DENSITIES, 1.0) if engine == "ours" else (1.0,):
            path, given = _write(shape, density, engine, folder), {"x": x}
            if engine != "ours":
                given = {"x": np.ascontiguousarray(x.transpose(0, 3, 1, 2))}
            try:
                processes[engine].load(path, given, threads=threads, net=str(density))
                processes[engine].time(1, str(density))  # Why not this one: it is cold, and several times as long.
                wall = processes[engine].time(1, str(density))["wall_s"]
            except EngineError:
                if engine == "ours":
                    raise
                del processes[engine]
                break
            calls[engine, density] = max(1, int(SLOT_S / max(wall, FAST_S)))
    samples: dict[tuple[str, float], list[float]] = {key: [] for key in calls}
    for _ in range(ROUNDS):
        for (engine, density), count in calls.items():
            processes[engine].time(count, str(density))  # Why not kept: it brings caches and threads back.
            samples[engine, density] += processes[engine].time(count, str(density))["times_s"]
    return {key: float(np.median(times)) for key, times in samples.items()}


def _write(shape: LayerShape, density: float, engine: str, folder: Path) -> Path:
    spec = shape.spec(density)
    if engine == "ours":
        path = folder / "layer.lhc"
        modelfile.save(path, spec)
    else:
        path = folder / "layer.onnx"
        onnx_twin.write(path, spec)
    return path


def _facts(shape: LayerShape, times: Mapping[tuple[str, float], float]) -> dict[str, Any]:
    densities = [*DENSITIES, 1.0]
    sparse = [times["ours", density] for density in densities]
    dense = {engine: seconds for (engine, density), seconds in times.items() if density == 1.0}
    fastest = min(dense, key=lambda engine: dense[engine])
    against_ours = crossing(DENSITIES, sparse[:-1], dense["ours"])
    return {
        "layers": list(shape.layers),
        "kernel": list(shape.kernel_shape),
        "shape": list(shape.input_shape),
        "stride": list(shape.node.attrs["stride"]),
        "groups": list(shape.groups),
        "densities": densities,
        "sparse_s": sparse,
        "dense_s": dense,
        "fastest_dense": fastest,
        "break_even": {
            "ours": against_ours,
            "fastest": against_ours if fastest == "ours" else crossing(densities, sparse, dense[fastest]),
        },
    }
