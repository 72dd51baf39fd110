"""A plan: a model laid out for one layout, once. Steps, weights and index are what the engine reads; the rest
explains.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from lhc_ref.modelfile import ModelSpec, infer_shapes
from runtime.buffers import aligned_copy
from runtime.facts import KernelCost, LayerFacts, layer_facts
from runtime.kernels.machine import LANES
from runtime.kernels.step import STEP, Kernel
from runtime.layer import Layer, as_image
from runtime.layout import CHANNELS, CLOSE, Layout
from runtime.places import places
from runtime.select import Choice, choose
from runtime.spec import as_long_rows, to_layers
from runtime.steps import Builder, border_step, conv_step, other_step


@dataclass(frozen=True)
class Border:
    """An input or output: its name, and the number of the step that copies it."""

    name: str
    step: int


@dataclass(frozen=True, eq=False)
class Plan:
    """A model laid out for one layout. Immutable; every run reads it, none writes.

    transformed : nodes that Winograd's transform computes, together with those fused into them
    """

    layout: Layout
    steps: np.ndarray
    weights: np.ndarray
    index: np.ndarray
    arena_size: int
    inputs: tuple[Border, ...]
    outputs: tuple[Border, ...]
    facts: tuple[LayerFacts, ...]
    transformed: frozenset[str]

    @cached_property
    def cycles(self) -> float:
        """Predicted cycles of one image group on one core."""
        return sum(f.predicted_cycles for f in self.facts)

    @property
    def bytes(self) -> int:
        """Memory of packed weights, index and steps."""
        return self.weights.nbytes + self.index.nbytes + self.steps.nbytes


def _close_inputs(spec: ModelSpec, plan_draft: "Draft") -> set[str]:
    """Inputs of which single numbers are read, by convolutions that make at least a vector of channels: those need no
    padding.
    """
    if plan_draft.layout != CHANNELS:
        return set()
    close = {entry.name for entry in spec.inputs}
    for layer, choice in zip(plan_draft.works, plan_draft.choices, strict=True):
        by_number = choice.entry.kernel == Kernel.CONV_CHANNELS and layer.out_shape[2] >= LANES
        close -= {name for name in (layer.x, layer.other) if name == layer.other or not by_number}
    return close


@dataclass(frozen=True, eq=False)
class Draft:
    """What a plan will be: the layers, the form in which each is executed, and its kernel. Nothing is packed yet."""

    layout: Layout
    layers: list[Layer]
    works: list[Layer]
    choices: list[Choice]

    @cached_property
    def cycles(self) -> float:
        """Predicted cycles of one image group on one core."""
        return sum(choice.cycles for choice in self.choices)


def draft(spec: ModelSpec, layout: Layout, transforms: bool = True) -> Draft:
    """Choose the kernels of a validated model for one layout; `transforms`: Winograd's among them. O(weights)."""
    layers = to_layers(spec)
    works = [as_long_rows(layer) for layer in layers]
    return Draft(layout, layers, works, [choose(work, layout, transforms) for work in works])


Progress = Callable[[str], None]


def build(spec: ModelSpec, plan_draft: Draft, progress: Progress | None = None) -> Plan:
    """Lay out what was drafted. O(weights); `progress`, if given, is told each layer's name."""
    layout, layers = plan_draft.layout, plan_draft.layers
    shapes = {name: as_image(shape) for name, shape in infer_shapes(spec).items()}
    shapes |= {layer.output: layer.out_shape for layer in layers}
    close = _close_inputs(spec, plan_draft)
    sizes = {name: (CLOSE if name in close else layout).size(shape) for name, shape in shapes.items()}
    offsets, arena_size = places(spec, layers, plan_draft.choices, sizes)
    builder, rows = Builder(layout, offsets, close), list[LayerFacts]()
    inputs = tuple(Border(i.name, border_step(builder, Kernel.IMPORT, i.name, shapes[i.name])) for i in spec.inputs)
    for layer, work, choice in zip(layers, plan_draft.works, plan_draft.choices, strict=True):
        if progress is not None:
            progress(layer.name)
        make = conv_step if layer.op == "conv2d" else other_step
        placed = make(builder, work, choice)
        candidates = (KernelCost(c.entry.name, c.cycles, c.measured_s) for c in choice.candidates)
        facts = layer_facts(
            layer, choice.entry.name, choice.why, choice.chosen.computed_macs, choice.cycles, placed, candidates
        )
        rows.append(facts)
    outputs = tuple(Border(name, border_step(builder, Kernel.EXPORT, name, shapes[name])) for name in spec.outputs)
    nothing = np.zeros(LANES)
    return Plan(
        layout,
        np.array(builder.steps, STEP),
        aligned_copy([*builder.weights, nothing.astype(np.float32)], np.float32),
        aligned_copy([*builder.index, nothing.astype(np.int32)], np.int32),
        arena_size,
        inputs,
        outputs,
        tuple(rows),
        frozenset(
            name
            for layer, choice in zip(layers, plan_draft.choices, strict=True)
            for name in layer.nodes
            if choice.entry.kernel == Kernel.CONV_WINOGRAD
        ),
    )
