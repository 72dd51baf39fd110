"""Layers that stand where an ordinary convolution does: HetConv, N:M, generated kernels (CSG), lean."""

from math import gcd
from typing import Any

import numpy as np

from lhc_ref import handmade, ops
from lhc_ref.arrays import Array, namespace, pair
from lhc_ref.conv import Padding
from lhc_ref.errors import InputError
from lhc_ref.layers import Conv2d, Draws, Layer, Pass, Value, he_normal, shape_alone
from lhc_ref.related import csg, lean, nm
from lhc_ref.tape import apply


class HetConv2d(Conv2d):
    """HetConv: one input channel in `p` keeps all taps, the others the centre (`handmade.hetconv`).

    Parameters
    ----------
    p : a divisor of c_in
    others : as for `Conv2d`; weights that do not exist start at zero and stay there.
    """

    def __init__(self, name: str, c_in: int, c_out: int, rng: Draws, *, p: int = 4, **options: Any) -> None:
        super().__init__(name, c_in, c_out, rng, **options)
        self.exists = handmade.hetconv(self.size, c_in, c_out, p=p)
        kernel = self.weights["kernel"]
        # Why: he_normal for the weights an output really has; their number is the same for each output channel.
        scale = np.sqrt(self.exists[..., 0].size / self.exists[..., 0].sum())
        if rng is not None:
            self.weights["kernel"] = (kernel * self.exists * scale).astype(kernel.dtype)

    def kernel(self, run: Pass) -> Value:
        own = self.weights["kernel"]
        return apply(ops.multiply, run.weight(self, "kernel"), namespace(own).asarray(self.exists, dtype=own.dtype))

    def kernel_mask(self) -> tuple[np.ndarray, int, int]:
        return self.exists, 1, 1

    def taps(self) -> list[tuple[np.ndarray, Padding]]:
        return [(self.exists.sum(axis=(2, 3)), self.options["padding"])]


class NmConv2d(Conv2d):
    """N:M sparsity: of every m consecutive input channels the n largest weights count, chosen at each pass (`nm`)."""

    def __init__(self, name: str, c_in: int, c_out: int, rng: Draws, *, n: int = 2, m: int = 4, **options: Any) -> None:
        super().__init__(name, c_in, c_out, rng, **options)
        if not 1 <= n <= m:
            raise InputError(f"n, m: expected 1 <= n <= m, got {n}, {m}. 2, 4 keeps two weights of every four.")
        self.n, self.m = n, m

    def kernel(self, run: Pass) -> Value:
        return apply(nm.nm_kernel, run.weight(self, "kernel"), n=self.n, m=self.m)

    def kernel_mask(self) -> tuple[np.ndarray, int, int]:
        return nm.nm_mask(self.weights["kernel"], n=self.n, m=self.m) > 0, 1, 1

    def taps(self) -> list[tuple[np.ndarray, Padding]]:
        whole, rest = divmod(self.c_in // self.groups, self.m)
        kept = whole * self.n + -(-self.n * rest // self.m)
        return [(np.full(self.size, kept * self.c_out), self.options["padding"])]


class Generator(Layer):
    """What a net's generated kernels have in common; it hands its input on.

    Parameters
    ----------
    name, dtype
    rng : draws it (`csg.initial_generator`)
    slice_shape, length : a setting of CSG
    kind : "normal" | "uniform" | "binary"; binary is not trained, and is state instead of a weight
    """

    def __init__(
        self,
        name: str,
        rng: Draws,
        *,
        slice_shape: csg.SliceShape,
        length: int,
        kind: str = "uniform",
        dtype: str = "float32",
    ) -> None:
        super().__init__(name)
        self.slice_shape, self.length, self.kind = slice_shape, length, kind
        if rng is None:
            values = shape_alone((int(np.prod(slice_shape)), length), dtype)
        else:
            values = csg.initial_generator(rng, slice_shape, length, kind=kind, dtype=dtype)
        (self.state if kind == "binary" else self.weights)["generator"] = values

    def values(self, run: Pass) -> Value:
        """The generator f[s0*s1*kh*kw, length] in this pass: one variable for all layers that share it."""
        return self.state["generator"] if self.kind == "binary" else run.weight(self, "generator")

    def __call__(self, x: Value, run: Pass) -> Value:
        return x


class CsgConv2d(Conv2d):
    """A convolution whose kernel is generated from codes (`csg.csg_kernel`).

    Parameters
    ----------
    generator : shared with other layers of the net; its slices have this layer's taps
    others : as for `Conv2d`, without groups
    """

    def __init__(
        self,
        name: str,
        c_in: int,
        c_out: int,
        rng: Draws,
        *,
        generator: Generator,
        dtype: str = "float32",
        **options: Any,
    ) -> None:
        super().__init__(name, c_in, c_out, None, dtype=dtype, **options)
        if self.size != generator.slice_shape[2:] or self.groups != 1:
            kh, kw = generator.slice_shape[2:]
            raise InputError(
                f"{name}: expected {kh}x{kw} taps and one group, got {self.size[0]}x{self.size[1]} and {self.groups}. "
                f"Use a generator of its size."
            )
        self.generator = generator
        del self.weights["kernel"]
        count = csg.code_count(generator.slice_shape, c_in=c_in, c_out=c_out)
        mean = csg.RESNET_CODE_MEAN if generator.kind == "normal" else 0.0
        codes = (
            shape_alone((count, generator.length), dtype)
            if rng is None
            else csg.initial_codes(rng, count, generator.length, mean=mean, dtype=dtype)
        )
        self.weights = {"codes": codes, **self.weights}

    def kernel(self, run: Pass) -> Value:
        options: dict[str, Any] = {"slice_shape": self.generator.slice_shape, "c_in": self.c_in, "c_out": self.c_out}
        return apply(csg.csg_kernel, run.weight(self, "codes"), self.generator.values(run), **options)


class LeanConv2d(Layer):
    """A lean convolution: a stencil in groups plus a full 1x1 (`lean.lean_conv2d`), and a bias.

    Parameters
    ----------
    name, c_in, c_out, rng, stride, bias, dtype : as for `Conv2d`
    stencil : a key of `lean.STENCILS`
    groups : of the stencil; None: as many as both channel counts allow, depthwise where c_out is a multiple of c_in
    """

    def __init__(
        self,
        name: str,
        c_in: int,
        c_out: int,
        rng: Draws,
        *,
        stencil: str = "5-point",
        groups: int | None = None,
        stride: int | tuple[int, int] = 1,
        bias: bool = True,
        dtype: str = "float32",
    ) -> None:
        super().__init__(name)
        self.c_in, self.c_out, self.stencil, self.stride = c_in, c_out, stencil, pair(stride, "stride")
        self.groups = gcd(c_in, c_out) if groups is None else groups
        spatial, pointwise = lean.lean_shapes(c_in, c_out, stencil=stencil, groups=self.groups)
        # Why one fan-in: both sums are added into one output.
        fan_in = spatial[0] * spatial[1] + c_in
        self.weights["stencil"] = he_normal(rng, spatial, fan_in, dtype)
        self.weights["pointwise"] = he_normal(rng, pointwise, fan_in, dtype)
        if bias:
            self.weights["bias"] = np.zeros(c_out, dtype)

    def __call__(self, x: Value, run: Pass) -> Value:
        weights = run.weight(self, "stencil"), run.weight(self, "pointwise")
        y = apply(lean.lean_conv2d, x, *weights, stencil=self.stencil, stride=self.stride)
        return apply(ops.bias_add, y, run.weight(self, "bias")) if "bias" in self.weights else y

    def stencil_taps(self) -> np.ndarray:
        """Which taps the stencil has: bool[3, 3]."""
        return lean.STENCILS[self.stencil]

    def kernels(self) -> list[tuple[Array, Padding]]:
        """The stencil's kernel f[3, 3, c_in/groups, c_out] and that of the 1x1, each with its padding."""
        spatial = lean.stencil_kernel(self.weights["stencil"], stencil=self.stencil)
        return [(spatial, lean.PADS), (self.weights["pointwise"], "valid")]

    def taps(self) -> list[tuple[np.ndarray, Padding]]:
        """As for `Conv2d`: of the stencil and of the 1x1."""
        spatial = self.stencil_taps() * (self.c_in // self.groups * self.c_out)
        return [(spatial, lean.PADS), (np.array([[self.c_in * self.c_out]]), "valid")]
