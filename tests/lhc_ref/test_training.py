import itertools
import threading

import numpy as np
import pytest

from lhc_ref import data
from lhc_ref.batches import Batches
from lhc_ref.errors import CheckpointError, InputError
from lhc_ref.selection import density_limit, measure, merit, qualifies
from lhc_ref.training import DivergedError, Trainer
from tests.lhc_ref.training_cases import bars, small_config
from tests.tolerances import assert_exact, assert_identical


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return bars(tmp_path_factory.mktemp("data") / "bars.npz")


def trainer_for(images, say=lambda text: None, **changes):
    config = small_config(images, **changes)
    return Trainer(config, data.load(config.data), say)


def finish(trainer):
    while not trainer.done:
        trainer.step()
    return trainer


@pytest.fixture(scope="module")
def finished(images):
    return finish(trainer_for(images))


def test_it_learns_and_keeps_to_the_density(finished):
    """Three classes: chance is a third."""
    result = finished.progress.result
    assert result["test_accuracy"] >= 0.9
    assert result["qualified"]
    assert result["density"] == result["kept"] / result["total"] <= 1.1 * 0.3
    assert result["weights_hash"] == finished.net.weights_hash()


def test_a_seed_is_a_run(images, finished):
    assert finish(trainer_for(images)).net.weights_hash() == finished.net.weights_hash()
    assert finish(trainer_for(images, seed=1)).net.weights_hash() != finished.net.weights_hash()


def test_the_history_follows_the_schedule(finished):
    history = finished.progress.history
    coarse = [r for r in history if r["stage"] == "coarse"]
    assert [r["epoch"] for r in history] == [0, 1, 2, 3, 0, 1, 2]
    assert [r["all_enabled"] for r in history] == [False, False, True, True, True, True, True]
    assert history[0]["density"] == 1
    base = coarse[0]["loss"] / (0.01 + 0.99 * 0.7)
    assert [r["strength"] for r in history] == [0, 2 * base, 4 * base, 4 * base, 0, 0, 0]
    assert history[0]["rate"] == 0.1 / 2
    assert len({r["density"] for r in history if r["stage"] == "fine"}) == 1


def test_the_fine_stage_starts_from_the_best_epoch_with_frozen_scores(images):
    trainer = trainer_for(images)
    while trainer.progress.stage == "coarse":
        trainer.step()
    config, coarse = trainer.config, trainer.progress.chosen["coarse"]
    assert coarse == max(trainer.progress.history, key=lambda record: merit(record, config))
    assert trainer.net.density() == coarse["density"]
    scores = {name: w.copy() for name, w in trainer.net.weights.items() if name.endswith("scores")}
    assert len(scores) == 2
    finish(trainer)
    for name, before in scores.items():
        assert_identical(trainer.net.weights[name], before)


def test_the_result_is_the_best_fine_epoch(images):
    """Snapshots of the net after each fine epoch: the result's weights are those of the chosen one."""
    trainer, hashes = trainer_for(images), []
    while not trainer.done:
        if trainer.progress.stage == "fine" and trainer.progress.step == 10:
            last = trainer.progress.epoch == 2
            trainer.step()
            hashes.append(None if last else trainer.net.weights_hash())
        else:
            trainer.step()
    best = trainer.progress.chosen["fine"]["epoch"]
    assert best == 2 or trainer.net.weights_hash() == hashes[best]


def test_the_test_split_is_looked_at_once(images, monkeypatch):
    looks = []
    normalised = data.Dataset.normalised

    def watched(self, split, dtype="float32", rows=None):
        looks.append(split)
        return normalised(self, split, dtype, rows)

    monkeypatch.setattr(data.Dataset, "normalised", watched)
    finish(trainer_for(images))
    assert looks.count("test") == 1
    assert looks[-1] == "test"


@pytest.mark.parametrize("conv", ["standard", "lhc-rigid"])
@pytest.mark.parametrize("epochs_fine", [0, 1])
def test_other_convolutions_and_no_fine_stage(images, conv, epochs_fine):
    trainer = finish(trainer_for(images, conv=conv, epochs_fine=epochs_fine, epochs_coarse=3, target_density=0.5))
    assert set(trainer.progress.chosen) == ({"coarse", "fine"} if epochs_fine else {"coarse"})
    assert (trainer.progress.result["density"] == 1) == (conv == "standard")
    assert trainer.net.all_enabled()


def test_a_density_out_of_reach_is_said_and_the_closest_epoch_taken(images):
    said = []
    trainer = finish(trainer_for(images, said.append, target_density=0.001, strength=0.01))
    assert not trainer.progress.result["qualified"]
    enabled = [r for r in trainer.progress.history if r["stage"] == "coarse" and r["all_enabled"]]
    closest = min(enabled, key=lambda r: r["density"])
    assert trainer.progress.chosen["coarse"]["density"] == closest["density"] == trainer.progress.result["density"]
    assert len(said) == 1
    assert f"Going on from the closest: epoch {closest['epoch']}, density {closest['density']:.3f}." in said[0]


def test_early_stopping_ends_both_stages(images):
    trainer = finish(
        trainer_for(images, epochs_coarse=30, epochs_fine=30, stop=2, decay="constant", lr=1e-6, lr_fine=1e-6)
    )
    for stage in ("coarse", "fine"):
        accuracies = [r["validation_accuracy"] for r in trainer.progress.history if r["stage"] == stage]
        assert len(accuracies) < 30
        assert len(accuracies) - 1 - accuracies.index(max(accuracies)) == 2


@pytest.mark.parametrize("at", [0, 1, 10, 11, 25, 44, 45, 60, 77])
def test_a_restored_trainer_continues_bit_for_bit(images, finished, at):
    """Stopped between epochs, within them, in both stages, and when done: 7 epochs of 11 steps."""
    trainer = trainer_for(images)
    for _ in range(at):
        trainer.step()
    arrays, value = trainer.capture()
    arrays = {name: array.copy() for name, array in arrays.items()}
    other = trainer_for(images)
    other.restore(arrays, value)
    assert finish(other).net.weights_hash() == finished.net.weights_hash()
    assert other.progress.history == finished.progress.history
    assert other.progress.result == finished.progress.result


@pytest.mark.parametrize("enabling", ["independent", "nested"])
def test_enabled_channels_by_epoch(images, enabling):
    trainer, seen = trainer_for(images, enabling=enabling, enable_epochs=3), []
    while trainer.progress.stage == "coarse":
        if trainer.progress.step == 1:
            seen.append(np.concatenate([layer.state["enabled"] for layer in trainer.net.lhc_layers]))
        trainer.step()
    assert not seen[0].any()
    assert seen[3].all()
    assert 0 < seen[1].sum() < len(seen[1])
    nested = all((before <= after).all() for before, after in itertools.pairwise(seen))
    assert nested == (enabling == "nested")


def test_batches_are_made_ahead_on_a_thread_and_are_those_of_the_step(images, monkeypatch):
    threads, made = set(), []
    make = Batches._make

    def watched(self, step, rng):
        threads.add(threading.current_thread() is threading.main_thread())
        made.append(step)
        return make(self, step, rng)

    monkeypatch.setattr(Batches, "_make", watched)
    trainer = trainer_for(images, flip=True, crop=1)
    for _ in range(22):
        trainer.step()
    assert threads == {True, False}
    assert made == [*range(11), *range(11)]


def test_an_error_in_the_thread_is_raised_by_the_step(images, monkeypatch):
    trainer = trainer_for(images)
    trainer.step()
    trainer.batches._ahead.result()
    monkeypatch.setattr(trainer.batches, "_augment", None)
    trainer.step()
    with pytest.raises(TypeError):
        trainer.step()


def test_selection_by_accuracy_alone_is_that_of_the_authors():
    config = small_config("d.npz", target_density=0.1, selection="accuracy")
    early, later = record(0.9, 1.0, all_enabled=False), record(0.8, 0.1)
    assert merit(early, config) > merit(later, config)
    sound = small_config("d.npz", target_density=0.1)
    assert merit(early, sound) < merit(later, sound)


def test_a_capture_of_other_data_or_settings_is_refused(images, tmp_path):
    captured = trainer_for(images).capture()
    with pytest.raises(CheckpointError, match="expected this run's configuration, got another"):
        trainer_for(images, lr=0.2).restore(*captured)
    arrays, value = captured
    other = data.load(bars(tmp_path / "other.npz", seed=1))
    with pytest.raises(CheckpointError, match="expected the data it was trained on, got other images"):
        Trainer(small_config(images), other).restore(arrays, value)
    for name in ("weights/stem.kernel", "state/lhc1.enabled", "order"):
        with pytest.raises(CheckpointError, match="expected a whole state"):
            trainer_for(images).restore({k: a for k, a in arrays.items() if k != name}, value)
    with pytest.raises(CheckpointError, match="expected a whole state"):
        trainer_for(images).restore(arrays, {k: v for k, v in value.items() if k != "random"})


def test_divergence_stops_before_it_is_kept(images):
    trainer = trainer_for(images, lr=1e30)
    with pytest.raises(
        DivergedError, match=r"expected finite numbers, got a loss of nan in the coarse stage, epoch 0, step \d"
    ):
        finish(trainer)
    trainer.net.weights["head.bias"][0] = np.inf
    with pytest.raises(DivergedError, match=r"got NaN or infinity in head\.bias"):
        trainer.capture()


def test_a_step_too_many(finished):
    with pytest.raises(InputError, match="step: expected a run that is not done"):
        finished.step()


def record(accuracy=0.5, density=0.1, all_enabled=True, loss=1.0):
    return {"validation_accuracy": accuracy, "validation_loss": loss, "density": density, "all_enabled": all_enabled}


def test_merit_puts_enabled_before_density_before_accuracy():
    config = small_config("d.npz", target_density=0.1)
    assert density_limit(config) == pytest.approx(0.11)
    worst_first = [
        record(1.0, 0.0, all_enabled=False),
        record(0.9, 0.5),
        record(0.8, 0.111),
        record(0.1, 0.1099),
        record(0.2, 0.05, loss=2.0),
        record(0.2, 0.1),
    ]
    merits = [merit(r, config) for r in worst_first]
    assert all(worse < better for worse, better in itertools.pairwise(merits))
    assert [qualifies(r, config) for r in worst_first] == [False, False, False, True, True, True]
    ordinary = small_config("d.npz", target_density=0.1, conv="standard")
    assert qualifies(record(density=1.0), ordinary)


def test_measure():
    logits = np.array([[0.0, 0.0], [np.log(3.0), 0.0]])
    accuracy, loss = measure(logits, np.array([0, 1]))
    assert accuracy == 0.5
    assert loss == pytest.approx((np.log(2) + np.log(4)) / 2, rel=1e-15)
    assert_exact(np.float64(measure(logits, np.array([1, 1]))[0]), np.float64(0))
