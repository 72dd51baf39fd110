"""ONNX's operators that only move numbers, or change how they are seen."""

from dataclasses import replace
from math import prod

import numpy as np

from runtime.onnx.builder import Builder
from runtime.onnx.cuts import cut_axes, pick
from runtime.onnx.fold import Constant
from runtime.onnx.graph import Op, Unsupported
from runtime.onnx.inputs import constant, data, optional
from runtime.onnx.values import BATCH, Shape, Value, batch_axis, laid, regroup, transposed


def same(b: Builder, op: Op) -> None:
    """What changes nothing in inference: Identity, Dropout."""
    if len([name for name in op.outputs if name]) > 1:
        raise Unsupported("a mask as a second output")
    if len(op.inputs) > 2 and op.inputs[2] and constant(b.take(op.inputs[2]), "training_mode").fixed.item():
        raise Unsupported("training mode")
    b.alias(op, data(b.take(op.inputs[0])))


def cast(b: Builder, op: Op) -> None:
    """A cast of data that are float32 to float32."""
    if op.kind == "Cast" and op.attrs["to"] != 1:
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
    b.alias(op, transposed(x, op.attrs.get("perm") or range(len(x.axes))[::-1]))


def _along(b: Builder, op: Op) -> list[int] | None:
    given = optional(b, op, 1)
    return op.attrs.get("axes") if given is None else [int(axis) for axis in given.fixed]


def squeeze(b: Builder, op: Op) -> None:
    """Squeeze: axes of size 1 go."""
    x, along = data(b.take(op.inputs[0])), _along(b, op)
    gone = {axis for axis, parts in enumerate(x.axes) if parts == ()}
    if along is not None:
        wanted = {axis % len(x.axes) for axis in along}
        if not wanted <= gone:
            raise Unsupported(f"axes {sorted(wanted - gone)}, which are not of size 1, or the batch")
        gone = wanted
    b.alias(op, replace(x, axes=tuple(parts for axis, parts in enumerate(x.axes) if axis not in gone)))


def unsqueeze(b: Builder, op: Op) -> None:
    """Unsqueeze: axes of size 1 come."""
    x, along = data(b.take(op.inputs[0])), _along(b, op) or []
    rank = len(x.axes) + len(along)
    new, old = {axis % rank for axis in along}, iter(x.axes)
    b.alias(op, replace(x, axes=tuple(() if axis in new else next(old) for axis in range(rank))))


def flatten(b: Builder, op: Op) -> None:
    """Flatten to two axes."""
    x = data(b.take(op.inputs[0]))
    axis, rank = op.attrs.get("axis", 1), len(x.axes)
    axis = axis + rank if axis < 0 else axis
    targets = []
    for n in b.batch:
        dims = x.dims(n)
        targets.append((prod(dims[:axis]), prod(dims[axis:])))
    _see_as(b, op, x, targets[0], targets[1])


def reshape(b: Builder, op: Op) -> None:
    """Reshape: the same numbers, seen in other sizes; where they lie in another order they are moved."""
    x = data(b.take(op.inputs[0]))
    given = constant(b.take(op.inputs[1]), "a shape")
    found = []
    for sizes, n in zip((given.first, given.second), b.batch, strict=True):
        dims, keep = x.dims(n), not op.attrs.get("allowzero", 0)
        if any(int(size) == 0 and (not keep or i >= len(dims)) for i, size in enumerate(sizes)):
            raise Unsupported(f"shape {sizes.tolist()}: no numbers at all")
        full = [dims[i] if int(size) == 0 else int(size) for i, size in enumerate(sizes)]
        rest = prod(size for size in full if size != -1)
        if full.count(-1) == 1 and rest and prod(dims) % rest == 0:
            full[full.index(-1)] = prod(dims) // rest
        if prod(full) != prod(dims):
            raise Unsupported(f"a reshape from {list(dims)} to {sizes.tolist()}")
        found.append(tuple(full))
    _see_as(b, op, x, *found)


def _see_as(b: Builder, op: Op, x: Value, first: Shape, second: Shape) -> None:
    """The value in ONNX's shape `first`, which is `second` at the other batch size."""
    seen = regroup(x, first, b.batch[0])
    if seen is None and batch_axis(x) in (0, None):
        x = b.form(op, x, (x.data_axes,))
        whole = replace(x, split=x.shape, axes=((BATCH,), (0,)) if batch_axis(x) == 0 else ((0,),))
        seen = regroup(whole, first, b.batch[0])
    if seen is None or seen.dims(b.batch[1]) != second:
        raise Unsupported(f"a reshape from {list(b.dims(x))} to {list(first)}, which takes the batch axis apart")
    b.alias(op, seen)


def expand(b: Builder, op: Op) -> None:
    """Expand: axes of size 1 repeated."""
    x, given = data(b.take(op.inputs[0])), constant(b.take(op.inputs[1]), "a shape")
    rank = max(len(x.axes), given.first.size)
    x = replace(x, axes=((),) * (rank - len(x.axes)) + x.axes)
    sizes = (1,) * (rank - given.first.size) + tuple(int(size) for size in given.first)
    b.alias(op, b.spread(op, x, np.broadcast_shapes(b.dims(x), sizes)))


def pad(b: Builder, op: Op) -> None:
    """Pad: constants around images, or pixels that are repeated along any axis; zeros go into the convolution after."""
    x = data(b.take(op.inputs[0]))
    mode, given, value = op.attrs.get("mode", "constant"), optional(b, op, 1), optional(b, op, 2)
    pads = [int(v) for v in (op.attrs.get("pads", []) if given is None else given.fixed)]
    along = optional(b, op, 3)
    axes = list(range(len(x.axes))) if along is None else [int(axis) % len(x.axes) for axis in along.fixed]
    fill = float(op.attrs.get("value", 0.0) if value is None else value.fixed.item())
    amounts = {
        axis: (low, high)
        for axis, low, high in zip(axes, pads[: len(pads) // 2], pads[len(pads) // 2 :], strict=True)
        if (low, high) != (0, 0)
    }
    dims = b.dims(x)
    crops = tuple(
        slice(max(0, -amounts.get(axis, (0, 0))[0]), size - max(0, -amounts.get(axis, (0, 0))[1]))
        for axis, size in enumerate(dims)
    )
    x = cut_axes(b, op, x, crops, last=False)
    for axis, (low, high) in sorted(amounts.items()):
        low, high = max(low, 0), max(high, 0)
        if x.axes[axis] == (BATCH,):
            raise Unsupported("the batch axis, where another is needed")
        if mode != "constant" and low + high:
            size, at = b.dims(x)[axis], np.arange(-low, b.dims(x)[axis] + high)
            places = {"edge": np.clip(at, 0, size - 1), "wrap": at % size, "reflect": _mirrored(at, size)}
            if mode not in places:
                raise Unsupported(f"mode {mode!r}")
            x = pick(b, op, x, axis, places[mode])
    if mode == "constant":
        x = _pad_constant(b, op, x, {axis: (max(a, 0), max(z, 0)) for axis, (a, z) in amounts.items()}, fill)
    b.alias(op, x)


def _mirrored(at: np.ndarray, size: int) -> np.ndarray:
    """Places beyond an end as those as far before it; the end itself is not repeated."""
    folded = at % max(2 * size - 2, 1)
    return np.minimum(folded, 2 * size - 2 - folded)


def _pad_constant(b: Builder, op: Op, x: Value, amounts: dict[int, tuple[int, int]], fill: float) -> Value:
    amounts = {axis: pair for axis, pair in amounts.items() if pair != (0, 0)}
    while amounts:
        usual = b.usual(x)
        places = {group[0]: i for i, group in enumerate(usual[:2]) if len(group) == 1} if len(usual) == 3 else {}
        if not amounts.keys() <= places.keys():  # one axis after the other, as the columns of an image
            axis = min(amounts)
            usual = [i for i in x.data_axes if i < axis], [axis], [i for i in x.data_axes if i > axis]
            places = {axis: 1}
        x = b.form(op, x, usual)
        now = {axis: amounts.pop(axis) for axis in list(amounts) if axis in places}
        pads = [(0, 0), (0, 0)]
        for axis, pair in now.items():
            pads[places[axis]] = pair
        dims = [n + sum(now.get(axis, (0, 0))) for axis, n in enumerate(b.dims(x))]
        attrs = {"padding": tuple(pads), "value": fill}
        x = b.emit(op, "pad", [x], attrs, seen=laid(dims, usual, batch_axis(x)), last=False)
    return x


def to_depth(b: Builder, op: Op) -> None:
    """DepthToSpace and SpaceToDepth: the same numbers, seen in other sizes and another order."""
    x, size = b.image(op, data(b.take(op.inputs[0]))), op.attrs["blocksize"]
    (n, c, h, w), blocks_first = b.dims(x), op.attrs.get("mode", "DCR") == "DCR"
    if op.kind == "SpaceToDepth":
        sizes = n, c, h // size, size, w // size, size
        order = (0, 3, 5, 1, 2, 4) if blocks_first else (0, 1, 3, 5, 2, 4)
        made = n, c * size**2, h // size, w // size
    else:
        made = n, c // size**2, h * size, w * size
        sizes = (n, size, size, made[1], h, w) if blocks_first else (n, made[1], size, size, h, w)
        order = (0, 3, 4, 1, 5, 2) if blocks_first else (0, 1, 4, 2, 5, 3)
    apart = regroup(x, sizes, n) if prod(sizes) == prod((n, c, h, w)) else None
    seen = None if apart is None else regroup(transposed(apart, order), made, n)
    if seen is None:
        raise Unsupported(f"blocks of {size} of sizes {[c, h, w]}")
    b.alias(op, seen)
