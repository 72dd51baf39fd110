"""The authors' Keras weight files (`save_weights("x.h5")` of Keras 2) read into our nets (extra `keras`).

Each layer of the file is a group with the attribute `weight_names`; the root's attribute `layer_names` has their order.
A convolution of the authors has the variables `_W_`, `effect` (the scores) and `_b_`; ordinary layers have `kernel` and
`bias`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np

from lhc_ref import extras
from lhc_ref.errors import DataError
from lhc_ref.layers import Layer
from lhc_ref.models import make_net
from lhc_ref.nets import Net

ROLES = {
    "_W_": "kernel",
    "kernel": "kernel",
    "effect": "scores",
    "effects": "scores",
    "_b_": "bias",
    "bias": "bias",
    "gamma": "gamma",
    "beta": "beta",
    "moving_mean": "mean",
    "moving_variance": "variance",
}
"""A variable's name in the file -> the role it has here."""

MOST_PROBLEMS = 8


@dataclass(frozen=True)
class KerasLayer:
    """A layer of the file: its variables by their own names, in the file's order."""

    name: str
    variables: dict[str, np.ndarray]


def read(path: Path) -> list[KerasLayer]:
    """The layers with variables, in the net's order.

    Raises
    ------
    DataError : no such file, not HDF5, or not laid out as Keras 2 does.
    MissingExtraError : h5py is not there.
    """
    h5py = extras.keras()
    if not Path(path).is_file():
        raise DataError(f"{path}: expected a Keras weight file (.h5), got no such file. Check the path.")
    try:
        with h5py.File(path, "r") as whole:
            root = whole.get("model_weights", whole)
            if "layer_names" not in root.attrs:
                raise DataError(
                    f"{path}: expected the attribute layer_names, got {', '.join(root.attrs) or 'none'}. "
                    f'Save it with save_weights("x.h5") of Keras 2.'
                )
            layers = [_layer(root, _text(name)) for name in root.attrs["layer_names"]]
    except (OSError, KeyError, RuntimeError, ValueError, TypeError, AttributeError) as e:
        # Why so many: a damaged file fails anywhere in HDF5.
        raise DataError(f"{path}: expected a Keras weight file (.h5), got {e}. Write it anew.") from e
    return [layer for layer in layers if layer.variables]


def _text(name: Any) -> str:
    return name.decode() if isinstance(name, bytes) else str(name)


def _layer(root: Any, name: str) -> KerasLayer:
    variables: dict[str, np.ndarray] = {}
    for path in map(_text, root[name].attrs["weight_names"]):
        own = path.rsplit("/", 1)[-1].split(":")[0]
        variables[path if own in variables else own] = np.array(root[name][path])
    return KerasLayer(name, variables)


def kind_of(layers: list[KerasLayer]) -> str:
    """The convolutions of a file: "lhc-free", "lhc-rigid", or "standard" where no layer has an effect."""
    ranks = {v.ndim for layer in layers for own, v in layer.variables.items() if ROLES.get(own) == "scores"}
    if not ranks:
        return "standard"
    return "lhc-rigid" if ranks == {3} else "lhc-free"


def to_net(layers: list[KerasLayer], source: str, model: str, **options: Any) -> Net:
    """A net with the file's weights.

    Parameters
    ----------
    layers : in the order of the model's layers with weights
    source : what to call the file in errors
    model, options : as for `make_net`, but for conv and seed

    Returns
    -------
    The net with its masks frozen.

    Raises
    ------
    DataError : every variable that is missing, extra, misshapen or not finite, by name.
    """
    net = make_net(model, kind_of(layers), seed=None, **options)
    problems, found = [], {}
    ours = [layer for layer in net.layers if layer.weights]
    for own, theirs in zip_longest(ours, layers):
        if theirs is None:
            problems.append(f"missing: a layer for {own.name} with {_wanted(own)}")
        elif own is None:
            problems.append(f"extra: layer {theirs.name} with {', '.join(theirs.variables)}")
        else:
            found[own.name] = _match(own, theirs, problems)
    if problems:
        more = f"; and {len(problems) - MOST_PROBLEMS} more" if len(problems) > MOST_PROBLEMS else ""
        raise DataError(
            f"{source}: expected the variables of {model}, got {'; '.join(problems[:MOST_PROBLEMS])}{more}. "
            f"Use the file's model, groups, width and classes."
        )
    # Why made again: the net above has shapes alone.
    net = make_net(model, kind_of(layers), seed=0, **options)
    for layer in net.layers:
        for own_arrays in (layer.weights, layer.state):
            for role in own_arrays.keys() & found.get(layer.name, {}).keys():
                own_arrays[role][...] = found[layer.name][role]
    net.freeze_masks()
    return net


def _match(own: Layer, theirs: KerasLayer, problems: list[str]) -> Mapping[str, np.ndarray]:
    """The variables of a layer by role; what is wrong with them is added to `problems`."""
    wanted = _arrays(own)
    where = f"{theirs.name} (for {own.name})"
    given: dict[str, np.ndarray] = {}
    for name, values in theirs.variables.items():
        role = ROLES.get(name)
        if role not in wanted or role in given:
            problems.append(f"extra: {name} of {where}")
            continue
        given[role] = values
        if values.shape != wanted[role].shape:
            shapes = f"{list(values.shape)} instead of {list(wanted[role].shape)}"
            problems.append(f"misshapen: {name} of {where}, {shapes}")
        elif values.dtype.kind != "f" or not np.isfinite(values).all():
            problems.append(f"not finite numbers: {name} of {where}")
    missing = [role for role in wanted if role not in given]
    problems += [f"missing: {_their_name(own, role)} of {where}" for role in missing]
    return given


def _arrays(layer: Layer) -> dict[str, np.ndarray]:
    """What a file has of a layer, by role; enabled channels are never saved."""
    return {role: array for role, array in {**layer.weights, **layer.state}.items() if role != "enabled"}


def _wanted(layer: Layer) -> str:
    return ", ".join(f"{_their_name(layer, role)} {list(array.shape)}" for role, array in _arrays(layer).items())


def _their_name(layer: Layer, role: str) -> str:
    """What the file calls a role: the authors' name in their layers, Keras' elsewhere."""
    names = [name for name, ours in ROLES.items() if ours == role]
    return names[0] if "scores" in layer.weights else names[-1]
