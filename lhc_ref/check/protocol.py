"""The protocol: what a target is called with, and what it returns.

The plainest target is a function of NumPy arrays:

    def layer(arrays, geometry):
        y, mask = ...
        return {"y": y, "mask": mask, "dx": dx, "dkernel": dkernel, "dscores": dscores, "dbias": dbias}

`arrays` : dict of arrays in the declared layouts. Activations NHWC and kernels HWIO unless declared otherwise.

    level         arrays
    free          x[n,h,w,c_in] kernel[kh,kw,c_in,c_out] scores[kh,kw,gi,go] enabled bool[c_out] bias[c_out]
    rigid         the same with scores[15,gi,go]
    masked        x kernel mask bool[kh,kw,c_in,c_out] bias
    hetconv, nm   x kernel bias
    csg           x codes[slices,length] generator[s*s*kh*kw,length] bias
    lean          x stencil[kh,kw,c_in/groups,c_out] pointwise[1,1,c_in,c_out] bias
    regularizer   masks: list of [kh,kw,c_in,c_out]

and always `dy`, the cotangent of the output (a scalar for the regularizer). `bias` is missing in some cases.

`geometry` : dict. "level", "dtype" (storage, by name), "c_in", "c_out", "kernel_size" (kh, kw), "stride" (vertical,
horizontal), "dilation", "padding" "same" | "valid" | ((top, bottom), (left, right)) and, always in numbers, "pads"; for
free and rigid "kind", "group_in", "group_out"; for hetconv "p"; for csg "slice_out", "slice_in", "code_length"; for
lean "groups"; for nm "keep", "of"; for the regularizer "pixels", "target_density" alone.

Returned : dict of arrays in the same layouts: "y", and the cotangent "d" + name of every float array given ("dx",
"dkernel", ...; "dmask0", "dmask1", ... for the regularizer); "mask" where the level makes one; "kernel" for csg. A name
left out is reported as not run. A target that cannot do a geometry raises `NotImplementedError` or `UnsupportedError`:
that case is reported as not run, too.

bfloat16, which NumPy lacks, crosses this border as float32 arrays that bfloat16 can hold, in both directions.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from lhc_ref.errors import LhcError

DIFFERENTIABLE = ("x", "kernel", "scores", "bias", "codes", "generator", "stencil", "pointwise")
_ACTIVATIONS = {"x", "y"}
_KERNELS = {"kernel", "mask", "stencil", "pointwise"}


class UnsupportedError(LhcError):
    """A target's way to say that it does not do a geometry."""


ACTIVATION_LAYOUTS = ("NHWC", "NCHW")
KERNEL_LAYOUTS = ("HWIO", "OIHW")


class Layouts:
    """Turns arrays between NHWC, HWIO and the layouts that a target declares.

    Scores follow the kernel: [kh, kw, gi, go] is to HWIO what [go, gi, kh, kw] is to OIHW; rigid scores [15, gi, go]
    become [go, gi, 15].
    """

    def __init__(self, activations: str = "NHWC", kernels: str = "HWIO") -> None:
        self.activations, self.kernels = activations, kernels

    def _axes(self, name: str, rank: int) -> tuple[int, ...] | None:
        role = name[1:] if name[0] == "d" and name != "dy" else "y" if name == "dy" else name
        role = role.rstrip("0123456789")
        if role in _ACTIVATIONS and rank == 4 and self.activations == "NCHW":
            return 0, 3, 1, 2
        if (role in _KERNELS or role == "scores") and rank == 4 and self.kernels == "OIHW":
            return 3, 2, 0, 1
        if role == "scores" and rank == 3 and self.kernels == "OIHW":
            return 2, 1, 0
        return None

    def give(self, name: str, array: np.ndarray) -> np.ndarray:
        """As the target wants it, contiguous."""
        axes = self._axes(name, array.ndim)
        return array if axes is None else np.ascontiguousarray(array.transpose(axes))

    def take(self, name: str, array: np.ndarray) -> np.ndarray:
        """From the target's layout back to ours."""
        axes = self._axes(name, array.ndim)
        return array if axes is None else np.ascontiguousarray(array.transpose(np.argsort(axes)))


def typed(arrays: Mapping[str, np.ndarray], carrier: str) -> dict[str, Any]:
    """A case's arrays as a target gets them: floats of the carrying dtype, `enabled` and a given `mask` as bool."""
    return {
        name: array.astype(bool) if name in ("enabled", "mask") else array.astype(carrier)
        for name, array in arrays.items()
    }
