"""From which density on sparse wins: each layer shape of a net, at several densities, beside it dense.

A layer alone is not timed as it runs in a net: copying its input and output takes as long as the layer, and each engine
copies in its own way. So the layer is followed by the mean of each channel, which stands for a layer that reads its
output, and little has to be copied out. Of ours the layer's own seconds are then known from the profile. Another engine
runs one such layer, and several with weights of their own side by side on one input: what each more of them takes is
the layer and its mean, without what a call costs.
"""

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
from runtime.spec import to_layers

DENSITIES = (0.05, 0.1, 0.2, 0.3, 0.5, 0.75)
GROUPS = (32, 16)  # of layers that have no mask, as `lhc-run prune` makes them
ROUNDS, SLOT_S = 5, 0.01
COPIES = 3  # of a layer, in the larger of the two nets that other engines run
MEAN = "mean"


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

    def spec(self, density: float, copies: int = 1) -> ModelSpec:
        """So many of the layer on one input, each with its pooling and the mean of each channel; random weights, of
        which a share of the blocks exists, the same for the same density.
        """
        nodes = [node for i in range(copies) for node in self._nodes(density, i)]
        outputs = tuple(node.output for node in nodes if node.op == "global_average_pool")
        return modelfile.validate(ModelSpec((InputSpec("x", self.input_shape),), outputs, tuple(nodes)))

    def _nodes(self, density: float, seed: int) -> Iterator[Node]:
        tensors = {"kernel": self._kernel(density, seed), "bias": np.zeros(self.kernel_shape[3], np.float32)}
        yield Node("conv2d", f"layer{seed}", ("x",), y := f"y{seed}", self.node.attrs, tensors)
        if self.pool is not None:
            yield Node("max_pool", f"pool{seed}", (y,), y := f"pooled{seed}", self.pool.attrs, {})
        yield Node("global_average_pool", f"{MEAN}{seed}", (y,), f"{MEAN}{seed}", {}, {})

    def _kernel(self, density: float, seed: int) -> np.ndarray | MaskedKernel:
        rng = np.random.default_rng(seed)
        kernel = rng.standard_normal(self.kernel_shape).astype(np.float32)
        if density == 1:
            return kernel
        kh, kw, c_in, c_out = self.kernel_shape
        size = kh, kw, -(-c_in // self.groups[0]), -(-c_out // self.groups[1])
        order = rng.permutation(int(np.prod(size)))
        mask = (order < max(1, round(density * order.size))).reshape(size)
        return MaskedKernel.from_dense(kernel, mask, *self.groups)


@dataclass(frozen=True)
class _Net:
    """Copies of a layer at one density, as one engine runs them."""

    engine: str
    density: float
    copies: int = 1

    @property
    def name(self) -> str:
        return f"{self.density} {self.copies}"


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
            times = _times(shape, batch, threads, processes, folder)
            bar.update(1)
            yield _facts(shape, *times)


def _times(
    shape: LayerShape, batch: int, threads: int, processes: dict[str, EngineProcess], folder: Path
) -> tuple[list[float], list[float], dict[str, float]]:
    """Median seconds, all in turns: of ours the layer at each density, dense last; the same with its mean; and of other
    engines the dense layer with its mean.
    """
    counts = _load(shape, batch, threads, processes, folder)
    samples: dict[_Net, list[tuple[float, float]]] = {net: [] for net in counts}
    for _ in range(ROUNDS):
        for net, count in counts.items():
            processes[net.engine].time(count, net.name)  # Why not kept: it brings caches and threads back.
            samples[net] += _samples(processes[net.engine], net, count)
    medians = {net: np.median(found, axis=0) for net, found in samples.items()}
    ours = [medians[_Net("ours", density)] for density in (*DENSITIES, 1.0)]
    others = {
        engine: float(medians[_Net(engine, 1.0, COPIES)][1] - medians[_Net(engine, 1.0)][1]) / (COPIES - 1)
        for engine in processes
        if engine != "ours"
    }
    return [float(layer_s) for layer_s, _ in ours], [float(read_s) for _, read_s in ours], others


def _load(
    shape: LayerShape, batch: int, threads: int, processes: dict[str, EngineProcess], folder: Path
) -> dict[_Net, int]:
    """Give every engine its nets; how many calls of each fill a slot. An engine that fails is taken out of
    `processes`.
    """
    x = np.random.default_rng(1).standard_normal((batch, *shape.input_shape), np.float32)
    nchw = np.ascontiguousarray(x.transpose(0, 3, 1, 2))
    counts = {}
    for engine, process in list(processes.items()):
        mine = engine == "ours"
        nets = [_Net(engine, d) for d in (*DENSITIES, 1.0)] if mine else [_Net(engine, 1.0, n) for n in (1, COPIES)]
        try:
            for net in nets:
                path = _write(shape.spec(net.density, net.copies), engine, folder)
                process.load(path, {"x": x if mine else nchw}, threads=threads, net=net.name)
                process.time(1, net.name)  # Why not this one: it is cold, and several times as long.
                counts[net] = max(1, int(SLOT_S / max(process.time(1, net.name)["wall_s"], FAST_S)))
        except EngineError:
            if mine:
                raise
            del processes[engine]
            counts = {net: count for net, count in counts.items() if net.engine != engine}
    return counts


def _samples(process: EngineProcess, net: _Net, count: int) -> Iterator[tuple[float, float]]:
    """Seconds of the layer, and with its mean; of other engines those of a whole call."""
    if net.engine != "ours":
        yield from ((seconds, seconds) for seconds in process.time(count, net.name)["times_s"])
        return
    steps = process.profile(count, net.name)["layers"]
    layer_s = sum(step["seconds"] for step in steps if not step["layer"].startswith(MEAN))
    yield layer_s, sum(step["seconds"] for step in steps)


def _write(spec: ModelSpec, engine: str, folder: Path) -> Path:
    path = folder / ("layer.lhc" if engine == "ours" else "layer.onnx")
    (modelfile.save if engine == "ours" else onnx_twin.write)(path, spec)
    return path


def _facts(
    shape: LayerShape, layer_s: Sequence[float], read_s: Sequence[float], others_s: Mapping[str, float]
) -> dict[str, Any]:
    densities = (*DENSITIES, 1.0)
    # Why some are left out: a difference of two times that noise exceeds says nothing.
    dense = {"ours": read_s[-1], **{engine: seconds for engine, seconds in others_s.items() if seconds > 0}}
    fastest = min(dense, key=lambda engine: dense[engine])
    against_ours = crossing(DENSITIES, layer_s[:-1], layer_s[-1])
    return {
        "layers": list(shape.layers),
        "kernel": list(shape.kernel_shape),
        "shape": list(shape.input_shape),
        "stride": list(shape.node.attrs["stride"]),
        "pool": None if shape.pool is None else list(shape.pool.attrs["size"]),
        "groups": list(shape.groups),
        "densities": list(densities),
        "layer_s": list(layer_s),
        "read_s": list(read_s),
        "dense_read_s": dense,
        "fastest_dense": fastest,
        "break_even": {
            "ours": against_ours,
            "fastest": against_ours if fastest == "ours" else crossing(densities, read_s, dense[fastest]),
        },
    }
