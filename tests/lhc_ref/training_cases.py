"""Small runs for the tests: images that a tiny net can learn, and a configuration of a few epochs."""

import numpy as np

from lhc_ref.config import resolve


def bars(path, n=120, size=6, channels=1, seed=0):
    """An .npz file of noisy images with a horizontal (0), vertical (1) or diagonal (2) bar."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 3
    x = 0.3 * rng.standard_normal((n, size, size, channels))
    for image, label in zip(x, y, strict=True):
        at = rng.integers(size)
        if label == 0:
            image[at] += 2
        elif label == 1:
            image[:, at] += 2
        else:
            image[range(size), (np.arange(size) + at) % size] += 2
    np.savez(path, x=x, y=y, classes=["lying", "standing", "slanted"])
    return path


def small_config(data, **changes):
    """A run of a second: the golden net, 4 + 3 epochs of 11 steps."""
    values = {
        "data": str(data),
        "model": "golden",
        "groups": (4, 4),
        "target_density": 0.3,
        "epochs_coarse": 4,
        "epochs_fine": 3,
        "enable_epochs": 2,
        "ramp_epochs": 2,
        "batch": 8,
        "lr": 0.1,
        "shift": 1,
    }
    return resolve({**values, **changes})
