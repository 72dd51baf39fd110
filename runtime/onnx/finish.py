"""From what the walk over ONNX's operators collected to a model: outputs, names, and nodes that something needs."""

from collections.abc import Mapping
from dataclasses import replace
from math import prod

from lhc_ref.modelfile import InputSpec, ModelSpec, Node
from runtime.onnx.builder import Builder, Draft, as_node
from runtime.onnx.fold import Constant
from runtime.onnx.graph import Op, Unsupported
from runtime.onnx.values import Value, view
from runtime.views import View


def finish(b: Builder, inputs: list[InputSpec], outputs: tuple[str, ...]) -> tuple[ModelSpec, dict[str, View]]:
    """The model, and the view of each output; raises Unsupported where an output is none of the model's values."""
    names: dict[str, str] = {}
    views: dict[str, View] = {}
    for name in outputs:
        value = b.values[name]
        if isinstance(value, Constant):
            raise Unsupported(f"output {name!r} that is constant")
        end = Op("", f"output {name}", (), (name,), {}, 0)
        if len(value.data_axes) == 1:
            value = b.reshape(end, value, (prod(value.shape),))
        elif value.groups() is None:
            usual = b.usual(value)
            value = b.form(end, value, usual if len(value.axes) in (3, 4) and len(usual) == 3 else (value.data_axes,))
        if value.name not in b.made or value.name in names.values():
            value = _copy(b, end, value)
        names[name] = value.name
        try:
            views[name] = view(value, b.batched)
        except Unsupported as error:
            raise Unsupported(f"output {name!r}: {error}") from None
    clean = _rename(b, names)
    views = {name: replace(found, value=clean[name]) for name, found in views.items()}
    nodes = _nodes(b, frozenset(clean.values()))
    read = {name for node in nodes for name in node.inputs}
    return ModelSpec(tuple(entry for entry in inputs if entry.name in read), tuple(clean.values()), nodes), views


def _copy(b: Builder, op: Op, value: Value) -> Value:
    """A copy of a value under a name of its own."""
    if len(value.shape) == 1:
        return b.emit(op, "flatten", [value])
    return b.emit(op, "max_pool", [value], {"size": (1, 1), "stride": (1, 1)})


def _rename(b: Builder, names: Mapping[str, str]) -> dict[str, str]:
    """Give the values that are outputs the names that outputs have in ONNX, or what the model file allows of them."""
    clean: dict[str, str] = {}
    for name, value in names.items():
        b.names.discard(value)
        clean[name] = b.unused(name)
    new = {value: clean[name] for name, value in names.items()}
    for draft in b.drafts:
        draft.output = new.get(draft.output, draft.output)
        draft.inputs = [new.get(name, name) for name in draft.inputs]
    b.shapes |= {new[value]: b.shapes[value] for value in new}
    return clean


def _nodes(b: Builder, outputs: frozenset[str]) -> tuple[Node, ...]:
    """The nodes that the outputs need, with names of their own and masks where weights are zero."""
    kept: list[Draft] = []
    wanted = set(outputs)
    for draft in reversed(b.drafts):
        if draft.output in wanted:
            wanted.update(draft.inputs)
            kept.append(draft)
    kept = _merge_pools(b, kept[::-1], outputs)
    b.names.clear()
    return tuple(replace(as_node(draft), name=b.unused(draft.name)) for draft in kept)


def _merge_pools(b: Builder, drafts: list[Draft], outputs: frozenset[str]) -> list[Draft]:
    """An average over all pixels that is only read to be flattened, as the one operator that it is."""
    readers: dict[str, list[Draft]] = {}
    for draft in drafts:
        for name in draft.inputs:
            readers.setdefault(name, []).append(draft)
    merged, gone = [], set()
    for draft in drafts:
        after = readers.get(draft.output, [])
        whole = draft.op == "average_pool" and draft.attrs["size"] == b.shapes[draft.inputs[0]][:2]
        alone = draft.output not in outputs and [reader.op for reader in after] == ["flatten"]
        if whole and alone and draft.attrs["padding"] == "valid":
            merged.append(replace(draft, op="global_average_pool", output=after[0].output, attrs={}))
            gone.add(after[0].output)
        elif draft.output not in gone:
            merged.append(draft)
    return merged
