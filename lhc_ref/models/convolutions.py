"""The choice of a net's convolutions: one text, from the command line or a configuration, for a whole net."""

from dataclasses import dataclass, field
from typing import Any

from lhc_ref.arrays import pair
from lhc_ref.errors import ConfigError
from lhc_ref.layers import Conv2d, Draws, Layer, LhcConv2d
from lhc_ref.related import csg, lean
from lhc_ref.related.layers import CsgConv2d, Generator, HetConv2d, LeanConv2d, NmConv2d

KINDS: dict[str, tuple[str, str]] = {
    "standard": ("", ""),
    "lhc-free": ("", ""),
    "lhc-rigid": ("", ""),
    "hetconv": ("4", "p, one input channel in p keeping all taps"),
    "csg": ("12/72", "12/72 or 16/128, slice width and code length of 3x3 kernels"),
    "csg-binary": ("12/72", "as csg, with a generator of +-0.5 that is not trained"),
    "lean": ("5-point", f"stencil: {', '.join(lean.STENCILS)}"),
    "nm": ("2:4", "N:M, the N largest of M input channels"),
}
"""Each kind with its argument's default and meaning; the argument follows a colon, as in `hetconv:8`."""

HELP = ", ".join(kind + (f"[:{default}]" if default else "") for kind, (default, _) in KINDS.items())


@dataclass
class Convolutions:
    """Makes the convolutions of one net, in the place of ordinary ones.

    Parameters
    ----------
    text : "KIND" or "KIND:ARGUMENT", of `KINDS`
    groups : (group_in, group_out) of LHC layers
    generator_kind : how the generator of CSG starts: "uniform" | "normal"

    Attributes
    ----------
    shared : the generator, once a layer needed it

    Raises
    ------
    ConfigError : another kind, or an argument it cannot take.
    """

    text: str = "standard"
    groups: tuple[int, int] = (16, 16)
    generator_kind: str = "uniform"
    shared: Generator | None = None
    kind: str = field(init=False)
    options: dict[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        self.kind, self.options = parse(self.text)
        if self.kind == "csg-binary":
            self.generator_kind = "binary"

    def __call__(
        self, name: str, c_in: int, c_out: int, rng: Draws, *, size: int | tuple[int, int] = 3, **options: Any
    ) -> Layer:
        """A layer, given what an ordinary convolution is given."""
        taps = pair(size, "size")
        if taps == (1, 1) and self.kind in ("lhc-rigid", "hetconv", "lean"):
            raise ConfigError(
                f"conv: expected a kind that 1x1 kernels can have, got {self.text} for {name}. "
                f"Use standard, lhc-free, csg or nm in this net."
            )
        if self.kind == "standard":
            return Conv2d(name, c_in, c_out, rng, size=size, **options)
        if self.kind in ("lhc-free", "lhc-rigid"):
            group_in, group_out = self.groups
            options = {**options, "group_in": group_in, "group_out": group_out}
            return LhcConv2d(name, c_in, c_out, rng, size=size, kind=self.kind.removeprefix("lhc-"), **options)
        if self.kind == "hetconv":
            return HetConv2d(name, c_in, c_out, rng, size=size, **self.options, **options)
        if self.kind == "nm":
            return NmConv2d(name, c_in, c_out, rng, size=size, **self.options, **options)
        if self.kind == "lean":
            kept = {key: value for key, value in options.items() if key != "padding"}
            return LeanConv2d(name, c_in, c_out, rng, **self.options, **kept)
        if self.shared is None:
            setting = "16/16 pointwise" if taps == (1, 1) else self.options["setting"]
            slice_shape, length = csg.SETTINGS[setting]
            dtype = options.get("dtype", "float32")
            self.shared = Generator(
                "generator", rng, slice_shape=slice_shape, length=length, kind=self.generator_kind, dtype=dtype
            )
        return CsgConv2d(name, c_in, c_out, rng, size=size, generator=self.shared, **options)


def parse(text: str) -> tuple[str, dict[str, Any]]:
    """A kind and the options its layers take, of "KIND" or "KIND:ARGUMENT".

    Raises
    ------
    ConfigError : another kind, or an argument it cannot take.
    """
    kind, colon, argument = text.partition(":")
    if kind not in KINDS:
        raise ConfigError(f"conv: expected one of {', '.join(KINDS)}, got {text!r}. Use one of these.")
    default, meaning = KINDS[kind]
    if colon and not default:
        raise ConfigError(f"conv: expected {kind} without an argument, got {text!r}. Leave it out.")
    options = _options(kind, argument if colon else default)
    if options is None:
        raise ConfigError(f"conv: expected after {kind}: {meaning}; got {text!r}. {kind}:{default} is the default.")
    return kind, options


def _options(kind: str, argument: str) -> dict[str, Any] | None:
    """What an argument means; None where it means nothing."""
    numbers = [int(part) for part in argument.split(":") if part.isdecimal()]
    if kind == "hetconv":
        return {"p": numbers[0]} if argument.isdecimal() and numbers[0] > 0 else None
    if kind == "nm":
        return {"n": numbers[0], "m": numbers[1]} if len(numbers) == 2 and 1 <= numbers[0] <= numbers[1] else None
    if kind == "lean":
        return {"stencil": argument} if argument in lean.STENCILS else None
    if kind in ("csg", "csg-binary"):
        return {"setting": argument} if argument in ("12/72", "16/128") else None
    return {}
