"""What users pass in and want out, held against the model's inputs and outputs."""

from collections.abc import Mapping
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
    return given


def _check_array(what: str, array: Any, view: View, kinds: tuple[type, ...]) -> None:
    fits, batch = isinstance(array, kinds), ("n",) if view.batched else ()
    rank, skipped = len(batch) + len(view.shape), len(batch)
    if not fits or array.dtype != np.float32 or array.ndim != rank or array.shape[skipped:] != view.shape:
        got = f"{array.dtype}{list(array.shape)}" if fits else type(array).__name__
        if fits and array.dtype == np.float32:
            advice = "Give it that shape" + (", the batch first" if batch else "")
        else:
            advice = f"Convert it with numpy.asarray(x, numpy.float32){' and put the batch first' if batch else ''}"
        raise InputError(
            f"{what}: expected float32[{', '.join(map(str, (*batch, *view.shape)))}], got {got}. {advice}."
        )
