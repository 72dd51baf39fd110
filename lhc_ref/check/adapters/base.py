"""What adapters have in common: finding a target's names for things."""

import inspect
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import product
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

SPATIAL = ("kernel_size", "stride", "dilation", "padding")
NUMBER, PAIR = "number", "pair"  # forms of a spatial setting: 3, or (3, 3)
Forms = dict[str, set[str]]


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
        # Forms that the target takes of spatial settings; empty: as its signature suggests.
        self.forms: Forms = {name: {NUMBER} for name in SPATIAL} if declaration.square else {}

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
                raise UnsupportedError(f"takes no argument {name.removesuffix('_used')!r}")
        missing = [
            p.name
            for p in parameters
            if p.default is p.empty and p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL) and p.name not in given
        ]
        if missing:
            ours = [n for n in offered if n not in ("bias_used", "pads") and given.keys().isdisjoint(self.spellings(n))]
            raise UnsupportedError(
                f"wants {', '.join(missing)}, which no setting is called; if it is another name for one of ours, which "
                f"are {', '.join(ours)}, say so: --names {ours[0] if ours else 'OURS'}={missing[0]}"
            )
        return given

    def _fitted(
        self, name: str, value: Any, spelling: str, parameters: list[inspect.Parameter], offered: Mapping[str, Any]
    ) -> Any:
        """A spatial setting in a form that the target takes, or that its defaults show; others as they are."""
        default = {p.name: p.default for p in parameters}
        if name == "padding":
            word = isinstance(default[spelling], str) or not self.declaration.square
            if type(default[spelling]) not in (int, tuple) and word:
                return value
            (top, bottom), (left, right) = offered["pads"]
            if top != bottom or left != right:
                raise UnsupportedError(f"takes numbers as {spelling!r}, the same on both sides")
            return self._formed(name, (top, left), spelling, {NUMBER, PAIR})
        if name in SPATIAL:
            numbers = any(type(default.get(s)) is int for n in SPATIAL for s in self.spellings(n))
            return self._formed(name, value, spelling, {NUMBER, PAIR} if numbers else {PAIR})
        return value

    def _formed(self, name: str, value: tuple[int, int], spelling: str, usual: set[str]) -> int | tuple[int, int]:
        forms = self.forms.get(name, usual)
        if NUMBER in forms and value[0] == value[1]:
            return value[0]
        if PAIR not in forms:
            raise UnsupportedError(f"takes one number as {spelling!r}")
        return value

    def constructed(
        self, offered: Mapping[str, Any], call: Callable[[Any], Any], probe: Callable[[Any], object], **more: Any
    ) -> Any:
        """`call(layer)` of the layer that the target constructs.

        Parameters
        ----------
        offered : settings, of which its signature chooses
        probe : calls a layer that has other sizes than the case: where `call` raises TypeError, to find out whether
            the target takes numbers or pairs; then `call` is tried again
        more : arguments of the constructor that are no settings
        """
        try:
            return call(self.target(**self.arguments(self.target, offered), **more))
        except (TypeError, ValueError) as error:
            if not isinstance(offered["padding"], str) and self._word_is_default("padding"):
                raise UnsupportedError(
                    f"takes words as 'padding' (pixels raise {type(error).__name__}: {error})"
                ) from error
            if isinstance(error, ValueError) or self.forms or not self._learn_forms(offered, probe, more):
                raise
        return call(self.target(**self.arguments(self.target, offered), **more))

    def _word_is_default(self, name: str) -> bool:
        return any(p.name in self.spellings(name) and isinstance(p.default, str) for p in _parameters(self.target))

    def _learn_forms(self, offered: Mapping[str, Any], probe: Callable[[Any], object], more: Mapping[str, Any]) -> bool:
        """Which forms of a square kernel and equal strides raise no TypeError; False: none."""
        word = offered["padding"] if isinstance(offered["padding"], str) else "valid"
        square = {**offered, "padding": word, "pads": ((0, 0), (0, 0))}
        square |= {name: (square[name][0],) * 2 for name in SPATIAL if name in offered and name != "padding"}

        def raises(forms: Forms) -> bool:
            self.forms = forms
            try:
                probe(self.target(**self.arguments(self.target, square), **more))
            except TypeError:
                return True
            except Exception:  # of sizes, say: the question is about types
                return False
            return False

        tried = ({n: {f} for n, f in zip(SPATIAL, forms, strict=True)} for forms in product((NUMBER, PAIR), repeat=4))
        works = next((forms for forms in tried if not raises(forms)), {})
        others = {n: {NUMBER, PAIR} - forms for n, forms in works.items()}
        self.forms = {n: f if raises({**works, n: others[n]}) else {NUMBER, PAIR} for n, f in works.items()}
        return bool(works)

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


SHAPES = {"kernel": " (layout: --kernel-layout)", "scores": " (a pattern for each group, also for a short last one)"}


def check_shape(name: str, own: str, want: tuple[int, ...], got: tuple[int, ...]) -> None:
    """Raise ValueError where the layer's array `own` has not the shape that our `name` has."""
    if want != got:
        raise ValueError(f"{own}: expected the shape {want} as declared{SHAPES.get(name, '')}, got {got}")


def constructor_settings(geometry: Mapping[str, Any], arrays: Mapping[str, Any]) -> dict[str, Any]:
    """What a layer's constructor is offered."""
    settings = {k: v for k, v in geometry.items() if k not in ("level", "dtype")}
    return {**settings, "bias_used": "bias" in arrays}
