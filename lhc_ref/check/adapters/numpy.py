"""Targets that are functions of NumPy arrays: also for C++ behind ctypes, CuPy, and anything else with a wrapper."""

from typing import Any

from lhc_ref.check.adapters.base import Adapter


class NumpyAdapter(Adapter):
    """The protocol itself: `target(arrays, geometry)` returns the answer."""

    def call(self, arrays: dict[str, Any], geometry: dict[str, Any]) -> dict[str, Any]:
        return self.target(arrays, geometry)
