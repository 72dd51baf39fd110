"""A value of an ONNX graph: a value of the model to be, and how its axes stand in ONNX."""

from dataclasses import dataclass
from math import prod

import numpy as np

from runtime.onnx.graph import Unsupported
from runtime.views import View

Shape = tuple[int, ...]
NO_PADS = (0, 0, 0, 0)


@dataclass(frozen=True)
class Order:
    """An order of features: ONNX's vector, reshaped to `split` and transposed to `axes`, is the model's vector."""

    split: Shape
    axes: Shape

    def index(self) -> np.ndarray:
        """i64[features]: where in ONNX's vector each of the model's features stands."""
        return np.arange(prod(self.split)).reshape(self.split).transpose(self.axes).ravel()


@dataclass(frozen=True)
class Value:
    """What an ONNX name stands for.

    Parameters
    ----------
    name : of the model's value
    shape : the model's, (h, w, c) or (features,)
    axes : what each of ONNX's axes is: "n", "h", "w", "c", "f", or "1" for one of size 1
    order : of features, None where ONNX's is the model's
    pads : zeros around it (top, left, bottom, right) that no node has added yet
    sole : whether the one reader of this name is the only reader of the model's value
    """

    name: str
    shape: Shape
    axes: str
    order: Order | None = None
    pads: tuple[int, int, int, int] = NO_PADS
    sole: bool = False

    def size(self, label: str) -> int:
        """Along one of the model's axes, pads included."""
        if label == "1":
            return 1
        at = "f" if len(self.shape) == 1 else "hwc"
        top, left, bottom, right = self.pads
        return self.shape[at.index(label)] + {"h": top + bottom, "w": left + right}.get(label, 0)

    def dims(self, batch: int) -> Shape:
        """ONNX's shape."""
        return tuple(batch if label == "n" else self.size(label) for label in self.axes)

    @property
    def image_dims(self) -> Shape:
        """ONNX's shape without the batch, which must be the first axis."""
        if not self.axes.startswith("n"):
            raise Unsupported(f"axes {self.axes!r}, where the first must be the batch")
        return self.dims(0)[1:]

    def labelled(self) -> str:
        """`axes` with the names of axes of size 1 given back where only one order fits: `n1w` becomes `ncw`."""
        if len(self.shape) == 1 or "1" not in self.axes:
            return self.axes
        wanted = {3: "ncw", 4: "nchw"}.get(len(self.axes))
        if wanted is None:
            return self.axes
        fits = all(
            have == want or (have == "1" and want not in self.axes and want != "n")
            for have, want in zip(self.axes, wanted, strict=True)
        )
        missing = [label for label in "hwc" if label not in self.axes]
        return wanted if fits and all(self.size(label) == 1 for label in missing) else self.axes


def view(value: Value) -> View:
    """How an array of ONNX's lies to the model's."""
    shape, axes = value.image_dims, value.axes[1:]
    if value.order is not None:
        return View(value.name, shape, value.order.split, value.order.axes, value.shape)
    named = [axes.index(label) for label in "fhwc" if label in axes]
    rest = [i for i, label in enumerate(axes) if label == "1"]
    return View(value.name, shape, shape, (*named, *rest), value.shape)
