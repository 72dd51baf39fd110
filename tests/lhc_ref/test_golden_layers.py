"""The authors' own layers (tests/golden/README.md): every mask exactly, the rest within derived float32 bounds."""

from pathlib import Path

import numpy as np
import pytest

from lhc_ref import conv, mask, ops
from lhc_ref.tape import Tape, apply
from tests import oracle
from tests.tolerances import assert_exact, assert_within, conv_bound, conv_vjp_bounds, sum_bound

LAYERS = Path(__file__).parents[1] / "golden" / "layers.npz"
CASES = sorted({key.split(".")[0] for key in np.load(LAYERS).files})
PATTERN_TAPS = 9  # terms that a rigid pattern's score collects for each channel pair

layers = pytest.mark.parametrize("layer", CASES)
dtypes = pytest.mark.parametrize("dtype", [np.float32, np.float64])


class Golden:
    """One layer's data, and how far two float32 evaluations of it may lie from the exact values."""

    def __init__(self, name):
        with np.load(LAYERS) as file:
            self.data = {key.split(".")[1]: file[key] for key in file.files if key.startswith(f"{name}.")}
        self.options = {"stride": (int(self["stride"]),) * 2, "padding": str(self["padding"])}
        c_in, c_out = self["kernel"].shape[2:]
        self.groups = {"c_in": c_in, "c_out": c_out, "group_in": int(self["cgi"]), "group_out": int(self["cgo"])}
        self.enabled = self["vector"] if self["formable"] else np.ones(c_out, bool)
        self.relu, self.biased = str(self["activation"]) == "relu", self["bias"].size > 0

    def __getitem__(self, field):
        return self.data[field]

    def masked_kernel(self):
        return self["kernel"] * self["mask"]

    def pre_activation(self):
        """In float64, and its float32 bound."""
        arguments = self["x"], self.masked_kernel(), self["bias"] if self.biased else None
        return oracle.conv2d(*arguments, **self.options), conv_bound(*arguments, **self.options)

    def gated_dy(self):
        return self["dy"] * (self["y"] > 0) if self.relu else self["dy"]

    def bounds(self):
        """Of each gradient, for one float32 evaluation."""
        dy, x, kernel = self.gated_dy(), self["x"], self["kernel"]
        dx, dmasked = conv_vjp_bounds(dy, x, self.masked_kernel(), **self.options)
        products = int(np.prod(dy.shape[:3])) * self.groups["group_in"] * self.groups["group_out"] * PATTERN_TAPS
        _, magnitude = oracle.conv2d_vjp(abs(dy), abs(x), kernel, **self.options)
        collected = np.abs(kernel) * magnitude
        group_in, group_out = self.groups["group_in"], self.groups["group_out"]
        dscores = oracle.lhc_mask_vjp(collected, self["effects"], group_in, group_out, self.enabled)
        dbias = oracle.add_bias_vjp(abs(dy))
        return {
            "dx": dx,
            "dkernel": dmasked,
            # three more roundings: times the kernel, the slope itself (0.1 is not a float), times the slope
            "deffects": sum_bound(dscores, products + 3, np.float32),
            "dbias": sum_bound(dbias, int(np.prod(dy.shape[:3])), np.float32),
        }


def compute(golden, dtype):
    """The layer and its gradients by the tape, in `dtype`."""
    tape = Tape()
    x, kernel, scores, bias = (tape.variable(golden[k].astype(dtype)) for k in ("x", "kernel", "effects", "bias"))
    made = apply(mask.lhc_mask, scores, golden.enabled, kind=str(golden["kind"]), **golden.groups)
    y = apply(conv.conv2d, x, apply(ops.multiply, kernel, made), **golden.options)
    y = apply(ops.bias_add, y, bias) if golden.biased else y
    y = apply(ops.relu, y) if golden.relu else y
    gradients = tape.gradients(y, [x, kernel, scores, bias], golden["dy"].astype(dtype))
    return made.value, y.value, dict(zip(("dx", "dkernel", "deffects", "dbias"), gradients, strict=True))


@layers
def test_no_choice_is_within_rounding_of_its_threshold(layer):
    """ReLU's gate and the surrogates' windows, which all comparisons below rely on, cannot depend on rounding."""
    golden = Golden(layer)
    exact, bound = golden.pre_activation()
    if golden.relu:
        assert ((abs(exact) > bound) | (exact == 0)).all()
    scores = oracle.f64(golden["effects"])
    centre = scores.mean(axis=0) if str(golden["kind"]) == "rigid" else 0.0
    distance = abs(abs(scores - centre) - 1)
    assert (
        distance > sum_bound(abs(scores) + abs(centre) + abs(scores).sum(axis=0) / len(scores), 17, np.float32)
    ).all()


@dtypes
@layers
def test_mask_is_theirs_exactly(layer, dtype):
    golden = Golden(layer)
    made = mask.lhc_mask(golden["effects"].astype(dtype), golden.enabled, kind=str(golden["kind"]), **golden.groups)
    assert_exact(made, golden["mask"].astype(dtype))


@dtypes
@layers
def test_output_is_theirs_within_rounding(layer, dtype):
    golden = Golden(layer)
    _, y, _ = compute(golden, dtype)
    _, bound = golden.pre_activation()
    assert_within(y, golden["y"], evaluations(dtype) * bound, dtype)


@dtypes
@layers
def test_gradients_are_theirs_within_rounding(layer, dtype):
    golden = Golden(layer)
    _, _, gradients = compute(golden, dtype)
    if not golden["formable"]:
        assert not golden["deffects"].any()
    for name, bound in golden.bounds().items():
        if (name == "deffects" and not golden["formable"]) or (name == "dbias" and not golden.biased):
            continue
        assert_within(gradients[name], golden[name], evaluations(dtype) * bound, dtype)
    assert_exact(gradients["dkernel"][golden["mask"] == 0], 0 * golden["dkernel"][golden["mask"] == 0], dtype)


def evaluations(dtype):
    """Theirs is one float32 evaluation, ours in float32 another; the bounds leave room for a float64 one besides."""
    return 2 if dtype == np.float32 else 1
