"""The one place where optional packages are imported, and only when a feature asks for them."""

import importlib
from types import ModuleType

from lhc_ref.errors import MissingExtraError

# extra in pyproject.toml: the modules it brings, imported in this order; the last is the one handed out.
EXTRAS: dict[str, tuple[str, ...]] = {
    "demo": ("sklearn.datasets",),
    "images": ("PIL.Image",),
    "plots": ("matplotlib.figure",),
    "onnx": ("onnx",),
    "keras": ("h5py",),
    "check": ("hypothesis",),
    "cupy": ("cupy",),
    "cuda": ("numba.cuda",),  # numba's own, or that of the package numba-cuda, which takes its place
}


def require(extra: str, module: str | None = None) -> ModuleType:
    """Import what an extra brings, and return its module.

    Parameters
    ----------
    extra : a key of EXTRAS.
    module : another module that the extra brings, to be imported and returned instead.

    Raises
    ------
    MissingExtraError
        A module of the extra cannot be imported. The message names it and the pip line that installs it.
    """
    for name in (module,) if module else EXTRAS[extra]:
        try:
            found = importlib.import_module(name)
        except ImportError as error:
            raise MissingExtraError(
                f"extra '{extra}': expected the module {name}, got '{error}'. Install it: pip install 'lhc[{extra}]'"
            ) from error
    return found


def framework(name: str) -> ModuleType:
    """The framework of a layer that is to be checked: torch, keras, jax, tensorflow. No extra of ours installs it.

    Raises
    ------
    MissingExtraError
        It cannot be imported.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise MissingExtraError(
            f"framework '{name}': expected to be installed, got '{error}'. Install it: pip install {name}"
        ) from error


def demo() -> ModuleType:
    """`sklearn.datasets`, for the bundled handwritten digits."""
    return require("demo")


def linear_models() -> ModuleType:
    """`sklearn.linear_model`, for the LASSO of channel pruning; the extra is the same as for the digits."""
    return require("demo", "sklearn.linear_model")


def images() -> ModuleType:
    """`PIL.Image`, for image files."""
    return require("images")


def plots() -> ModuleType:
    """`matplotlib.figure`, for pictures; its Figure needs no display and keeps no global state."""
    return require("plots")


def onnx() -> ModuleType:
    """`onnx`, for ONNX files."""
    return require("onnx")


def keras() -> ModuleType:
    """`h5py`, for Keras files."""
    return require("keras")


def check() -> ModuleType:
    """`hypothesis`, for checks on random input."""
    return require("check")


def cuda() -> ModuleType:
    """`numba.cuda`, for NVIDIA GPUs: of numba itself, or of the package numba-cuda where that is installed."""
    return require("cuda")


def cupy() -> ModuleType:
    """`cupy`, for arrays on NVIDIA GPUs that NumPy's functions are mirrored for."""
    return require("cupy")
