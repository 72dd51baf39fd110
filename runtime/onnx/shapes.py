"""ONNX's operators that only move numbers, or change how they are seen."""

from dataclasses import replace
from math import prod

import numpy as np

from runtime.onnx.builder import Builder
from runtime.onnx.fold import Constant, slices
from runtime.onnx.graph import Op, Unsupported
from runtime.onnx.inputs import constant, data, optional
from runtime.onnx.values import BATCH, Groups, Shape, Value, batch_axis, laid, regroup, transposed

MOST = 64  # inputs of one concat of the model file


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


def concat(b: Builder, op: Op) -> None:
    """Concat along any axis but the batch."""
    xs = [data(b.take(name)) for name in op.inputs]
    b.alias(op, join(b, op, xs, op.attrs["axis"] % len(xs[0].axes)))


def join(b: Builder, op: Op, xs: list[Value], axis: int) -> Value:
    """Values one after the other along one of ONNX's axes."""
    if any(x.axes[axis] == (BATCH,) for x in xs):
        raise Unsupported("the batch axis, where another is needed")
    if len(xs) == 1:
        return xs[0]
    if len(xs) > MOST:
        xs = [join(b, op, xs[i : i + MOST], axis) for i in range(0, len(xs), MOST)]
        return join(b, op, xs, axis)
    groups = _innermost(b, xs, axis)
    xs = [b.form(op, x, groups) for x in xs]
    dims = [list(b.dims(x)) for x in xs]
    if any(other[:axis] + other[axis + 1 :] != dims[0][:axis] + dims[0][axis + 1 :] for other in dims):
        raise Unsupported(f"sizes {dims}, which differ along other axes")
    dims[0][axis] = sum(sizes[axis] for sizes in dims)
    return b.emit(op, "concat", xs, seen=laid(dims[0], groups, batch_axis(xs[0])), last=False)


def _innermost(b: Builder, xs: list[Value], axis: int) -> Groups:
    """How ONNX's axes become the model's, with one of them innermost: as they lie already, if all lie so."""
    found = [x.groups() for x in xs]
    first = found[0]
    if first is not None and all(groups == first for groups in found) and axis in first[-1]:
        return first
    return b.usual(xs[0], axis)


def cut_axes(b: Builder, op: Op, x: Value, cuts: tuple[slice, ...], last: bool = True) -> Value:
    """A part of each axis but the batch, forwards or backwards."""
    dims = b.dims(x)
    spans = {axis: cut.indices(size) for axis, (cut, size) in enumerate(zip(cuts, dims, strict=True))}
    spans = {axis: span for axis, span in spans.items() if span != (0, dims[axis], 1)}
    for axis, span in spans.items():
        if x.axes[axis] == (BATCH,):
            raise Unsupported("the batch axis, where another is needed")
        if not len(range(*span)):
            raise Unsupported(f"a slice {':'.join(map(str, span))} of size {dims[axis]}: no numbers at all")
    for axis in [axis for axis, span in spans.items() if span[2] < 0]:
        x = pick(b, op, x, axis, np.arange(*spans.pop(axis)))
    while spans:
        groups = x.groups()
        if groups is None or not spans.keys() <= {axis for group in groups for axis in group}:
            groups = b.usual(x)
        inside = {group[0]: i for i, group in enumerate(groups) if len(group) == 1}
        if not spans.keys() & inside.keys():
            groups = b.usual(x, min(spans))
            inside = {min(spans): len(groups) - 1}
        x = b.form(op, x, groups)
        now = {axis: spans.pop(axis) for axis in list(spans) if axis in inside}
        parts = [(0, size, 1) for size in x.shape]
        for axis, span in now.items():
            parts[inside[axis]] = span
        starts, stops, steps = zip(*parts, strict=True)
        dims = tuple(len(range(*now[axis])) if axis in now else size for axis, size in enumerate(b.dims(x)))
        seen = laid(dims, groups, batch_axis(x))
        x = b.emit(op, "slice", [x], {"start": starts, "stop": stops, "step": steps}, seen=seen, last=False)
    if last:
        b.alias(op, x)
    return x


def pick(b: Builder, op: Op, x: Value, axis: int, places: np.ndarray) -> Value:
    """The numbers at some places along one of ONNX's axes, in the order given: runs of them, joined."""
    whole, runs, begin = [slice(None)] * len(x.axes), [], 0
    while begin < len(places):
        step = int(places[begin + 1] - places[begin]) if begin + 1 < len(places) else 1
        end = begin + 1
        while step > 0 and end < len(places) and places[end] - places[end - 1] == step:
            end += 1
        runs.append(slice(int(places[begin]), int(places[end - 1]) + 1, max(step, 1)))
        begin = end
    x = b.form(op, x, _innermost(b, [x], axis)) if len(runs) > 1 else x
    return join(b, op, [cut_axes(b, op, x, (*whole[:axis], run, *whole[axis + 1 :]), last=False) for run in runs], axis)


def cut(b: Builder, op: Op) -> None:
    """Slice."""
    x = data(b.take(op.inputs[0]))
    spans = [optional(b, op, at) for at in range(1, 5)]
    cut_axes(b, op, x, slices(op, b.dims(x), *(None if span is None else span.fixed for span in spans)))


def split(b: Builder, op: Op) -> None:
    """Split along any axis but the batch, by given sizes or into equal parts."""
    x, given = data(b.take(op.inputs[0])), optional(b, op, 1)
    axis = op.attrs.get("axis", 0) % len(x.axes)
    size, parts = b.dims(x)[axis], len(op.outputs)
    sizes = op.attrs.get("split") if given is None else [int(n) for n in given.fixed]
    each, begin = -(-size // parts), 0
    for name, part in zip(op.outputs, sizes or [each] * parts, strict=True):
        cuts = [slice(None)] * len(x.axes)
        cuts[axis] = slice(begin, min(begin + part, size))
        begin += part
        if name:
            cut_axes(b, replace(op, name=f"{op.name}/{name}", outputs=(name,)), x, tuple(cuts))


def gather(b: Builder, op: Op) -> None:
    """Gather of data at constant places along any axis but the batch."""
    x, given = data(b.take(op.inputs[0])), constant(b.take(op.inputs[1]), "places").fixed
    axis = op.attrs.get("axis", 0) % len(x.axes)
    size = b.dims(x)[axis]
    if not given.size or given.min() < -size or given.max() >= size:
        raise Unsupported(f"places {given.tolist()} along an axis of {size}")
    x = pick(b, op, x, axis, np.where(given < 0, given + size, given).ravel())
    dims = b.dims(x)
    seen = regroup(x, dims[:axis] + given.shape + dims[axis + 1 :], b.batch[0])
    assert seen is not None, "one axis falls into several, or goes"
    b.alias(op, seen)


def to_depth(b: Builder, op: Op) -> None:
    """DepthToSpace and SpaceToDepth: the same numbers, seen in other sizes and another order."""
    x, size = b.image(op, data(b.take(op.inputs[0]))), op.attrs["blocksize"]
    n, c, h, w = b.dims(x)
    if op.kind == "SpaceToDepth":
        sizes, order = (n, c, h // size, size, w // size, size), (0, 3, 5, 1, 2, 4)
        made = n, c * size**2, h // size, w // size
    else:
        made = n, c // size**2, h * size, w * size
        rows_first = op.attrs.get("mode", "DCR") == "DCR"
        sizes = (n, size, size, made[1], h, w) if rows_first else (n, made[1], size, size, h, w)
        order = (0, 3, 4, 1, 5, 2) if rows_first else (0, 1, 4, 2, 5, 3)
    apart = regroup(x, sizes, n) if prod(sizes) == prod((n, c, h, w)) else None
    seen = None if apart is None else regroup(transposed(apart, order), made, n)
    if seen is None:
        raise Unsupported(f"blocks of {size} of sizes {[c, h, w]}")
    b.alias(op, seen)
