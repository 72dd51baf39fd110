"""Adapters: how targets of each framework are called. A framework itself is imported only when asked for."""

from lhc_ref.check.adapters.base import Adapter, Declaration
from lhc_ref.check.adapters.jax import JaxAdapter
from lhc_ref.check.adapters.keras import KerasAdapter
from lhc_ref.check.adapters.numpy import NumpyAdapter
from lhc_ref.check.adapters.torch import TorchAdapter

ADAPTERS: dict[str, type[Adapter]] = {
    "numpy": NumpyAdapter,
    "torch": TorchAdapter,
    "jax": JaxAdapter,
    "keras": KerasAdapter,
}

__all__ = ["ADAPTERS", "Adapter", "Declaration"]
