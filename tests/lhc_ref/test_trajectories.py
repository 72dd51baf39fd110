"""Six epochs of training as the authors' layers and callback did them (tests/golden/README.md)."""

from pathlib import Path

import numpy as np
import pytest

from lhc_ref import mask, ops
from lhc_ref.layers import LhcConv2d, Pass
from lhc_ref.models.builder import Builder
from lhc_ref.models.small import golden
from lhc_ref.optim import SGD
from lhc_ref.regularizer import density_penalty
from lhc_ref.schedule import base_strength, strength
from lhc_ref.tape import Tape, apply
from tests.tolerances import assert_exact, gamma

GROUPS = {"lhc1": (4, 4), "lhc2": (8, 4)}
EPOCHS = 6
# Roundings of an epoch's loss: four layers, whose longest sum has 3*3*12 products.
LOSS_ROUNDINGS = 4 * 3 * 3 * 12


def their_name(name):
    return name.replace("scores", "effects")


def make_net(data):
    def make(name, c_in, c_out, rng, **options):
        group_in, group_out = GROUPS[name]
        return LhcConv2d(
            name, c_in, c_out, rng, kind=str(data["kind"]), group_in=group_in, group_out=group_out, **options
        )

    net = golden(Builder(make, np.random.default_rng(0)), data["x"].shape[1:], 4)
    for name, weight in net.weights.items():
        weight[...] = data[f"init.{their_name(name)}"]
    return net


def train_epoch(net, optimizer, data, scale):
    """One epoch in order; the mean of task loss and penalty."""
    batch, total = int(data["batch"]), 0.0
    for start in range(0, len(data["x"]), batch):
        x, labels = data["x"][start : start + batch], data["label"][start : start + batch]
        tape = Tape()
        run = Pass(tape)
        task = apply(ops.softmax_cross_entropy, net(x, run), labels)
        penalty = apply(density_penalty, *run.masks, pixels=run.pixels, target_density=float(data["dt"]))
        loss = apply(ops.add, task, apply(ops.scale, penalty, factor=scale))
        gradients = tape.gradients(loss, list(run.variables.values()))
        optimizer.update(net.weights, dict(zip(run.variables, gradients, strict=True)), float(data["lr"]))
        total += float(loss.value) * len(x)
    return total / len(data["x"])


@pytest.mark.parametrize("kind", ["free", "rigid"])
def test_a_trajectory_of_the_authors(kind):
    data = np.load(Path(__file__).parents[1] / "golden" / f"trajectory_{kind}.npz")
    net, optimizer, base = make_net(data), SGD(float(data["momentum"])), 0.0
    for epoch in range(EPOCHS):
        for layer in net.lhc_layers:
            layer.state["enabled"][...] = data[f"e{epoch}.{layer.name}.vector"]
        scale = strength(epoch, int(data["nwarm_r"]), base)
        assert scale == pytest.approx(float(data[f"e{epoch}.scale1"]), rel=gamma(LOSS_ROUNDINGS, np.float32))
        loss = train_epoch(net, optimizer, data, scale)
        assert loss == pytest.approx(float(data[f"e{epoch}.loss"]), rel=gamma(LOSS_ROUNDINGS, np.float32))
        if epoch == 0:
            base = base_strength(loss, float(data["dt"]))
        for layer in net.lhc_layers:
            theirs = mask.lhc_mask(data[f"e{epoch}.{layer.name}.effects"], layer.state["enabled"], **layer.mask_options)
            assert_exact(layer.mask(layer.weights["scores"]), theirs)
    for name, weight in net.weights.items():
        assert abs(weight - data[f"e{EPOCHS - 1}.{their_name(name)}"]).max() <= 1e-5, name
