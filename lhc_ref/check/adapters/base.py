"""What adapters have in common: finding a target's names for things."""

import inspect
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lhc_ref.check.protocol import UnsupportedError

# Other words that layers use for ours, in constructors, attributes and arguments.
ALIASES: Mapping[str, tuple[str, ...]] = {
    "c_in": ("in_channels", "channels_in"),
    "c_out": ("out_channels", "channels_out", "filters"),
    "kernel_size": ("size", "ksize"),
    "stride": ("strides",),
    "dilation": ("dilation_rate", "dilations"),
    "group_in": ("cgi", "groups_in", "gi"),
    "group_out": ("cgo", "groups_out", "go"),
    "kind": ("patterns", "mode"),
    "kernel": ("weight", "weights", "w"),
    "scores": ("effects", "score"),
    "bias": ("b",),
    "enabled": ("vector",),
    "bias_used": ("use_bias", "bias"),
}
PLAIN = {
    "stride": (1, 1), "padding": "same", "dilation": (1, 1), "group_in": 1, "group_out": 1, "kind": "free",
    "bias_used": True, "dtype": None, "enabled": None, "kernel_size": (3, 3), "groups": 1,
}  # fmt: skip


SPATIAL = ("kernel_size", "stride", "dilation")


@dataclass(frozen=True)
class Declaration:
    """What the user says about targets.

    Attributes
    ----------
    activations, kernels : layouts
    names : our name -> the target's, before the usual aliases
    square : the target takes one number as kernel_size, stride, dilation and padding
    """

    activations: str = "NHWC"
    kernels: str = "HWIO"
    names: Mapping[str, str] = field(default_factory=dict)
    square: bool = False


class Adapter:
    """Calls one target. `call` gets typed arrays in the declared layouts and returns arrays by name."""

    def __init__(self, target: Callable[..., Any], declaration: Declaration) -> None:
        self.target, self.declaration = target, declaration

    def call(self, arrays: dict[str, Any], geometry: dict[str, Any]) -> dict[str, Any]:
        raise UnsupportedError("adapter: expected one of the frameworks', got the base class. Use one of ADAPTERS.")

    def dtype_of(self, value: Any) -> str:
        """The name of a returned array's dtype."""
        return str(np.asarray(value).dtype)

    def to_numpy(self, value: Any) -> np.ndarray:
        """A returned array, with bfloat16 as float32."""
        return np.asarray(value)

    def set_threads(self, count: int) -> None:
        """Let the target compute with this many threads, or raise UnsupportedError."""
        setter = getattr(self.target, "set_threads", None)
        if setter is None:
            raise UnsupportedError(
                "threads: expected a target with set_threads(count), got none. Add one to have it tested."
            )
        setter(count)

    def spellings(self, name: str) -> tuple[str, ...]:
        """What the target may call our `name`, the declared name first."""
        declared = (self.declaration.names[name],) if name in self.declaration.names else ()
        return (*declared, name, *ALIASES.get(name, ()))

    takes_more = True  # whether a signature's **keywords stand for any setting of ours

    def arguments(self, function: Callable[..., Any], offered: Mapping[str, Any], skip: int = 0) -> dict[str, Any]:
        """Those of `offered` that the function's signature names, under its own names.

        Raises
        ------
        UnsupportedError : it has no argument for a setting that is not the plain one, or wants one that we do not know.
        """
        parameters = _parameters(function)[skip:]
        names = {p.name for p in parameters}
        open_ended = self.takes_more and any(p.kind is p.VAR_KEYWORD for p in parameters)
        given: dict[str, Any] = {}
        for name, value in offered.items():
            spelling = next((s for s in self.spellings(name) if s in names and s not in given), None)
            if spelling is not None:
                given[spelling] = self._fitted(name, value, spelling, parameters, offered)
            elif open_ended and name not in ("bias_used", "dtype", "pads"):
                given[name] = value
            elif name == "kernel_size" and not offered.keys().isdisjoint(("kernel", "stencil")):
                continue  # the array given shows it
            elif name in PLAIN and PLAIN[name] is not None and value != PLAIN[name]:
                shown = name.removesuffix("_used")
                raise UnsupportedError(f"takes no argument {shown!r}: {shown}={value} cannot be asked for")
        missing = [
            p.name
            for p in parameters
            if p.default is p.empty and p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL) and p.name not in given
        ]
        if missing:
            raise UnsupportedError(f"wants {', '.join(missing)}, which a case does not have; declare it with --names")
        return given

    def _fitted(
        self, name: str, value: Any, spelling: str, parameters: list[inspect.Parameter], offered: Mapping[str, Any]
    ) -> Any:
        """A setting in the form that the signature's defaults show: one number for both axes, pads as numbers."""
        defaults, square = {p.name: p.default for p in parameters}, self.declaration.square
        numbers = any(type(defaults.get(s)) is int for n in (*SPATIAL, "padding") for s in self.spellings(n))
        if name in SPATIAL and (square or numbers):
            if value[0] == value[1]:
                return value[0]
            if square:
                raise UnsupportedError(f"takes one number as {spelling!r}: {value} cannot be asked for")
        if name == "padding" and (square or type(defaults[spelling]) in (int, tuple)):
            (top, bottom), (left, right) = offered["pads"]
            if top != bottom or left != right or (square and top != left):
                raise UnsupportedError(f"takes numbers as {spelling!r}, the same on both sides: {value!r} needs others")
            return top if top == left else (top, left)
        return value

    def attribute(self, owner: Any, name: str) -> str | None:
        """The name under which `owner` has our `name`."""
        return next((s for s in self.spellings(name) if _has(owner, s)), None)

    def answer(self, returned: Any, level: str) -> dict[str, Any]:
        """{"y": ..., "mask": ...} from what a layer or function returned: y, (y, mask) or a dict."""
        if isinstance(returned, dict):
            if "y" not in returned:
                raise TypeError(f'expected y, (y, mask) or a dict with "y", got a dict with {", ".join(returned)}')
            return returned
        if isinstance(returned, tuple | list):
            return dict(zip(("y", "mask" if level != "csg" else "kernel"), returned, strict=False))
        return {"y": returned}


def _parameters(function: Callable[..., Any]) -> list[inspect.Parameter]:
    """Of its signature; of a class whose constructor hands *args and **kwargs on, also those of its bases."""
    if not inspect.isclass(function):
        return list(inspect.signature(function).parameters.values())
    found: dict[str, inspect.Parameter] = {}
    for base in function.__mro__:
        if "__init__" in vars(base):
            own = list(inspect.signature(vars(base)["__init__"]).parameters.values())[1:]
            more = [p for p in own if p.kind is p.VAR_KEYWORD]
            found = {p.name: p for p in own if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)} | found
            if not more:
                return list(found.values())
    return [*found.values(), *more]


def _has(owner: Any, path: str) -> bool:
    try:
        operator.attrgetter(path)(owner)
    except AttributeError:
        return False
    return True


def constructor_settings(geometry: Mapping[str, Any], arrays: Mapping[str, Any]) -> dict[str, Any]:
    """What a layer's constructor is offered."""
    settings = {k: v for k, v in geometry.items() if k not in ("level", "dtype")}
    return {**settings, "bias_used": "bias" in arrays}
