"""Targets of PyTorch: nn.Module classes, autograd.Function classes, and functions of tensors."""

import inspect
import operator
from typing import Any

import numpy as np

from lhc_ref import extras
from lhc_ref.check.adapters.base import Adapter, Declaration, check_shape, constructor_settings
from lhc_ref.check.protocol import DIFFERENTIABLE, UnsupportedError


class TorchAdapter(Adapter):
    """Differentiates what the target returns with torch.autograd.

    An nn.Module class is constructed with the settings that its signature names; its parameters `kernel`, `scores`,
    `bias` and its buffer `enabled` (or their aliases) are set; its mask is read from `mask`, a method or attribute.
    A function or autograd.Function gets tensors and settings by the names of its arguments, and returns y or (y, mask).
    """

    def __init__(self, target: Any, declaration: Declaration) -> None:
        super().__init__(target, declaration)
        self.torch = extras.framework("torch")
        if isinstance(target, self.torch.nn.Module):
            raise TypeError(f"expected a class, got one of its objects; name the class {type(target).__name__}")

    def call(self, arrays: dict[str, Any], geometry: dict[str, Any]) -> dict[str, Any]:
        torch = self.torch
        dtype = getattr(torch, geometry["dtype"])
        tensors = {name: self._tensor(array, dtype) for name, array in arrays.items() if name != "masks"}
        if "masks" in arrays:
            tensors["masks"] = [self._tensor(m, dtype).requires_grad_() for m in arrays["masks"]]
        leaves = {name: tensors[name].requires_grad_() for name in DIFFERENTIABLE if name in tensors}
        if "masks" in tensors:
            leaves = {f"mask{i}": m for i, m in enumerate(tensors["masks"])}
        if isinstance(self.target, type) and issubclass(self.target, torch.nn.Module):
            answer = self.constructed(
                constructor_settings(geometry, tensors),
                lambda module: self._module(module, tensors, geometry, leaves),
                lambda module: module.to(dtype)(tensors["x"]),
            )
        else:
            answer = self._function(tensors, geometry)
        if not isinstance(answer["y"], torch.Tensor):
            raise TypeError(f"expected a tensor as output, got {type(answer['y']).__name__}")
        return {**answer, **self._gradients(answer["y"], tensors["dy"], leaves)}

    def dtype_of(self, value: Any) -> str:
        return str(value.dtype).removeprefix("torch.")

    def to_numpy(self, value: Any) -> np.ndarray:
        value = value.detach().cpu()
        return (value.float() if value.dtype == self.torch.bfloat16 else value).numpy()

    def set_threads(self, count: int) -> None:
        self.torch.set_num_threads(count)

    def _tensor(self, array: np.ndarray, dtype: Any) -> Any:
        tensor = self.torch.from_numpy(np.array(array))
        return tensor if tensor.dtype == self.torch.bool else tensor.to(dtype)

    def _module(
        self, module: Any, tensors: dict[str, Any], geometry: dict[str, Any], leaves: dict[str, Any]
    ) -> dict[str, Any]:
        torch = self.torch
        module = module.to(getattr(torch, geometry["dtype"]))
        for name, value in tensors.items():
            if name in ("x", "dy"):
                continue
            own = self._place(module, name)
            if own is None:
                if name == "enabled" and bool(value.all()):
                    continue
                raise UnsupportedError(f"the module has no {name!r}; declare its name with --names {name}=...")
            old = operator.attrgetter(own)(module)
            if isinstance(old, torch.nn.Parameter):
                check_shape(name, own, tuple(value.shape), tuple(old.shape))
            leaves |= {name: _put(torch, module, own, value)} if name in leaves else {}
            if name not in leaves:
                _put(torch, module, own, value)
        module.train()
        answer = self.answer(module(tensors["x"]), geometry["level"])
        for extra in ("mask", "kernel") if geometry["level"] == "csg" else ("mask",):
            own = self.attribute(module, extra)
            if extra not in answer and own is not None and extra not in tensors:
                value = operator.attrgetter(own)(module)
                answer[extra] = value() if callable(value) else value
        return answer

    def _place(self, module: Any, name: str) -> str | None:
        """Where the module has our `name`: its own attribute, else the one parameter or buffer of a submodule."""
        own = self.attribute(module, name)
        if own is not None or name in self.declaration.names:
            return own
        inner = [path for path, _ in (*module.named_parameters(), *module.named_buffers())]
        for spelling in self.spellings(name):
            found = [path for path in inner if path.endswith(f".{spelling}")]
            if len(found) > 1:
                raise UnsupportedError(f"the module has {' and '.join(found)}; declare one with --names {name}=...")
            if found:
                return found[0]
        return None

    def _function(self, tensors: dict[str, Any], geometry: dict[str, Any]) -> dict[str, Any]:
        offered = {**{k: v for k, v in tensors.items() if k != "dy"}, **geometry}
        target: Any = self.target
        function = self.torch.autograd.Function
        if inspect.isclass(self.target) and issubclass(self.target, function):
            given = self.arguments(target.forward, offered, skip=1)
            return self.answer(target.apply(*_in_order(target.forward, given)), geometry["level"])
        return self.answer(target(**self.arguments(target, offered)), geometry["level"])

    def _gradients(self, y: Any, dy: Any, leaves: dict[str, Any]) -> dict[str, Any]:
        """Zeros where y does not depend on an array; nothing at all where y has another shape than it should."""
        if tuple(y.shape) != tuple(dy.shape):
            return {}
        if not y.requires_grad:
            return {f"d{name}": self.torch.zeros_like(leaf) for name, leaf in leaves.items()}
        found = self.torch.autograd.grad(y, list(leaves.values()), dy.to(y.dtype), allow_unused=True)
        pairs = zip(leaves.items(), found, strict=True)
        return {f"d{name}": self.torch.zeros_like(leaf) if d is None else d for (name, leaf), d in pairs}


def _in_order(forward: Any, given: dict[str, Any]) -> list[Any]:
    """The arguments of a Function, by position; an array that the case does not have is None."""
    return [given.get(name) for name in list(inspect.signature(forward).parameters)[1:]]


def _put(torch: Any, module: Any, name: str, value: Any) -> Any:
    """Set a parameter or buffer; the tensor that the module then uses."""
    path, _, name = name.rpartition(".")
    module = module.get_submodule(path)
    old = getattr(module, name)
    if isinstance(old, torch.nn.Parameter):
        with torch.no_grad():
            old.copy_(value)
        return old.requires_grad_()
    if isinstance(old, torch.Tensor):
        value = value.detach().to(old.dtype)
    setattr(module, name, value)
    return value
