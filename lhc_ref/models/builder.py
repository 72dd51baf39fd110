"""What every family of models builds its nets with."""

from collections.abc import Callable
from typing import Any

from lhc_ref import ops
from lhc_ref.conv import Pads
from lhc_ref.layers import BatchNorm, Conv2d, Dense, Draws, Layer, Operator

MakeConv = Callable[..., Layer]


class Builder:
    """Makes layers that draw from one generator and have one type.

    Parameters
    ----------
    make_conv : called as `Conv2d` is, makes the convolutions that a family leaves to choice
    rng : of the initial weights; None draws none
    dtype : of the weights
    width : channels of the net as a share of the family's own
    """

    def __init__(self, make_conv: MakeConv, rng: Draws, dtype: str = "float32", width: float = 1.0) -> None:
        self.make_conv, self.rng, self.dtype, self.width = make_conv, rng, dtype, width

    def channels(self, count: int) -> int:
        """A number of channels at this width, at least one."""
        return max(1, round(count * self.width))

    def ordinary(self, name: str, c_in: int, c_out: int, **options: Any) -> Conv2d:
        """A convolution that is none of choice: stem, shortcut, 1x1 between others."""
        return Conv2d(name, c_in, c_out, self.rng, dtype=self.dtype, **options)

    def chosen(self, name: str, c_in: int, c_out: int, **options: Any) -> Layer:
        """A convolution of the kind that was asked for."""
        return self.make_conv(name, c_in, c_out, self.rng, dtype=self.dtype, **options)

    def norm(self, name: str, channels: int) -> Layer:
        return BatchNorm(name, channels, dtype=self.dtype)

    def dense(self, name: str, features: int, units: int) -> Layer:
        return Dense(name, features, units, self.rng, dtype=self.dtype)

    def norm_relu(self, conv: Layer, c_out: int) -> list[Layer]:
        """A convolution, batch norm and ReLU, named after it."""
        return [conv, self.norm(f"{conv.name}_norm", c_out), relu(f"{conv.name}_relu")]


def relu(name: str) -> Layer:
    return Operator(name, ops.relu)


def around(size: int) -> Pads:
    """Pads of (size - 1) / 2 pixels on all sides. Unlike "same", at stride 2 too: so PyTorch's nets are padded."""
    pad = size // 2
    return (pad, pad), (pad, pad)
