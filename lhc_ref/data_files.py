"""Where labelled images come from: an .npz file, CIFAR-10 in its official binary layout, a folder of images."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lhc_ref import extras
from lhc_ref.errors import DataError

CIFAR_FOLDER = "cifar-10-batches-bin"
CIFAR_TRAIN = tuple(f"data_batch_{i}.bin" for i in range(1, 6))
CIFAR_TEST, CIFAR_NAMES = "test_batch.bin", "batches.meta.txt"
CIFAR_SHAPE = (3, 32, 32)
RECORD_BYTES = 1 + int(np.prod(CIFAR_SHAPE))

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".ppm", ".pgm", ".tif", ".tiff")
OFFICIAL = ("train", "test")


@dataclass(frozen=True)
class Labelled:
    """Images and labels as read.

    Attributes
    ----------
    x : f32 or u8 [n, h, w, c]
    y : i64[n]
    classes : names
    official_test : so many at the end are the test split that everybody uses; 0: there is none
    """

    x: np.ndarray
    y: np.ndarray
    classes: tuple[str, ...]
    official_test: int = 0


def read(path: Path) -> Labelled:
    """What a path holds: a folder is CIFAR-10 if it has its files, else of images; everything else is an .npz file.

    Raises
    ------
    DataError : nothing there, or nothing that can be used; the message names the file.
    MissingExtraError : a folder of images without Pillow.
    """
    if not path.is_dir():
        return read_npz(path)
    for folder in (path, path / CIFAR_FOLDER):
        if any((folder / name).exists() for name in (*CIFAR_TRAIN, CIFAR_TEST, CIFAR_NAMES)):
            return read_cifar10(folder)
    return read_images(path)


def read_npz(path: Path) -> Labelled:
    """`x` [n, h, w, c] or [n, h, w] of any real or integer type, `y` integer[n], and perhaps `classes`, the names."""
    try:
        with open(path, "rb") as f, np.load(f, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive}
    except FileNotFoundError as e:
        raise DataError(
            f"{path}: expected an .npz file or a folder, got no such file. Give digits, or the path of data."
        ) from e
    except Exception as e:
        # Why so wide: a damaged archive fails anywhere in zipfile, zlib or NumPy's header parser.
        raise DataError(f"{path}: expected a readable .npz file, got {e}. Write it with numpy.savez.") from e
    if not {"x", "y"} <= arrays.keys():
        raise DataError(
            f"{path}: expected arrays x and y, got {', '.join(arrays) or 'none'}. "
            f"Write it with numpy.savez(path, x=images, y=labels)."
        )
    return checked(path.name, arrays["x"], arrays["y"], arrays.get("classes"))


def checked(name: str, x: np.ndarray, y: np.ndarray, classes: np.ndarray | None) -> Labelled:
    """The arrays in the types that `Labelled` promises."""
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
    if not np.isfinite(x).all():
        raise DataError(f"{name}: x: expected finite values, got NaN or infinity. Remove those images.")
    if len(y) and (y.min() < 0 or y.max() >= len(y)):
        raise DataError(f"{name}: y: expected labels 0, 1, 2 ..., got {y.min()} to {y.max()}. Renumber them.")
    highest = int(y.max(initial=0))
    names = tuple(map(str, range(highest + 1) if classes is None else classes.ravel()))
    if len(names) < 2 or highest >= len(names):
        raise DataError(
            f"{name}: expected at least two classes and a name for each, got labels up to {highest} and "
            f"{len(names)} names. Add what is missing."
        )
    return Labelled(x.astype(np.float32), y.astype(np.int64), names)


def read_cifar10(folder: Path) -> Labelled:
    """The official binary layout: records of one label byte and 3072 pixel bytes, red, green, blue, each row by row.

    Five files to train on, one for the test, and the names, a line each. Files may hold fewer records than the 10,000
    of the original.
    """
    names = _cifar_names(folder / CIFAR_NAMES)
    records = [_cifar_records(folder / name, len(names)) for name in (*CIFAR_TRAIN, CIFAR_TEST)]
    whole = np.concatenate(records)
    x = np.ascontiguousarray(whole[:, 1:].reshape(-1, *CIFAR_SHAPE).transpose(0, 2, 3, 1))
    return Labelled(x, whole[:, 0].astype(np.int64), names, official_test=len(records[-1]))


def _cifar_names(path: Path) -> tuple[str, ...]:
    try:
        names = tuple(line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip())
    except (OSError, UnicodeDecodeError) as e:
        raise DataError(f"{path}: expected the names of the classes, a line each, got {e}. Unpack it again.") from e
    if len(names) < 2:
        raise DataError(f"{path}: expected the names of the classes, a line each, got {len(names)}. Unpack it again.")
    return names


def _cifar_records(path: Path, classes: int) -> np.ndarray:
    """u8[n, 3073]"""
    try:
        content = np.fromfile(path, np.uint8)
    except OSError as e:
        raise DataError(
            f"{path}: expected a file of CIFAR-10's binary version, got {e.strerror or e}. Unpack it again."
        ) from e
    if len(content) == 0 or len(content) % RECORD_BYTES:
        raise DataError(
            f"{path}: expected records of {RECORD_BYTES} bytes, got {len(content)} bytes. The file is cut or another: "
            f"unpack it again."
        )
    records = content.reshape(-1, RECORD_BYTES)
    wrong = np.flatnonzero(records[:, 0] >= classes)
    if len(wrong):
        raise DataError(
            f"{path}: expected labels below {classes}, got {records[wrong[0], 0]} in record {wrong[0]}. "
            f"Use CIFAR-10's binary version."
        )
    return records


def read_images(folder: Path) -> Labelled:
    """A folder for each class with its images, all of one size: `FOLDER/CLASS/*.png`.

    With `FOLDER/train/CLASS` and `.../test/CLASS` the test split is given, else it is drawn. Images are grey where all
    are, else colour; nothing is resized. Classes have the order of their names.
    """
    roots = [folder / name for name in OFFICIAL] if all((folder / n).is_dir() for n in OFFICIAL) else [folder]
    names = sorted({p.name for root in roots for p in root.iterdir() if p.is_dir() and not p.name.startswith(".")})
    if len(names) < 2:
        raise DataError(
            f"{folder}: expected a folder for each of two or more classes, got {', '.join(names) or 'none'}. "
            f"Put the images into FOLDER/CLASS/."
        )
    paths, labels, counts = [], [], []
    for root in roots:
        for label, name in enumerate(names):
            own = sorted(p for p in (root / name).glob("*") if p.suffix.lower() in IMAGE_SUFFIXES)
            if not own:
                raise DataError(
                    f"{root / name}: expected images ({', '.join(IMAGE_SUFFIXES)}), got none. Add some, or remove it."
                )
            paths += own
            labels += [label] * len(own)
        counts.append(len(paths))
    x = _stacked(paths)
    return Labelled(x, np.array(labels), tuple(names), official_test=counts[-1] - counts[0])


def _stacked(paths: list[Path]) -> np.ndarray:
    """u8[n, h, w, c] of image files."""
    library = extras.images()
    pictures = []
    for path in paths:
        try:
            with library.open(path) as image:
                pictures.append(image.convert("L" if image.mode in ("1", "L") else "RGB"))
        except Exception as e:
            # Why so wide: a damaged image fails anywhere in its decoder.
            raise DataError(f"{path}: expected an image, got {e}. Remove or replace it.") from e
        if pictures[-1].size != pictures[0].size:
            sizes = ["x".join(map(str, picture.size)) for picture in (pictures[0], pictures[-1])]
            raise DataError(
                f"{path}: expected {sizes[0]} pixels as {paths[0].name} has, got {sizes[1]}. Resize them to one size."
            )
    mode = "L" if all(picture.mode == "L" for picture in pictures) else "RGB"
    arrays = [np.asarray(picture.convert(mode)) for picture in pictures]
    x = np.stack(arrays)
    return x[..., None] if mode == "L" else x
