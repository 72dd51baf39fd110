import numpy as np
import pytest
from PIL import Image

from lhc_ref import data
from lhc_ref.errors import DataError
from lhc_ref.training import Trainer
from tests.lhc_ref.training_cases import small_config
from tests.tolerances import assert_exact

NAMES = ["cat", "dog", "ship"]


def pixels(n, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, 32, 32, 3), dtype=np.uint8)


def write_cifar(folder, each=10, names=NAMES):
    """The official layout with few records; gives images and labels in order."""
    folder.mkdir(parents=True)
    x, y = pixels(6 * each), np.arange(6 * each) % len(NAMES)
    for i, name in enumerate(
        ["data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5", "test_batch"]
    ):
        with open(folder / f"{name}.bin", "wb") as f:
            for image, label in list(zip(x, y, strict=True))[i * each : (i + 1) * each]:
                f.write(bytes([label]))
                for channel in range(3):
                    f.write(image[:, :, channel].tobytes())
    (folder / "batches.meta.txt").write_text("\n".join(names) + "\n\n")
    return x, y


@pytest.mark.parametrize("inside", ["", "cifar-10-batches-bin"])
def test_cifar_in_the_official_layout(tmp_path, inside):
    x, y = write_cifar(tmp_path / "c" / inside)
    found = data.load(tmp_path / "c")
    assert found.classes == tuple(NAMES)
    assert [len(found.x[split]) for split in data.SPLITS] == [45, 5, 10]
    assert found.x["train"].dtype == np.uint8
    assert_exact(found.x["test"], x[50:])
    assert_exact(found.y["test"], y[50:])
    for split in ("train", "validation"):
        for image, label in zip(found.x[split], found.y[split], strict=True):
            (at,) = np.flatnonzero((x == image).all(axis=(1, 2, 3)))
            assert at < 50
            assert y[at] == label


def test_bytes_are_normalised_as_numbers_are(tmp_path):
    write_cifar(tmp_path / "c")
    found = data.load(tmp_path / "c")
    train = found.x["train"].astype(np.float64)
    # The quotient of two sums of 45*32*32 whole numbers, rounded once to float32.
    assert_exact(found.subtract, train.mean(axis=(0, 1, 2)).astype(np.float32))
    assert np.allclose(found.divide, train.std(axis=(0, 1, 2)), rtol=2**-23, atol=0)
    assert_exact(found.normalised("test", rows=np.array([3, 1])), found.normalised("test")[[3, 1]])
    assert found.normalised("test").dtype == np.float32


def test_the_authors_normalise_each_split_by_its_own_mean_and_choose_by_the_test(tmp_path):
    write_cifar(tmp_path / "c")
    found = data.load(tmp_path / "c", normalisation="authors", validation="test")
    assert [len(found.x[split]) for split in data.SPLITS] == [50, 10, 10]
    assert_exact(found.divide, np.full(3, 255, np.float32))
    for split in ("train", "test"):
        own = found.x[split].mean(axis=(0, 1, 2))
        expected = (found.x[split] - own) / 255
        assert np.allclose(found.normalised(split), expected, rtol=0, atol=4 * 2**-24)
    assert_exact(found.normalised("test"), found.normalised("validation"))


def test_training_on_bytes_with_everything_switched_on(tmp_path):
    write_cifar(tmp_path / "c")
    quirks = {"normalisation": "authors", "validation": "test", "selection": "accuracy", "enabling": "nested"}
    config = small_config(tmp_path / "c", crop=2, flip=True, epochs_coarse=3, epochs_fine=1, **quirks)
    dataset = data.load(config.data, normalisation="authors", validation="test")
    trainer = Trainer(config, dataset, lambda text: None)
    while not trainer.done:
        trainer.step()
    coarse = [r for r in trainer.progress.history if r["stage"] == "coarse"]
    best = max(coarse, key=lambda r: (r["validation_accuracy"], -r["validation_loss"]))
    assert trainer.progress.chosen["coarse"] == best


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            lambda c: (c / "data_batch_3.bin").unlink(),
            r"data_batch_3\.bin: expected a file of CIFAR-10's .*, got No such",
        ),
        (lambda c: (c / "test_batch.bin").unlink(), r"test_batch\.bin: expected a file of CIFAR-10's"),
        (lambda c: (c / "batches.meta.txt").unlink(), r"batches\.meta\.txt: expected the names of the classes"),
        (lambda c: (c / "batches.meta.txt").write_text("cat\n"), r"batches\.meta\.txt: .* a line each, got 1"),
        (
            lambda c: (c / "batches.meta.txt").write_text("cat\ndog\n"),
            r"data_batch_1\.bin: expected labels below 2, got 2 in record 2",
        ),
        (
            lambda c: (c / "batches.meta.txt").write_text("a\nb\nc\nd\n"),
            "expected images of every class to train on, got none of d",
        ),
        (
            lambda c: (c / "data_batch_2.bin").write_bytes(b"\0" * 3072),
            r"data_batch_2\.bin: expected records of 3073 bytes, got 3072",
        ),
        (
            lambda c: (c / "data_batch_2.bin").write_bytes(b""),
            r"data_batch_2\.bin: expected records of 3073 bytes, got 0",
        ),
        (lambda c: (c / "data_batch_2.bin").write_bytes(b"\x0b" * 3073), "expected labels below 3, got 11 in record 0"),
    ],
)
def test_cifar_that_cannot_be_used(tmp_path, spoil, message):
    write_cifar(tmp_path / "c")
    spoil(tmp_path / "c")
    with pytest.raises(DataError, match=message):
        data.load(tmp_path / "c")


def write_images(folder, n=12, mode="RGB", size=(6, 5), names=NAMES):
    """n images for each class, in a folder for each."""
    rng = np.random.default_rng(1)
    for label, name in enumerate(names):
        (folder / name).mkdir(parents=True)
        for i in range(n):
            channels = (3,) if mode == "RGB" else ()
            array = rng.integers(0, 256, (size[1], size[0], *channels), dtype=np.uint8)
            array[0, 0] = 10 * label + 1
            Image.fromarray(array).save(folder / name / f"{i}.{'png' if i % 2 else 'bmp'}")
    return folder


@pytest.mark.parametrize(("mode", "channels"), [("RGB", 3), ("L", 1)])
def test_a_folder_of_images_by_class(tmp_path, mode, channels):
    folder = write_images(tmp_path / "f", mode=mode)
    (folder / "cat" / "notes.txt").write_text("no image")
    (folder / ".cache").mkdir()
    found = data.load(folder)
    assert found.image_shape == (5, 6, channels)
    assert found.classes == tuple(NAMES)
    assert [len(found.x[split]) for split in data.SPLITS] == [25, 4, 7]
    for split in data.SPLITS:
        assert_exact(found.x[split][:, 0, 0, 0], (10 * found.y[split] + 1).astype(np.uint8))


def test_train_and_test_folders_are_kept_apart(tmp_path):
    write_images(tmp_path / "f" / "train", n=10)
    write_images(tmp_path / "f" / "test", n=2)
    found = data.load(tmp_path / "f")
    assert [len(found.x[split]) for split in data.SPLITS] == [27, 3, 6]
    assert_exact(found.y["test"], np.array([0, 0, 1, 1, 2, 2]))


def test_one_colour_image_makes_all_of_them_colour(tmp_path):
    folder = write_images(tmp_path / "f", mode="L")
    Image.new("RGB", (6, 5), (1, 2, 3)).save(folder / "dog" / "red.png")
    assert data.load(folder).image_shape == (5, 6, 3)


def larger(folder):
    Image.new("RGB", (7, 5)).save(folder / "dog" / "z.png")


def empty(folder):
    for path in (folder / "dog").iterdir():
        path.unlink()


def cut(folder):
    path = folder / "dog" / "1.png"
    path.write_bytes(path.read_bytes()[:50])


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (larger, r"z\.png: expected 6x5 pixels as 0\.bmp has, got 7x5"),
        (empty, r"dog: expected images \(\.png, .*\), got none"),
        (cut, r"1\.png: expected an image, got"),
    ],
)
def test_images_that_cannot_be_used(tmp_path, spoil, message):
    folder = write_images(tmp_path / "f")
    spoil(folder)
    with pytest.raises(DataError, match=message):
        data.load(folder)


def test_folders_that_hold_no_data(tmp_path):
    with pytest.raises(DataError, match="expected a folder for each of two or more classes, got none"):
        data.load(tmp_path)
    write_images(tmp_path / "f", names=["one"])
    with pytest.raises(DataError, match="expected a folder for each of two or more classes, got one"):
        data.load(tmp_path / "f")
    with pytest.raises(DataError, match=r"expected an \.npz file or a folder, got no such file"):
        data.load(tmp_path / "none")
    write_images(tmp_path / "g", n=5)
    with pytest.raises(DataError, match="expected at least 30 images to split in three, got 15"):
        data.load(tmp_path / "g")
