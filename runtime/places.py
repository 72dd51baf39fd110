"""Where the values between layers lie in a plan's arena: which may follow each other in the same memory."""

from collections.abc import Sequence

from lhc_ref.modelfile import ModelSpec
from runtime.buffers import Lifetime, assign
from runtime.kernels.step import Kernel
from runtime.layer import FUNCTIONS, Layer
from runtime.select import Choice


def lifetimes(spec: ModelSpec, layers: Sequence[Layer]) -> dict[str, tuple[int, int]]:
    """The first and last step that touches each value; inputs are there before step 1."""
    first = {i.name: 0 for i in spec.inputs} | {layer.output: n for n, layer in enumerate(layers, start=1)}
    last = dict(first)
    for n, layer in enumerate(layers, start=1):
        for name in (layer.x, layer.other):
            if name is not None:
                last[name] = n
    last.update({name: len(layers) + 1 for name in spec.outputs})
    return {name: (first[name], last[name]) for name in first}


def replaceable(layer: Layer, choice: Choice) -> list[str]:
    """Values of which each number is read where the output's own is written, before it, and nowhere else.

    Not the residual of a convolution by parts, whose sums wait in the output.
    """
    if layer.op == "conv2d" and (layer.other == layer.x or choice.entry.kernel == Kernel.CONV_SCATTERED):
        return []
    read: list[str | None] = []
    if layer.op in ("add", "activate") or layer.op in FUNCTIONS:
        read.append(layer.x)
    if layer.op in ("add", "conv2d"):
        read.append(layer.other)
    return [name for name in read if name is not None]


def places(
    spec: ModelSpec, layers: Sequence[Layer], choices: Sequence[Choice], sizes: dict[str, int]
) -> tuple[dict[str, int], int]:
    """Offset of each value and the arena's size, in elements; `sizes` are those of the values.

    An output takes the place of what its layer is the last to need, so that fewer lines of memory are touched.
    """
    lives = lifetimes(spec, layers)
    owner = {name: name for name in lives}  # whose place it has
    ends = {name: last for name, (_, last) in lives.items()}
    for n, (layer, choice) in enumerate(zip(layers, choices, strict=True), start=1):
        for name in replaceable(layer, choice):
            if lives[name][1] == n and sizes[name] == sizes[layer.output]:
                owner[layer.output] = owner[name]
                ends[owner[name]] = lives[layer.output][1]
                break
    offsets, size = assign(
        [Lifetime(name, sizes[name], lives[name][0], ends[name]) for name in lives if owner[name] == name]
    )
    return {name: offsets[whose] for name, whose in owner.items()}, size
