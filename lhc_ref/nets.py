"""Nets: a body of layers with what training and export ask of it."""

from collections.abc import Mapping
from types import ModuleType

import numpy as np

from lhc_ref.arrays import Array, namespace, to_numpy
from lhc_ref.errors import InputError
from lhc_ref.fingerprint import fingerprint
from lhc_ref.layers import Layer, LhcConv2d, Pass, Value


class Net:
    """A body of layers and the shape of what it reads.

    Parameters
    ----------
    body : gives f[n, classes], the logits
    image_shape : (h, w, c)

    Attributes
    ----------
    layers : all layers with weights or state of their own, in order
    lhc_layers : those that learn masks
    weights, state : "layer.role" -> array
        The arrays themselves: owned by the layers, changed in place by training.

    Raises
    ------
    InputError : two layers of one name.
    """

    def __init__(self, body: Layer, image_shape: tuple[int, int, int]) -> None:
        self.body, self.image_shape = body, image_shape
        self.layers = list(body.leaves())
        names = [layer.name for layer in self.layers]
        if len(set(names)) < len(names):
            raise InputError(f"net: expected a name for each layer, got {', '.join(names)}. Rename the repeated one.")
        self.lhc_layers = [layer for layer in self.layers if isinstance(layer, LhcConv2d)]
        self._name_arrays()

    def _name_arrays(self) -> None:
        self.weights = {f"{layer.name}.{role}": w for layer in self.layers for role, w in layer.weights.items()}
        self.state = {f"{layer.name}.{role}": s for layer in self.layers for role, s in layer.state.items()}

    def move(self, xp: ModuleType) -> None:
        """Put weights and state into new arrays of another module, as of `devices.namespace_of`."""
        for arrays in (arrays for layer in self.layers for arrays in (layer.weights, layer.state)):
            arrays.update({role: xp.asarray(array) for role, array in arrays.items()})
        self._name_arrays()

    def __call__(self, x: Array, run: Pass) -> Value:
        """Logits f[n, classes] of images f[n, h, w, c], recorded on the pass's tape if it has one."""
        return self.body(x, run)

    def predict(self, x: np.ndarray, batch: int = 256) -> np.ndarray:
        """Logits f[n, classes] of images f[n, h, w, c] without a tape, `batch` images at a time."""
        xp = namespace(next(iter(self.weights.values())))
        parts = (x[i : i + batch] for i in range(0, len(x), batch))
        return np.concatenate([to_numpy(self(xp.asarray(part), Pass())) for part in parts])

    def load(self, weights: Mapping[str, Array], state: Mapping[str, Array]) -> None:
        """Copy weights and state into the net's own.

        Raises
        ------
        InputError : other names, shapes or dtypes than the net's.
        """
        for own, given in ((self.weights, weights), (self.state, state)):
            for name in sorted(own.keys() | given.keys()):
                if name not in own or name not in given:
                    raise InputError(
                        f"{name}: expected the names of this net's arrays, got one more or less. Use its net."
                    )
                if own[name].shape != given[name].shape or own[name].dtype != given[name].dtype:
                    raise InputError(
                        f"{name}: expected {own[name].dtype}{list(own[name].shape)}, got "
                        f"{given[name].dtype}{list(given[name].shape)}. Use the net that it was saved from."
                    )
            for name, array in own.items():
                array[...] = namespace(array).asarray(given[name])

    def freeze_masks(self) -> None:
        """Make every mask final: scores are no longer trained, and each channel uses its mask."""
        for layer in self.lhc_layers:
            layer.formable = False
            layer.state["enabled"][...] = True

    def all_enabled(self) -> bool:
        """Whether every channel of every LHC layer uses its mask."""
        return all(bool(layer.state["enabled"].all()) for layer in self.lhc_layers)

    def kept(self) -> tuple[int, int]:
        """(kept, all) weights of the LHC layers, with the channels enabled now; (0, 0) without such layers."""
        total = sum(layer.weights["kernel"].size for layer in self.lhc_layers)
        return sum(layer.kept() for layer in self.lhc_layers), total

    def density(self) -> float:
        """Kept weights of the LHC layers over all of them; 1 without such layers."""
        kept, total = self.kept()
        return kept / total if total else 1.0

    def weights_hash(self) -> str:
        """A hash of every weight's and state's name, type, shape and bits: equal for equal nets alone."""
        return fingerprint({name: to_numpy(a) for name, a in {**self.weights, **self.state}.items()})
