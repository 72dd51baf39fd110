"""Targets that are functions of NumPy arrays: also for C++ behind ctypes, CuPy, and anything else with a wrapper."""

import inspect
from typing import Any

from lhc_ref.check.adapters.base import Adapter, Declaration


class NumpyAdapter(Adapter):
    """The protocol itself: `target(arrays, geometry)` returns the answer."""

    def __init__(self, target: Any, declaration: Declaration) -> None:
        super().__init__(target, declaration)
        if inspect.isclass(target):
            raise TypeError("expected a function, got a class; for a layer of torch, jax or keras say so: --framework")

    def call(self, arrays: dict[str, Any], geometry: dict[str, Any]) -> dict[str, Any]:
        return self.target(arrays, geometry)
