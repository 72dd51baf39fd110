"""What commands read: arrays (.npy, .npz) and images, checked against the model, prepared for its net."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from lhc_ref import extras
from lhc_ref.errors import DataError, InputError, LhcError
from lhc_ref.modelfile import InputSpec, ModelSpec
from runtime.borders import turned
from runtime.commands import memory
from runtime.views import View

Arrays = dict[str, np.ndarray]
Views = Mapping[str, View]
ARRAY_FILES = (".npy", ".npz")
IMAGE_MODES = {1: "L", 3: "RGB", 4: "RGBA"}
WIDE_MODES = ("I", "F")  # Pillow's modes of more than 8 bits a channel begin so; it would clip them to 255


class Source(Protocol):
    """Examples that can be read a few at a time."""

    count: int

    def read(self, start: int, stop: int) -> Arrays:
        """Examples start..stop-1 by input name, as they are in the file."""


class ArraySource:
    """Examples in arrays, one array for each input of a model, by name."""

    def __init__(self, arrays: Arrays) -> None:
        self._arrays = arrays
        self.count = len(next(iter(arrays.values())))

    def read(self, start: int, stop: int) -> Arrays:
        return {name: array[start:stop] for name, array in self._arrays.items()}


class ImageSource:
    """Examples in image files, for a model with one input of 1, 3 or 4 channels."""

    def __init__(self, spec: ModelSpec, paths: Sequence[str]) -> None:
        entry = spec.inputs[0]
        if len(spec.inputs) > 1 or len(entry.shape) != 3 or entry.shape[2] not in IMAGE_MODES:
            shapes = ", ".join(f"{item.name} {list(item.shape)}" for item in spec.inputs)
            raise InputError(
                f"images: expected a model that reads one image of 1, 3 or 4 channels, got one that reads {shapes}. "
                "Give the input as .npy or .npz."
            )
        self._entry, self._paths, self._pillow = entry, paths, extras.images()
        self.count = len(paths)

    def read(self, start: int, stop: int) -> Arrays:
        return {self._entry.name: np.stack([self._read_one(path) for path in self._paths[start:stop]])}

    def _read_one(self, path: str) -> np.ndarray:
        """u8[h, w, c], of the model's size; the size is checked before any pixel is decoded."""
        height, width, channels = self._entry.shape
        try:
            with self._pillow.open(path) as image:
                if image.size != (width, height):
                    raise DataError(
                        f"{path}: expected an image {width} wide and {height} high, got {image.width} by "
                        f"{image.height}. Resize or crop it as it was done for training."
                    )
                if image.mode.startswith(WIDE_MODES):
                    raise DataError(
                        f"{path}: expected 8 bits a channel, got mode {image.mode}. Convert it, or give an array."
                    )
                pixels = np.asarray(image.convert(IMAGE_MODES[channels]))
        except LhcError:
            raise
        except Exception as error:  # Why all: what a decoder raises on a damaged file depends on the format.
            raise DataError(
                f"{path}: expected an image, .npy or .npz file, got {_first_line(error)}. Check the file."
            ) from error
        return pixels.reshape(height, width, channels)


def open_inputs(spec: ModelSpec, paths: Sequence[str], views: Views | None = None) -> Source:
    """The examples in one array file, or in any number of image files.

    Parameters
    ----------
    spec : the model that shall read them; shapes are checked here, arrays' and lazily the images'
    paths : one .npy (a model with one input), one .npz (an array for each input by name; for a single input `x` or the
        only array will do), or image files
    views : how arrays lie to the model's inputs, by the names they have for the user; None: as the model file says

    Raises
    ------
    DataError : a file that cannot be read.
    InputError : arrays that are missing, or of a dtype or shape that does not fit the model.
    MissingExtraError : images without Pillow.

    Notes
    -----
    A .npy file is mapped, not read, so that it may be larger than memory; the arrays of an .npz are read whole.
    """
    kinds = [Path(path).suffix.lower() for path in paths]
    if not any(kind in ARRAY_FILES for kind in kinds):
        return ImageSource(spec, paths)
    if len(paths) > 1:
        raise InputError(
            f"inputs: expected one .npy or .npz file, or images, got {len(paths)} files with arrays among them. "
            "Put all examples into one array."
        )
    names = list(views or [entry.name for entry in spec.inputs])
    if kinds[0] == ".npz":
        return ArraySource(pick_arrays(spec, read_npz(paths[0]), paths[0], views))
    if len(names) > 1:
        raise InputError(f"{paths[0]}: expected an .npz file with the arrays {', '.join(names)}, got one array.")
    return ArraySource(pick_arrays(spec, {names[0]: read_npy(paths[0])}, paths[0], views))


def pick_arrays(spec: ModelSpec, arrays: Arrays, path: str, views: Views | None = None) -> Arrays:
    """The arrays of a file that are a model's inputs, as the model file has them: picked by name; for a single input
    also `x`, or the only array.
    """
    picked: Arrays = {}
    views = views or {entry.name: View.same(entry.name, entry.shape) for entry in spec.inputs}
    for name, view in views.items():
        known, entry = [name], InputSpec(name, view.shape)
        if len(views) == 1:
            known += ["x", *(list(arrays) if len(arrays) == 1 else [])]
        found = next((name for name in known if name in arrays), None)
        if found is None:
            raise InputError(
                f"{path}: expected an array named {' or '.join(dict.fromkeys(known))}, got "
                f"{', '.join(arrays) or 'no array'}. Write it with numpy.savez(path, {known[-1]}=...)."
            )
        what = path if path.endswith(".npy") else f"{path}: {found}"
        picked[view.value] = view.inward(check_array(entry, arrays[found], what))
    sizes = {name: len(array) for name, array in picked.items()}
    if len(set(sizes.values())) > 1:
        raise InputError(f"{path}: expected equally many examples for each input, got {sizes}. Leave some out.")
    return picked


def check_array(entry: InputSpec, array: np.ndarray, what: str) -> np.ndarray:
    """The array if it holds examples of an input: real numbers [n, *shape], or [n, h, w] for one channel."""
    shape = tuple(entry.shape)
    if array.dtype.kind in "fiu" and shape[2:] == (1,) and array.ndim == 3 and array.shape[1:] == shape[:2]:
        array = array[..., None]
    if array.dtype.kind not in "fiu" or array.ndim != len(shape) + 1 or array.shape[1:] != shape:
        turn = turned(array.shape[1:], shape)
        advice = "Convert or reshape it" if turn is None else f"Turn it: numpy.save(path, x{turn[0]})"
        raise InputError(
            f"{what}: expected numbers [n, {', '.join(map(str, shape))}] for input {entry.name!r}, got "
            f"{array.dtype}{list(array.shape)}. {advice}."
        )
    return array


def read_npy(path: str) -> np.ndarray:
    """The array of an .npy file, mapped into memory; never unpickles."""
    try:
        # Why the first: NumPy's sizes overflow with a warning on absurd shapes, before it refuses them.
        with np.errstate(over="ignore"):
            array = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # Why all: a damaged header can make NumPy raise nearly anything.
        raise _unreadable(path, "an .npy file", error) from error
    if not isinstance(array, np.ndarray):
        array.close()
        raise DataError(f"{path}: expected an .npy file, got an .npz archive. Rename it to end in .npz.")
    return array


def read_npz(path: str) -> Arrays:
    """All arrays of an .npz file by name; never unpickles."""
    try:
        # Why opened here: np.load would leave a damaged file open.
        with open(path, "rb") as file:
            archive = np.load(file, allow_pickle=False)
            if isinstance(archive, np.ndarray):
                raise DataError(
                    f"{path}: expected an .npz file, got an .npy file. Write it with numpy.savez(path, x=x)."
                )
            size = sum(entry.file_size for entry in archive.zip.infolist())
            memory.require(size, path, "Split it into several files.")
            return {name: archive[name] for name in archive.files if isinstance(archive[name], np.ndarray)}
    except LhcError:
        raise
    except Exception as error:  # Why all: a damaged archive can make zipfile, zlib and NumPy raise nearly anything.
        raise _unreadable(path, "an .npz file", error) from error


def to_net(spec: ModelSpec, arrays: Mapping[str, np.ndarray], raw: bool) -> Arrays:
    """Float32 arrays as the net takes them, new memory: `(x - subtract) / divide` by channel unless `raw`.

    Raises
    ------
    InputError : a number that float32 cannot hold.
    """
    steps = None if raw else spec.preprocessing
    prepared: Arrays = {}
    for name, array in arrays.items():
        try:
            with np.errstate(over="raise"):
                x = array.astype(np.float32, order="C")
                if steps is not None:
                    x -= np.asarray(steps["subtract"], np.float32)
                    x /= np.asarray(steps["divide"], np.float32)
        except FloatingPointError as error:
            raise InputError(
                f"input {name!r}: expected numbers that float32 can hold, got {array.dtype} beyond it. Rescale them."
            ) from error
        prepared[name] = x
    return prepared


def _unreadable(path: str, expected: str, error: Exception) -> DataError:
    return DataError(f"{path}: expected {expected}, got {_first_line(error)}. Check the path, or write the file anew.")


def _first_line(error: Exception) -> str:
    """What went wrong, in one line: the system's word for a system error."""
    if isinstance(error, OSError) and error.strerror:
        return f"'{error.strerror}'"
    return f"'{(str(error) or type(error).__name__).splitlines()[0]}'"
