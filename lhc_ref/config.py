"""What a training run is told: one frozen value, from a TOML file and flags, stored with the run."""

import difflib
import json
import math
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from lhc_ref.data import NORMALISATIONS, VALIDATIONS
from lhc_ref.devices import DEVICES
from lhc_ref.errors import ConfigError
from lhc_ref.models import MODELS, convolutions
from lhc_ref.schedule import DECAYS

DTYPES = ("float32", "float64")
ENABLINGS = ("independent", "nested")
SELECTIONS = ("qualified", "accuracy")


def _option(default: Any, text: str) -> Any:
    """A field with its help text, which the command line shows."""
    return field(default=default, metadata={"help": text})


@dataclass(frozen=True)
class TrainConfig:
    """A training run; the same configuration gives the same weights, bit for bit, on one machine and thread count.

    Each field is a key of the TOML file and, with dashes, a flag of `lhc-ref train`; its help text says what it means.

    Raises
    ------
    ConfigError : a value of the wrong type or out of range.
    """

    data: str = _option("digits", "digits, an .npz file with x and y, or a folder: CIFAR-10's binary files or images")
    model: str = _option("digits-cnn", f"the net: {', '.join(MODELS)}")
    width: float = _option(1.0, "its channels as a share of the model's own")
    conv: str = _option("lhc-free", f"its convolutions: {convolutions.HELP}")
    target_density: float = _option(0.12, "share of the weights that LHC layers shall keep")
    groups: tuple[int, int] = _option((16, 16), "adjacent input, output channels that share one pattern")
    seed: int = _option(0, "of initial weights, enabled channels, batches and augmentation")
    epochs_coarse: int = _option(28, "epochs that learn weights and masks")
    epochs_fine: int = _option(22, "epochs that learn weights under frozen masks")
    enable_epochs: int = _option(6, "warm-up: epochs until every channel uses its mask")
    ramp_epochs: int = _option(6, "epochs until the density regularizer has its full strength")
    strength: float = _option(4.0, "that full strength, in units of s0")
    batch: int = _option(64, "images a step")
    lr: float = _option(0.1, "learning rate of the coarse stage")
    lr_fine: float = _option(0.05, "learning rate of the fine stage")
    decay: str = _option("cosine", f"how the rate falls within a stage: {', '.join(DECAYS)}")
    momentum: float = _option(0.9, "Nesterov momentum")
    stop: int = _option(0, "end a stage after this many epochs without a better validation accuracy; 0: never")
    shift: int = _option(1, "augmentation: shift by up to this many pixels, the border repeated")
    crop: int = _option(0, "augmentation: pad by this many zeros, crop at random")
    flip: bool = _option(False, "augmentation: mirror left to right by chance")
    enabling: str = _option("independent", f"warm-up: how each epoch draws its channels: {', '.join(ENABLINGS)}")
    normalisation: str = _option("deviation", f"of images: {', '.join(NORMALISATIONS)} (a quirk)")
    validation: str = _option("split", f"what epochs are chosen by: {', '.join(VALIDATIONS)} (a quirk)")
    selection: str = _option("qualified", f"the coarse stage's result: {', '.join(SELECTIONS)} (a quirk)")
    dtype: str = _option("float32", f"of weights and arithmetic: {', '.join(DTYPES)}")
    device: str = _option("cpu", f"where to compute: {', '.join(DEVICES)} (an NVIDIA GPU, extra cupy)")
    checkpoint_steps: int = _option(0, "also save after every this many steps; 0: only after each epoch")

    def __post_init__(self) -> None:
        for f in fields(self):
            object.__setattr__(self, f.name, _typed(f.name, getattr(self, f.name), f.default))
        convolutions.parse(self.conv)
        self._need("model", self.model in MODELS, f"one of {', '.join(MODELS)}")
        for name, known in CHOICES.items():
            self._need(name, getattr(self, name) in known, f"one of {', '.join(known)}")
        self._need("decay", self.decay in DECAYS, f"one of {', '.join(DECAYS)}")
        self._need("dtype", self.dtype in DTYPES, f"one of {', '.join(DTYPES)}")
        self._need("target_density", 0 < self.target_density <= 1, "a share above 0 and at most 1")
        self._need("groups", min(self.groups) >= 1, "two integers of at least 1, as in 16,16")
        self._need("momentum", 0 <= self.momentum < 1, "a number in [0, 1)")
        for name in (
            "seed",
            "epochs_fine",
            "enable_epochs",
            "ramp_epochs",
            "strength",
            "stop",
            "shift",
            "crop",
            "checkpoint_steps",
        ):
            self._need(name, getattr(self, name) >= 0, "at least 0")
        for name in ("epochs_coarse", "batch"):
            self._need(name, getattr(self, name) >= 1, "at least 1")
        for name in ("lr", "lr_fine", "width"):
            self._need(name, getattr(self, name) > 0, "a number above 0")
        if self.learns_masks:
            # Why: the coarse stage's result is the best epoch among those with all channels enabled.
            self._need("epochs_coarse", self.epochs_coarse > self.enable_epochs, "more than enable_epochs")

    @property
    def learns_masks(self) -> bool:
        """Whether the net has LHC layers."""
        return self.conv.startswith("lhc-")

    def _need(self, name: str, ok: bool, expected: str) -> None:
        if not ok:
            raise ConfigError(
                f"{name}: expected {expected}, got {getattr(self, name)!r}. Change it in the flags or file."
            )


CHOICES = {
    "enabling": ENABLINGS,
    "normalisation": NORMALISATIONS,
    "validation": VALIDATIONS,
    "selection": SELECTIONS,
    "device": DEVICES,
}

PRESETS: dict[str, dict[str, Any]] = {
    "sound": {},
    "authors": {
        "model": "vgg16",
        "conv": "lhc-free",
        "target_density": 0.1,
        "groups": (32, 16),
        "epochs_coarse": 100,
        "epochs_fine": 200,
        "enable_epochs": 20,
        "ramp_epochs": 20,
        "strength": 4.0,
        "batch": 256,
        "lr": 0.1,
        "lr_fine": 0.01,
        "decay": "plateau",
        "momentum": 0.9,
        "stop": 20,
        "shift": 4,
        "crop": 0,
        "flip": True,
        "enabling": "independent",
        "normalisation": "authors",
        "validation": "test",
        "selection": "accuracy",
        "dtype": "float32",
    },
}
"""Recipes by name. "sound" are the defaults. "authors" is theirs for VGG16 on CIFAR-10 (arXiv 2301.05440 and their
code) with its quirks: epochs are chosen by the test split, whatever their density and warm-up; each split is normalised
by its own mean; the stop after 20 epochs comes before the plateau of 20 ever cuts the rate. Left out are faults of
their code that made it fail: where the fine stage looks for its start, and checkpoints compared as strings."""


def _typed(name: str, value: Any, default: Any) -> Any:
    """`value` as the type of the field's default; a TOML file may hold anything."""
    number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if isinstance(default, tuple):
        if isinstance(value, list | tuple) and len(value) == len(default):
            return tuple(_typed(name, v, d) for v, d in zip(value, default, strict=True))
        raise ConfigError(f"{name}: expected {len(default)} integers, got {value!r}. Write them as [16, 16].")
    if isinstance(default, str) and isinstance(value, str):
        return value
    if isinstance(default, bool) and isinstance(value, bool):
        return value
    if isinstance(default, float) and number:
        return float(value)
    if type(default) is int and number and isinstance(value, int):
        return value
    kind = {bool: "true or false", str: "text", float: "a finite number", int: "an integer"}[type(default)]
    raise ConfigError(f"{name}: expected {kind}, got {value!r}. Change it in the flags or file.")


def resolve(values: Mapping[str, Any]) -> TrainConfig:
    """A configuration from some of its fields, the rest as the preset (key `preset`) has them, or at their defaults.

    Raises
    ------
    ConfigError : a key that is no field, with the closest one named; an unknown preset; or as `TrainConfig`.
    """
    preset = values.get("preset", "sound")
    if not isinstance(preset, str) or preset not in PRESETS:
        raise ConfigError(f"preset: expected one of {', '.join(PRESETS)}, got {preset!r}. Use one of these.")
    names = ["preset", *(f.name for f in fields(TrainConfig))]
    for key in values:
        if key not in names:
            close = difflib.get_close_matches(key, names, 1)
            hint = f"Did you mean {close[0]!r}?" if close else f"Known are {', '.join(names)}."
            raise ConfigError(f"configuration: expected known keys, got {key!r}. {hint}")
    return TrainConfig(**{**PRESETS[preset], **{key: value for key, value in values.items() if key != "preset"}})


def read_toml(path: Path) -> dict[str, Any]:
    """The keys and values of a TOML file.

    Raises
    ------
    ConfigError : not readable, or not TOML.
    """
    try:
        return tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as e:
        raise ConfigError(f"{path}: expected a readable file, got {e.strerror or e}. Check the path.") from e
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as e:
        raise ConfigError(f"{path}: expected a TOML file, got {e}. Write lines like `seed = 0`.") from e


def to_toml(config: TrainConfig) -> str:
    """The configuration as a TOML file that `read_toml` and `resolve` turn back into it."""
    # Why: JSON's texts, numbers and lists are TOML's.
    return "".join(f"{key} = {json.dumps(value)}\n" for key, value in asdict(config).items())
