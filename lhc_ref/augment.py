"""Random changes of images that keep their labels: shift, crop, flip."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Augmentation:
    """What is done to each image of a batch, in this order.

    Attributes
    ----------
    shift : moved by up to so many pixels, the border repeated (`shifted`)
    crop : moved by up to so many pixels, zeros for what was not there (`cropped`)
    flip : mirrored left to right, every other one by chance (`flipped`)
    """

    shift: int = 0
    crop: int = 0
    flip: bool = False

    def __call__(self, x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """f[n, h, w, c] -> the same, new memory or `x` itself; what is not asked for draws nothing."""
        x = shifted(x, self.shift, rng)
        x = cropped(x, self.crop, rng)
        return flipped(x, rng) if self.flip else x


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


def cropped(x: np.ndarray, pixels: int, rng: np.random.Generator) -> np.ndarray:
    """Each image with a border of `pixels` zeros, cut back to its size at a place of its own.

    Parameters and cost as for `shifted`. In normalised images zero is the training split's mean.
    """
    if pixels == 0:
        return x
    n, h, w, _ = x.shape
    padded = np.pad(x, ((0, 0), (pixels, pixels), (pixels, pixels), (0, 0)))
    top, left = rng.integers(0, 2 * pixels + 1, (2, n))
    rows, columns = np.arange(h) + top[:, None], np.arange(w) + left[:, None]
    return padded[np.arange(n)[:, None, None], rows[:, :, None], columns[:, None, :]]


def flipped(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Each image mirrored left to right with a chance of a half; advances `rng` by n draws; new memory."""
    mirrored = rng.random(len(x)) < 0.5
    return np.where(mirrored[:, None, None, None], x[:, :, ::-1], x)
