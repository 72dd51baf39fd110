import numpy as np
import pytest

from lhc_ref import ops
from lhc_ref.blocks import Residual, Sequential
from lhc_ref.errors import InputError
from lhc_ref.layers import BatchNorm, Conv2d, Dense, Layer, LhcConv2d, Operator, Pass, he_normal
from lhc_ref.tape import Tape, apply
from tests import oracle
from tests.tolerances import assert_exact, assert_within, sum_bound


def rng():
    return np.random.default_rng(0)


def integers(*shape, low=-3, high=4):
    return rng().integers(low, high, shape).astype(np.float64)


def test_he_normal_is_cut_at_two_deviations_and_has_its_variance():
    """40,000 values: the sample variance deviates by less than sqrt(2/40,000) of it (a cut normal has thin tails)."""
    values = he_normal(rng(), (200, 200), 50, "float64")
    assert abs(values).max() <= 2 * np.sqrt(2 / 50) / 0.87962566103423978
    assert abs(values.var() / (2 / 50) - 1) <= 5 * np.sqrt(2 / 40_000)
    assert abs(values.mean()) <= 5 * np.sqrt(2 / 50 / 40_000)
    assert_exact(he_normal(rng(), (3, 4), 7, "float32"), he_normal(rng(), (3, 4), 7, "float64").astype(np.float32))


@pytest.mark.parametrize(
    ("kind", "shape", "fan_in"), [("free", (3, 3, 3, 2), 3 * 3 * 3), ("rigid", (15, 3, 2), 15 * 3)]
)
def test_scores_start_with_their_groups_fan_in(kind, shape, fan_in):
    generator = rng()
    layer = LhcConv2d("c", 10, 7, generator, kind=kind, group_in=4, group_out=4, dtype="float64")
    again = rng()
    he_normal(again, (3, 3, 10, 7), 3 * 3 * 10, "float64")
    assert_exact(layer.weights["scores"], he_normal(again, shape, fan_in, "float64"))


@pytest.mark.parametrize("kind", ["free", "rigid"])
@pytest.mark.parametrize("enabled", ["all", "some", "none"])
def test_an_lhc_layer_is_a_convolution_with_a_masked_kernel(kind, enabled):
    layer = LhcConv2d("c", 5, 7, rng(), kind=kind, group_in=2, group_out=4, stride=2, dtype="float64")
    layer.weights["kernel"][...] = integers(3, 3, 5, 7)
    layer.weights["bias"][...] = integers(7)
    layer.state["enabled"][...] = {"all": True, "some": np.arange(7) % 2 == 0, "none": False}[enabled]
    x, run = integers(2, 6, 5, 5), Pass()
    y = layer(x, run)
    mask = oracle.lhc_mask(layer.weights["scores"], 5, 7, 2, 4, layer.state["enabled"])
    want = oracle.conv2d(x, layer.weights["kernel"] * mask, layer.weights["bias"], stride=(2, 2), padding="same")
    assert_exact(y, want)
    assert_exact(run.masks[0], mask)
    assert run.pixels == [3 * 3]
    assert layer.kept() == int(mask.sum())
    patterns = oracle.expand(layer.pattern_mask().astype(float), 5, 7, 2, 4)
    assert_exact(patterns, oracle.lhc_mask(layer.weights["scores"], 5, 7, 2, 4, np.ones(7, bool)))


def gradients(layer, x):
    """By role, of the sum of the squares of the layer's output."""
    tape = Tape()
    run = Pass(tape)
    y = layer(x, run)
    found = tape.gradients(apply(ops.multiply, y, y), list(run.variables.values()), np.ones(y.shape))
    return dict(zip(run.variables, found, strict=True))


def test_a_formable_layer_trains_its_scores_and_a_frozen_one_does_not():
    layer = LhcConv2d("c", 3, 4, rng(), dtype="float64")
    x = rng().standard_normal((2, 4, 4, 3))
    assert set(gradients(layer, x)) == {"c.kernel", "c.bias", "c.scores"}
    layer.state["enabled"][...] = False
    assert not gradients(layer, x)["c.scores"].any()
    layer.formable = False
    assert set(gradients(layer, x)) == {"c.kernel", "c.bias"}


def test_a_frozen_mask_counts_for_every_channel():
    layer = LhcConv2d("c", 3, 4, rng(), dtype="float64")
    dense = layer.weights["kernel"].size
    layer.state["enabled"][...] = False
    assert layer.kept() == dense
    layer.formable = False
    assert layer.kept() == layer.pattern_mask().sum() < dense


def test_a_masked_weight_gets_no_gradient():
    layer = LhcConv2d("c", 3, 4, rng(), dtype="float64")
    kept = layer.mask(layer.weights["scores"]) == 1
    dkernel = gradients(layer, rng().standard_normal((2, 4, 4, 3)))["c.kernel"]
    assert not dkernel[~kept].any()
    assert dkernel[kept].all()


@pytest.mark.parametrize(("kind", "size"), [("rigid", 5), ("rigid", (1, 3)), ("oval", 3)])
def test_rigid_patterns_are_3x3(kind, size):
    with pytest.raises(InputError, match='c: expected kind "free", or "rigid" with 3x3 taps'):
        LhcConv2d("c", 3, 4, rng(), kind=kind, size=size)


def test_an_ordinary_convolution_and_a_grouped_one():
    x = integers(1, 5, 4, 6)
    for groups in (1, 2):
        layer = Conv2d("c", 6, 4, rng(), size=(1, 3), groups=groups, dilation=(1, 2), dtype="float64")
        layer.weights["kernel"][...] = integers(1, 3, 6 // groups, 4)
        want = oracle.conv2d(x, layer.weights["kernel"], groups=groups, dilation=(1, 2))
        assert_exact(layer(x, Pass()), want)
    assert "bias" not in Conv2d("c", 6, 4, rng(), bias=False).weights


def test_a_dense_layer():
    layer, x = Dense("d", 3, 5, rng(), dtype="float64"), integers(4, 3)
    layer.weights["kernel"][...] = integers(3, 5)
    layer.weights["bias"][...] = integers(5)
    assert_exact(layer(x, Pass()), oracle.dense(x, layer.weights["kernel"], layer.weights["bias"]))


def test_batch_norm_uses_the_batch_on_a_tape_and_running_statistics_without():
    layer = BatchNorm("n", 3, momentum=0.75, dtype="float64")
    layer.weights["gamma"][...] = [1, 2, 3]
    x = integers(4, 2, 2, 3)
    mean, variance = x.mean(axis=(0, 1, 2)), x.var(axis=(0, 1, 2))
    y = layer(x, Pass(Tape())).value
    # The integers are small, so that the terms below are at most 100 and the longest sum has 16 of them.
    bound = sum_bound(100.0, 64, np.float64)
    assert_within(y, oracle.batch_norm(x, layer.weights["gamma"], np.zeros(3), mean, variance, 1e-3), bound)
    assert_within(layer.state["mean"], 0.25 * mean, bound)
    assert_within(layer.state["variance"], 0.75 + 0.25 * variance, bound)
    before = {name: array.copy() for name, array in layer.state.items()}
    y = layer(x, Pass())
    want = oracle.batch_norm(x, layer.weights["gamma"], np.zeros(3), before["mean"], before["variance"], 1e-3)
    assert_within(y, want, bound)
    assert_exact(layer.state["mean"], before["mean"])


def test_a_residual_block_adds_and_its_gradient_meets():
    body = Sequential("body", [Conv2d("c", 3, 3, rng(), dtype="float64"), Operator("relu", ops.relu)])
    shortcut = Conv2d("s", 3, 3, rng(), size=1, dtype="float64")
    x = rng().standard_normal((1, 4, 4, 3))
    plain, projected = Residual("r", body), Residual("r", body, shortcut)
    assert_exact(plain(x, Pass()), body(x, Pass()) + x)
    assert_exact(projected(x, Pass()), body(x, Pass()) + shortcut(x, Pass()))
    assert [leaf.name for leaf in projected.leaves()] == ["c", "relu", "s"]
    assert set(gradients(projected, x)) == {"c.kernel", "c.bias", "s.kernel", "s.bias"}


def test_the_base_class_computes_nothing():
    with pytest.raises(InputError, match="a: expected a layer that computes"):
        Layer("a")(np.ones(1), Pass())
