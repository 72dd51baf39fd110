"""Labelled images: split with a fixed seed, and normalised by the training split alone."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from lhc_ref import data_files, extras
from lhc_ref.data_files import Labelled
from lhc_ref.errors import DataError
from lhc_ref.fingerprint import fingerprint

DIGITS = "digits"
SPLITS = ("train", "validation", "test")
NORMALISATIONS = ("deviation", "authors")
VALIDATIONS = ("split", "test")
TEST_SHARE = 0.2
VALIDATION_SHARE = 0.1
SPLIT_SEED = 1
SMALLEST = 30


@dataclass(frozen=True)
class Dataset:
    """Images and labels in three splits that share no image.

    Attributes
    ----------
    name : what it was read from
    x : split -> f32 or u8 [n, h, w, c], as read. Owned by the dataset: not to be changed.
    y : split -> i64[n]
        Labels in [0, len(classes)).
    subtract, divide : f32[c] each
        Of the training split's channels the mean, and what it is divided by; `normalised` applies them.
    classes : names
    own_subtract : split -> f32[c], for a split that is normalised by its own mean instead: a quirk of the authors
    """

    name: str
    x: dict[str, np.ndarray]
    y: dict[str, np.ndarray]
    subtract: np.ndarray
    divide: np.ndarray
    classes: tuple[str, ...]
    own_subtract: Mapping[str, np.ndarray] = field(default_factory=dict)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(h, w, c)"""
        h, w, c = self.x["train"].shape[1:]
        return h, w, c

    def normalised(self, split: str, dtype: str = "float32", rows: np.ndarray | None = None) -> np.ndarray:
        """`(x - subtract) / divide` of a split, or of some of its rows: f[n, h, w, c] in `dtype`, new memory."""
        x = self.x[split] if rows is None else self.x[split][rows]
        return ((x - self.own_subtract.get(split, self.subtract)) / self.divide).astype(dtype, copy=False)

    def hash(self) -> str:
        """A hash of every image and label in their splits: whether a resumed run sees the same data."""
        return self._hash

    @cached_property
    def _hash(self) -> str:
        return fingerprint({f"{kind}.{split}": a for kind in ("x", "y") for split, a in getattr(self, kind).items()})


def load(source: str | Path, *, normalisation: str = "deviation", validation: str = "split") -> Dataset:
    """Read a data set and split it: a fifth for the test, a tenth for validation, always the same ones.

    Parameters
    ----------
    source : "digits" | path of an .npz file, or of a folder with CIFAR-10's binary files or with images by class
        "digits" are scikit-learn's 1797 handwritten digits, 8x8x1 with values 0 to 16 (extra `demo`). The rest is told
        in `data_files`. A test split that comes with the data stays it; validation is then a tenth of the others.
    normalisation : "deviation": subtract the mean and divide by the deviation of the training split's channels.
        "authors": divide by 255 instead, and subtract from each split its own mean.
    validation : "split": images that neither training nor test uses. "test": the test split itself, as the authors
        have it; all others are trained on then, and the accuracy that comes out is too good.

    Raises
    ------
    DataError : what is read cannot be used; fewer than 30 images, or a class that the training split has not.
    MissingExtraError : "digits" without scikit-learn, images without Pillow.
    """
    if str(source) == DIGITS:
        name, read = DIGITS, data_files.checked(DIGITS, *_digits())
    else:
        name, read = Path(source).name, data_files.read(Path(source))
    if len(read.x) < SMALLEST:
        raise DataError(f"{name}: expected at least {SMALLEST} images to split in three, got {len(read.x)}. Add some.")
    return _measured(name, read, _parts(read, validation), normalisation)


def _parts(read: Labelled, validation: str) -> dict[str, np.ndarray]:
    """Which images each split has."""
    rng = np.random.default_rng(SPLIT_SEED)
    if read.official_test:
        rest = len(read.x) - read.official_test
        order, test = rng.permutation(rest), np.arange(rest, len(read.x))
        n_validation = round(VALIDATION_SHARE * rest)
    else:
        order = rng.permutation(len(read.x))
        n_test, n_validation = round(TEST_SHARE * len(read.x)), round(VALIDATION_SHARE * len(read.x))
        order, test = np.split(order, [len(read.x) - n_test])
    if validation == "test":
        return {"train": order, "validation": test, "test": test}
    return {"train": order[: len(order) - n_validation], "validation": order[len(order) - n_validation :], "test": test}


def _measured(name: str, read: Labelled, parts: dict[str, np.ndarray], normalisation: str) -> Dataset:
    """The splits, and what they are normalised by."""
    xs = {split: read.x[part] for split, part in parts.items()}
    ys = {split: read.y[part] for split, part in parts.items()}
    absent = sorted(set(range(len(read.classes))) - set(ys["train"].tolist()))
    if absent:
        raise DataError(
            f"{name}: expected images of every class to train on, got none of {read.classes[absent[0]]}. Add some."
        )
    subtract, deviation = _moments(xs["train"])
    if normalisation == "authors":
        own = {split: _moments(x)[0].astype(np.float32) for split, x in xs.items() if split != "train"}
        divide = np.full_like(subtract, 255.0)
    else:
        own, divide = {}, np.where(deviation > 0, deviation, 1.0)
    return Dataset(name, xs, ys, subtract.astype(np.float32), divide.astype(np.float32), read.classes, own)


def _moments(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and deviation of each channel, f64[c] each."""
    if x.dtype != np.uint8:
        return x.mean(axis=(0, 1, 2), dtype=np.float64), x.std(axis=(0, 1, 2), dtype=np.float64)
    # Why by counts: exact, and without a copy of all pixels eight times as large.
    counts = np.array([np.bincount(x[..., c].ravel(), minlength=256) for c in range(x.shape[3])])
    share, values = counts / counts.sum(axis=1, keepdims=True), np.arange(256.0)
    mean = share @ values
    return mean, np.sqrt((share * (values - mean[:, None]) ** 2).sum(axis=1))


def _digits() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """scikit-learn's bundled scans."""
    bunch = extras.demo().load_digits()
    return bunch.images, bunch.target, bunch.target_names
