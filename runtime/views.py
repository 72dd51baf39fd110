"""How the user's arrays lie to the model's: the same numbers with their axes in another order."""

from dataclasses import dataclass

import numpy as np

Shape = tuple[int, ...]


@dataclass(frozen=True)
class View:
    """An array of the user's is reshaped to `split`, transposed by `axes`, reshaped to `inner`: the model's array.

    Parameters
    ----------
    value : name of the model's input or output
    shape : the user's, without the batch
    split, axes, inner : the steps from the user's array to the model's, each without the batch
    batched : whether the user's array has a batch before `shape`; else it is one example
    """

    value: str
    shape: Shape
    split: Shape
    axes: Shape
    inner: Shape
    batched: bool = True

    @classmethod
    def same(cls, value: str, shape: Shape) -> "View":
        """The user's array is the model's."""
        return cls(value, shape, shape, tuple(range(len(shape))), shape)

    @classmethod
    def nchw(cls, value: str, shape: Shape) -> "View":
        """The user has channels before rows and columns; `shape` is the model's, (h, w, c) or (features,)."""
        if len(shape) != 3:
            return cls.same(value, shape)
        split = shape[2], shape[0], shape[1]
        return cls(value, split, split, (1, 2, 0), shape)

    def __str__(self) -> str:
        return f"float32[{', '.join(map(str, (*['n'] * self.batched, *self.shape)))}]"

    def user_shape(self, batch: int) -> Shape:
        """Of the user's array."""
        return (batch, *self.shape) if self.batched else self.shape

    def examples(self, array: np.ndarray) -> np.ndarray:
        """The user's array as [n, *shape]: itself, or the one example that it is; never a copy."""
        return array if self.batched else array[None]

    def inward(self, x: np.ndarray) -> np.ndarray:
        """The user's [n, *shape] as the model's [n, *inner]; a view where NumPy can."""
        n = len(x)
        order = (0, *(axis + 1 for axis in self.axes))
        return x.reshape(n, *self.split).transpose(order).reshape(n, *self.inner)

    def outward(self, y: np.ndarray) -> np.ndarray:
        """The model's [n, *inner] as the user's [n, *shape]; a view where NumPy can."""
        n = len(y)
        back = (0, *(int(axis) + 1 for axis in np.argsort(self.axes)))
        return y.reshape(n, *(self.split[axis] for axis in self.axes)).transpose(back).reshape(n, *self.shape)
