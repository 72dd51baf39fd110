"""Layers made of layers: in a row, with a way around (residual, concatenated); and that way without weights."""

from collections.abc import Iterator

import numpy as np

from lhc_ref import ops
from lhc_ref.layers import Layer, Pass, Value
from lhc_ref.tape import apply


class Sequential(Layer):
    """Layers one after the other."""

    def __init__(self, name: str, layers: list[Layer]) -> None:
        super().__init__(name)
        self.layers = layers

    def __call__(self, x: Value, run: Pass) -> Value:
        for layer in self.layers:
            x = layer(x, run)
        return x

    def leaves(self) -> Iterator[Layer]:
        for layer in self.layers:
            yield from layer.leaves()


class Residual(Layer):
    """`body(x) + shortcut(x)`; without a shortcut `body(x) + x`."""

    def __init__(self, name: str, body: Layer, shortcut: Layer | None = None) -> None:
        super().__init__(name)
        self.body, self.shortcut = body, shortcut

    def __call__(self, x: Value, run: Pass) -> Value:
        y = self.body(x, run)
        return apply(ops.add, y, x if self.shortcut is None else self.shortcut(x, run))

    def leaves(self) -> Iterator[Layer]:
        yield from self.body.leaves()
        if self.shortcut is not None:
            yield from self.shortcut.leaves()


class Concat(Layer):
    """`concat(x, body(x))` along the channels."""

    def __init__(self, name: str, body: Layer) -> None:
        super().__init__(name)
        self.body = body

    def __call__(self, x: Value, run: Pass) -> Value:
        return apply(ops.concat, x, self.body(x, run))

    def leaves(self) -> Iterator[Layer]:
        yield from self.body.leaves()


class SubsampleAndPad(Layer):
    """Every `stride`-th pixel, and channels of zeros before and after: f[n, h, w, c_in] -> f[n, oh, ow, c_out].

    The way around a block that has no weights (He et al. 2015, option A), as the authors of CSG pad it: half the new
    channels before the old ones.
    """

    def __init__(self, name: str, c_in: int, c_out: int, stride: int) -> None:
        super().__init__(name)
        self.c_in, self.c_out, self.stride = c_in, c_out, stride
        self.before = (c_out - c_in) // 2

    def __call__(self, x: Value, run: Pass) -> Value:
        y = apply(ops.max_pool, x, size=(1, 1), stride=(self.stride, self.stride))
        after = self.c_out - self.c_in - self.before
        return apply(ops.pad, y, widths=((0, 0), (0, 0), (0, 0), (self.before, after)))

    def kernel(self) -> np.ndarray:
        """The same as a 1x1 convolution: f32[1, 1, c_in, c_out] of zeros and ones."""
        return np.eye(self.c_in, self.c_out, self.before, dtype=np.float32)[None, None]
