"""`lhc-run info`: what is in a model file, and what the runtime would do with it here. Runs nothing."""

import argparse
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from math import prod
from typing import Any

import numpy as np

import runtime
from lhc_ref.modelfile import MaskedKernel, ModelSpec, Node, Tensor
from runtime import threads, topology
from runtime.commands.arguments import add_choice, add_json, choice_of, whole
from runtime.commands.report import emit, printable, shape_text, table
from runtime.facts import LayerFacts
from runtime.kernels.machine import MACHINE
from runtime.model import Views
from runtime.onnx import is_onnx
from runtime.spec import to_layers

MOST_FREQUENT = 8  # patterns drawn for a layer
LARGEST_PICTURE = 7  # taps a side
MOST_CLASSES = 12  # named
MAC_KINDS = {"nominal": "", "kept": "", "executed": " (no padding)", "computed": " (with stored zeros)"}
INDENT = "  "


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command."""
    parser = commands.add_parser("info", help="what a model file holds, and which kernels would run it here and why")
    parser.add_argument("file", metavar="FILE", help="model file")
    parser.add_argument("--batch", type=whole(1), default=64, metavar="N", help="plan for this batch size (default 64)")
    add_choice(parser)
    add_json(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run the command; gives the exit code."""
    model = runtime.load(arguments.file, **choice_of(arguments))
    explanation = model.explain(arguments.batch)
    facts = {
        "file": arguments.file,
        "file_bytes": os.stat(arguments.file).st_size,
        **_model_facts(model.spec, model.views),
        "batch": explanation.batch,
        "packed_bytes": explanation.bytes,
        "parts": [
            {
                "images": part.images,
                "layout": part.layout,
                "packed_bytes": part.bytes,
                "layers": _layer_facts(model.spec, part.rows),
            }
            for part in explanation.parts
        ],
        "patterns": _pattern_facts(model.spec),
        "machine": machine_facts(),
    }
    emit(facts, _lines(facts), arguments.json)
    return 0


def _model_facts(spec: ModelSpec, views: Views) -> dict[str, Any]:
    inputs, outputs = (
        [{"name": name, "shape": view.shape, "array": str(view)} for name, view in ends.items()] for ends in views
    )
    return {
        "version": spec.version,
        "inputs": inputs,
        "outputs": outputs,
        "preprocessing": spec.preprocessing,
        "classes": spec.classes,
        "metadata": spec.metadata,
    }


def _layer_facts(spec: ModelSpec, rows: Sequence[LayerFacts]) -> list[dict[str, Any]]:
    nodes = {node.name: node for node in spec.nodes}
    return [
        {
            "name": facts.layer,
            "op": facts.op,
            "shape": facts.shape,
            "out_shape": facts.out_shape,
            **_weight_facts([nodes[name] for name in layer.nodes if name in nodes]),
            "density": facts.density,
            "macs_nominal": facts.macs_nominal,
            "macs_kept": facts.macs_kept,
            "macs_executed": facts.macs_executed,
            "macs_computed": facts.macs_computed,
            "packed_bytes": facts.bytes,
            "predicted_cycles": facts.predicted_cycles,
            "kernel": facts.kernel,
            "tile": facts.tile,
            "why": facts.why,
            "candidates": [asdict(candidate) for candidate in facts.candidates],
        }
        for layer, facts in zip(to_layers(spec), rows, strict=True)
    ]


def _weight_facts(nodes: Sequence[Node]) -> dict[str, int]:
    """Weights that exist, of how many, and the bytes that they and the masks take in the file."""
    tensors = [tensor for node in nodes for tensor in node.tensors.values()]
    return {
        "weights_kept": sum(t.kept if isinstance(t, MaskedKernel) else t.size for t in tensors),
        "weights": sum(prod(t.shape) for t in tensors),
        "file_bytes": sum(_stored_bytes(t) for t in tensors),
    }


def _stored_bytes(tensor: Tensor) -> int:
    if isinstance(tensor, MaskedKernel):
        return -(-tensor.mask.size // 8) + tensor.values.nbytes
    return tensor.nbytes


def _pattern_facts(spec: ModelSpec) -> list[dict[str, Any]]:
    """The census of each layer with a mask."""
    kernels = ((node.name, node.tensors.get("kernel")) for node in spec.nodes)
    return [_census(name, kernel) for name, kernel in kernels if isinstance(kernel, MaskedKernel)]


def _census(name: str, kernel: MaskedKernel) -> dict[str, Any]:
    mask = kernel.expanded_mask()
    counts = topology.census(mask)
    return {
        "layer": name,
        "kernel": kernel.shape,
        "density": kernel.density,
        "stored_groups": (kernel.group_in, kernel.group_out),
        "shared_by": (topology.shared_by(mask, 2), topology.shared_by(mask, 3)),
        "pairs": mask.shape[2] * mask.shape[3],
        "distinct": len(counts),
        "most_frequent": [
            {"pattern": np.reshape(pattern, mask.shape[:2]).tolist(), "count": count}
            for pattern, count in list(counts.items())[:MOST_FREQUENT]
        ],
    }


def machine_facts() -> dict[str, Any]:
    """Cores, threads and vectors that the runtime has here."""
    return {
        "vectors": MACHINE.name,
        "lanes": MACHINE.lanes,
        "cores": os.cpu_count(),
        "threads": threads.resolve(None),
    }


def _lines(facts: dict[str, Any]) -> Iterator[str]:
    """The text for people."""
    yield from _head(facts)
    yield ""
    if len(facts["parts"]) > 1:
        yield f"batch {facts['batch']} is run in {len(facts['parts'])} parts, one after the other"
        yield ""
    for part in facts["parts"]:
        yield f"layers for batch {part['images']}, layout {part['layout']}: MACs of one image, cycles of one group"
        yield from _layer_table(part["layers"])
        yield ""
        yield "kernels and why"
        width = max(len(layer["name"]) for layer in part["layers"])
        for layer in part["layers"]:
            yield f"{INDENT}{layer['name'].ljust(width)}  {layer['kernel']}: {layer['why']}"
        yield ""
    yield from _patterns(facts["patterns"])
    machine = facts["machine"]
    yield (
        f"this machine: {machine['threads']} threads for {machine['cores']} cores, "
        f"vectors of {machine['lanes']} float32 ({machine['vectors']})"
    )


def _patterns(found: Sequence[dict[str, Any]]) -> Iterator[str]:
    """The pictures of all layers with a mask."""
    for census in found:
        yield from _draw(census)
        yield ""
    if not found:
        yield from ("patterns: no layer has a mask", "")


def _head(facts: dict[str, Any]) -> Iterator[str]:
    layers = facts["parts"][0]["layers"]

    def total(key: str) -> int:
        return sum(layer[key] or 0 for layer in layers)

    def macs(kind: str) -> str:
        """Those that are computed differ between parts."""
        of_parts = (sum(layer[f"macs_{kind}"] for layer in part["layers"]) for part in facts["parts"])
        return " or ".join(dict.fromkeys(f"{count:,}" for count in of_parts))

    kind = "ONNX file" if is_onnx(facts["file"]) else f"model file of format {facts['version']}"
    yield f"{facts['file']}: {kind}, {facts['file_bytes']:,} bytes"
    lines = [
        (kind, ", ".join(f"{entry['name']} {entry['array']}" for entry in facts[kind]))
        for kind in ("inputs", "outputs")
    ]
    if steps := facts["preprocessing"]:
        subtract, divide = (", ".join(f"{value:g}" for value in steps[key]) for key in ("subtract", "divide"))
        lines.append(("preprocessing", f"(x - {subtract}) / {divide}, by channel"))
    if classes := facts["classes"]:
        lines.append(
            (f"{len(classes)} classes", ", ".join(classes[:MOST_CLASSES]) + ", ..." * (len(classes) > MOST_CLASSES))
        )
    lines += [(printable(key), printable(value)) for key, value in facts["metadata"].items()]
    weights, kept = total("weights"), total("weights_kept")
    lines += [
        ("weights", f"{kept:,} kept of {weights:,}: density {kept / max(weights, 1):.3f}, biases included"),
        ("MACs an image", ", ".join(f"{macs(kind)} {kind}{note}" for kind, note in MAC_KINDS.items())),
        ("memory", f"{facts['file_bytes']:,} bytes in the file, {facts['packed_bytes']:,} packed to run"),
    ]
    width = max(len(label) for label, _ in lines)
    yield from (f"{INDENT}{label.ljust(width)}  {text}" for label, text in lines)


def _layer_table(layers: Sequence[dict[str, Any]]) -> list[str]:
    head = ("layer", "shape", "density", "nominal", "kept", "executed", "computed", "file bytes", "packed bytes")
    rows = [
        (
            INDENT + layer["name"],
            f"{shape_text(layer['shape'])} > {shape_text(layer['out_shape'])}",
            "" if layer["density"] is None else f"{layer['density']:.3f}",
            *(
                f"{layer[key]:,}" if layer[key] else ""
                for key in ("macs_nominal", "macs_kept", "macs_executed", "macs_computed", "file_bytes", "packed_bytes")
            ),
        )
        for layer in layers
    ]
    return table((INDENT + head[0], *head[1:]), rows, left=2)


def _draw(census: dict[str, Any]) -> Iterator[str]:
    """The most frequent patterns of a layer side by side, `#` for a kept tap, with their shares below."""
    kh, kw, c_in, c_out = census["kernel"]
    group_in, group_out = census["shared_by"]
    yield (
        f"patterns of {census['layer']}: {kh}x{kw}, {c_in} > {c_out} channels, density {census['density']:.3f}, "
        f"{census['distinct']} distinct, each shared by {group_in} inputs x {group_out} outputs"
    )
    if max(kh, kw) > LARGEST_PICTURE:
        return
    width = max(kw, 6)
    pictures = census["most_frequent"]
    for y in range(kh):
        cells = ("".join("#" if on else "." for on in entry["pattern"][y]) for entry in pictures)
        yield INDENT + "  ".join(cell.ljust(width) for cell in cells).rstrip()
    yield INDENT + "  ".join(f"{entry['count'] / census['pairs']:.1%}".ljust(width) for entry in pictures).rstrip()
