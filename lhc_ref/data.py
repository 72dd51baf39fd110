"""Labelled images: read, split with a fixed seed, normalised by the training split alone, shifted."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lhc_ref import extras
from lhc_ref.errors import DataError
from lhc_ref.fingerprint import fingerprint

DIGITS = "digits"
SPLITS = ("train", "validation", "test")
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
    x : split -> f32[n, h, w, c], as read. Owned by the dataset: not to be changed.
    y : split -> i64[n]
        Labels in [0, len(classes)).
    subtract, divide : f32[c] each
        Mean and deviation of the training split's channels; `normalised` applies them.
    classes : names
    """

    name: str
    x: dict[str, np.ndarray]
    y: dict[str, np.ndarray]
    subtract: np.ndarray
    divide: np.ndarray
    classes: tuple[str, ...]

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(h, w, c)"""
        h, w, c = self.x["train"].shape[1:]
        return h, w, c

    def normalised(self, split: str, dtype: str = "float32") -> np.ndarray:
        """`(x - subtract) / divide` of a split, f[n, h, w, c] in `dtype`, new memory."""
        return ((self.x[split] - self.subtract) / self.divide).astype(dtype)

    def hash(self) -> str:
        """A hash of every image and label in their splits: whether a resumed run sees the same data."""
        return fingerprint({f"{kind}.{split}": a for kind in ("x", "y") for split, a in getattr(self, kind).items()})


def load(source: str | Path) -> Dataset:
    """Read a data set and split it: a fifth for the test, a tenth for validation, always the same ones.

    Parameters
    ----------
    source : "digits" | path of an .npz file
        "digits" are scikit-learn's 1797 handwritten digits, 8x8x1 with values 0 to 16 (extra `demo`).
        A file holds `x` [n, h, w, c] or [n, h, w] of any real or integer type, `y` integer[n], and may hold `classes`,
        the names.

    Raises
    ------
    DataError : no such file, not an .npz, arrays missing or of wrong shape or type, values not finite, labels not
        0, 1, 2 ..., fewer than 30 images, or a class that the training split has not.
    MissingExtraError : "digits" without scikit-learn.
    """
    if str(source) == DIGITS:
        return split_and_measure(DIGITS, *_checked(DIGITS, *_digits()))
    name = Path(source).name
    return split_and_measure(name, *_checked(name, *_read_npz(Path(source))))


def split_and_measure(name: str, x: np.ndarray, y: np.ndarray, classes: tuple[str, ...]) -> Dataset:
    """The splits of f32[n, h, w, c] images and i64[n] labels, and the training split's mean and deviation."""
    order = np.random.default_rng(SPLIT_SEED).permutation(len(x))
    n_test, n_validation = round(TEST_SHARE * len(x)), round(VALIDATION_SHARE * len(x))
    parts = np.split(order, [len(x) - n_test - n_validation, len(x) - n_test])
    xs = {split: x[part] for split, part in zip(SPLITS, parts, strict=True)}
    ys = {split: y[part] for split, part in zip(SPLITS, parts, strict=True)}
    absent = sorted(set(range(len(classes))) - set(ys["train"].tolist()))
    if absent:
        raise DataError(
            f"{name}: expected images of every class to train on, got none of {classes[absent[0]]}. Add some."
        )
    deviation = xs["train"].std(axis=(0, 1, 2), dtype=np.float64)
    return Dataset(
        name=name,
        x=xs,
        y=ys,
        subtract=xs["train"].mean(axis=(0, 1, 2), dtype=np.float64).astype(np.float32),
        divide=np.where(deviation > 0, deviation, 1.0).astype(np.float32),
        classes=classes,
    )


def shifted(x: np.ndarray, pixels: int, rng: np.random.Generator) -> np.ndarray:
    """Each image moved by its own whole number of pixels, at most `pixels` up, down, left and right.

    Parameters
    ----------
    x : f[n, h, w, c]
    pixels : >= 0; the border's pixels are repeated into what becomes free.
    rng : advanced by 2n draws, or none for 0 pixels.

    Returns
    -------
    f[n, h, w, c], new memory; `x` itself for 0 pixels.
    """
    if pixels == 0:
        return x
    n, h, w, _ = x.shape
    down, right = rng.integers(-pixels, pixels + 1, (2, n))
    rows = np.clip(np.arange(h) - down[:, None], 0, h - 1)
    columns = np.clip(np.arange(w) - right[:, None], 0, w - 1)
    return x[np.arange(n)[:, None, None], rows[:, :, None], columns[:, None, :]]


def _digits() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """scikit-learn's bundled scans."""
    bunch = extras.demo().load_digits()
    return bunch.images, bunch.target, bunch.target_names


def _read_npz(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """The arrays `x`, `y` and perhaps `classes` of a file."""
    try:
        with open(path, "rb") as f, np.load(f, allow_pickle=False) as arrays:
            missing = [key for key in ("x", "y") if key not in arrays]
            if missing:
                raise DataError(
                    f"{path}: expected arrays x and y, got {', '.join(arrays) or 'none'}. "
                    f"Write it with numpy.savez(path, x=images, y=labels)."
                )
            return arrays["x"], arrays["y"], arrays.get("classes")
    except DataError:
        raise
    except FileNotFoundError as e:
        raise DataError(f"{path}: expected an .npz file, got no such file. Give digits or the path of a file.") from e
    except Exception as e:
        # Why so wide: a damaged archive fails anywhere in zipfile, zlib or NumPy's header parser.
        raise DataError(f"{path}: expected a readable .npz file, got {e}. Write it with numpy.savez.") from e


def _checked(
    name: str, x: np.ndarray, y: np.ndarray, classes: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """The arrays in the types that `Dataset` promises."""
    if x.ndim == 3:
        x = x[..., None]
    if x.dtype.kind not in "fiu" or x.ndim != 4 or 0 in x.shape[1:]:
        raise DataError(
            f"{name}: x: expected numbers [n, h, w, c], got {x.dtype}{list(x.shape)}. Convert or reshape it."
        )
    if y.dtype.kind not in "iu" or y.shape != x.shape[:1]:
        raise DataError(
            f"{name}: y: expected {len(x)} integers, one for each image, got {y.dtype}{list(y.shape)}. Convert it."
        )
    if len(x) < SMALLEST:
        raise DataError(f"{name}: expected at least {SMALLEST} images to split in three, got {len(x)}. Add some.")
    if not np.isfinite(x).all():
        raise DataError(f"{name}: x: expected finite values, got NaN or infinity. Remove those images.")
    if y.min() < 0 or y.max() >= len(y):
        raise DataError(f"{name}: y: expected labels 0, 1, 2 ..., got {y.min()} to {y.max()}. Renumber them.")
    names = tuple(map(str, range(int(y.max()) + 1) if classes is None else classes.ravel()))
    if len(names) < 2 or y.max() >= len(names):
        raise DataError(
            f"{name}: expected at least two classes and a name for each, got labels up to {y.max()} and "
            f"{len(names)} names. Add what is missing."
        )
    return x.astype(np.float32), y.astype(np.int64), names
