"""Targets of Keras 3: Layer classes, with TensorFlow, PyTorch or JAX beneath."""

import inspect
from typing import Any

import numpy as np

from lhc_ref import extras
from lhc_ref.check.adapters.base import Adapter, Declaration, check_shape, constructor_settings
from lhc_ref.check.protocol import DIFFERENTIABLE, UnsupportedError


class KerasAdapter(Adapter):
    """Constructs and builds the layer, sets its weights by name, and differentiates by Keras's backend.

    As for torch: the constructor gets the settings that its signature names, weights are found by name or alias, and
    the mask is read from `mask`, a method or attribute. The backend is Keras's own choice (KERAS_BACKEND).
    """

    takes_more = False  # a Layer's **kwargs are Keras's own

    def __init__(self, target: Any, declaration: Declaration) -> None:
        super().__init__(target, declaration)
        self.keras = extras.framework("keras")
        self.backend = extras.framework(
            {"tensorflow": "tensorflow", "torch": "torch"}.get(self.keras.backend.backend(), "jax")
        )
        if self.backend.__name__ == "jax":
            self.backend.config.update("jax_enable_x64", True)  # else float64 is float32

    def call(self, arrays: dict[str, Any], geometry: dict[str, Any]) -> dict[str, Any]:
        if not (isinstance(self.target, type) and issubclass(self.target, self.keras.layers.Layer)):
            raise UnsupportedError("keras: expected a Layer class. Check functions with the framework beneath.")
        return self.constructed(
            constructor_settings(geometry, arrays),
            lambda layer: self._layer(layer, arrays, geometry["dtype"]),
            lambda layer: layer(arrays["x"]),
            dtype=geometry["dtype"],
        )

    def _layer(self, layer: Any, arrays: dict[str, Any], dtype: str) -> dict[str, Any]:
        layer.build(arrays["x"].shape)
        variables: dict[str, Any] = {}
        for name, value in arrays.items():
            if name in ("x", "dy"):
                continue
            own = self.attribute(layer, name)
            if own is None:
                if name == "enabled" and value.all():
                    continue
                raise UnsupportedError(f"the layer has no {name!r}; declare its name with --names {name}=...")
            old = getattr(layer, own)
            if hasattr(old, "assign"):
                check_shape(name, own, tuple(value.shape), tuple(old.shape))
                old.assign(value)
                variables |= {name: old} if name in DIFFERENTIABLE else {}
            else:
                setattr(layer, own, value)
        answer, gradients = getattr(self, f"_by_{self.backend.__name__}")(layer, arrays, variables, dtype)
        own = self.attribute(layer, "mask")
        if "mask" not in answer and own is not None and "mask" not in arrays:
            value = getattr(layer, own)
            answer["mask"] = value() if callable(value) else value
        return {**answer, **gradients}

    def to_numpy(self, value: Any) -> np.ndarray:
        value = self.keras.ops.convert_to_numpy(value)
        return value.astype("float32") if str(value.dtype) == "bfloat16" else value

    def dtype_of(self, value: Any) -> str:
        return str(self.keras.backend.standardize_dtype(value.dtype))

    def _by_tensorflow(self, layer: Any, arrays: Any, variables: Any, dtype: str) -> tuple[dict, dict]:
        tf = self.backend
        x = tf.cast(tf.constant(arrays["x"]), dtype)
        with tf.GradientTape() as tape:
            tape.watch(x)
            answer = self.answer(layer(x, **_training(layer)), "")
        y, leaves = answer["y"], {"x": x, **{k: v.value for k, v in variables.items()}}
        if tuple(y.shape) != arrays["dy"].shape:
            return answer, {}
        dy = tf.cast(tf.constant(arrays["dy"]), y.dtype)
        found = tape.gradient(y, list(leaves.values()), dy, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        return answer, {f"d{name}": d for name, d in zip(leaves, found, strict=True)}

    def _by_torch(self, layer: Any, arrays: Any, variables: Any, dtype: str) -> tuple[dict, dict]:
        torch = self.backend
        x = torch.from_numpy(arrays["x"].copy()).to(getattr(torch, dtype)).requires_grad_()
        answer = self.answer(layer(x, **_training(layer)), "")
        y, leaves = answer["y"], {"x": x, **{k: v.value for k, v in variables.items()}}
        if tuple(y.shape) != arrays["dy"].shape:
            return answer, {}
        dy = torch.from_numpy(arrays["dy"].copy()).to(y.dtype)
        found = torch.autograd.grad(y, list(leaves.values()), dy, allow_unused=True)
        pairs = zip(leaves.items(), found, strict=True)
        return answer, {f"d{n}": torch.zeros_like(leaf) if d is None else d for (n, leaf), d in pairs}

    def _by_jax(self, layer: Any, arrays: Any, variables: Any, dtype: str) -> tuple[dict, dict]:
        jax = self.backend
        names, trainable = list(variables), layer.trainable_variables
        others = layer.non_trainable_variables

        def run(x: Any, values: list[Any]) -> tuple[Any, dict[str, Any]]:
            chosen = {id(variables[n]): v for n, v in zip(names, values, strict=True)}
            weights = [chosen.get(id(v), v.value) for v in trainable]
            returned, _ = layer.stateless_call(weights, [v.value for v in others], x, **_training(layer))
            answer = self.answer(returned, "")
            return answer.pop("y"), answer

        x = jax.numpy.asarray(arrays["x"]).astype(dtype)
        y, vjp, answer = jax.vjp(run, x, [variables[n].value for n in names], has_aux=True)
        answer = {"y": y, **answer}
        if y.shape != arrays["dy"].shape:
            return answer, {}
        dx, found = vjp(jax.numpy.asarray(arrays["dy"]).astype(y.dtype))
        return answer, {"dx": dx, **{f"d{n}": d for n, d in zip(names, found, strict=True)}}


def _training(layer: Any) -> dict[str, bool]:
    """`training=True` for layers whose call takes it."""
    return {"training": True} if "training" in inspect.signature(layer.call).parameters else {}
