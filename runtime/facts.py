"""What `explain` tells of each layer."""

from collections.abc import Iterable
from dataclasses import dataclass

from runtime import topology
from runtime.layer import Layer, Shape
from runtime.select import executed_macs


@dataclass(frozen=True)
class KernelCost:
    """A kernel that could run a layer, the cycles predicted for it, and what a trial measured, if there was one."""

    kernel: str
    predicted_cycles: float
    measured_s: float | None = None


@dataclass(frozen=True)
class LayerFacts:
    """What `explain` tells of one layer; MACs are of one image, bytes of the packed weights and index. `candidates` are
    all kernels that could run it, the chosen one among them; `tile` is the chosen one's register tile. `share` is that
    of a run's time, if it was profiled.
    """

    layer: str
    op: str
    shape: Shape
    out_shape: Shape
    kernel: str
    tile: str
    why: str
    density: float | None
    macs_nominal: int
    macs_kept: int
    macs_executed: int
    macs_computed: int
    predicted_cycles: float
    bytes: int
    candidates: tuple[KernelCost, ...]
    share: float | None = None


def tile_of(kernel: str) -> str:
    """The last part of a kernel's name before its backend: `6x4` of `f32_conv2d_images_rows_6x4__cpu`."""
    return kernel.split("__")[0].rsplit("_", 1)[-1]


def layer_facts(
    layer: Layer,
    kernel: str,
    why: str,
    computed_macs: int,
    cycles: float,
    bytes_: int,
    candidates: Iterable[KernelCost],
) -> LayerFacts:
    """What `explain` tells of a layer; its MACs are counted here."""
    density, nominal, kept, executed = None, 0, 0, 0
    if layer.kernel is not None:
        whole = layer.unpooled or layer.out_shape
        pixels = whole[0] * whole[1]
        existing = topology.of_layer(layer).kept
        density = float(existing.sum() / layer.kernel.size)
        nominal, kept = layer.kernel.size * pixels, int(existing.sum()) * pixels
        executed = executed_macs(layer)
    return LayerFacts(
        "+".join(layer.nodes),
        layer.op,
        layer.shape,
        layer.out_shape,
        kernel,
        tile_of(kernel),
        why,
        density,
        nominal,
        kept,
        executed,
        computed_macs,
        cycles,
        bytes_,
        tuple(candidates),
    )
