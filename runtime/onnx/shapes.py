"""ONNX's operators that only move numbers, or change how they are seen."""

from collections.abc import Mapping
from dataclasses import replace
from math import prod

import numpy as np

from runtime.onnx.builder import Builder
from runtime.onnx.fold import Constant, slices
from runtime.onnx.graph import Op, Unsupported
from runtime.onnx.values import Order, Shape, Value
from runtime.onnx.windows import constant, data, optional


def same(b: Builder, op: Op) -> None:
    """What changes nothing in inference: Identity, Dropout."""
    if len([name for name in op.outputs if name]) > 1:
        raise Unsupported("a mask as a second output")
    if len(op.inputs) > 2 and op.inputs[2] and constant(b.take(op.inputs[2]), "training_mode").fixed.item():
        raise Unsupported("training mode")
    b.alias(op, data(b.take(op.inputs[0])))


def cast(b: Builder, op: Op) -> None:
    """A cast of data that are float32 to float32."""
    if op.attrs["to"] != 1:
        raise Unsupported("data cast to another type than float32")
    b.alias(op, data(b.take(op.inputs[0])))


def shape(b: Builder, op: Op) -> None:
    """The sizes of a value: a constant but for the batch."""
    x = data(b.take(op.inputs[0]))
    first, second = (np.array(x.dims(n)[op.attrs.get("start", 0) : op.attrs.get("end")], np.int64) for n in b.batch)
    b.values[op.outputs[0]] = Constant(first, second)


def transpose(b: Builder, op: Op) -> None:
    """Transpose: the same numbers, seen in another order."""
    x = data(b.take(op.inputs[0]))
    order = op.attrs.get("perm") or range(len(x.axes))[::-1]
    b.alias(op, x, axes="".join(x.axes[axis] for axis in order))


def _along(b: Builder, op: Op) -> list[int] | None:
    given = optional(b, op, 1)
    return op.attrs.get("axes") if given is None else [int(axis) for axis in given.fixed]


def squeeze(b: Builder, op: Op) -> None:
    """Squeeze: axes of size 1 go."""
    x = data(b.take(op.inputs[0]))
    along = _along(b, op)
    if along is None:
        along = [i for i, label in enumerate(x.axes) if label != "n" and x.size(label) == 1]
    gone = {axis % len(x.axes) for axis in along}
    if any(x.axes[axis] == "n" or x.size(x.axes[axis]) != 1 for axis in gone):
        raise Unsupported(f"axes {sorted(gone)} of {x.axes!r}, which are not all of size 1 beside the batch")
    b.alias(op, x, axes="".join(label for i, label in enumerate(x.axes) if i not in gone))


def unsqueeze(b: Builder, op: Op) -> None:
    """Unsqueeze: axes of size 1 come."""
    x = data(b.take(op.inputs[0]))
    along = _along(b, op) or []
    rank = len(x.axes) + len(along)
    new, old = {axis % rank for axis in along}, iter(x.axes)
    b.alias(op, x, axes="".join("1" if i in new else next(old) for i in range(rank)))


def flatten(b: Builder, op: Op) -> None:
    """Flatten to (n, features)."""
    x = data(b.take(op.inputs[0]))
    axis = op.attrs.get("axis", 1)
    if axis % len(x.axes) != 1 or x.axes[0] != "n":
        raise Unsupported(f"axis {axis} of {x.axes!r}, where all but the batch must be flattened")
    to_features(b, op, x)


def to_features(b: Builder, op: Op, x: Value) -> None:
    """All but the batch as features, in ONNX's order."""
    x = b.plain(op, x)
    if len(x.shape) == 1:
        b.alias(op, x, axes="nf")
        return
    axes = [label for label in x.axes[1:] if label != "1"]
    split = tuple(x.size(label) for label in axes)
    order = Order(split, tuple(axes.index(label) for label in "hwc" if label in axes))
    plain = np.array_equal(order.index(), np.arange(prod(split)))
    b.emit(op, "flatten", [x], axes="nf", order=None if plain else order)


def reshape(b: Builder, op: Op) -> None:
    """Reshape to the same sizes, to sizes of 1 more or fewer, or to (n, features)."""
    x = data(b.take(op.inputs[0]))
    target = _target(b, op, x)
    if [size for size in target if size != 1] == [size for size in x.image_dims if size != 1]:
        labels = iter([label for label in x.axes[1:] if x.size(label) != 1])
        b.alias(op, x, axes="n" + "".join("1" if size == 1 else next(labels) for size in target))
    elif len(target) == 1:
        to_features(b, op, x)
    else:
        b.spread(op, b.flat(op, x), target, last=True)


def _target(b: Builder, op: Op, x: Value) -> Shape:
    """The shape that a Reshape makes, without the batch, which stays the first axis."""
    given = constant(b.take(op.inputs[1]), "a shape")
    found = []
    for sizes, n in zip((given.first, given.second), b.batch, strict=True):
        dims = x.dims(n)
        keep = not op.attrs.get("allowzero", 0)
        if any(int(size) == 0 and (not keep or i >= len(dims)) for i, size in enumerate(sizes)):
            raise Unsupported(f"shape {sizes.tolist()}")
        full = [dims[i] if int(size) == 0 else int(size) for i, size in enumerate(sizes)]
        rest = prod(size for size in full if size != -1)
        if full.count(-1) == 1 and rest and prod(dims) % rest == 0:
            full[full.index(-1)] = prod(dims) // rest
        if prod(full) != prod(dims) or not full or full[0] != n:
            raise Unsupported(f"a reshape from {list(dims)} to {sizes.tolist()}, which does not keep the batch first")
        found.append(tuple(full[1:]))
    if found[0] != found[1]:
        raise Unsupported("a shape that depends on the batch")
    return found[0]


def pad(b: Builder, op: Op) -> None:
    """Pad on rows and columns: zeros are taken in by the convolution after it, other constants are a node."""
    x = data(b.take(op.inputs[0]))
    mode, given, value = op.attrs.get("mode", "constant"), optional(b, op, 1), optional(b, op, 2)
    pads = [int(v) for v in (op.attrs.get("pads", []) if given is None else given.fixed)]
    along = optional(b, op, 3)
    axes = range(len(x.axes)) if along is None else [int(axis) % len(x.axes) for axis in along.fixed]
    fill = float(op.attrs.get("value", 0.0) if value is None else value.fixed.item())
    x = replace(x, axes=x.labelled())
    amounts = dict.fromkeys("nhwcf1", (0, 0))
    for axis, low, high in zip(axes, pads[: len(pads) // 2], pads[len(pads) // 2 :], strict=True):
        if (low, high) != (0, 0):
            amounts[x.axes[axis]] = (low, high)
    outside = [label for label in "ncf1" if amounts[label] != (0, 0)]
    if mode != "constant" or outside or min(min(pair) for pair in amounts.values()) < 0:
        raise Unsupported(f"mode {mode!r}, pads {pads} of {x.axes!r}: only constants around images")
    (top, bottom), (left, right) = amounts["h"], amounts["w"]
    if fill != 0:
        attrs = {"padding": ((top, bottom), (left, right)), "value": fill}
        b.emit(op, "pad", [b.plain(op, x)], attrs)
        return
    t, le, bo, r = x.pads
    b.alias(op, x, pads=(t + top, le + left, bo + bottom, r + right))


def concat(b: Builder, op: Op) -> None:
    """Concat along any axis but the batch."""
    xs = [b.plain(op, data(b.take(name))) for name in op.inputs]
    axis = op.attrs["axis"]
    if len(xs[0].axes) > 2:
        xs = [b.image(op, x) for x in xs]
    xs = [b.innermost(op, x, axis) for x in xs]
    if len({x.axes for x in xs}) > 1:
        raise Unsupported(f"inputs of axes {[x.axes for x in xs]}")
    if len(xs) == 1:
        b.alias(op, xs[0])
    else:
        b.emit(op, "concat", xs)


def _cut(b: Builder, op: Op, x: Value, cuts: tuple[slice, ...]) -> None:
    """A part of each axis but the batch."""
    x = b.plain(op, x if x.order is None else b.flat(op, x))
    labels = "f" if len(x.shape) == 1 else "hwc"
    spans = {label: (0, x.size(label), 1) for label in labels}
    for label, cut in zip(x.axes, cuts, strict=True):
        size = b.batch[0] if label == "n" else x.size(label)
        start, stop, step = cut.indices(size)
        if label in spans and step > 0 and start < stop:
            spans[label] = (start, stop, step)
        elif (start, stop, step) != (0, size, 1):
            raise Unsupported(f"a slice {start}:{stop}:{step} of axis {label!r} of size {size}")
    starts, stops, steps = zip(*spans.values(), strict=True)
    b.emit(op, "slice", [x], {"start": starts, "stop": stops, "step": steps})


def cut(b: Builder, op: Op) -> None:
    """Slice, forwards."""
    x = data(b.take(op.inputs[0]))
    spans = [optional(b, op, at) for at in range(1, 5)]
    _cut(b, op, x, slices(op, x.dims(b.batch[0]), *(None if span is None else span.fixed for span in spans)))


def split(b: Builder, op: Op) -> None:
    """Split along any axis but the batch."""
    x = data(b.take(op.inputs[0]))
    axis = op.attrs.get("axis", 0) % len(x.axes)
    size, parts = x.dims(b.batch[0])[axis], len(op.outputs)
    given = optional(b, op, 1)
    sizes = op.attrs.get("split") if given is None else [int(part) for part in given.fixed]
    each = -(-size // parts)
    begin = 0
    for name, part in zip(op.outputs, sizes or [each] * parts, strict=True):
        cuts = [slice(None)] * len(x.axes)
        cuts[axis] = slice(begin, min(begin + part, size))
        begin += part
        if name:
            _cut(b, replace(op, name=f"{op.name}/{name}", outputs=(name,)), x, tuple(cuts))


def resize(b: Builder, op: Op) -> None:
    """Resize and Upsample to the nearest pixel, where that repeats each pixel equally often."""
    x = b.image(op, b.plain(op, data(b.take(op.inputs[0]))))
    if op.attrs.get("mode", "nearest") != "nearest":
        raise Unsupported(f"mode {op.attrs['mode']!r}, where 'nearest' is possible")
    at_scales, at_sizes = (1, 3) if op.kind == "Upsample" or op.opset < 11 else (2, 3)
    scales, sizes = optional(b, op, at_scales), optional(b, op, at_sizes)
    dims, along = x.dims(b.batch[0]), op.attrs.get("axes") or range(len(x.axes))
    wanted = {axis: (dims[axis], 1.0) for axis in range(len(dims))}
    if sizes is not None and sizes.first.size:
        for axis, size in zip(along, sizes.first, strict=True):
            wanted[axis] = int(size), int(size) / dims[axis]
    elif scales is not None and scales.first.size:
        for axis, scale in zip(along, scales.fixed, strict=True):
            wanted[axis] = int(np.floor(dims[axis] * scale)), float(scale)
    if op.attrs.get("keep_aspect_ratio_policy", "stretch") != "stretch":
        raise Unsupported(f"keep_aspect_ratio_policy {op.attrs['keep_aspect_ratio_policy']!r}")
    factor = {"h": 1, "w": 1}
    for axis, (size, scale) in wanted.items():
        if x.axes[axis] == "n" and (
            scale == 1.0 or sizes is not None
        ):  # a size given for the batch can only be its own
            continue
        places = _nearest(op, dims[axis], size, scale)
        times = size // dims[axis]
        if (
            times < 1
            or not np.array_equal(places, np.arange(size) // times)
            or (times > 1 and x.axes[axis] not in "hw")
        ):
            raise Unsupported(f"sizes {dims[axis]} to {size}: only whole pixels repeated along rows and columns")
        if x.axes[axis] in "hw":
            factor[x.axes[axis]] = times
    b.emit(op, "upsample", [x], {"factor": (factor["h"], factor["w"])})


def _nearest(op: Op, size: int, made: int, scale: float) -> np.ndarray:
    """i64[made]: which of `size` pixels each pixel made is."""
    out = np.arange(made, dtype=np.float64)
    mode = op.attrs.get("coordinate_transformation_mode", "half_pixel")
    if op.kind == "Upsample" or op.opset < 11:
        mode, rounding = "asymmetric", "floor"
    else:
        rounding = op.attrs.get("nearest_mode", "round_prefer_floor")
    at = {
        "half_pixel": lambda: (out + 0.5) / scale - 0.5,
        "pytorch_half_pixel": lambda: (out + 0.5) / scale - 0.5 if made > 1 else out * 0,
        "asymmetric": lambda: out / scale,
        "align_corners": lambda: out * (size - 1) / max(made - 1, 1),
    }.get(mode)
    if at is None:
        raise Unsupported(f"coordinate_transformation_mode {mode!r}")
    rounded: Mapping[str, np.ndarray] = {
        "round_prefer_floor": np.ceil(at() - 0.5),
        "round_prefer_ceil": np.floor(at() + 0.5),
        "floor": np.floor(at()),
        "ceil": np.ceil(at()),
    }
    return np.clip(rounded[rounding], 0, size - 1).astype(np.int64)
