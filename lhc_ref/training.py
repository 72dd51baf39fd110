"""Training as a machine of steps: a coarse stage that learns weights and masks, a fine stage under frozen masks.

Everything that the next step depends on is in `Trainer.capture`, so that a run restored from it continues bit for bit.
"""

import math
import tomllib
from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from lhc_ref import data, devices, ops, schedule
from lhc_ref.arrays import Array, namespace, to_numpy
from lhc_ref.augment import Augmentation
from lhc_ref.batches import Batches
from lhc_ref.checkpoint import part, prefixed
from lhc_ref.config import TrainConfig, resolve, to_toml
from lhc_ref.errors import CheckpointError, ConfigError, InputError, LhcError
from lhc_ref.layers import Pass
from lhc_ref.models import make_net
from lhc_ref.optim import SGD
from lhc_ref.progress import Progress
from lhc_ref.regularizer import density_penalty
from lhc_ref.selection import Record, density_limit, measure, merit, qualifies
from lhc_ref.tape import Tape, Variable, apply


class DivergedError(LhcError):
    """Training whose loss or weights are no longer finite numbers."""


class Trainer:
    """A training run in memory.

    Parameters
    ----------
    config, dataset : what to train on what
    say : called with a line of text where a user should know of a choice
    device : where to compute, if elsewhere than the configuration says

    Attributes
    ----------
    net : the net as it is now; when done, the selected one
    xp : the module of its arrays
    batches : of the training split
    masks : of the LHC layers after the last epoch of the coarse stage, bool[kh, kw, gi, go] each
    progress : where the run stands
    """

    def __init__(
        self,
        config: TrainConfig,
        dataset: data.Dataset,
        say: Callable[[str], None] = print,
        device: str | None = None,
    ) -> None:
        self.config, self.dataset, self.say = config, dataset, say
        self.net = make_net(
            config.model,
            config.conv,
            image_shape=dataset.image_shape,
            classes=len(dataset.classes),
            groups=config.groups,
            seed=config.seed,
            dtype=config.dtype,
            width=config.width,
        )
        self.xp = devices.namespace_of(device or config.device)
        self.net.move(self.xp)
        augment = Augmentation(config.shift, config.crop, config.flip)
        # Why the 1: another stream than the initial weights'.
        rng = np.random.default_rng([config.seed, 1])
        self.batches = Batches(dataset, augment, config.batch, config.dtype, rng)
        self.optimizer = SGD(config.momentum)
        self.best: dict[str, Array] = {}
        self.masks: dict[str, Array] = {}
        self.progress = Progress()

    @property
    def done(self) -> bool:
        return self.progress.stage == "done"

    @np.errstate(over="ignore", invalid="ignore")  # Why: what is no finite number is found by looking.
    def step(self) -> Record | None:
        """Train on one batch; at an epoch's end also validate, select, and move on.

        Returns
        -------
        The epoch's record if this step ended one.

        Raises
        ------
        DivergedError : a loss is no finite number.
        InputError : the run is done.
        """
        progress = self.progress
        if self.done:
            raise InputError("step: expected a run that is not done, got one with its result. Start a new run.")
        if progress.step == 0:
            self._begin_epoch()
        batch = self.batches.next(progress.step)
        images, labels = self.xp.asarray(batch.images), self.xp.asarray(batch.labels)
        tape = Tape()
        run = Pass(tape)
        logits = self.net(images, run)
        loss = self._loss(logits, labels, run)
        value = float(loss.value)
        if not math.isfinite(value):
            raise self._diverged(f"a loss of {value}")
        gradients = tape.gradients(loss, list(run.variables.values()))
        self.optimizer.update(self.net.weights, dict(zip(run.variables, gradients, strict=True)), self.rate())
        progress.step += 1
        progress.loss_sum += value * len(labels)
        progress.hits += int((logits.value.argmax(axis=1) == labels).sum())
        return self._end_epoch() if progress.step == len(self.batches) else None

    def rate(self) -> float:
        """This epoch's learning rate."""
        return self._rule().rate(self.progress.epoch, self._accuracies())

    def strength(self) -> float:
        """This epoch's weight of the density regularizer; 0 in the fine stage, which has nothing to form."""
        if self.progress.stage == "fine" or not self.net.lhc_layers:
            return 0.0
        config, progress = self.config, self.progress
        return schedule.strength(progress.epoch, config.ramp_epochs, progress.base, config.strength)

    def capture(self) -> tuple[dict[str, Array], Any]:
        """All that the rest of the run depends on: arrays by name, and a value for JSON.

        Raises
        ------
        DivergedError : a weight is no finite number; such a state is not worth keeping.
        """
        for name, weight in self.net.weights.items():
            if not namespace(weight).isfinite(weight).all():
                raise self._diverged(f"NaN or infinity in {name}")
        parts = {**self._net_arrays(), **prefixed("velocity", self.optimizer.velocity), **prefixed("best", self.best)}
        value = {
            "config": to_toml(self.config),
            "data": self.dataset.hash(),
            "random": self.batches.rng.bit_generator.state,
            "progress": asdict(self.progress),
        }
        return {**{name: to_numpy(array) for name, array in parts.items()}, "order": self.batches.order}, value

    def restore(self, arrays: dict[str, Array], value: Any) -> None:
        """Go back to a captured state.

        Raises
        ------
        CheckpointError : it belongs to another configuration, other data or another net, or lacks something.
        """
        if not self._is_own(value.get("config", "")):
            raise CheckpointError(
                "checkpoint: expected this run's configuration, got another. Restore its config.toml."
            )
        if value.get("data") != self.dataset.hash():
            raise CheckpointError(
                "checkpoint: expected the data it was trained on, got other images. Restore the data."
            )
        try:
            progress = Progress(**value["progress"])
            if progress.stage != "coarse":
                self.net.freeze_masks()
            self.net.load(part("weights", arrays), part("state", arrays))
            self.batches.restore(arrays["order"], value["random"])
        except (KeyError, TypeError, ValueError) as e:
            raise CheckpointError(f"checkpoint: expected a whole state, got {e}. Use the version that wrote it.") from e
        velocity = {name: self.xp.asarray(array) for name, array in part("velocity", arrays).items()}
        self.optimizer.velocity, self.best, self.progress = velocity, part("best", arrays), progress

    def _is_own(self, config: str) -> bool:
        """Whether a stored configuration is this run's, but for the device."""
        try:
            return replace(resolve(tomllib.loads(config)), device=self.config.device) == self.config
        except (tomllib.TOMLDecodeError, ConfigError):
            return False

    def _loss(self, logits: Variable, labels: Array, run: Pass) -> Variable:
        """Cross-entropy, and the regularizer by its strength."""
        loss = apply(ops.softmax_cross_entropy, logits, labels)
        strength = self.strength()
        if strength == 0.0:
            return loss
        target = self.config.target_density
        penalty = apply(density_penalty, *run.masks, pixels=run.pixels, target_density=target)
        return apply(ops.add, loss, apply(ops.scale, penalty, factor=strength))

    def _begin_epoch(self) -> None:
        """Draw enabled channels and the order of the images."""
        if self.progress.stage == "coarse":
            for number, layer in enumerate(self.net.lhc_layers):
                enabled = layer.state["enabled"]
                when = len(enabled), self.progress.epoch, self.config.enable_epochs
                if self.config.enabling == "nested":
                    drawn = schedule.nested_enabled(self.config.seed, number, *when)
                else:
                    drawn = schedule.draw_enabled(self.batches.rng, *when)
                enabled[...] = self.xp.asarray(drawn)
        self.batches.shuffle()

    def _end_epoch(self) -> Record:
        progress, config = self.progress, self.config
        images = len(self.batches.order)
        accuracy, loss = self._measured("validation")
        if not math.isfinite(loss):
            raise self._diverged(f"a validation loss of {loss}")
        record: Record = {
            "stage": progress.stage,
            "epoch": progress.epoch,
            "loss": progress.loss_sum / images,
            "accuracy": progress.hits / images,
            "validation_loss": loss,
            "validation_accuracy": accuracy,
            "density": self.net.density(),
            "all_enabled": self.net.all_enabled(),
            "rate": self.rate(),
            "strength": self.strength(),
        }
        if not progress.history:
            progress.base = schedule.base_strength(record["loss"], config.target_density)
        progress.history.append(record)
        before = progress.chosen.get(progress.stage)
        if before is None or merit(record, config) > merit(before, config):
            progress.chosen[progress.stage] = record
            self.best = {name: array.copy() for name, array in self._net_arrays().items()}
        if progress.stage == "coarse":
            self.masks = {layer.name: to_numpy(layer.pattern_mask()) for layer in self.net.lhc_layers}
        progress.epoch, progress.step, progress.loss_sum, progress.hits = progress.epoch + 1, 0, 0.0, 0
        rule = self._rule()
        if progress.epoch == rule.epochs or rule.stopped(self._accuracies()):
            self._end_stage()
        return record

    def _end_stage(self) -> None:
        """Take the stage's best epoch, and go on from it."""
        progress, config = self.progress, self.config
        self.net.load(part("weights", self.best), part("state", self.best))
        if progress.stage == "coarse":
            record = progress.chosen["coarse"]
            if not qualifies(record, config) and config.selection == "qualified":
                limit = density_limit(config)
                self.say(
                    f"No epoch of the coarse stage had every channel enabled and a density of at most {limit:.3f}. "
                    f"Going on from the closest: epoch {record['epoch']}, density {record['density']:.3f}. "
                    f"More coarse epochs, a larger strength or a larger target density may help."
                )
            self.net.freeze_masks()
            self.optimizer = SGD(config.momentum)
            self.best = {}
            progress.stage, progress.epoch = "fine", 0
            if config.epochs_fine > 0:
                return
        self._finish()

    def _finish(self) -> None:
        """Look at the test split, this once."""
        progress = self.progress
        accuracy, loss = self._measured("test")
        kept, total = self.net.kept()
        progress.stage, self.best = "done", {}
        progress.result = {
            "test_accuracy": accuracy,
            "test_loss": loss,
            "density": self.net.density(),
            "qualified": qualifies(progress.chosen["coarse"], self.config),
            "kept": kept,
            "total": total,
            "weights_hash": self.net.weights_hash(),
        }

    def _measured(self, split: str) -> tuple[float, float]:
        """(accuracy, loss) on a split."""
        return measure(self.net.predict(self.dataset.normalised(split, self.config.dtype)), self.dataset.y[split])

    def _rule(self) -> schedule.LearningRate:
        """The current stage's learning rates."""
        config = self.config
        coarse = self.progress.stage == "coarse"
        return schedule.LearningRate(
            base=config.lr if coarse else config.lr_fine,
            epochs=config.epochs_coarse if coarse else config.epochs_fine,
            decay=config.decay,
            stop=config.stop,
        )

    def _accuracies(self) -> list[float]:
        """Validation accuracies of the current stage's epochs."""
        return [r["validation_accuracy"] for r in self.progress.history if r["stage"] == self.progress.stage]

    def _net_arrays(self) -> dict[str, Array]:
        return {**prefixed("weights", self.net.weights), **prefixed("state", self.net.state)}

    def _diverged(self, what: str) -> DivergedError:
        progress = self.progress
        return DivergedError(
            f"training: expected finite numbers, got {what} in the {progress.stage} stage, epoch {progress.epoch}, "
            f"step {progress.step}. Start again with a lower learning rate"
        )
