"""Layers and nets: weights and state by name, and the operators that they are used with.

A layer is called with its input and a `Pass`. With a tape in it the weights become variables and the pass can be
differentiated; without one, the same code predicts.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

from lhc_ref import conv, mask, ops
from lhc_ref.arrays import Array, namespace, pair
from lhc_ref.errors import InputError
from lhc_ref.tape import Tape, Variable, apply

Value = Any  # an array, or a Variable of the pass's tape

# Why: the deviation of a standard normal cut at two deviations (the constant of Keras' VarianceScaling).
CUT_NORMAL_DEVIATION = 0.87962566103423978


Draws = np.random.Generator | None
"""What draws initial weights; None draws none, and leaves arrays that have a shape and no memory (`shape_alone`)."""


def shape_alone(shape: tuple[int, ...], dtype: str) -> np.ndarray:
    """f[shape] without memory of its own: a read-only view of one zero. For nets that are counted, not run."""
    return np.broadcast_to(np.zeros((), dtype), shape)


def he_normal(rng: Draws, shape: tuple[int, ...], fan_in: int, dtype: str) -> np.ndarray:
    """A normal cut at two deviations, of variance `2 / fan_in`: f[shape], drawn in float64 (Keras' `he_normal`)."""
    if rng is None:
        return shape_alone(shape, dtype)
    values = rng.standard_normal(shape)
    while (outside := abs(values) > 2.0).any():
        values[outside] = rng.standard_normal(int(outside.sum()))
    return (values * (np.sqrt(2.0 / fan_in) / CUT_NORMAL_DEVIATION)).astype(dtype)


class Pass:
    """One forward pass: what its weights became, and the masks it used.

    Attributes
    ----------
    tape : None predicts: weights stay arrays, batch norm uses its running statistics.
    variables : "layer.role" -> Variable, in the order of use
    masks : of each LHC layer, as used, after `enabled`: f[kh, kw, c_in, c_out]
    pixels : output height x width of each of them
    """

    def __init__(self, tape: Tape | None = None) -> None:
        self.tape = tape
        self.variables: dict[str, Variable] = {}
        self.masks: list[Value] = []
        self.pixels: list[int] = []

    def weight(self, layer: "Layer", role: str) -> Value:
        """A weight of a layer as this pass uses it."""
        if self.tape is None:
            return layer.weights[role]
        name = f"{layer.name}.{role}"
        if name not in self.variables:
            self.variables[name] = self.tape.variable(layer.weights[role])
        return self.variables[name]


class Layer:
    """A layer: `layer(x, run)` gives its output.

    Attributes
    ----------
    name : unique in its net
    weights : role -> f[...], what training changes
    state : role -> array, what else has to be kept: running statistics, enabled channels
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.weights: dict[str, Array] = {}
        self.state: dict[str, Array] = {}

    def __call__(self, x: Value, run: Pass) -> Value:
        raise InputError(f"{self.name}: expected a layer that computes, got the base class. Use one of its subclasses.")

    def leaves(self) -> Iterator["Layer"]:
        """The layers without parts that this one is made of, in order."""
        yield self


class Conv2d(Layer):
    """An ordinary convolution, f[n, h, w, c_in] -> f[n, oh, ow, c_out].

    Parameters
    ----------
    name, c_in, c_out
    rng : draws the kernel (`he_normal`, fan-in `kh*kw*c_in/groups`); the bias starts at zero.
    size : taps, one or two integers
    stride, padding, dilation, groups : as for `conv2d`
    bias : whether there is one
    dtype : of the weights
    """

    def __init__(
        self,
        name: str,
        c_in: int,
        c_out: int,
        rng: Draws,
        *,
        size: int | tuple[int, int] = 3,
        stride: int | tuple[int, int] = 1,
        padding: conv.Padding = "same",
        dilation: int | tuple[int, int] = 1,
        groups: int = 1,
        bias: bool = True,
        dtype: str = "float32",
    ) -> None:
        super().__init__(name)
        kh, kw = pair(size, "size")
        self.c_in, self.c_out, self.size = c_in, c_out, (kh, kw)
        self.options: dict[str, Any] = {
            "stride": pair(stride, "stride"),
            "padding": padding,
            "dilation": pair(dilation, "dilation"),
        }
        self.groups = groups
        shape = (kh, kw, c_in // groups, c_out)
        self.weights["kernel"] = he_normal(rng, shape, kh * kw * (c_in // groups), dtype)
        if bias:
            self.weights["bias"] = np.zeros(c_out, dtype)

    def __call__(self, x: Value, run: Pass) -> Value:
        return self.convolve(x, self.kernel(run), run)

    def kernel(self, run: Pass) -> Value:
        """The kernel f[kh, kw, c_in/groups, c_out] that this pass convolves with."""
        return run.weight(self, "kernel")

    def kernel_mask(self) -> tuple[Array, int, int] | None:
        """Which weights of that kernel exist: (bool[kh, kw, gi, go], group_in, group_out); None: all of them."""
        return None

    def taps(self) -> list[tuple[np.ndarray, conv.Padding]]:
        """Each convolution of the layer as (how many weights a tap has i64[kh, kw], padding), unless learned: then all.

        Weights that no training brings back are not there.
        """
        whole = np.full(self.size, self.c_in // self.groups * self.c_out)
        return [(whole, self.options["padding"])]

    def convolve(self, x: Value, kernel: Value, run: Pass) -> Value:
        """The layer's convolution and bias with this kernel."""
        y = apply(conv.conv2d, x, kernel, groups=self.groups, **self.options)
        return apply(ops.bias_add, y, run.weight(self, "bias")) if "bias" in self.weights else y


class LhcConv2d(Conv2d):
    """A convolution that learns which taps to keep: `conv2d(x, kernel * M) + bias`.

    Parameters
    ----------
    name, c_in, c_out, rng, size, stride, padding, bias, dtype : as for `Conv2d`
    kind : "free" (every tap on its own) | "rigid" (one of 15 patterns; 3x3 only)
    group_in, group_out : how many adjacent input, output channels share one pattern

    Attributes
    ----------
    formable : whether scores are trained and `enabled` counts; False freezes the mask and uses it for every channel.
    weights : kernel, bias and scores f[kh, kw, gi, go] or f[15, gi, go]; all start as `he_normal`, a score's fan-in
        being that of its group.
    state : enabled, bool[c_out]; a channel that is not enabled runs dense.

    Notes
    -----
    Source: Zhao, Wu, Zhang, *Learnable Heterogeneous Convolution*, arXiv 2301.05440.
    """

    def __init__(
        self,
        name: str,
        c_in: int,
        c_out: int,
        rng: Draws,
        *,
        kind: str = "free",
        group_in: int = 1,
        group_out: int = 1,
        size: int | tuple[int, int] = 3,
        dtype: str = "float32",
        **options: Any,
    ) -> None:
        super().__init__(name, c_in, c_out, rng, size=size, dtype=dtype, **options)
        kh, kw = pair(size, "size")
        if kind not in mask.KINDS or (kind == "rigid" and (kh, kw) != (3, 3)):
            raise InputError(
                f'{name}: expected kind "free", or "rigid" with 3x3 taps, got {kind!r} with {kh}x{kw}. Use free.'
            )
        self.mask_options: dict[str, Any] = {
            "kind": kind,
            "c_in": c_in,
            "c_out": c_out,
            "group_in": group_in,
            "group_out": group_out,
        }
        gi, go = mask.group_counts(c_in=c_in, c_out=c_out, group_in=group_in, group_out=group_out)
        choices = (kh, kw) if kind == "free" else (len(mask.PATTERNS),)
        self.weights["scores"] = he_normal(rng, (*choices, gi, go), int(np.prod(choices)) * gi, dtype)
        self.state["enabled"] = np.ones(c_out, bool)
        self.formable = True

    def mask(self, scores: Value) -> Value:
        """The mask f[kh, kw, c_in, c_out] that these scores make with the channels enabled now."""
        enabled = self.state["enabled"]
        return apply(
            mask.lhc_mask,
            scores,
            enabled if self.formable else namespace(enabled).ones_like(enabled),
            **self.mask_options,
        )

    def pattern_mask(self) -> Array:
        """What the scores keep, one entry a group, whatever is enabled: bool[kh, kw, gi, go]."""
        scores = self.weights["scores"]
        kept = (
            mask.step(scores)
            if self.mask_options["kind"] == "free"
            else mask.combine_patterns(mask.rigid_one_hot(scores))
        )
        return kept > 0

    def kernel_mask(self) -> tuple[Array, int, int]:
        return self.pattern_mask(), self.mask_options["group_in"], self.mask_options["group_out"]

    def kept(self) -> int:
        """How many weights the mask keeps, with the channels enabled now."""
        return int(self.mask(self.weights["scores"]).sum(dtype=np.int64))

    def __call__(self, x: Value, run: Pass) -> Value:
        kept = self.mask(run.weight(self, "scores") if self.formable else self.weights["scores"])
        y = self.convolve(x, apply(ops.multiply, run.weight(self, "kernel"), kept), run)
        run.masks.append(kept)
        run.pixels.append(y.shape[1] * y.shape[2])
        return y


class Dense(Layer):
    """A matrix product and a bias, f[n, features] -> f[n, units]; starts as `he_normal` and zero."""

    def __init__(self, name: str, features: int, units: int, rng: Draws, *, dtype: str = "float32") -> None:
        super().__init__(name)
        self.weights["kernel"] = he_normal(rng, (features, units), features, dtype)
        self.weights["bias"] = np.zeros(units, dtype)

    def __call__(self, x: Value, run: Pass) -> Value:
        return apply(ops.bias_add, apply(ops.dense, x, run.weight(self, "kernel")), run.weight(self, "bias"))


class BatchNorm(Layer):
    """Batch normalisation over all axes but the last: batch statistics on a tape, running ones without.

    Parameters
    ----------
    name, channels, dtype
    momentum : of the running mean and variance, which each pass on a tape moves on
    """

    def __init__(self, name: str, channels: int, *, momentum: float = 0.9, dtype: str = "float32") -> None:
        super().__init__(name)
        self.momentum = momentum
        self.weights = {"gamma": np.ones(channels, dtype), "beta": np.zeros(channels, dtype)}
        self.state = {"mean": np.zeros(channels, dtype), "variance": np.ones(channels, dtype)}

    def __call__(self, x: Value, run: Pass) -> Value:
        gamma, beta = run.weight(self, "gamma"), run.weight(self, "beta")
        running = self.state["mean"], self.state["variance"]
        if run.tape is None:
            return ops.batch_norm_inference(x, gamma, beta, *running)
        batch = ops.batch_statistics(x.value if isinstance(x, Variable) else x)
        for old, new in zip(running, ops.update_running(running, batch, momentum=self.momentum), strict=True):
            old[...] = new
        return apply(ops.batch_norm, x, gamma, beta, statistics=batch)


class Operator(Layer):
    """An operator without weights: ReLU, a pool, flatten.

    Parameters
    ----------
    name
    primal : an operator of one array, in the tape's table
    options : its constants
    """

    def __init__(self, name: str, primal: Any, **options: Any) -> None:
        super().__init__(name)
        self.primal, self.options = primal, options

    def __call__(self, x: Value, run: Pass) -> Value:
        return apply(self.primal, x, **self.options)
