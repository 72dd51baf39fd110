"""Hypothesis strategies: they draw structure (sizes, padding, density, a seed), and the seed makes the numbers.

Each case is a frozen value that prints as its own reproduction. `case.x()` and its siblings make the arrays:
integer-valued by default, so small that every sum of the operators is exact in float32, or real with `exact=False`.
"""

from dataclasses import dataclass

import numpy as np
from hypothesis import strategies as st

from tests import oracle

seeds = st.integers(0, 2**16)
pairs = st.tuples(st.integers(1, 3), st.integers(1, 3))
kernel_sizes = st.one_of(st.just((3, 3)), st.tuples(st.integers(1, 5), st.integers(1, 5)))
undilated = st.just((1, 1))
small_dilations = st.one_of(undilated, pairs)


def numbers(seed, role, shape, dtype=np.float32, exact=True):
    """An array that depends on the seed, the role and the shape alone: integers in -4..4, or standard normal."""
    rng = np.random.default_rng([seed, *role.encode()])
    values = rng.integers(-4, 5, shape) if exact else rng.standard_normal(shape)
    return values.astype(dtype)


# --- Windows ---------------------------------------------------------------------------------------------------------


@st.composite
def paddings(draw, kernel_hw, dilation=(1, 1), inside=False):
    """A name, or explicit pads, which may hold a whole window unless `inside`: then each window meets a pixel."""
    kind = draw(st.sampled_from(["same", "valid", "explicit"]))
    if kind != "explicit":
        return kind
    extents = [(k - 1) * d + 1 for k, d in zip(kernel_hw, dilation, strict=True)]
    limits = [e - 1 if inside else e + 1 for e in extents]
    return tuple(tuple(draw(st.integers(0, limit)) for _ in range(2)) for limit in limits)


@st.composite
def image_sizes(draw, kernel_hw, stride, padding, dilation=(1, 1), extra=5):
    """(h, w) from the smallest image that has an output (often one pixel) to `extra` pixels more."""
    pads = ((0, 0), (0, 0)) if isinstance(padding, str) else padding
    sizes = []
    for k, d, pad in zip(kernel_hw, dilation, pads, strict=True):
        smallest = 1 if padding == "same" else max(1, (k - 1) * d + 1 - sum(pad))
        sizes.append(smallest + draw(st.integers(0, extra)))
    return tuple(sizes)


# --- Convolution -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ConvCase:
    """One convolution: x [n, h, w, c_in] with a kernel [kh, kw, c_in/groups, c_out]."""

    n: int
    size_hw: tuple
    kernel_hw: tuple
    c_in: int
    c_out: int
    stride: tuple
    padding: object
    dilation: tuple
    groups: int
    seed: int

    @property
    def options(self):
        return {"stride": self.stride, "padding": self.padding, "dilation": self.dilation, "groups": self.groups}

    @property
    def kernel_shape(self):
        return (*self.kernel_hw, self.c_in // self.groups, self.c_out)

    @property
    def output_hw(self):
        return oracle.output_size(self.size_hw, self.kernel_hw, self.stride, self.padding, self.dilation)

    def x(self, dtype=np.float32, exact=True):
        return numbers(self.seed, "x", (self.n, *self.size_hw, self.c_in), dtype, exact)

    def kernel(self, dtype=np.float32, exact=True):
        return numbers(self.seed, "kernel", self.kernel_shape, dtype, exact)

    def bias(self, dtype=np.float32, exact=True):
        return numbers(self.seed, "bias", (self.c_out,), dtype, exact)

    def dy(self, dtype=np.float32, exact=True):
        return numbers(self.seed, "dy", (self.n, *self.output_hw, self.c_out), dtype, exact)


def _window(draw, kernel_hws, dilations=undilated, inside=False):
    """kernel_hw, stride, padding, dilation, size_hw that go together."""
    kernel_hw, stride, dilation = draw(kernel_hws), draw(pairs), draw(dilations)
    padding = draw(paddings(kernel_hw, dilation, inside))
    return kernel_hw, stride, padding, dilation, draw(image_sizes(kernel_hw, stride, padding, dilation))


@st.composite
def conv_cases(draw, max_channels=6, max_groups=3):
    """Convolutions of every kind: strides, paddings, dilations, groups (depthwise too), one-pixel images."""
    kernel_hw, stride, padding, dilation, size_hw = _window(draw, kernel_sizes, small_dilations)
    groups = draw(st.integers(1, max_groups))
    return ConvCase(
        n=draw(st.integers(1, 3)),
        size_hw=size_hw,
        kernel_hw=kernel_hw,
        c_in=groups * draw(st.integers(1, max(1, max_channels // groups))),
        c_out=groups * draw(st.integers(1, max(1, max_channels // groups))),
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=groups,
        seed=draw(seeds),
    )


# --- LHC layers ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class LhcCase(ConvCase):
    """One LHC layer: a convolution without groups whose mask comes from free or rigid scores."""

    kind: str  # free | rigid
    group_in: int
    group_out: int
    density: float  # of the free patterns
    channels_enabled: str  # all | some | none
    ties: bool  # rigid scores with equal maxima

    @property
    def scores_shape(self):
        groups = (-(-self.c_in // self.group_in), -(-self.c_out // self.group_out))
        return (*self.kernel_hw, *groups) if self.kind == "free" else (15, *groups)

    @property
    def mask_options(self):
        return {"group_in": self.group_in, "group_out": self.group_out, "enabled": self.enabled()}

    def scores(self, dtype=np.float32):
        """Eighths, on both sides of the slope's window |score| < 1 and on its edge: exact in every dtype."""
        rng = np.random.default_rng([self.seed, *b"scores"])
        if self.kind == "rigid":
            eighths = (
                8 * rng.integers(-2, 3, self.scores_shape) if self.ties else rng.integers(-24, 25, self.scores_shape)
            )
            return (eighths / 8).astype(dtype)
        size = rng.choice([0.125, 0.5, 0.875, 1.0, 1.125, 2.0], self.scores_shape)
        off = -rng.choice([0.0, 0.125, 0.5, 0.875, 1.0, 1.125, 2.0], self.scores_shape)
        return np.where(rng.random(self.scores_shape) < self.density, size, off).astype(dtype)

    def enabled(self):
        if self.channels_enabled == "some":
            return np.random.default_rng([self.seed, *b"enabled"]).random(self.c_out) < 0.5
        return np.full(self.c_out, self.channels_enabled == "all")

    def mask(self):
        """The definition's mask, as booleans HWIO."""
        return oracle.lhc_mask(self.scores(), self.c_in, self.c_out, **self.mask_options).astype(bool)

    def masked_kernel(self, dtype=np.float32, exact=True):
        return self.kernel(dtype, exact) * self.mask().astype(dtype)


densities = st.sampled_from([0.0, 0.05, 0.12, 0.3, 0.5, 0.9, 1.0])


@st.composite
def lhc_cases(draw, max_channels=7, kinds=("free", "rigid"), enabled=("all", "some", "none")):
    """LHC layers: groups that need not divide the channels, empty and full masks, channels that run dense."""
    kind = draw(st.sampled_from(kinds))
    kernel_hws = st.just((3, 3)) if kind == "rigid" else kernel_sizes
    kernel_hw, stride, padding, dilation, size_hw = _window(draw, kernel_hws, small_dilations)
    c_in, c_out = draw(st.integers(1, max_channels)), draw(st.integers(1, max_channels))
    return LhcCase(
        n=draw(st.integers(1, 2)),
        size_hw=size_hw,
        kernel_hw=kernel_hw,
        c_in=c_in,
        c_out=c_out,
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=1,
        seed=draw(seeds),
        kind=kind,
        group_in=draw(st.integers(1, c_in + 1)),
        group_out=draw(st.integers(1, c_out + 1)),
        density=draw(densities),
        channels_enabled=draw(st.sampled_from(enabled)),
        ties=kind == "rigid" and draw(st.booleans()),
    )


# --- Pooling ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PoolCase:
    """One pooling; each window meets at least one real pixel. Windows of 1, 2, 4 or 8 pixels divide exactly."""

    n: int
    size_hw: tuple
    c: int
    size: tuple
    stride: tuple
    padding: object
    seed: int

    @property
    def options(self):
        return {"size": self.size, "stride": self.stride, "padding": self.padding}

    @property
    def output_hw(self):
        return oracle.output_size(self.size_hw, self.size, self.stride, self.padding)

    def x(self, dtype=np.float32, exact=True):
        return numbers(self.seed, "x", (self.n, *self.size_hw, self.c), dtype, exact)

    def dy(self, dtype=np.float32, exact=True):
        return numbers(self.seed, "dy", (self.n, *self.output_hw, self.c), dtype, exact)


@st.composite
def pool_cases(draw, max_channels=5):
    """Poolings: windows larger and smaller than the stride, asymmetric padding, integer images full of ties."""
    size, stride, padding, _, size_hw = _window(draw, pairs, inside=True)
    return PoolCase(
        n=draw(st.integers(1, 3)),
        size_hw=size_hw,
        c=draw(st.integers(1, max_channels)),
        size=size,
        stride=stride,
        padding=padding,
        seed=draw(seeds),
    )


# --- Dense layers and rows of numbers --------------------------------------------------------------------------------


@dataclass(frozen=True)
class DenseCase:
    """x [n, features] with a kernel [features, units]; also rows of logits."""

    n: int
    features: int
    units: int
    seed: int

    def x(self, dtype=np.float32, exact=True):
        return numbers(self.seed, "x", (self.n, self.features), dtype, exact)

    def kernel(self, dtype=np.float32, exact=True):
        return numbers(self.seed, "kernel", (self.features, self.units), dtype, exact)

    def bias(self, dtype=np.float32, exact=True):
        return numbers(self.seed, "bias", (self.units,), dtype, exact)

    def dy(self, dtype=np.float32, exact=True):
        return numbers(self.seed, "dy", (self.n, self.units), dtype, exact)

    def logits(self, dtype=np.float32, scale=1.0):
        return (scale * numbers(self.seed, "logits", (self.n, self.units), np.float64, exact=False)).astype(dtype)

    def labels(self):
        return np.random.default_rng([self.seed, *b"labels"]).integers(0, self.units, self.n)


def dense_cases(max_size=9):
    sizes = st.integers(1, max_size)
    return st.builds(DenseCase, n=st.integers(1, 4), features=sizes, units=sizes, seed=seeds)
