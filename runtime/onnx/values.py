"""A value of an ONNX graph: a value of the model to be, and how ONNX's axes are made of its numbers."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from math import prod

import numpy as np

from runtime.onnx.graph import Unsupported
from runtime.views import View

Shape = tuple[int, ...]
Axes = tuple[Shape, ...]
Groups = Sequence[Sequence[int]]  # ONNX's axes of which each of the model's axes is made
BATCH = -1


@dataclass(frozen=True)
class Value:
    """What an ONNX name stands for. Nothing is moved by a reshape or a transpose: the same numbers are seen otherwise.

    Parameters
    ----------
    name : of the model's value
    shape : the model's, (h, w, c) or (features,)
    split : sizes of the parts that the model's numbers fall into, in the model's order
    axes : for each of ONNX's axes the parts that it is made of, the slowest first; (BATCH,) is the batch, and () an
        axis of size 1
    sole : whether the one reader of this name is the only reader of the model's value
    """

    name: str
    shape: Shape
    split: Shape
    axes: Axes
    sole: bool = False

    def dims(self, batch: int) -> Shape:
        """ONNX's shape."""
        return tuple(batch if axis == (BATCH,) else prod(self.split[part] for part in axis) for axis in self.axes)

    @property
    def order(self) -> Shape:
        """The parts as ONNX's axes have them one after the other, without the batch."""
        return tuple(part for axis in self.axes for part in axis if part != BATCH)

    @property
    def data_axes(self) -> list[int]:
        """ONNX's axes that are not the batch."""
        return [i for i, axis in enumerate(self.axes) if axis != (BATCH,)]

    def index(self) -> np.ndarray:
        """i64[numbers]: where in ONNX's order each of the model's numbers stands."""
        split = [self.split[part] for part in self.order]
        return np.arange(prod(split)).reshape(split).transpose(np.argsort(self.order)).ravel()

    def place(self, axis: int) -> int | None:
        """Which of the model's axes one of ONNX's is; None where it is none, or of size 1."""
        parts = self.axes[axis]
        if len(parts) != 1 or parts == (BATCH,):
            return None
        ends = prod(self.split[parts[0] :]), prod(self.split[parts[0] + 1 :])
        places = [i for i in range(len(self.shape)) if (prod(self.shape[i:]), prod(self.shape[i + 1 :])) == ends]
        return places[0] if places else None

    def groups(self) -> Groups | None:
        """ONNX's axes of which each of the model's is made, in `form`'s words; None where they do not fall so."""
        places = {axis: self.place(axis) for axis in self.data_axes if self.axes[axis]}
        if None in places.values():
            return None
        return [[axis for axis, place in places.items() if place == i] for i in range(len(self.shape))]


def make(name: str, shape: Shape, split: Sequence[int], axes: Sequence[Sequence[int]], sole: bool) -> Value:
    """A value with as few parts as can be: none of size 1, and none that always follows another."""
    kept = [part for part, size in enumerate(split) if size != 1]
    number = {old: new for new, old in enumerate(kept)} | {BATCH: BATCH}
    left = [[number[part] for part in axis if part in number] for axis in axes]
    follows = {b for axis in left for a, b in pairwise(axis) if b == a + 1}
    heads = [part for part in range(len(kept)) if part not in follows]
    sizes = [prod(split[old] for old in kept[a:b]) for a, b in pairwise([*heads, len(kept)])]
    number = {head: i for i, head in enumerate(heads)} | {BATCH: BATCH}
    joined = tuple(tuple(number[part] for part in axis if part in number) for axis in left)
    return Value(name, shape, tuple(sizes), joined, sole)


def laid(dims: Sequence[int], groups: Groups, batch_axis: int | None) -> tuple[Shape, Axes]:
    """Parts and axes of a value of ONNX's shape `dims` whose model's axes are made of ONNX's by `groups`."""
    flat = [axis for group in groups for axis in group]
    axes: list[Shape] = [()] * len(dims)
    for part, axis in enumerate(flat):
        axes[axis] = (part,)
    if batch_axis is not None:
        axes[batch_axis] = (BATCH,)
    return tuple(dims[axis] for axis in flat), tuple(axes)


def regroup(value: Value, target: Shape, batch: int) -> Value | None:
    """The value seen in another of ONNX's shapes; None where the numbers would have to be moved for that."""
    queue = [(part, batch if part == BATCH else value.split[part]) for axis in value.axes for part in axis]
    pieces: list[list[int]] = [[] for _ in value.split]
    found: list[list[tuple[int, int]]] = []  # of each axis: part, and number of the piece of it
    for size in target:
        axis: list[tuple[int, int]] = []
        if queue and queue[0][0] == BATCH and size == batch:
            found.append([(queue.pop(0)[0], 0)])
            continue
        left = size
        while left > 1:
            if not queue or queue[0][0] == BATCH:
                return None
            part, length = queue.pop(0)
            if left % length and length % left:
                return None
            taken = min(left, length)
            if taken < length:
                queue.insert(0, (part, length // taken))
            axis.append((part, len(pieces[part])))
            pieces[part].append(taken)
            left //= taken
        found.append(axis)
    if queue:
        return None
    begins = np.cumsum([0, *map(len, pieces)])
    axes = [[BATCH if part == BATCH else int(begins[part]) + piece for part, piece in axis] for axis in found]
    return make(value.name, value.shape, [size for part in pieces for size in part], axes, value.sole)


def transposed(value: Value, order: Sequence[int]) -> Value:
    """The value with ONNX's axes in another order."""
    return replace(value, axes=tuple(value.axes[axis] for axis in order))


def batch_axis(value: Value) -> int | None:
    """Which of ONNX's axes is the batch."""
    return value.axes.index((BATCH,)) if (BATCH,) in value.axes else None


def view(value: Value, batched: bool) -> View:
    """How an array of ONNX's lies to the model's; without a batch the whole array is one example."""
    if batched and value.axes[:1] != ((BATCH,),):
        raise Unsupported("a value whose first axis is not the batch")
    shape, order = value.dims(1)[int(batched) :], value.order
    split = tuple(value.split[part] for part in order)
    return View(value.name, shape, split, tuple(int(axis) for axis in np.argsort(order)), value.shape, batched)
