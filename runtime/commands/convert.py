"""`lhc-run convert`: an ONNX file, or a state dict for the graph of another file, as a model file."""

import argparse
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from lhc_ref import modelfile
from lhc_ref.errors import InputError
from lhc_ref.files import atomic_write_text
from lhc_ref.modelfile import MaskedKernel, ModelSpec
from runtime import statedict
from runtime.commands.arguments import add_json
from runtime.commands.report import emit, shape_text, table
from runtime.onnx import importer, is_onnx
from runtime.views import View

Shapes = dict[str, tuple[int, ...]]


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command."""
    parser = commands.add_parser("convert", help="write other files as a model file; zeros in weights become masks")
    parser.add_argument("file", metavar="FILE", help="ONNX file, or state dict (.safetensors)")
    parser.add_argument("out", metavar="OUT.lhc", help="model file to write")
    parser.add_argument("--like", metavar="GRAPH", help="state dict: model file or ONNX file with the net's graph")
    parser.add_argument("--mapping", metavar="MAP.toml", help="state dict: modules of the graph's nodes")
    parser.add_argument("--propose", metavar="MAP.toml", help="state dict: write a mapping to begin with, and no model")
    add_shape(parser)
    add_json(parser)
    parser.set_defaults(run=run)


def add_shape(parser: argparse.ArgumentParser) -> None:
    """The option --shape."""
    parser.add_argument(
        "--shape",
        action="append",
        default=[],
        metavar="NAME=C,H,W",
        help="sizes of an ONNX input without the batch, where the file leaves them open",
    )


def parse_shapes(texts: list[str]) -> Shapes:
    """The values of --shape, by name of the input."""
    shapes: Shapes = {}
    for text in texts:
        name, _, sizes = text.rpartition("=")
        try:
            shapes[name] = tuple(int(size) for size in sizes.split(","))
        except ValueError:
            shapes[name] = ()
        if not name or not shapes[name] or min(shapes[name]) < 1:
            raise InputError(f"--shape: expected NAME=C,H,W with whole numbers, got {text!r}. Write e.g. x=3,224,224.")
    return shapes


def run(arguments: argparse.Namespace) -> int:
    """Run the command; gives the exit code."""
    if Path(arguments.file).suffix.lower() == ".safetensors":
        return _run_statedict(arguments)
    if not is_onnx(arguments.file) or arguments.like or arguments.mapping or arguments.propose:
        raise InputError(
            f"{arguments.file}: expected an ONNX file by itself, or a .safetensors file with --like, got another "
            "ending or other options. See docs/commands.md."
        )
    found = importer.load(arguments.file, shapes=parse_shapes(arguments.shape))
    modelfile.save(arguments.out, found.spec)
    facts = {
        "file": arguments.file,
        "out": arguments.out,
        "nodes": len(found.spec.nodes),
        "inputs": _border_facts(found.inputs),
        "outputs": _border_facts(found.outputs),
        "masks": mask_facts(found.spec),
    }
    emit(facts, _lines(facts), arguments.json)
    return 0


def _run_statedict(arguments: argparse.Namespace) -> int:
    """A state dict's weights in the graph of another file."""
    if not arguments.like:
        raise InputError(f"{arguments.file}: expected --like GRAPH beside a state dict, got none. It holds no graph.")
    shapes = parse_shapes(arguments.shape)
    graph = (
        importer.load(arguments.like, shapes=shapes).spec if is_onnx(arguments.like) else modelfile.load(arguments.like)
    )
    tensors = statedict.read(arguments.file)
    if arguments.propose:
        mapped = statedict.propose(graph, tensors)
        atomic_write_text(arguments.propose, statedict.as_toml(mapped))
        emit({"mapping": mapped}, iter([f"wrote {arguments.propose}: {len(mapped)} nodes; check each"]), arguments.json)
        return 0
    spec = statedict.fill(graph, tensors, read_mapping(arguments.mapping) if arguments.mapping else {})
    modelfile.save(arguments.out, spec)
    facts = {"file": arguments.file, "like": arguments.like, "out": arguments.out, "nodes": len(spec.nodes)}
    facts |= {"inputs": [], "outputs": [], "masks": mask_facts(spec)}
    emit(facts, _lines(facts), arguments.json)
    return 0


def read_mapping(path: str) -> dict[str, tuple[str, ...]]:
    """Modules by node, of a TOML file `node = "module"` or `node = ["module", "batch norm"]`."""
    try:
        table = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(
            f"{path}: expected a TOML file, got '{error.strerror or error}'. Check the path; --propose writes one."
        ) from error
    except ValueError as error:
        raise InputError(f"{path}: expected a TOML file, got '{error}'. Correct it.") from error
    mapped = {node: (names,) if isinstance(names, str) else names for node, names in table.items()}
    for node, names in mapped.items():
        if not isinstance(names, list | tuple) or not names or not all(isinstance(name, str) for name in names):
            raise InputError(f"{path}: expected a module's name, or a list of names, for {node!r}, got {names!r}.")
    return {node: tuple(names) for node, names in mapped.items()}


def _border_facts(views: Mapping[str, View]) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "onnx_shape": view.shape,
            "batched": view.batched,
            "value": view.value,
            "shape": view.inner,
            "reordered": len(view.inner) == 1 and len(view.split) > 1 and view.axes != tuple(range(len(view.axes))),
        }
        for name, view in views.items()
    ]


def mask_facts(spec: ModelSpec) -> list[dict[str, Any]]:
    """Of each layer with a kernel: how many weights it keeps, and its mask's groups if it has one."""
    facts = []
    for node in spec.nodes:
        kernel = node.tensors.get("kernel")
        if kernel is None:
            continue
        masked = isinstance(kernel, MaskedKernel)
        density = kernel.density if isinstance(kernel, MaskedKernel) else 1.0
        groups = (kernel.group_in, kernel.group_out) if isinstance(kernel, MaskedKernel) else None
        facts.append(
            {"layer": node.name, "shape": kernel.shape, "masked": masked, "density": density, "groups": groups}
        )
    return facts


def _lines(facts: dict[str, Any]) -> Iterator[str]:
    """The text for people."""
    yield f"wrote {facts['out']}: {facts['nodes']} nodes"
    for kind in ("inputs", "outputs"):
        for entry in facts[kind]:
            sizes = ", ".join(map(str, (*["n"] * entry["batched"], *entry["onnx_shape"])))
            yield (
                f"  {kind[:-1].ljust(6)} {entry['name']} [{sizes}] in ONNX is "
                f"{entry['value']} [n, {', '.join(map(str, entry['shape']))}] in the model file"
                + ", features ordered by row, column, channel"
                * entry["reordered"]
            )
    rows = [
        (
            f"  {entry['layer']}",
            shape_text(entry["shape"]),
            f"{entry['density']:.3f}",
            "dense" if entry["groups"] is None else shape_text(entry["groups"]),
        )
        for entry in facts["masks"]
    ]
    if rows:
        yield from table(("  layer", "kernel", "density", "groups"), rows)
