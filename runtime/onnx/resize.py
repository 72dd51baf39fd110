"""Resize and Upsample: pixels are repeated or picked where they are the nearest ones, and else interpolated along one
axis after the other, as a product with a sparse matrix.
"""

from dataclasses import dataclass

import numpy as np

from runtime.onnx.builder import Builder
from runtime.onnx.cuts import cut_axes, pick
from runtime.onnx.graph import Op, Unsupported
from runtime.onnx.inputs import data, optional
from runtime.onnx.matrices import product
from runtime.onnx.values import BATCH, Value
from runtime.onnx.windows import as_image

CROP = "tf_crop_and_resize"


@dataclass(frozen=True)
class _Line:
    """One axis: sizes before and after, the scale, and where a crop begins and ends."""

    size: int
    made: int
    scale: float
    begin: float = 0.0
    end: float = 1.0

    def places(self, mode: str) -> np.ndarray:
        """f64[made]: where between the axis's numbers each one made lies."""
        out, last, length = np.arange(self.made, dtype=np.float64), self.size - 1, self.scale * self.size
        halves = (out + 0.5) / self.scale - 0.5
        if mode == "half_pixel":
            return halves
        if mode == "pytorch_half_pixel":
            return halves if length != 1 else np.full(self.made, -0.5)
        if mode == "half_pixel_symmetric":
            return self.size / 2 * (1 - self.made / length) + halves
        if mode == "asymmetric":
            return out / self.scale
        if mode == "align_corners":
            # Why `made`: a scale may make a length that is no whole number, but the last corners are those of pixels.
            return out * last / (self.made - 1) if self.made != 1 else out * 0
        if mode == CROP:
            width = (self.end - self.begin) * last
            return self.begin * last + (out * width / (length - 1) if length != 1 else np.full(self.made, width / 2))
        raise Unsupported(f"coordinate_transformation_mode {mode!r}")


def resize(b: Builder, op: Op) -> None:
    """Resize and Upsample, in any mode, along all axes but the batch."""
    x, mode = data(b.take(op.inputs[0])), op.attrs.get("coordinate_transformation_mode", "half_pixel")
    if op.kind == "Upsample" or op.opset < 11:
        mode = "asymmetric"
    lines = {at: line for at, line in _lines(b, op, x).items() if mode == CROP or line.made != line.size}
    if any(x.axes[axis] == (BATCH,) for axis in lines):
        raise Unsupported("the batch axis, where another is needed")
    if op.attrs.get("mode", "nearest") == "nearest" and mode != CROP:
        b.alias(op, _nearest(b, op, x, {at: _rounded(op, line, line.places(mode)) for at, line in lines.items()}))
        return
    for at, line in lines.items():
        places = line.places(mode)
        matrix = _matrix(op, line, places)
        outside = ((places < 0) | (places > line.size - 1)) & (mode == CROP)
        matrix[:, outside] = 0
        order = [axis for axis in range(len(x.axes)) if axis != at]
        moved = x.axes[at]
        turned = Value(x.name, x.shape, x.split, (*(x.axes[axis] for axis in order), moved), x.sole)
        made = product(b, op, turned, matrix)
        axes = (*made.axes[:at], made.axes[-1], *made.axes[at:-1])
        x = Value(made.name, made.shape, made.split, axes, made.sole)
        if outside.any():
            value = np.where(outside, op.attrs.get("extrapolation_value", 0.0), 0.0)
            b.affine(op, x, np.ones(()), value.reshape(-1, *[1] * (len(x.axes) - at - 1)))
            x = data(b.take(op.outputs[0]))
    b.alias(op, x)


def _lines(b: Builder, op: Op, x: Value) -> dict[int, _Line]:
    """What becomes of each axis that the operator names."""
    at_scales, at_sizes = (1, 3) if op.kind == "Upsample" or op.opset < 11 else (2, 3)
    scales, sizes, roi = optional(b, op, at_scales), optional(b, op, at_sizes), None
    if op.kind == "Upsample" and scales is None:
        raise Unsupported("no scales")
    dims, axes = b.dims(x), op.attrs.get("axes") or range(len(x.axes))
    axes = [axis % len(dims) for axis in axes]
    if op.attrs.get("coordinate_transformation_mode") == CROP:
        given = optional(b, op, 1)
        roi = None if given is None else np.reshape(given.fixed, (2, len(axes)))
    if sizes is not None and sizes.first.size:
        # A size given for the batch can only be its own.
        wanted = {axis: int(n) for axis, n in zip(axes, sizes.first, strict=True) if x.axes[axis] != (BATCH,)}
        made, factors = _by_sizes(op, {axis: dims[axis] for axis in wanted}, wanted)
    elif scales is not None and scales.first.size:
        factors = {axis: float(scale) for axis, scale in zip(axes, scales.fixed, strict=True)}
        factors = {axis: scale for axis, scale in factors.items() if x.axes[axis] != (BATCH,) or scale != 1}
        made = {axis: int(np.floor(dims[axis] * scale)) for axis, scale in factors.items()}
    else:
        raise Unsupported("neither scales nor sizes")
    if min(made.values(), default=1) < 1:
        raise Unsupported(f"sizes {list(made.values())}: no numbers at all")
    crops = {axis: (0.0, 1.0) if roi is None else (float(roi[0, i]), float(roi[1, i])) for i, axis in enumerate(axes)}
    return {axis: _Line(dims[axis], n, factors[axis], *crops[axis]) for axis, n in made.items()}


def _by_sizes(op: Op, dims: dict[int, int], sizes: dict[int, int]) -> tuple[dict[int, int], dict[int, float]]:
    """Sizes made and scales, by axis; with a policy all axes have one scale."""
    scales = {axis: made / dims[axis] for axis, made in sizes.items()}
    policy = op.attrs.get("keep_aspect_ratio_policy", "stretch")
    if policy == "stretch":
        return sizes, scales
    scale = min(scales.values()) if policy == "not_larger" else max(scales.values())
    return {axis: int(scale * size + 0.5) for axis, size in dims.items()}, dict.fromkeys(dims, scale)


def _rounded(op: Op, line: _Line, places: np.ndarray) -> np.ndarray:
    """i64[made]: the nearest of the axis's numbers."""
    rounding = op.attrs.get("nearest_mode", "round_prefer_floor")
    if op.kind == "Upsample" or op.opset < 11:
        rounding = "floor"
    rounded = {
        "round_prefer_floor": np.ceil(places - 0.5),
        "round_prefer_ceil": np.floor(places + 0.5),
        "floor": np.floor(places),
        "ceil": np.ceil(places),
    }
    return np.clip(rounded[rounding], 0, line.size - 1).astype(np.int64)


def _nearest(b: Builder, op: Op, x: Value, places: dict[int, np.ndarray]) -> Value:
    """Rows and columns of images repeated, the last maybe less often, where that is all; else numbers picked."""
    times = {at: int(np.bincount(found).max()) for at, found in places.items()}
    even = {at for at, found in places.items() if np.array_equal(found, np.arange(len(found)) // times[at])}
    usual = b.usual(x)
    inside = {group[0]: i for i, group in enumerate(usual[:2]) if len(group) == 1} if len(usual) == 3 else {}
    whole = even & inside.keys() & {2, 3}
    if whole:
        factor = [1, 1]
        for at in whole:
            factor[inside[at]] = times[at]
        x = b.image(op, x)
        x = b.emit(op, "upsample", [x], {"factor": tuple(factor)}, seen=as_image(x), last=False)
        cuts = tuple(slice(0, len(places[at])) if at in whole else slice(None) for at in range(len(x.axes)))
        x = cut_axes(b, op, x, cuts, last=False)
    for at in places.keys() - whole:
        x = pick(b, op, x, at, places[at])
    return x


def _matrix(op: Op, line: _Line, places: np.ndarray) -> np.ndarray:
    """f32[size, made]: how much of each of the axis's numbers is in each one made."""
    mode, matrix = op.attrs.get("mode", "nearest"), np.zeros((line.size, line.made))
    if mode == "nearest":
        matrix[_rounded(op, line, places), np.arange(line.made)] = 1
        return matrix.astype(np.float32)
    if mode not in ("linear", "bilinear", "trilinear", "cubic"):
        raise Unsupported(f"mode {mode!r}")
    narrow = min(line.scale, 1.0) if op.attrs.get("antialias", 0) else 1.0
    reach = int(np.ceil((2 if mode == "cubic" else 1) / narrow))
    near = np.floor(places)[:, None] + np.arange(-reach, reach + 2)
    away = np.abs(near - places[:, None]) * narrow
    weights = _cubic(away, op.attrs.get("cubic_coeff_a", -0.75)) if mode == "cubic" else np.maximum(1 - away, 0)
    if op.attrs.get("exclude_outside", 0):
        weights[(near < 0) | (near >= line.size)] = 0
    weights /= weights.sum(1, keepdims=True)
    at = np.clip(near, 0, line.size - 1).astype(np.int64)
    np.add.at(matrix, (at, np.arange(line.made)[:, None]), weights)
    return matrix.astype(np.float32)


def _cubic(away: np.ndarray, a: float) -> np.ndarray:
    """Keys's kernel at distances from a pixel (Keys 1981, there a = -0.5)."""
    inner = ((a + 2) * away - (a + 3)) * away**2 + 1
    outer = ((a * away - 5 * a) * away + 8 * a) * away - 4 * a
    return np.where(away <= 1, inner, np.where(away < 2, outer, 0.0))
