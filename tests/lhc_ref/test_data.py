import numpy as np
import pytest

from lhc_ref import data
from lhc_ref.errors import DataError
from tests.lhc_ref.training_cases import bars
from tests.tolerances import assert_exact


@pytest.fixture
def saved(tmp_path):
    """Write arrays to an .npz file and give its path."""

    def save(**arrays):
        np.savez(tmp_path / "d.npz", **arrays)
        return tmp_path / "d.npz"

    return save


def images(n=30, *shape):
    return np.arange(n * np.prod(shape or (2, 2, 1)), dtype=np.uint8).reshape(n, *(shape or (2, 2, 1)))


def labels(n=30):
    return np.arange(n) % 3


def test_digits():
    digits = data.load("digits")
    assert [len(digits.x[split]) for split in data.SPLITS] == [1258, 180, 359]
    assert digits.image_shape == (8, 8, 1)
    assert digits.classes == tuple("0123456789")
    assert digits.x["train"].dtype == np.float32
    assert digits.y["test"].dtype == np.int64


def test_the_splits_are_all_images_once_and_always_the_same(tmp_path):
    path = bars(tmp_path / "d.npz")
    first, again = data.load(path), data.load(path)
    assert first.hash() == again.hash()
    together = np.concatenate([first.x[split] for split in data.SPLITS])
    whole = np.load(path)["x"].astype(np.float32)
    assert_exact(np.sort(together.reshape(120, -1)[:, 0]), np.sort(whole.reshape(120, -1)[:, 0]))
    for split in data.SPLITS:
        at = [int(np.flatnonzero((whole == image).all(axis=(1, 2, 3)))[0]) for image in first.x[split]]
        assert_exact(first.y[split], np.load(path)["y"][at])


def test_normalisation_is_the_training_splits(saved):
    """Values far off in validation and test change nothing; a constant channel is not divided by zero."""
    x = np.random.default_rng(0).standard_normal((40, 2, 2, 2))
    x[..., 1] = 5
    one = data.load(saved(x=x, y=labels(40)))
    outside = [i for i in range(40) if not any((x[i].astype(np.float32) == t).all() for t in one.x["train"])]
    x[outside, ..., 0] = 1e6
    other = data.load(saved(x=x, y=labels(40)))
    assert_exact(one.subtract, other.subtract)
    assert_exact(one.divide, other.divide)
    assert one.divide[1] == 1
    normal = one.normalised("train", "float64")
    assert normal.dtype == np.float64
    # float32 statistics: 28*4 values, each sum's error far below this.
    assert abs(normal.mean(axis=(0, 1, 2))).max() < 1e-6
    assert abs(normal[..., 0].std() - 1) < 1e-6


def test_grey_images_and_names(saved):
    loaded = data.load(saved(x=images(30, 4, 3), y=labels(), classes=["a", "b", "c"]))
    assert loaded.image_shape == (4, 3, 1)
    assert loaded.classes == ("a", "b", "c")
    assert data.load(saved(x=images(), y=labels())).classes == ("0", "1", "2")


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": images()}, "expected arrays x and y, got x"),
        ({"x": images(), "y": labels(29)}, r"y: expected 30 integers, one for each image, got int64\[29\]"),
        ({"x": images(), "y": labels().astype(float)}, "y: expected 30 integers, one for each image, got float64"),
        ({"x": images(30, 4), "y": labels()}, r"x: expected numbers \[n, h, w, c\], got uint8\[30, 4\]"),
        ({"x": images().astype("U3"), "y": labels()}, "x: expected numbers"),
        ({"x": images(30, 2, 0, 1), "y": labels()}, "x: expected numbers"),
        ({"x": images(29), "y": labels(29)}, "expected at least 30 images to split in three, got 29"),
        ({"x": np.full((30, 1, 1, 1), np.nan), "y": labels()}, "x: expected finite values"),
        ({"x": images(), "y": labels() - 1}, "y: expected labels 0, 1, 2 ..., got -1 to 1"),
        ({"x": images(), "y": labels() + 100}, "y: expected labels 0, 1, 2 ..., got 100 to 102"),
        ({"x": images(), "y": labels() * 0}, "expected at least two classes"),
        ({"x": images(), "y": labels(), "classes": ["a", "b"]}, "a name for each, got labels up to 2 and 2 names"),
        ({"x": images(), "y": labels() * 2}, "expected images of every class to train on, got none of 1"),
        ({"x": np.array([None] * 30), "y": labels()}, "expected a readable .npz file"),
    ],
)
def test_what_cannot_be_used(saved, arrays, message):
    with pytest.raises(DataError, match=message):
        data.load(saved(**arrays))


def test_no_npz_file(tmp_path):
    with pytest.raises(DataError, match="got no such file"):
        data.load(tmp_path / "none.npz")
    for name, content in (
        ("empty.npz", b""),
        ("text.npz", b"x = 1"),
        ("cut.npz", bars(tmp_path / "d.npz").read_bytes()[:99]),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError, match="expected a readable"):
            data.load(tmp_path / name)
    np.save(tmp_path / "lone.npy", images())
    with pytest.raises(DataError, match="expected a readable"):
        data.load(tmp_path / "lone.npy")
