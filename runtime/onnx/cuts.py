"""ONNX's operators that join values, and take parts of them."""

from dataclasses import replace

import numpy as np

from runtime.onnx.builder import Builder
from runtime.onnx.fold import slices
from runtime.onnx.graph import Op, Unsupported
from runtime.onnx.inputs import constant, data, optional
from runtime.onnx.values import BATCH, Groups, Value, batch_axis, laid, regroup

MOST = 64  # inputs of one concat of the model file


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
