"""The batches of an epoch: drawn, normalised and augmented on a thread, one step ahead of the training."""

import copy
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from lhc_ref.arrays import Array
from lhc_ref.augment import Augmentation
from lhc_ref.data import Dataset


@dataclass(frozen=True)
class Batch:
    """What a step trains on: normalised and augmented images, labels, and the random state after that was drawn."""

    images: Array
    labels: Array
    rng: np.random.Generator


class Batches:
    """The training split in batches.

    Parameters
    ----------
    dataset, augment : what they are made of
    size : images of a batch
    dtype : of the images
    rng : advanced by every draw

    Attributes
    ----------
    order : of the images in this epoch, i64[n]
    rng : that of the step that is done, so that a captured state knows nothing of what was made ahead
    """

    def __init__(
        self, dataset: Dataset, augment: Augmentation, size: int, dtype: str, rng: np.random.Generator
    ) -> None:
        self._dataset, self._augment, self._size, self._dtype = dataset, augment, size, dtype
        self.rng = rng
        self.order = np.arange(len(dataset.y["train"]))
        self._thread = ThreadPoolExecutor(1, "lhc-batches")
        self._ahead: Future[Batch] | None = None

    def __len__(self) -> int:
        return -(-len(self.order) // self._size)

    def shuffle(self) -> None:
        """Draw the order of a new epoch."""
        self._ahead = None
        self.order = self.rng.permutation(len(self.order))

    def restore(self, order: np.ndarray, rng_state: dict) -> None:
        """Go back to an order and a random state."""
        self._ahead = None
        self.order, self.rng.bit_generator.state = order, rng_state

    def next(self, step: int) -> Batch:
        """This step's batch, made while the step before computed; the one after it is begun."""
        batch = self._ahead.result() if self._ahead else self._make(step, copy.deepcopy(self.rng))
        self.rng, self._ahead = batch.rng, None
        if step + 1 < len(self):
            self._ahead = self._thread.submit(self._make, step + 1, copy.deepcopy(batch.rng))
        return batch

    def _make(self, step: int, rng: np.random.Generator) -> Batch:
        """The batch of a step of this epoch; `rng` is its own."""
        start = step * self._size
        chosen = self.order[start : start + self._size]
        images = self._augment(self._dataset.normalised("train", self._dtype, chosen), rng)
        return Batch(images, self._dataset.y["train"][chosen], rng)
