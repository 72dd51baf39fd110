"""What planted faults showed to be looked at by no other test."""

import numpy as np
import pytest

from lhc_ref import data, training
from lhc_ref.bounds import EXP_ULPS
from lhc_ref.evaluate import evaluate_with_bounds
from lhc_ref.modelfile import InputSpec, MaskedKernel, ModelSpec, Node
from tests.lhc_ref.training_cases import bars, small_config
from tests.tolerances import assert_within, unit_roundoff


def one_node(op, shape, attrs=None, **tensors):
    node = Node(op, "node", ("x",), "y", attrs or {}, tensors)
    return ModelSpec((InputSpec("x", shape),), ("y",), (node,))


@pytest.mark.parametrize("bias", [False, True])
def test_the_bound_of_a_convolution_counts_kept_weights_alone(bias):
    """2 of 450 weights and perhaps a bias: as many roundings as terms, at a magnitude of as many ones."""
    kernel, mask = np.ones((3, 3, 50, 1), np.float32), np.zeros((3, 3, 50, 1), bool)
    mask[1, 1, [3, 40]] = True
    tensors = {"kernel": MaskedKernel.from_dense(kernel, mask, 1, 1)} | (
        {"bias": np.ones(1, np.float32)} if bias else {}
    )
    spec = one_node("conv2d", (1, 1, 50), {"padding": "same"}, **tensors)
    value, bound = evaluate_with_bounds(spec, {"x": np.ones((1, 1, 1, 50), np.float32)})["y"]
    terms = 2 + bias
    assert value.item() == terms
    assert bound.item() < 1.05 * terms * terms * unit_roundoff(np.float32)


def ulps_away(x, steps):
    """float32 numbers `steps` (an integer each) away from x > 0."""
    return (x.view(np.int32) + steps.astype(np.int32)).view(np.float32)


@pytest.mark.parametrize("scale", [0.01, 1.0, 10.0])
@pytest.mark.parametrize("seed", range(5))
def test_an_exp_that_is_off_by_its_allowance_stays_within_the_bound(seed, scale):
    """One logit's exp is too small and all others' too large, or the reverse: just less than allowed."""
    rng = np.random.default_rng(seed)
    x = (scale * rng.standard_normal((40, 5))).astype(np.float32)
    value, bound = evaluate_with_bounds(one_node("softmax", (5,)), {"x": x})["y"]
    shifted = x - x.max(axis=-1, keepdims=True)
    exact = np.exp(shifted.astype(np.float64)).astype(np.float32)
    for one, sign in ((i, sign) for i in range(5) for sign in (-1, 1)):
        steps = np.full(x.shape, -sign * (EXP_ULPS - 1))
        steps[:, one] = sign * (EXP_ULPS - 1)
        e = ulps_away(exact, steps)
        assert_within(e / e.sum(axis=-1, keepdims=True), value, bound, dtype=np.float32)


def test_a_restored_trainer_still_has_the_best_epoch_so_far(tmp_path, monkeypatch):
    """When the first epoch of each stage stays the best, both stages end with weights of before the interruption."""
    monkeypatch.setattr(training, "merit", lambda record, config: -record["epoch"])
    config = small_config(bars(tmp_path / "bars.npz"), epochs_coarse=2, epochs_fine=2, enable_epochs=0)

    def train(interruptions):
        trainer = training.Trainer(config, data.load(config.data), lambda text: None)
        while not trainer.done:
            trainer.step()
            if sum(record["stage"] == trainer.progress.stage for record in trainer.progress.history) in interruptions:
                arrays, value = trainer.capture()
                copies = {name: array.copy() for name, array in arrays.items()}
                trainer = training.Trainer(config, data.load(config.data), lambda text: None)
                trainer.restore(copies, value)
        assert [record["epoch"] for record in trainer.progress.chosen.values()] == [0, 0]
        return trainer.net.weights_hash()

    assert train(interruptions=(1,)) == train(interruptions=())
