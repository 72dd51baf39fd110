"""One layer to execute, and the window of one that slides."""

from dataclasses import dataclass

import numpy as np

from runtime.kernels.step import Function
from runtime.moves import Move, Shape

FUNCTIONS = {function.name.lower(): function for function in Function}


@dataclass(frozen=True)
class Window:
    """Where a sliding window looks: size, stride, dilation, pixels of padding at top and left."""

    size: tuple[int, int]
    stride: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    pad_top: int = 0
    pad_left: int = 0


@dataclass(frozen=True, eq=False)
class Layer:
    """One layer to execute: a node of the graph together with the nodes fused into it.

    Parameters
    ----------
    op : "conv2d", "max_pool", "average_pool", "add", "activate", "softmax", "flatten", a function's name, or "move"
    nodes : names of the graph's nodes that it stands for
    x, output : names of the tensors read and written
    other : a second input (add), or the tensor added before the activation (conv2d), or None
    shape, out_shape : (h, w, c) of x and of the output
    kernel : f32[kh, kw, c_in / groups, c_out] or None;  mask : bool of that shape, None where every weight exists
    low, high : the activation as limits; -inf and inf where there is none
    function, alpha, beta, vectors : what is computed of each number, before the limits: the operator itself, or after a
        convolution; its numbers, and f32[c] arrays
    one_pixel : whether `other` is one pixel for all of x's
    moves : of a move, where the numbers come from: in x, and in `other`
    pool : of a convolution, the windows of which the largest is kept: (rows, columns), side by side
    unpooled : of such a convolution, (h, w, c) before pooling, with the pixels that are in no window
    """

    op: str
    nodes: tuple[str, ...]
    x: str
    output: str
    shape: Shape
    out_shape: Shape
    window: Window = Window((1, 1))
    other: str | None = None
    kernel: np.ndarray | None = None
    mask: np.ndarray | None = None
    bias: np.ndarray | None = None
    groups: int = 1
    low: float = -np.inf
    high: float = np.inf
    function: str | None = None
    alpha: float = 0.0
    beta: float = 0.0
    vectors: tuple[np.ndarray, ...] = ()
    one_pixel: bool = False
    moves: tuple[Move, ...] = ()
    pool: tuple[int, int] = (1, 1)
    unpooled: Shape | None = None

    @property
    def conv_shape(self) -> Shape:
        """(h, w, c) of what a convolution computes: where pooling follows, the pixels of its windows."""
        h, w, c = self.out_shape
        return h * self.pool[0], w * self.pool[1], c

    @property
    def name(self) -> str:
        """The first fused node's name."""
        return self.nodes[0]


def as_image(shape: tuple[int, ...]) -> Shape:
    """(h, w, c) of one example's shape; a list of features is one pixel."""
    return shape if len(shape) == 3 else (1, 1, shape[0])
