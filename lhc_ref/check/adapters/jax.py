"""Targets of JAX: functions of arrays."""

import os
from typing import Any

import numpy as np

from lhc_ref import extras
from lhc_ref.check.adapters.base import Adapter, Declaration
from lhc_ref.check.protocol import DIFFERENTIABLE


class JaxAdapter(Adapter):
    """Differentiates with jax.vjp a function that takes arrays and settings by name and returns y or (y, mask)."""

    def __init__(self, target: Any, declaration: Declaration) -> None:
        super().__init__(target, declaration)
        os.environ.setdefault("JAX_PLATFORMS", "cpu")
        self.jax = extras.framework("jax")
        self.jax.config.update("jax_enable_x64", True)

    def call(self, arrays: dict[str, Any], geometry: dict[str, Any]) -> dict[str, Any]:
        jnp, dtype = self.jax.numpy, geometry["dtype"]
        if "masks" in arrays:
            leaves: dict[str, Any] = {"masks": [jnp.asarray(m).astype(dtype) for m in arrays["masks"]]}
        else:
            leaves = {name: jnp.asarray(arrays[name]).astype(dtype) for name in DIFFERENTIABLE if name in arrays}
        constants = {k: jnp.asarray(v) for k, v in arrays.items() if k not in leaves and k != "dy"}

        def run(leaves: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
            given = self.arguments(self.target, {**leaves, **constants, **geometry})
            answer = self.answer(self.target(**given), geometry["level"])
            return answer.pop("y"), answer

        y, vjp, answer = self.jax.vjp(run, leaves, has_aux=True)
        answer = {"y": y, **answer}
        if y.shape != arrays["dy"].shape:
            return answer
        (found,) = vjp(jnp.asarray(arrays["dy"]).astype(y.dtype))
        if "masks" in found:
            return {**answer, **{f"dmask{i}": d for i, d in enumerate(found["masks"])}}
        return {**answer, **{f"d{name}": d for name, d in found.items()}}

    def dtype_of(self, value: Any) -> str:
        return str(value.dtype)

    def to_numpy(self, value: Any) -> np.ndarray:
        return np.asarray(value.astype("float32") if str(value.dtype) == "bfloat16" else value)
