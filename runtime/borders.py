"""What users pass in and want out, held against the model's inputs and outputs."""

from collections.abc import Iterable, Mapping
from itertools import combinations
from typing import Any

import numpy as np

from lhc_ref.modelfile import InputError
from runtime.views import View

Arrays = np.ndarray | Mapping[str, np.ndarray]


def check_inputs(views: Mapping[str, View], x: Any, kinds: tuple[type, ...] = (np.ndarray,)) -> tuple[dict, int]:
    """The input arrays by name, [n, ...] each, and the batch size; InputError where a name, dtype or shape is wrong."""
    names = list(views)
    given = dict(x) if isinstance(x, Mapping) else {names[0]: x}
    if sorted(given) != sorted(names):
        raise InputError(
            f"inputs: expected arrays named {sorted(names)}, got {sorted(given)}. Pass a dict with one array for each."
        )
    for name, view in views.items():
        _check_array(f"input {name!r}", given[name], view, kinds)
    given = {name: view.examples(given[name]) for name, view in views.items()}
    sizes = {a.shape[0] for a in given.values()}
    if len(sizes) > 1:
        raise InputError(f"inputs: expected one batch size, got {sorted(sizes)}. Pass arrays with equal first axes.")
    return given, sizes.pop()


def check_outputs(views: Mapping[str, View], out: Any, batch: int, kinds: tuple[type, ...] = (np.ndarray,)) -> dict:
    """The arrays to write by name; InputError where a name, dtype or shape is wrong, or one cannot be written."""
    given = dict(out) if isinstance(out, Mapping) else {next(iter(views)): out}
    if sorted(given) != sorted(views):
        raise InputError(f"out: expected arrays named {sorted(views)}, got {sorted(given)}. Pass one for each output.")
    for name, array in given.items():
        _check_array(f"out {name!r}", array, views[name], kinds)
        if views[name].batched and array.shape[0] != batch:
            raise InputError(f"out {name!r}: expected {batch} images, got {array.shape[0]}. Allocate it anew.")
        if isinstance(array, np.ndarray) and not array.flags.writeable:
            raise InputError(f"out {name!r}: expected a writeable array, got a read-only one. Allocate it anew.")
    for (first, one), (second, other) in combinations(given.items(), 2):
        both = isinstance(one, np.ndarray) and isinstance(other, np.ndarray)  # others' memory only they can tell
        if one is other or (both and np.shares_memory(one, other)):
            raise InputError(
                f"out: expected arrays that share no memory, got {first!r} and {second!r} that do. Allocate one anew."
            )
    return given


def sources(views: Mapping[str, View], inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What a run reads, by the names of the model's values: the inputs as the model's arrays lie in them, or a copy of
    one that does not allow it.
    """
    inward = {view.value: view.inward(inputs[name]) for name, view in views.items()}
    return {value: array if array.flags.aligned else array.copy() for value, array in inward.items()}


def targets(
    views: Mapping[str, View], outputs: Mapping[str, np.ndarray], inputs: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """What a run writes, by the names of the model's values: the outputs as the model's arrays lie in them, or a new
    array in place of one that does not allow it or may share memory with an input.
    """
    return {view.value: _target(view, outputs[name], inputs.values()) for name, view in views.items()}


def _target(view: View, output: np.ndarray, inputs: Iterable[np.ndarray]) -> np.ndarray:
    target = view.inward(view.examples(output))
    if not target.flags.aligned or any(np.may_share_memory(target, read) for read in inputs):
        return np.empty(target.shape, np.float32)
    return target


def deliver(views: Mapping[str, View], targets: Mapping[str, np.ndarray], outputs: Mapping[str, np.ndarray]) -> None:
    """Copy into the outputs what a run has written elsewhere."""
    for name, view in views.items():
        if not np.may_share_memory(targets[view.value], outputs[name]):
            view.examples(outputs[name])[...] = view.outward(targets[view.value])


def _check_array(what: str, array: Any, view: View, kinds: tuple[type, ...]) -> None:
    fits, skipped = isinstance(array, kinds), int(view.batched)
    right = fits and array.dtype == np.float32 and array.ndim == skipped + len(view.shape)
    if not right or array.shape[skipped:] != view.shape:
        got = f"{array.dtype}{list(array.shape)}" if fits else type(array).__name__
        raise InputError(f"{what}: expected {view}, got {got}. {_advice(array if fits else None, view)}.")


def _advice(array: Any, view: View) -> str:
    """What to do about an array, or something else (None), that is not what it should be."""
    first = "the batch first" if view.batched else ""
    if array is None or array.dtype != np.float32:
        return f"Convert it with numpy.asarray(x, numpy.float32){' and put ' * view.batched}{first}"
    turn = turned(array.shape[1:], view.shape) if view.batched else None
    if turn is not None:
        return f"Transpose it: x{turn[0]}; or load the model with layout={turn[1]!r}"
    return "Give it that shape" + ", " * view.batched + first


def turned(shape: tuple[int, ...], wanted: tuple[int, ...]) -> tuple[str, str] | None:
    """How to make images of the wanted shape of such that have their channels first instead of last, or last instead of
    first, and the name of the layout that they have; None where they have not.
    """
    if len(shape) != 3 or len(wanted) != 3:
        return None
    if shape == (wanted[2], *wanted[:2]):
        return ".transpose(0, 2, 3, 1)", "NCHW"
    return (".transpose(0, 3, 1, 2)", "NHWC") if shape == (*wanted[1:], wanted[0]) else None
