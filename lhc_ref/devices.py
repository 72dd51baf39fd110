"""Where a net computes: NumPy arrays on the CPU, or CuPy's on an NVIDIA GPU, by the same code."""

from types import ModuleType

import numpy as np

from lhc_ref import extras
from lhc_ref.errors import ConfigError

DEVICES = ("cpu", "cuda")


def namespace_of(device: str) -> ModuleType:
    """The module whose arrays live on a device: numpy, or cupy.

    Raises
    ------
    MissingExtraError : "cuda" without CuPy.
    ConfigError : CuPy finds no GPU.
    """
    if device == "cpu":
        return np
    cupy = extras.cupy()
    if not cupy.cuda.is_available():
        raise ConfigError("device: expected an NVIDIA GPU for cuda, got none that CuPy can use. Use --device cpu.")
    return cupy
