"""Collects the nodes of a model while ONNX's operators are walked one by one."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from math import prod
from typing import Any

import numpy as np

from lhc_ref.modelfile import OPS, InputSpec, MaskedKernel, ModelFileError, ModelSpec, Node
from runtime.onnx.fold import Constant
from runtime.onnx.graph import Op, Unsupported
from runtime.onnx.values import NO_PADS, Order, Shape, Value, view
from runtime.views import View

LARGEST_GROUP = 2**16  # that a mask of the model file may have
LONGEST_NAME = 240  # of the 256 that the model file allows: the rest is for what we append


@dataclass(eq=False)
class Draft:
    """A node that may still change: weights scaled, an output renamed."""

    op: str
    name: str
    inputs: list[str]
    output: str
    attrs: Mapping[str, Any]
    tensors: dict[str, np.ndarray] = field(default_factory=dict)


class Builder:
    """Nodes and values so far. `readers` counts how often each ONNX name is read, outputs of the graph included."""

    def __init__(self, readers: Mapping[str, int], batch: tuple[int, int]) -> None:
        self.readers, self.batch = readers, batch
        self.drafts: list[Draft] = []
        self.inputs: dict[str, Value] = {}
        self.values: dict[str, Value | Constant] = {}
        self._made: dict[str, Draft] = {}  # by the model's value
        self._shapes: dict[str, Shape] = {}
        self._names: set[str] = set()

    # --- Values ---------------------------------------------------------------------------------------------------

    def add_input(self, name: str, dims: Shape) -> InputSpec:
        """A graph input of ONNX's shape `dims`, batch included."""
        axes = {2: "nf", 3: "ncw", 4: "nchw"}.get(len(dims))
        if axes is None or min(dims[1:]) < 1:
            raise Unsupported(f"shape {list(dims)}, where (n, features), (n, c, w) or (n, c, h, w) is needed")
        sizes = dict(zip(axes, dims, strict=True))
        shape = (sizes["f"],) if axes == "nf" else (sizes.get("h", 1), sizes["w"], sizes["c"])
        inner = self._unused(name)
        self._shapes[inner] = shape
        self.values[name] = self.inputs[name] = Value(inner, shape, axes, sole=self.readers.get(name, 0) == 1)
        return InputSpec(inner, shape)

    def take(self, name: str) -> Value | Constant | None:
        """What an operator's input stands for; None where it is left out."""
        return self.values[name] if name else None

    def alias(self, op: Op, value: Value, **changes: Any) -> None:
        """The operator's output is `value`, seen differently."""
        name = op.outputs[0]
        self.values[name] = replace(value, sole=value.sole and self.readers.get(name, 0) == 1, **changes)

    def emit(
        self,
        op: Op,
        kind: str,
        inputs: list[Value],
        attrs: Mapping[str, Any] | None = None,
        tensors: dict[str, np.ndarray] | None = None,
        *,
        axes: str | None = None,
        order: Order | None = None,
        last: bool = True,
    ) -> Value:
        """Add a node; gives its value, which is the operator's output where it is the `last` node that it makes.

        `axes` is how the output stands in ONNX, as the first input does if left out.
        """
        schema = OPS[kind]
        attrs = {key: (attrs or {}).get(key, entry.default) for key, entry in schema.attrs.items()}
        parsed = {key: schema.attrs[key].parse(value) for key, value in attrs.items()}
        wrong = [key for key, value in parsed.items() if value is None]
        if wrong:
            raise Unsupported(f"{wrong[0]} {attrs[wrong[0]]}, where {schema.attrs[wrong[0]].expected} is needed")
        output = self._unused(op.outputs[0] if last else f"{op.outputs[0]}/{kind}")
        node_name = op.name if last else f"{op.name}/{kind}"
        draft = Draft(kind, node_name, [x.name for x in inputs], output, parsed, dict(tensors or {}))
        try:
            shape = schema.shape(_node(draft, masked=False), [x.shape for x in inputs])
        except ModelFileError as error:
            raise Unsupported(str(error)) from None
        self.drafts.append(draft)
        self._made[output], self._shapes[output] = draft, shape
        sole = not last or self.readers.get(op.outputs[0], 0) == 1
        value = Value(output, shape, inputs[0].axes if axes is None else axes, order, sole=sole)
        if last:
            self.values[op.outputs[0]] = value
        return value

    def identity(self, op: Op, value: Value) -> Value:
        """A copy of a value under a name of its own."""
        if len(value.shape) == 1:
            return self.emit(op, "flatten", [value], order=value.order)
        return self.emit(op, "max_pool", [value], {"size": (1, 1), "stride": (1, 1)})

    def _unused(self, name: str) -> str:
        """A name for a value that the model file allows and no other has: ONNX's own where possible."""
        clean = "".join(letter if letter.isprintable() else "_" for letter in name)[:LONGEST_NAME] or "value"
        found, i = clean, 1
        while found in self._names:
            i += 1
            found = f"{clean}~{i}"
        self._names.add(found)
        return found

    # --- What operators have in common ----------------------------------------------------------------------------

    def plain(self, op: Op, value: Value) -> Value:
        """The value with its zeros around it, if any are pending."""
        if value.pads == NO_PADS:
            return value
        top, left, bottom, right = value.pads
        return self.emit(op, "pad", [value], {"padding": ((top, bottom), (left, right))}, last=False)

    def image(self, op: Op, value: Value) -> Value:
        """The value as an image as ONNX has it, (n, c, h, w) or (n, c, w); its axes are rearranged if they stand
        otherwise.
        """
        axes = value.labelled()
        if axes in ("nchw", "ncw"):
            return replace(value, axes=axes)
        return self.spread(op, self.flat(op, value), value.image_dims)

    def flat(self, op: Op, value: Value, last: bool = False) -> Value:
        """The value as (n, features) in ONNX's order."""
        value, dims = self.plain(op, value), value.image_dims
        features, axes = (prod(dims),), value.axes[1:]
        if value.order is not None:
            back = tuple(int(axis) for axis in np.argsort(value.order.axes))
            split = tuple(value.order.split[axis] for axis in value.order.axes)
        elif len(value.shape) == 1:
            return replace(value, axes="nf")
        else:
            split = value.shape
            named = ["hwc".index(label) for label in axes if label != "1"]
            back = (*named, *(axis for axis in range(3) if axis not in named))
        if np.array_equal(Order(split, back).index(), np.arange(prod(dims))):
            return self.emit(op, "flatten", [value], axes="nf", last=last)
        attrs = {"split": split, "order": back, "shape": features}
        return self.emit(op, "rearrange", [value], attrs, axes="nf", last=last)

    def spread(self, op: Op, value: Value, dims: Shape, last: bool = False) -> Value:
        """Features in ONNX's order as (n, *dims)."""
        if len(dims) not in (1, 2, 3):
            raise Unsupported(f"a value of sizes {list(dims)} beside the batch, where 1 to 3 axes are possible")
        if len(dims) == 1:
            return self.identity(op, value) if last else value
        order, shape = ((1, 2, 0), (*dims[1:], dims[0])) if len(dims) == 3 else ((1, 0), (1, dims[1], dims[0]))
        attrs, axes = {"split": dims, "order": order, "shape": shape}, "nchw" if len(dims) == 3 else "ncw"
        return self.emit(op, "rearrange", [value], attrs, axes=axes, last=last)

    def innermost(self, op: Op, value: Value, axis: int) -> Value:
        """The value with one of ONNX's axes as the model's channels, or features."""
        if axis % len(value.axes) == 0:
            raise Unsupported("the batch axis, where another is needed")
        value = self.plain(op, value)
        if value.axes[axis] in ("c", "f") and value.order is None:
            return value
        if len(value.axes) == 2:
            return self.flat(op, value)
        value = self.image(op, value)
        if value.axes[axis] == "c":
            return value
        inner = value.axes[axis]
        rest = [label for label in "chw" if label != inner]
        order = tuple("hwc".index(label) for label in (*rest, inner))
        attrs = {"split": value.shape, "order": order, "shape": tuple(value.shape[axis] for axis in order)}
        names = dict(zip((*rest, inner), "hwc", strict=True))
        axes = "n" + "".join(names[label] for label in value.axes[1:])
        return self.emit(op, "rearrange", [value], attrs, axes=axes, last=False)

    def features(self, op: Op, value: Value) -> Value:
        """The value as (n, features); an image of which one axis is left becomes features."""
        value = self.plain(op, value)
        if len(value.axes) != 2 or value.axes[0] != "n":
            raise Unsupported(f"an input whose axes are {value.axes!r}, where (n, features) is needed")
        if len(value.shape) == 1:
            return replace(value, axes="nf")
        return self.emit(op, "flatten", [value], axes="nf", last=False)

    def channels(self, value: Value, constant: np.ndarray) -> np.ndarray | None:
        """f64[channels or features] of the model's value, from a constant that ONNX broadcasts to it; else None."""
        dims = value.dims(1)
        if constant.ndim > len(dims):
            return None
        shape = (1,) * (len(dims) - constant.ndim) + constant.shape
        label = "f" if len(value.shape) == 1 else "c"
        along = value.axes.find(label)
        if any(size != 1 and i != along for i, size in enumerate(shape)) or (along < 0 and constant.size > 1):
            return None
        vector = constant.astype(np.float64).ravel()
        if vector.size not in (1, value.shape[-1]):
            return None
        vector = np.broadcast_to(vector, value.shape[-1])
        return vector if value.order is None else vector[value.order.index()]

    def affine(self, op: Op, value: Value, scale: np.ndarray, shift: np.ndarray) -> None:
        """`value * scale + shift` by channel: in the convolution or dense layer that made it, or as a node."""
        value = self.plain(op, value)
        made = self._made.get(value.name)
        if made is not None and made.op in ("conv2d", "dense") and value.sole:
            kernel = made.tensors["kernel"]
            bias = made.tensors.get("bias", np.zeros(kernel.shape[-1], np.float32))
            made.tensors["kernel"] = _f32(kernel * scale)
            made.tensors["bias"] = _f32(bias * scale + shift)
            self.alias(op, value)
            return
        size = value.shape[-1:]
        tensors = {"scale": _f32(np.broadcast_to(scale, size)), "bias": _f32(np.broadcast_to(shift, size))}
        self.emit(op, "scale", [value], tensors=tensors, order=value.order)

    # --- The end --------------------------------------------------------------------------------------------------

    def finish(self, inputs: list[InputSpec], outputs: tuple[str, ...]) -> tuple[ModelSpec, dict[str, View]]:
        """The model, and the view of each output; raises Unsupported where an output is none of the model's values."""
        names: dict[str, str] = {}
        views: dict[str, View] = {}
        for name in outputs:
            value = self.values[name]
            if isinstance(value, Constant):
                raise Unsupported(f"output {name!r} that is constant")
            end = Op("", f"output {name}", (), (name,), {}, 0)
            value = self.plain(end, value)
            if value.name not in self._made or value.name in names.values():
                value = self.identity(end, value)
            names[name] = value.name
            views[name] = view(value)
        self._rename(names)
        spec_outputs = tuple(self._clean[name] for name in outputs)
        views = {name: replace(found, value=self._clean[name]) for name, found in views.items()}
        nodes = self._nodes(frozenset(spec_outputs))
        read = {name for node in nodes for name in node.inputs}
        spec_inputs = tuple(entry for entry in inputs if entry.name in read)
        return ModelSpec(spec_inputs, spec_outputs, nodes), views

    def _rename(self, names: Mapping[str, str]) -> None:
        """Give the values that are outputs the names that outputs have in ONNX."""
        self._clean: dict[str, str] = {}
        for name, value in names.items():
            self._names.discard(value)
            self._clean[name] = self._unused(name)
        new = {value: self._clean[name] for name, value in names.items()}
        for draft in self.drafts:
            draft.output = new.get(draft.output, draft.output)
            draft.inputs = [new.get(name, name) for name in draft.inputs]
        self._shapes |= {new[value]: self._shapes[value] for value in new}

    def _nodes(self, outputs: frozenset[str]) -> tuple[Node, ...]:
        """The nodes that the outputs need, with names of their own and masks where weights are zero."""
        kept: list[Draft] = []
        wanted = set(outputs)
        for draft in reversed(self.drafts):
            if draft.output in wanted:
                wanted.update(draft.inputs)
                kept.append(draft)
        kept = self._merge_pools(list(reversed(kept)), outputs)
        self._names.clear()
        return tuple(replace(_node(draft), name=self._unused(draft.name)) for draft in kept)

    def _merge_pools(self, drafts: list[Draft], outputs: frozenset[str]) -> list[Draft]:
        """An average over all pixels that is only read to be flattened, as the one operator that it is."""
        readers: dict[str, list[Draft]] = {}
        for draft in drafts:
            for name in draft.inputs:
                readers.setdefault(name, []).append(draft)
        merged, gone = [], set()
        for draft in drafts:
            after = readers.get(draft.output, [])
            whole = draft.op == "average_pool" and draft.attrs["size"] == self._shapes[draft.inputs[0]][:2]
            alone = draft.output not in outputs and [reader.op for reader in after] == ["flatten"]
            if whole and alone and draft.attrs["padding"] == "valid":
                merged.append(replace(draft, op="global_average_pool", output=after[0].output, attrs={}))
                gone.add(after[0].output)
            elif draft.output not in gone:
                merged.append(draft)
        return merged


def _node(draft: Draft, masked: bool = True) -> Node:
    tensors: dict[str, Any] = dict(draft.tensors)
    if draft.op == "conv2d" and masked:
        tensors["kernel"] = with_mask(tensors["kernel"])
    return Node(draft.op, draft.name, tuple(draft.inputs), draft.output, draft.attrs, tensors)


def _f32(values: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):  # infinite weights are refused with the node's name when the model is checked
        return np.ascontiguousarray(values, np.float32)


def group_size(mask: np.ndarray, axis: int) -> int:
    """How many adjacent channels along an axis share their pattern throughout: the most for which it holds exactly.

    Groups begin at its multiples and the last may be short, so a size fits where it divides each place at which
    neighbours differ.
    """
    along = np.moveaxis(mask, axis, 0)
    differ = (along[1:] != along[:-1]).any(axis=(1, 2, 3))
    places = np.flatnonzero(differ) + 1
    size = int(np.gcd.reduce(places)) if places.size else len(along)
    return size if size <= LARGEST_GROUP else 1


def with_mask(kernel: np.ndarray) -> np.ndarray | MaskedKernel:
    """A kernel f32[kh, kw, c_in, c_out] under the mask of its zeros; itself where it has none. O(weights)."""
    mask = kernel != 0
    if mask.all() or not prod(kernel.shape):
        return kernel
    group_in, group_out = group_size(mask, 2), group_size(mask, 3)
    groups = np.ascontiguousarray(mask[:, :, ::group_in, ::group_out])
    return MaskedKernel.from_dense(np.ascontiguousarray(kernel), groups, group_in, group_out)
