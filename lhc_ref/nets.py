"""Nets: a body of layers with what training and export ask of it, and a factory for each that is known by name."""

from collections.abc import Callable, Mapping
from functools import partial

import numpy as np

from lhc_ref import ops
from lhc_ref.arrays import Array
from lhc_ref.errors import ConfigError, InputError
from lhc_ref.fingerprint import fingerprint
from lhc_ref.layers import BatchNorm, Conv2d, Dense, Layer, LhcConv2d, Operator, Pass, Sequential, Value

MakeConv = Callable[..., Conv2d]


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

    def __init__(self, body: Sequential, image_shape: tuple[int, int, int]) -> None:
        self.body, self.image_shape = body, image_shape
        self.layers = list(body.leaves())
        names = [layer.name for layer in self.layers]
        if len(set(names)) < len(names):
            raise InputError(f"net: expected a name for each layer, got {', '.join(names)}. Rename the repeated one.")
        self.lhc_layers = [layer for layer in self.layers if isinstance(layer, LhcConv2d)]
        self.weights = {f"{layer.name}.{role}": w for layer in self.layers for role, w in layer.weights.items()}
        self.state = {f"{layer.name}.{role}": s for layer in self.layers for role, s in layer.state.items()}

    def __call__(self, x: Array, run: Pass) -> Value:
        """Logits f[n, classes] of images f[n, h, w, c], recorded on the pass's tape if it has one."""
        return self.body(x, run)

    def predict(self, x: Array, batch: int = 256) -> Array:
        """Logits f[n, classes] of images f[n, h, w, c] without a tape, `batch` images at a time."""
        return np.concatenate([self(x[i : i + batch], Pass()) for i in range(0, len(x), batch)])

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
                array[...] = given[name]

    def freeze_masks(self) -> None:
        """Make every mask final: scores are no longer trained, and each channel uses its mask."""
        for layer in self.lhc_layers:
            layer.formable = False
            layer.state["enabled"][...] = True

    def all_enabled(self) -> bool:
        """Whether every channel of every LHC layer uses its mask."""
        return all(layer.state["enabled"].all() for layer in self.lhc_layers)

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
        return fingerprint({**self.weights, **self.state})


def convolution(kind: str, groups: tuple[int, int]) -> MakeConv:
    """The layer that a factory uses for its convolutions.

    Parameters
    ----------
    kind : "standard" | "lhc-free" | "lhc-rigid"
    groups : (group_in, group_out) of an LHC layer

    Raises
    ------
    ConfigError : another kind.
    """
    if kind == "standard":
        return Conv2d
    if kind in ("lhc-free", "lhc-rigid"):
        return partial(LhcConv2d, kind=kind.removeprefix("lhc-"), group_in=groups[0], group_out=groups[1])
    raise ConfigError(f"conv: expected standard, lhc-free or lhc-rigid, got {kind!r}. Use one of these.")


def digits_cnn(
    image_shape: tuple[int, int, int], classes: int, make_conv: MakeConv, rng: np.random.Generator, dtype: str
) -> Net:
    """A small net for small images: stem 32, then 64 | pool | 64, 128, 128 with batch norm, global average, dense."""

    def block(name: str, make: MakeConv, c_in: int, c_out: int) -> list[Layer]:
        # Why no bias: batch norm's beta is one.
        return [
            make(name, c_in, c_out, rng, bias=False, dtype=dtype),
            BatchNorm(f"{name}_norm", c_out, dtype=dtype),
            Operator(f"{name}_relu", ops.relu),
        ]

    layers = [
        *block("stem", Conv2d, image_shape[2], 32),
        *block("conv1", make_conv, 32, 64),
        Operator("pool", ops.max_pool, size=(2, 2), padding="same"),
        *block("conv2", make_conv, 64, 64),
        *block("conv3", make_conv, 64, 128),
        *block("conv4", make_conv, 128, 128),
        Operator("average", ops.global_average_pool),
        Dense("head", 128, classes, rng, dtype=dtype),
    ]
    return Net(Sequential("digits-cnn", layers), image_shape)


def golden(
    image_shape: tuple[int, int, int], classes: int, make_conv: MakeConv, rng: np.random.Generator, dtype: str
) -> Net:
    """The smallest net with two LHC layers, without batch norm: stem 8, 12 | pool | 10, global average, dense.

    The one that the authors' layers were trained in for the tests' trajectories, with groups (4, 4) and (8, 4) there.
    """
    layers = [
        Conv2d("stem", image_shape[2], 8, rng, dtype=dtype),
        Operator("stem_relu", ops.relu),
        make_conv("lhc1", 8, 12, rng, dtype=dtype),
        Operator("lhc1_relu", ops.relu),
        Operator("pool", ops.max_pool, size=(2, 2), padding="same"),
        make_conv("lhc2", 12, 10, rng, dtype=dtype),
        Operator("lhc2_relu", ops.relu),
        Operator("average", ops.global_average_pool),
        Dense("head", 10, classes, rng, dtype=dtype),
    ]
    return Net(Sequential("golden", layers), image_shape)


NETS: dict[str, Callable[..., Net]] = {"digits-cnn": digits_cnn, "golden": golden}


def make_net(
    model: str,
    conv: str = "standard",
    *,
    image_shape: tuple[int, int, int],
    classes: int,
    groups: tuple[int, int] = (16, 16),
    seed: int = 0,
    dtype: str = "float32",
) -> Net:
    """A net by name, with the convolution asked for and freshly drawn weights.

    Parameters
    ----------
    model : a key of `NETS`
    conv : "standard" | "lhc-free" | "lhc-rigid"; stem and classifier stay ordinary
    image_shape : (h, w, c)
    classes : outputs
    groups : (group_in, group_out) of LHC layers
    seed : of the initial weights
    dtype : "float32" | "float64", of the weights

    Raises
    ------
    ConfigError : an unknown name.
    """
    if model not in NETS:
        raise ConfigError(f"model: expected one of {', '.join(NETS)}, got {model!r}. Use one of these.")
    rng = np.random.default_rng(seed)
    return NETS[model](image_shape, classes, convolution(conv, groups), rng, dtype)
