"""What a model is made of: inputs, nodes, tensors. Values only; `graph` checks them as a whole."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from math import prod
from typing import Any

import numpy as np

from lhc_ref._modelfile.reasons import MAX_SPAN, MAX_WEIGHTS, refuse, show

VERSION = "1.2"
Shape = tuple[int, ...]


def is_int(value: Any) -> bool:
    """Whether `value` is an integer and no boolean."""
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def group_sizes(channels: int, group: int) -> np.ndarray:
    """i64[ceil(channels/group)]: how many channels each group holds; the last may be short."""
    starts = np.arange(0, channels, group)
    return np.minimum(group, channels - starts)


def mask_shape(shape: Shape, group_in: int, group_out: int) -> Shape:
    """Shape of the mask of a kernel `(kh, kw, c_in, c_out)`; refuses what cannot be one."""
    if len(shape) != 4 or not all(is_int(size) and size >= 1 for size in shape) or prod(shape) > MAX_WEIGHTS:
        refuse(
            "kernel-dimensions",
            "shape of a masked kernel",
            f"(kh, kw, c_in, c_out), at most {MAX_WEIGHTS} weights",
            show(shape),
        )
    if not all(is_int(group) and 1 <= group <= MAX_SPAN for group in (group_in, group_out)):
        refuse("mask-groups", "group_in and group_out", f"integers from 1 to {MAX_SPAN}", show((group_in, group_out)))
    kh, kw, c_in, c_out = shape
    return kh, kw, -(-c_in // group_in), -(-c_out // group_out)


def is_array(value: Any, dtype: type, shape: Shape) -> bool:
    """Whether `value` is an array of exactly this dtype and shape."""
    return isinstance(value, np.ndarray) and value.dtype == dtype and value.shape == shape


def check_mask(mask: Any, shape: Shape, group_in: int, group_out: int) -> None:
    """Refuse what is no mask of a kernel of this shape."""
    expected = mask_shape(shape, group_in, group_out)
    if not is_array(mask, np.bool_, expected):
        refuse("mask-shape", "mask of a kernel", f"bool{list(expected)}", describe(mask))


def expand(mask: np.ndarray, shape: Shape, group_in: int, group_out: int) -> np.ndarray:
    """bool HWIO, a new array: a mask with one entry a weight; short last groups are cropped."""
    rows = np.repeat(mask, group_sizes(shape[2], group_in), axis=2)
    return np.repeat(rows, group_sizes(shape[3], group_out), axis=3)


@dataclass(frozen=True, eq=False)
class MaskedKernel:
    """A convolution kernel of which only the weights under a mask exist.

    Parameters
    ----------
    shape : (kh, kw, c_in, c_out), all at least 1; `c_in` counts the channels of one group of a grouped convolution
    group_in, group_out : how many adjacent input, output channels share one pattern; the last group may be short
    mask : bool[kh, kw, ceil(c_in/group_in), ceil(c_out/group_out)]
    values : f32[kept], the kept weights in C order of the expanded HWIO mask

    The arrays are kept, not copied. Raises ModelFileError when the parts disagree.
    """

    shape: Shape
    group_in: int
    group_out: int
    mask: np.ndarray
    values: np.ndarray

    def __post_init__(self) -> None:
        check_mask(self.mask, self.shape, self.group_in, self.group_out)
        if not is_array(self.values, np.float32, (self.kept,)):
            refuse("mask-values", "values of a masked kernel", f"float32[{self.kept}]", describe(self.values))

    @cached_property
    def kept(self) -> int:
        """How many weights the mask keeps. O(mask)."""
        rows = group_sizes(self.shape[2], self.group_in)
        columns = group_sizes(self.shape[3], self.group_out)
        return int(rows @ self.mask.sum(axis=(0, 1), dtype=np.int64) @ columns)

    @property
    def density(self) -> float:
        """Kept weights divided by all."""
        return self.kept / prod(self.shape)

    def expanded_mask(self) -> np.ndarray:
        """bool[kh, kw, c_in, c_out], a new array: the mask, one entry a weight."""
        return expand(self.mask, self.shape, self.group_in, self.group_out)

    def dense(self) -> np.ndarray:
        """f32[kh, kw, c_in, c_out], a new array: the kernel with zeros where no weight exists."""
        kernel = np.zeros(self.shape, np.float32)
        kernel[self.expanded_mask()] = self.values
        return kernel

    @classmethod
    def from_dense(cls, kernel: np.ndarray, mask_groups: np.ndarray, group_in: int, group_out: int) -> "MaskedKernel":
        """Keep the weights of `kernel` (f32[kh, kw, c_in, c_out]) under `mask_groups` (bool, one entry a group)."""
        if not isinstance(kernel, np.ndarray) or kernel.dtype != np.float32:
            refuse("kernel-type", "kernel to mask", "float32[kh, kw, c_in, c_out]", describe(kernel))
        check_mask(mask_groups, kernel.shape, group_in, group_out)
        kept = expand(mask_groups, kernel.shape, group_in, group_out)
        return cls(kernel.shape, group_in, group_out, mask_groups, kernel[kept])


Tensor = np.ndarray | MaskedKernel


@dataclass(frozen=True)
class InputSpec:
    """An input: its name and the shape of one example, `(h, w, c)` or `(features,)`."""

    name: str
    shape: Shape


@dataclass(frozen=True, eq=False)
class Node:
    """One operator: what it reads, the one value it makes, its attributes and its tensors by role."""

    op: str
    name: str
    inputs: tuple[str, ...]
    output: str
    attrs: Mapping[str, Any] = field(default_factory=dict)
    tensors: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class ModelSpec:
    """A model: a graph in topological order and what belongs to its data.

    Parameters
    ----------
    inputs, outputs, nodes : the graph; outputs are values that nodes make
    preprocessing : {"subtract": per channel, "divide": per channel} from raw data to the input, or None
    classes : names of the classes, as many as the first output's last axis is long, or none
    metadata : free texts
    version : of the file it was read from; what is saved is of the oldest version that can hold it
    """

    inputs: tuple[InputSpec, ...]
    outputs: tuple[str, ...]
    nodes: tuple[Node, ...]
    preprocessing: Mapping[str, tuple[float, ...]] | None = None
    classes: tuple[str, ...] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)
    version: str = VERSION


def describe(value: Any) -> str:
    """`float32[3, 4]` for an array, else the value in short."""
    return f"{value.dtype}{list(value.shape)}" if isinstance(value, np.ndarray) else show(value)
