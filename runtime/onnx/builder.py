"""Collects the nodes of a model while ONNX's operators are walked one by one."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import prod
from typing import Any

import numpy as np

from lhc_ref.modelfile import OPS, InputSpec, ModelFileError, Node
from runtime.masks import with_mask
from runtime.onnx.fold import Constant
from runtime.onnx.graph import Op, Unsupported
from runtime.onnx.values import BATCH, Axes, Groups, Shape, Value, batch_axis, laid, make

Seen = tuple[Sequence[int], Axes]
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
    """Nodes and values so far.

    `readers` counts how often each ONNX name is read, outputs of the graph included. `batch`: two sizes of the first
    axis of every input, equal where it is fixed; None where no axis is a batch and a whole array is one example.
    """

    def __init__(self, readers: Mapping[str, int], batch: tuple[int, int] | None) -> None:
        self.readers, self.batched, self.batch = readers, batch is not None, batch or (1, 1)
        self.drafts: list[Draft] = []
        self.inputs: dict[str, Value] = {}
        self.values: dict[str, Value | Constant] = {}
        self.made: dict[str, Draft] = {}  # by the model's value
        self.shapes: dict[str, Shape] = {}
        self.names: set[str] = set()

    # --- Values ---------------------------------------------------------------------------------------------------

    def add_input(self, name: str, dims: Shape, channels_last: bool = False) -> InputSpec:
        """A graph input of ONNX's shape `dims`: an image (n, c, h, w), a row (n, c, w), or else features; with
        `channels_last` an image (n, h, w, c) or a row (n, w, c).
        """
        if min(dims, default=1) < 1:
            shown = ["n", *dims[1:]] if self.batched and dims[0] > 0 else dims
            raise Unsupported(f"shape ({', '.join(map(str, shown))}): no numbers at all")
        first: Shape = (BATCH,) if self.batched else ()
        rest = dims[int(self.batched) :]
        shape: Shape
        split: Shape
        axes: Axes
        if len(dims) == 4 and (self.batched or dims[0] == 1):
            shape, axes = (dims[2], dims[3], dims[1]), (first, (2,), (0,), (1,))
            if channels_last:
                shape, axes = dims[1:], (first, (0,), (1,), (2,))
            split = shape
        elif len(dims) == 3 and (self.batched or dims[0] == 1):
            shape, axes = (1, dims[2], dims[1]), (first, (2,), (1,))
            if channels_last:
                shape, axes = (1, *dims[1:]), (first, (1,), (2,))
            split = shape
        else:
            parts = tuple((part,) for part in range(len(rest)))
            shape, split, axes = (prod(rest),), rest, (first, *parts) if self.batched else parts
        inner = self.unused(name)
        self.shapes[inner] = shape
        self.values[name] = self.inputs[name] = make(inner, shape, split, axes, self.readers.get(name, 0) == 1)
        return InputSpec(inner, shape)

    def take(self, name: str) -> Value | Constant | None:
        """What an operator's input stands for; None where it is left out."""
        return self.values[name] if name else None

    def dims(self, value: Value) -> Shape:
        """ONNX's shape of a value."""
        return value.dims(self.batch[0])

    def alias(self, op: Op, value: Value) -> None:
        """The operator's output is `value`, maybe seen differently."""
        name, made = op.outputs[0], self.made.get(value.name)
        if made is not None and made is self.drafts[-1] and made.name == f"{op.name}/{made.op}":
            made.name = op.name
        self.values[name] = replace(value, sole=value.sole and self.readers.get(name, 0) == 1)

    def emit(
        self,
        op: Op,
        kind: str,
        inputs: Sequence[Value],
        attrs: Mapping[str, Any] | None = None,
        tensors: dict[str, np.ndarray] | None = None,
        *,
        seen: Seen | Callable[[Shape], Seen] | None = None,
        last: bool = True,
    ) -> Value:
        """Add a node; gives its value, which is the operator's output where it is the `last` node that it makes.

        `seen` is the output's `split` and `axes`, or makes them of its shape; those of the first input if left out.
        """
        schema = OPS[kind]
        attrs = {key: (attrs or {}).get(key, entry.default) for key, entry in schema.attrs.items()}
        parsed = {key: schema.attrs[key].parse(value) for key, value in attrs.items()}
        wrong = [key for key, value in parsed.items() if value is None]
        if wrong:
            raise Unsupported(f"{wrong[0]} {attrs[wrong[0]]}, where {schema.attrs[wrong[0]].expected} is needed")
        output = self.unused(op.outputs[0] if last else f"{op.outputs[0]}/{kind}")
        node_name = op.name if last else f"{op.name}/{kind}"
        draft = Draft(kind, node_name, [x.name for x in inputs], output, parsed, dict(tensors or {}))
        try:
            shape = schema.shape(as_node(draft, masked=False), [x.shape for x in inputs])
        except ModelFileError as error:
            raise Unsupported(str(error)) from None
        self.drafts.append(draft)
        self.made[output], self.shapes[output] = draft, shape
        split, axes = (inputs[0].split, inputs[0].axes) if seen is None else seen(shape) if callable(seen) else seen
        value = make(output, shape, split, axes, not last or self.readers.get(op.outputs[0], 0) == 1)
        if last:
            self.values[op.outputs[0]] = value
        return value

    def unused(self, name: str) -> str:
        """A name for a value that the model file allows and no other has: ONNX's own where possible."""
        clean = "".join(letter if letter.isprintable() else "_" for letter in name)[:LONGEST_NAME] or "value"
        found, i = clean, 1
        while found in self.names:
            i += 1
            found = f"{clean}~{i}"
        self.names.add(found)
        return found

    # --- What operators have in common ----------------------------------------------------------------------------

    def form(self, op: Op, value: Value, groups: Groups) -> Value:
        """The value with the model's axes made of ONNX's by `groups`; the numbers are moved if they lie otherwise.

        `groups` has 1 or 3 entries, and in them every axis of ONNX's but the batch and axes of size 1.
        """
        dims = self.dims(value)
        parts = [part for group in groups for axis in group for part in value.axes[axis]]
        if sorted(parts) != list(range(len(value.split))):
            raise Unsupported("the batch axis, where another is needed")
        shape = tuple(prod(dims[axis] for axis in group) for group in groups)
        if parts == sorted(parts):
            return self.reshape(op, value, shape)
        attrs = {"split": value.split, "order": parts, "shape": shape}
        place = {part: i for i, part in enumerate(parts)} | {BATCH: BATCH}
        axes = tuple(tuple(place[part] for part in axis) for axis in value.axes)
        return self.emit(op, "rearrange", [value], attrs, seen=([value.split[p] for p in parts], axes), last=False)

    def reshape(self, op: Op, value: Value, shape: Shape) -> Value:
        """The same numbers in the same order, as another shape of the model's."""
        if shape == value.shape:
            return value
        if len(shape) == 1:
            return self.emit(op, "flatten", [value], last=False)
        attrs = {"split": value.shape, "order": tuple(range(len(value.shape))), "shape": shape}
        return self.emit(op, "rearrange", [value], attrs, last=False)

    def image(self, op: Op, value: Value) -> Value:
        """The value as an image that ONNX has as (n, c, h, w), or a row (n, c, w)."""
        if len(value.axes) not in (3, 4):
            raise Unsupported(f"an input of {len(value.axes)} axes, where (n, c, h, w) or (n, c, w) is needed")
        if value.axes[0] not in ((BATCH,), ()):
            raise Unsupported("several images along a first axis that is no batch of independent ones")
        return self.form(op, value, self.usual(value))

    def usual(self, value: Value, last: int = 1) -> Groups:
        """How ONNX's axes become the model's where nothing better is known, `last` being the innermost."""
        rest = [axis for axis in value.data_axes if axis != last]
        if last == 1 and len(value.axes) in (3, 4) and value.axes[0] in ((BATCH,), ()):
            return ((2,), (3,), (1,)) if len(value.axes) == 4 else ((), (2,), (1,))
        if all(value.axes[axis] == () for axis in rest):
            return (value.data_axes,)
        return [axis for axis in rest if axis < last], [axis for axis in rest if axis > last], (last,)

    def spread(self, op: Op, value: Value, dims: Shape) -> Value:
        """The value with its axes of size 1 repeated to ONNX's shape `dims`."""
        have = self.dims(value)
        if any(a not in (1, b) for a, b in zip(have, dims, strict=True)):
            raise Unsupported(f"sizes {list(have)}, which do not go with {list(dims)}")
        axis = 0
        while axis < len(dims):
            stop = axis
            while stop < len(dims) and value.axes[stop] == () and dims[stop] > 1:
                stop += 1
            if stop > axis:
                before = tuple(i for i in value.data_axes if i < axis)
                run = tuple(range(axis, stop))
                after = tuple(i for i in value.data_axes if i >= stop)
                value = self.form(op, value, (before, run, after))
                made = [dims[i] if i in run else size for i, size in enumerate(self.dims(value))]
                seen = laid(made, (before, run, after), batch_axis(value))
                factor = {"factor": (1, prod(dims[axis:stop]))}
                value = self.emit(op, "upsample", [value], factor, seen=seen, last=False)
            axis = stop + 1
        return value

    def affine(self, op: Op, value: Value, scale: np.ndarray, shift: np.ndarray) -> None:
        """`value * scale + shift`, constants that ONNX broadcasts to the value: in the convolution or dense layer that
        made it where they are numbers of its channels, else as a node.
        """
        value, (scales, shifts) = self.vectors(op, value, scale, shift)
        made = self.made.get(value.name)
        if made is not None and made.op in ("conv2d", "dense") and value.sole:
            kernel = made.tensors["kernel"]
            bias = made.tensors.get("bias", np.zeros(kernel.shape[-1], np.float32))
            made.tensors["kernel"] = _f32(kernel * scales)
            made.tensors["bias"] = _f32(bias * scales + shifts)
            self.alias(op, value)
            return
        self.emit(op, "scale", [value], tensors={"scale": _f32(scales), "bias": _f32(shifts)})

    def vectors(self, op: Op, value: Value, *constants: np.ndarray) -> tuple[Value, list[np.ndarray]]:
        """Constants that ONNX broadcasts to a value, f64 one a channel each; where that cannot be, the value as
        features, and one a feature each.
        """
        rank = max(len(value.axes), *(constant.ndim for constant in constants))
        value = replace(value, axes=((),) * (rank - len(value.axes)) + value.axes)
        shapes = [(1,) * (rank - constant.ndim) + constant.shape for constant in constants]
        if any(shape[axis] != 1 for shape in shapes for axis, parts in enumerate(value.axes) if parts == (BATCH,)):
            raise Unsupported("a constant with a number for each image of the batch")
        value = self.spread(op, value, np.broadcast_shapes(self.dims(value), *shapes))
        parts = [_as_parts(value, constant.reshape(shape)) for constant, shape in zip(constants, shapes, strict=True)]
        vectors = [_by_channel(value, array) for array in parts]
        if any(vector is None for vector in vectors):
            value = self.reshape(op, value, (prod(value.shape),))
            vectors = [_by_channel(value, array) for array in parts]
        return value, [vector for vector in vectors if vector is not None]

    def unpadded(self, value: Value) -> tuple[Value, tuple[tuple[int, int], tuple[int, int]]]:
        """An image without the zeros that pads put around it, and how many these are."""
        (top, bottom), (left, right) = (0, 0), (0, 0)
        made = self.made.get(value.name)
        while made is not None and made.op == "pad" and made.attrs["value"] == 0:
            (t, b), (le, r) = made.attrs["padding"]
            top, bottom, left, right = top + t, bottom + b, left + le, right + r
            inner = made.inputs[0]
            shape, made = self.shapes[inner], self.made.get(inner)
            at = [value.axes[0], (2,), (0,), (1,)]
            axes = at if len(value.axes) == 4 else [at[0], at[1], at[3]]
            value = make(inner, shape, shape, axes, False)
        return value, ((top, bottom), (left, right))


def as_node(draft: Draft, masked: bool = True) -> Node:
    """The node of a draft; the kernel of a convolution under the mask of its zeros."""
    tensors: dict[str, Any] = dict(draft.tensors)
    if draft.op == "conv2d" and masked:
        tensors["kernel"] = with_mask(tensors["kernel"])
    return Node(draft.op, draft.name, tuple(draft.inputs), draft.output, draft.attrs, tensors)


def _f32(values: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):  # infinite weights are refused with the node's name when the model is checked
        return np.ascontiguousarray(values, np.float32)


def _as_parts(value: Value, constant: np.ndarray) -> np.ndarray:
    """A constant of ONNX's rank with one axis for each part of the value, in the model's order; of size 1 where its
    numbers are the same along it.
    """
    sizes = [
        value.split[part] if size > 1 else 1
        for size, axis in zip(constant.shape, value.axes, strict=True)
        for part in axis
        if part != BATCH
    ]
    return constant.astype(np.float64).reshape(sizes).transpose(np.argsort(value.order))


def _by_channel(value: Value, parts: np.ndarray) -> np.ndarray | None:
    """f64, one number for each of the model's channels or features, or None."""
    channels = value.shape[-1]
    if parts.size == 1:
        return np.full(channels, parts.item())
    begin = next((i for i in range(len(value.split)) if prod(value.split[i:]) == channels), None)
    if begin is None or any(size > 1 for size in parts.shape[:begin]):
        return None
    return np.broadcast_to(parts.reshape(parts.shape[begin:]), value.split[begin:]).ravel()
