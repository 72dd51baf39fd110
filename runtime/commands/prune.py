"""`lhc-run prune`: what sparsity would buy, before anything is trained. Accuracy is the user's to recover."""

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

import runtime
from lhc_ref import modelfile
from lhc_ref.errors import InputError
from lhc_ref.modelfile import MaskedKernel, ModelSpec, Node
from runtime import Model
from runtime.commands.arguments import add_json, whole
from runtime.commands.convert import add_shape, parse_shapes
from runtime.commands.report import emit, shape_text, table
from runtime.facts import LayerFacts

Predicted = tuple[LayerFacts, float]  # a layer, and cycles

WARNING = (
    "The smallest weights are gone and nothing was trained: accuracy is lost, and training the kept weights on is up "
    "to you. Measure it before you use such a net."
)


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command."""
    parser = commands.add_parser("prune", help="drop the smallest blocks of weights, and predict what it gains")
    parser.add_argument("file", metavar="FILE", help="model file or ONNX file")
    parser.add_argument("out", nargs="?", metavar="OUT.lhc", help="model file to write; none if left out")
    parser.add_argument("--density", type=_share, required=True, metavar="D", help="share of the blocks to keep")
    parser.add_argument(
        "--groups", type=_groups, default=(32, 16), metavar="IN,OUT", help="channels of a block (default 32,16)"
    )
    parser.add_argument("--all", action="store_true", help="also prune the first convolution and the last")
    parser.add_argument("--batch", type=whole(1), default=64, metavar="N", help="predict for this batch (default 64)")
    add_shape(parser)
    add_json(parser)
    parser.set_defaults(run=run)


def _share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"expected a number above 0, at most 1, got {text!r}")
    return value


def _groups(text: str) -> tuple[int, int]:
    parts = text.split(",")
    if len(parts) != 2 or not all(part.strip().isdigit() and 1 <= int(part) <= 2**16 for part in parts):
        raise argparse.ArgumentTypeError(f"expected two whole numbers from 1, as in 32,16, got {text!r}")
    return int(parts[0]), int(parts[1])


def run(arguments: argparse.Namespace) -> int:
    """Run the command; gives the exit code."""
    before = runtime.load(arguments.file, shapes=parse_shapes(arguments.shape) or None).as_stored()
    chosen = prunable(before.spec, arguments.all)
    if not chosen:
        raise InputError(
            f"{arguments.file}: expected a convolution to prune beside the first and the last, got none. Add --all."
        )
    nodes = tuple(
        _pruned(node, arguments.density, *arguments.groups) if node.name in chosen else node
        for node in before.spec.nodes
    )
    fewer = {new.name for new, old in zip(nodes, before.spec.nodes, strict=True) if new is not old}
    if not fewer:
        raise InputError(
            f"{arguments.file}: expected a convolution of more weights than a density of {arguments.density:g} leaves, "
            f"got none. Ask for a smaller one."
        )
    after = Model(replace(before.spec, nodes=nodes))
    if arguments.out is not None:
        modelfile.save(arguments.out, after.spec)
    old, new = (_predicted(model, arguments.batch) for model in (before, after))
    facts = {
        "file": arguments.file,
        "out": arguments.out,
        "batch": arguments.batch,
        "groups": arguments.groups,
        "layers": _layer_facts(old, new, fewer),
        "gain": _gain(*(sum(cycles for _, cycles in rows) for rows in (old, new))),
        "note": WARNING,
    }
    emit(facts, _lines(facts), arguments.json)
    return 0


def prunable(spec: ModelSpec, everything: bool) -> set[str]:
    """Names of the convolutions to prune: all but depthwise ones, and but the first and the last layer with weights."""
    layers = [node for node in spec.nodes if "kernel" in node.tensors]
    ends = set() if everything else {layers[0].name, layers[-1].name} if layers else set()
    return {
        node.name
        for node in layers
        if node.op == "conv2d" and node.tensors["kernel"].shape[2] > 1 and node.name not in ends
    }


def _pruned(node: Node, density: float, group_in: int, group_out: int) -> Node:
    """The node with fewer weights; itself where its mask keeps no more, for zeros in a kept block become weights."""
    stored = node.tensors["kernel"]
    kernel = stored.dense() if isinstance(stored, MaskedKernel) else stored
    pruned = prune_blocks(kernel, density, group_in, group_out)
    if isinstance(stored, MaskedKernel) and pruned.density >= stored.density:
        return node
    return replace(node, tensors={**node.tensors, "kernel": pruned})


def prune_blocks(kernel: np.ndarray, density: float, group_in: int, group_out: int) -> MaskedKernel:
    """Keep the blocks of largest mean magnitude.

    Parameters
    ----------
    kernel : f32[kh, kw, c_in, c_out]
    density : share of the blocks (tap, group of inputs, group of outputs) to keep, at least one is; blocks that hold
        nothing but zeros are never kept
    group_in, group_out : channels of a block; the last of an axis may be short
    """
    magnitude, count = np.abs(kernel, dtype=np.float64), np.ones(kernel.shape[2:])
    for axis, group in ((-2, group_in), (-1, group_out)):
        starts = np.arange(0, kernel.shape[axis], group)
        magnitude, count = np.add.reduceat(magnitude, starts, axis), np.add.reduceat(count, starts, axis)
    mean = magnitude / count
    keep = max(1, round(density * mean.size))
    mask = np.zeros(mean.size, bool)
    mask[np.argsort(-mean.ravel(), kind="stable")[:keep]] = True
    return MaskedKernel.from_dense(kernel, mask.reshape(mean.shape) & (mean > 0), group_in, group_out)


def _predicted(model: Model, batch: int) -> list[Predicted]:
    """The layers, each with the cycles predicted for all images of a batch, which may be cut before and not after."""
    parts = [(-(-count // layout.lanes), model.plan(layout).facts) for layout, count in model.layouts(batch)]
    of_parts = [[groups * row.predicted_cycles for row in rows] for groups, rows in parts]
    return list(zip(parts[0][1], map(sum, zip(*of_parts, strict=True)), strict=True))


def _layer_facts(old: Sequence[Predicted], new: Sequence[Predicted], fewer: set[str]) -> list[dict[str, Any]]:
    """Layers with weights before and after. Only these: a pooling may be in one before that stands alone after."""
    with_weights = ([pair for pair in rows if pair[0].density is not None] for rows in (old, new))
    return [
        {
            "layer": after.layer,
            "op": after.op,
            "out_shape": after.out_shape,
            "pruned": not fewer.isdisjoint(after.layer.split("+")),
            "density_before": before.density,
            "density_after": after.density,
            "macs_before": before.macs_executed,
            "macs_after": after.macs_executed,
            "gain": _gain(old_cycles, new_cycles),
        }
        for (before, old_cycles), (after, new_cycles) in zip(*with_weights, strict=True)
    ]


def _gain(before: float, after: float) -> float:
    return before / after if after else 1.0


def _lines(facts: dict[str, Any]) -> Iterator[str]:
    """The text for people."""
    rows = [
        (
            f"  {entry['layer']}",
            shape_text(entry["out_shape"]),
            f"{entry['density_before']:.3f}",
            f"{entry['density_after']:.3f}" if entry["pruned"] else "kept",
            f"{entry['macs_before']:,}",
            f"{entry['macs_after']:,}",
            f"{entry['gain']:.2f}x",
        )
        for entry in facts["layers"]
    ]
    head = ("  layer", "output", "density", "after", "MACs executed", "after", "predicted gain")
    group_in, group_out = facts["groups"]
    yield f"blocks of {group_in} input by {group_out} output channels; those of smallest mean magnitude are dropped"
    yield from table(head, rows)
    yield f"the whole net, predicted for batch {facts['batch']}: {facts['gain']:.2f}x"
    if facts["out"] is not None:
        yield f"wrote {facts['out']}"
    yield WARNING
