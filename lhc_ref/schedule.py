"""What changes from epoch to epoch: enabled channels, the regularizer's strength, the learning rate.

Everything here is a pure function of the epoch and of what has been measured so far, so that a resumed run needs no
state beyond its history.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lhc_ref.errors import ConfigError

RAMP_HEIGHT = 4.0


def enabled_fraction(epoch: int, enable_epochs: int) -> float:
    """The chance that a channel uses its mask in this epoch (counted from 0): `epoch / enable_epochs`, at most 1."""
    return 1.0 if epoch >= enable_epochs else epoch / enable_epochs


def draw_enabled(rng: np.random.Generator, c_out: int, epoch: int, enable_epochs: int) -> np.ndarray:
    """One layer's enabled channels for an epoch.

    Parameters
    ----------
    rng : advanced by `c_out` draws, whatever the epoch.
    c_out : channels
    epoch, enable_epochs : counted from 0; all are enabled from `epoch == enable_epochs` on.

    Returns
    -------
    bool[c_out], independent of the last epoch's draw.
    """
    return rng.random(c_out) < enabled_fraction(epoch, enable_epochs)


def nested_enabled(seed: int, layer: int, c_out: int, epoch: int, enable_epochs: int) -> np.ndarray:
    """One layer's enabled channels for an epoch, each enabled for good once it is.

    Parameters
    ----------
    seed, layer : of the run, and the layer's number; they decide when each channel's turn is.
    c_out, epoch, enable_epochs : as for `draw_enabled`; the chances are the same.

    Returns
    -------
    bool[c_out], a superset of the epoch before's.
    """
    # Why the 2: another stream than the initial weights' and the batches'.
    return np.random.default_rng([seed, 2, layer]).random(c_out) < enabled_fraction(epoch, enable_epochs)


def base_strength(first_loss: float, target_density: float) -> float:
    """`s0`: the first epoch's mean task loss over the largest value the regularizer can have there.

    Source: `first_loss / (0.01 + 0.99 * max(1 - target, target))`, the authors' training code.
    """
    return first_loss / (0.01 + 0.99 * max(1.0 - target_density, target_density))


def strength(epoch: int, ramp_epochs: int, base: float, height: float = RAMP_HEIGHT) -> float:
    """The regularizer's weight in an epoch (counted from 0).

    Parameters
    ----------
    epoch, ramp_epochs : 0 in epoch 0, which trains on the task alone; then linear, up to `height * base`.
    base : `base_strength`
    height : the authors use 4.
    """
    if epoch == 0:
        return 0.0
    return height * base * (min(epoch, ramp_epochs) / ramp_epochs if ramp_epochs else 1.0)


@dataclass(frozen=True)
class LearningRate:
    """A stage's learning rate.

    Attributes
    ----------
    base : > 0
    epochs : >= 0, the stage's length
    decay : "constant" | "plateau" (times `factor` after every `patience` epochs without a better validation accuracy)
        | "cosine" (half a cosine down to `base / 100` in the last epoch)
    first : share of the rate used in epoch 0; the authors use 0.5.
    patience, factor : of the plateau
    stop : end the stage after this many epochs without a better validation accuracy; 0 never. The authors use 20, with
        a patience of 20 as well, so that their rate is in practice never cut.

    Raises
    ------
    ConfigError : a value out of range.
    """

    base: float
    epochs: int
    decay: str = "cosine"
    first: float = 0.5
    patience: int = 20
    factor: float = 0.1
    stop: int = 0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.base) and self.base > 0):
            raise ConfigError(f"learning rate: expected a number above 0, got {self.base}. Try 0.05.")
        if self.decay not in DECAYS:
            raise ConfigError(f"decay: expected one of {', '.join(DECAYS)}, got {self.decay!r}. Use one of these.")

    def rate(self, epoch: int, accuracies: Sequence[float]) -> float:
        """The rate of an epoch (counted from 0), given the validation accuracies of the epochs before it."""
        return DECAYS[self.decay](self, epoch, accuracies) * (self.first if epoch == 0 else 1.0)

    def stopped(self, accuracies: Sequence[float]) -> bool:
        """Whether the stage ends early after epochs with these validation accuracies."""
        return self.stop > 0 and _epochs_without_gain(accuracies) >= self.stop

    def _constant(self, epoch: int, accuracies: Sequence[float]) -> float:
        return self.base

    def _plateau(self, epoch: int, accuracies: Sequence[float]) -> float:
        cuts, waited, best = 0, 0, -math.inf
        for accuracy in accuracies:
            waited = 0 if accuracy > best else waited + 1
            best = max(best, accuracy)
            if waited == self.patience:
                cuts, waited = cuts + 1, 0
        return self.base * self.factor**cuts

    def _cosine(self, epoch: int, accuracies: Sequence[float]) -> float:
        progress = epoch / max(self.epochs - 1, 1)
        return self.base * (0.01 + 0.99 * 0.5 * (1.0 + math.cos(math.pi * min(progress, 1.0))))


DECAYS = {"constant": LearningRate._constant, "plateau": LearningRate._plateau, "cosine": LearningRate._cosine}


def _epochs_without_gain(accuracies: Sequence[float]) -> int:
    """How many epochs have passed since the best accuracy was first reached."""
    if not accuracies:
        return 0
    best = max(range(len(accuracies)), key=lambda epoch: (accuracies[epoch], -epoch))
    return len(accuracies) - 1 - best
