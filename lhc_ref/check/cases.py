"""Cases: one call of a layer each, with arrays that follow from the case alone. A case's id is its replay."""

from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

import numpy as np

from lhc_ref.check.precision import FORMATS
from lhc_ref.conv import Pads, output_size, resolve_padding
from lhc_ref.errors import InputError

Array = np.ndarray
Arrays = dict[str, Array]

LEVELS = ("free", "rigid", "masked", "hetconv", "csg", "lean", "nm", "regularizer")
NUMBERS = ("integer", "real")
KINDS_OF_SCORES = ("plain", "edges", "ties", "nan")
ENABLED = ("all", "some", "none")
AREAS = ("layer", "grouping", "enabled", "padding", "stride", "dilation", "dtype", "regularizer")
COUNTS = ("n", "h", "w", "kh", "kw", "ci", "co", "sy", "sx", "ry", "rx", "gi", "go", "p", "s", "m", "groups", "layers")
# Why: a case is computed a few hundred times where it is diagnosed, in float64, on anybody's machine.
LARGEST_COUNT = 1024
LARGEST_WORK = 2**24


@dataclass(frozen=True)
class Case:
    """One call. Sizes in pixels, taps and channels; `padding` is "same", "valid" or "top.bottom.left.right".

    `area` tells what a case is about: "layer" for plain geometry, where each tensor counts for its own area; otherwise
    everything it shows counts for that area.
    """

    level: str = "free"
    area: str = "layer"
    dtype: str = "float32"
    numbers: str = "integer"
    n: int = 1
    h: int = 4
    w: int = 4
    kh: int = 3
    kw: int = 3
    ci: int = 2
    co: int = 3
    sy: int = 1
    sx: int = 1
    ry: int = 1  # dilation
    rx: int = 1
    padding: str = "same"
    gi: int = 1
    go: int = 1
    bias: int = 1
    scores: str = "plain"
    enabled: str = "all"
    p: int = 2  # hetconv: one input channel in p has all taps; p divides ci
    s: int = 2  # csg: slices of s x s kernels; nm: keep s
    m: int = 4  # csg: length of a code; nm: of every m
    groups: int = 1  # lean: of the stencil
    layers: int = 2  # regularizer: masks
    target: float = 0.125
    seed: int = 0

    @property
    def id(self) -> str:
        """`level:key=value,...` of what differs from the defaults."""
        keys = (f for f in fields(self) if f.name != "level" and getattr(self, f.name) != f.default)
        return f"{self.level}:" + ",".join(f"{f.name}={getattr(self, f.name)}" for f in keys)

    @classmethod
    def parse(cls, text: str) -> "Case":
        """The case of an id.

        Raises
        ------
        InputError : not an id, or sizes that do not go together or are too large.
        """
        level, _, rest = text.partition(":")
        kinds = {f.name: type(f.default) for f in fields(cls)}
        try:
            values = dict(part.split("=") for part in rest.split(",") if part)
            case = cls(level, **{key: kinds[key](value) for key, value in values.items()})  # type: ignore[arg-type, misc]
            ok = valid(case)
        except (KeyError, ValueError, TypeError):
            ok = False
        if not ok:
            raise InputError(f"case: expected an id such as free:h=5,gi=2,seed=7, got {text!r}. Copy it from a report.")
        if too_large(case):
            raise InputError(
                f"case: expected sizes up to {LARGEST_COUNT} and up to {LARGEST_WORK} products and padded pixels, "
                f"got {text!r}. Take a smaller one."
            )
        return case

    @property
    def pads(self) -> Any:
        """Padding as `conv2d` takes it."""
        if self.padding in ("same", "valid"):
            return self.padding
        top, bottom, left, right = map(int, self.padding.split("."))
        return (top, bottom), (left, right)

    @property
    def pads_in_pixels(self) -> Pads:
        return resolve_padding(self.pads, (self.h, self.w), (self.kh, self.kw), (self.sy, self.sx), (self.ry, self.rx))

    @property
    def window(self) -> dict[str, Any]:
        return {"stride": (self.sy, self.sx), "padding": self.pads, "dilation": (self.ry, self.rx)}

    @property
    def output_hw(self) -> tuple[int, int]:
        return output_size((self.h, self.w), (self.kh, self.kw), **self.window)

    @property
    def group_counts(self) -> tuple[int, int]:
        return -(-self.ci // self.gi), -(-self.co // self.go)

    @property
    def geometry(self) -> dict[str, Any]:
        """What a target is told beside the arrays: see `lhc_ref.check.protocol`."""
        told: dict[str, Any] = {"level": self.level, "dtype": self.dtype}
        if self.level == "regularizer":
            return {**told, "pixels": self.pixels, "target_density": self.target}
        told |= {"c_in": self.ci, "c_out": self.co, "kernel_size": (self.kh, self.kw), **self.window}
        told["pads"] = self.pads_in_pixels
        own: dict[str, dict[str, Any]] = {
            "free": {"group_in": self.gi, "group_out": self.go, "kind": "free"},
            "rigid": {"group_in": self.gi, "group_out": self.go, "kind": "rigid"},
            "hetconv": {"p": self.p},
            "csg": {"slice_out": self.s, "slice_in": self.s, "code_length": self.m},
            "lean": {"groups": self.groups},
            "nm": {"keep": self.s, "of": self.m},
        }
        return told | own.get(self.level, {})

    @property
    def pixels(self) -> list[int]:
        return [(self.h * self.w) >> i or 1 for i in range(self.layers)]

    @cached_property
    def arrays(self) -> Arrays:
        """The call's arrays by name, float64 numbers that the case's dtype can hold; `enabled` and `mask` as 0, 1."""
        if self.level == "regularizer":
            return self._masks()
        n, (oh, ow) = self.n, self.output_hw
        arrays = {"x": self._numbers("x", (n, self.h, self.w, self.ci))}
        kernel = (self.kh, self.kw, self.ci, self.co)
        if self.level == "csg":
            rows = -(-self.co // self.s) * -(-self.ci // self.s)
            arrays["codes"] = self._numbers("codes", (rows, self.m), 1)
            arrays["generator"] = self._numbers("generator", (self.s * self.s * self.kh * self.kw, self.m), 1)
        elif self.level == "lean":
            arrays["stencil"] = self._numbers("stencil", (self.kh, self.kw, self.ci // self.groups, self.co))
            arrays["pointwise"] = self._numbers("pointwise", (1, 1, self.ci, self.co))
        else:
            arrays["kernel"] = self._untied(kernel) if self.level == "nm" else self._numbers("kernel", kernel)
        if self.level in ("free", "rigid"):
            arrays["scores"] = self._free_scores() if self.level == "free" else self._rigid_scores()
            arrays["enabled"] = self._enabled()
        if self.level == "masked":
            arrays["mask"] = (self._rng("mask").random(kernel) < 0.5).astype(np.float64)
        if self.bias:
            arrays["bias"] = self._numbers("bias", (self.co,))
        return {**arrays, "dy": self._numbers("dy", (n, oh, ow, self.co))}

    def _rng(self, role: str) -> np.random.Generator:
        return np.random.default_rng([self.seed, *role.encode()])

    def _numbers(self, role: str, shape: tuple[int, ...], largest: int = 3) -> Array:
        """Integers without 0, so small that sums of a few hundred products are exact in float32; or standard normal."""
        rng = self._rng(role)
        if self.numbers == "real":
            return FORMATS[self.dtype].round(rng.standard_normal(shape))
        return rng.integers(1, largest + 1, shape) * rng.choice([-1.0, 1.0], shape)

    def _untied(self, shape: tuple[int, ...]) -> Array:
        """A kernel whose weights differ in size along the input channels: no ties for N:M to break."""
        rng = self._rng("kernel")
        ranks = rng.random(shape).argsort(axis=2) + 1.0
        scale = 1.0 if self.numbers == "integer" else 0.375
        return ranks * scale * rng.choice([-1.0, 1.0], shape)

    def _enabled(self) -> Array:
        drawn = self._rng("enabled").random(self.co) < 0.5
        if self.enabled == "some":
            drawn[:2] = [False, True][: self.co]
            return drawn
        return np.full(self.co, self.enabled == "all")

    def _free_scores(self) -> Array:
        """Eighths on both sides of 0 and of the slope's window; on its edges and NaN where the case asks for it."""
        sizes = [0.125, 0.5, 0.875, 1.125, 2.0]
        choices = sizes + ([0.0, 1.0, 1.0] if self.scores == "edges" else [])
        shape = (self.kh, self.kw, *self.group_counts)
        rng = self._rng("scores")
        drawn = rng.choice(choices, shape) * rng.choice([-1.0, 1.0], shape)
        if self.scores == "nan":
            drawn[rng.random(shape) < 0.2] = np.nan
        return drawn

    def _rigid_scores(self) -> Array:
        """Integers with one largest of the 15 (two or more for ties), and no score near the edge of the slope's window.

        A sum of the 15 that is 3 to 12 modulo 15 keeps |score - mean| a fifth away from 1, in any format. On "edges"
        the sum is 0, so that the mean is exact and differences of exactly 1 occur.
        """
        rng = self._rng("scores")
        columns = [self._rigid_column(rng) for _ in range(int(np.prod(self.group_counts)))]
        return np.array(columns).T.reshape(15, *self.group_counts)

    def _rigid_column(self, rng: np.random.Generator) -> Array:
        if self.scores == "edges":
            return rng.permutation([-3.0, 3, -2, 2, -1, 1, -1, 1, -1, 1, -2, 2, 0, 1, -1])
        while True:
            column = rng.integers(-2, 3, 15).astype(np.float64)
            column[rng.permutation(15)[: 3 if self.scores == "ties" else 1]] = 3
            if 3 <= column.sum() % 15 <= 12:
                return column

    def _masks(self) -> Arrays:
        """Masks of layers that differ in size and density. The densities stay away from the target."""
        arrays, rng = {}, self._rng("masks")
        for i in range(self.layers):
            density = [0.5, 0.75, 0.3][i % 3] if self.scores != "edges" else 0.05
            shape = (self.kh, self.kw, self.ci + i, self.co + 2 * i)
            arrays[f"mask{i}"] = (rng.random(shape) < density).astype(np.float64)
        return {**arrays, "dy": np.asarray(2.0 if self.numbers == "integer" else 0.75)}


def valid(case: Case) -> bool:
    """Whether the words are known and the numbers go together."""
    words = (
        case.level in LEVELS and case.area in AREAS and case.dtype in FORMATS and case.numbers in NUMBERS
        and case.scores in KINDS_OF_SCORES and case.enabled in ENABLED
    )  # fmt: skip
    counts = all(getattr(case, name) >= 1 for name in COUNTS)
    return words and counts and case.bias in (0, 1) and case.seed >= 0 and 0 <= case.target <= 1 and _fits(case)


def _fits(case: Case) -> bool:
    """Whether there is an output, and the level's own sizes divide what they must."""
    try:
        own = {
            "rigid": (case.kh, case.kw) == (3, 3),
            "hetconv": case.ci % case.p == 0 and case.kh % 2 == 1 and case.kw % 2 == 1,
            # The 1x1 of the lean operator sees the pixels 0, s, 2s, ...: as many as the stencil's only with "same".
            "lean": case.ci % case.groups == 0 and case.co % case.groups == 0 and case.padding == "same",
            "nm": case.s <= case.m,
        }
        return min(case.output_hw) >= 1 and own.get(case.level, True)
    except InputError:
        return False


def too_large(case: Case) -> bool:
    """Whether a valid case would take more memory and time than LARGEST_COUNT and LARGEST_WORK allow."""
    if any(getattr(case, name) > LARGEST_COUNT for name in COUNTS):
        return True
    (top, bottom), (left, right), (oh, ow) = *case.pads_in_pixels, case.output_hw
    image = (case.h + top + bottom + case.sy) * (case.w + left + right + case.sx) * case.ci
    taps = case.kh * case.kw
    work = case.n * (image + oh * ow * taps * case.ci * case.co)
    if case.level == "csg":
        work += -(-case.co // case.s) * -(-case.ci // case.s) * case.s**2 * taps * case.m
    if case.level == "regularizer":
        work += case.layers * taps * (case.ci + case.layers) * (case.co + 2 * case.layers)
    return work > LARGEST_WORK
