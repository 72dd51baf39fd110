"""From which density on sparse wins: each layer shape of a net alone, at several densities, beside it dense.

Against ours dense the layer's own time counts, as in a net, where nothing is copied between the layers. What other
engines take for a layer alone is known of whole calls only: against them whole calls count, copies in and out included,
of theirs and of ours.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from lhc_ref import modelfile
from lhc_ref.modelfile import InputSpec, MaskedKernel, ModelSpec, Node, infer_shapes
from runtime import topology
from runtime.bench import onnx_twin
from runtime.bench.engines import kind
from runtime.bench.measure import FAST_S, Progress
from runtime.bench.processes import EngineError, EngineProcess
from runtime.spec import to_layers

DENSITIES = (0.05, 0.1, 0.2, 0.3, 0.5, 0.75)
GROUPS = (32, 16)  # of layers that have no mask, as `lhc-run prune` makes them
ROUNDS, SLOT_S = 5, 0.01


Key = TypeVar("Key")
Timed = tuple[str, float]
"""An engine, and the density of the layer."""


@dataclass(frozen=True)
class LayerShape:
    """A convolution's shape, the max pooling that is done in it, the channels that share a pattern, and the layers that
    have all this.
    """

    node: Node
    pool: Node | None
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
        nodes = [Node("conv2d", "layer", ("x",), "y", self.node.attrs, {"kernel": kernel, **bias})]
        if self.pool is not None:
            nodes.append(Node("max_pool", "pool", ("y",), "pooled", self.pool.attrs, {}))
        return modelfile.validate(ModelSpec((InputSpec("x", self.input_shape),), (nodes[-1].output,), tuple(nodes)))


def layer_shapes(spec: ModelSpec) -> list[LayerShape]:
    """The different convolutions of a net, in its order; grouped ones and those of one input channel left out."""
    shapes, pools = infer_shapes(spec), _pools(spec)
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
        pool = pools.get(node.name)
        window = [str(node.attrs[name]) for name in ("stride", "padding", "dilation")]
        key = (kernel.shape, shape, groups, *window, None if pool is None else str(pool.attrs))
        if key in found:
            found[key] = replace(found[key], layers=(*found[key].layers, node.name))
        else:
            found[key] = LayerShape(node, pool, shape, groups, (node.name,))
    return list(found.values())


def _pools(spec: ModelSpec) -> dict[str, Node]:
    """Convolution -> the max pooling that the runtime does in it."""
    nodes = {node.name: node for node in spec.nodes}
    pooled = [layer.nodes for layer in to_layers(spec) if layer.op == "conv2d" and layer.pool != (1, 1)]
    return {names[0]: next(nodes[name] for name in names if nodes[name].op == "max_pool") for names in pooled}


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
            calls_s, alone_s = _times(shape, batch, threads, processes, folder)
            bar.update(1)
            yield _facts(shape, calls_s, alone_s)


def _times(
    shape: LayerShape, batch: int, threads: int, processes: dict[str, EngineProcess], folder: Path
) -> tuple[dict[Timed, float], dict[float, float]]:
    """Median seconds of whole calls; and of ours, by density, without copies and the starting of threads. In turns."""
    x = np.random.default_rng(1).standard_normal((batch, *shape.input_shape), np.float32)
    calls: dict[Timed, int] = {}
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
    whole: dict[Timed, list[float]] = {key: [] for key in calls}
    alone: dict[float, list[float]] = {density: [] for engine, density in calls if engine == "ours"}
    for _ in range(ROUNDS):
        for (engine, density), count in calls.items():
            processes[engine].time(count, str(density))  # Why not kept: it brings caches and threads back.
            whole[engine, density] += processes[engine].time(count, str(density))["times_s"]
            if engine == "ours":
                profile = processes[engine].profile(count, str(density))
                alone[density].append(sum(layer["seconds"] for layer in profile["layers"]))
    return _medians(whole), _medians(alone)


def _medians(samples: Mapping[Key, Sequence[float]]) -> dict[Key, float]:
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


def _facts(shape: LayerShape, calls_s: Mapping[Timed, float], alone_s: Mapping[float, float]) -> dict[str, Any]:
    densities = [*DENSITIES, 1.0]
    calls = [calls_s["ours", density] for density in densities]
    dense = {engine: seconds for (engine, density), seconds in calls_s.items() if density == 1.0}
    fastest = min(dense, key=lambda engine: dense[engine])
    against_ours = crossing(DENSITIES, [alone_s[density] for density in DENSITIES], alone_s[1.0])
    return {
        "layers": list(shape.layers),
        "kernel": list(shape.kernel_shape),
        "shape": list(shape.input_shape),
        "stride": list(shape.node.attrs["stride"]),
        "pool": None if shape.pool is None else list(shape.pool.attrs["size"]),
        "groups": list(shape.groups),
        "densities": densities,
        "layer_s": [alone_s[density] for density in densities],
        "call_s": calls,
        "dense_call_s": dense,
        "fastest_dense": fastest,
        "break_even": {
            "ours": against_ours,
            "fastest": against_ours if fastest == "ours" else crossing(densities, calls, dense[fastest]),
        },
    }
