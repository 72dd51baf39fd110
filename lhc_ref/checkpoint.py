"""Checkpoints: named arrays and a JSON value in one safetensors file, written whole or not at all."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

from lhc_ref.arrays import Array
from lhc_ref.errors import CheckpointError
from lhc_ref.files import atomic_write_bytes
from lhc_ref.fingerprint import fingerprint

FORMAT = "lhc checkpoint 1"


def save(path: Path, arrays: Mapping[str, Array], value: Any) -> None:
    """Write a checkpoint over the last one; killed at any instant, the file is the last one or this one.

    Parameters
    ----------
    path : of the file
    arrays : name -> bool, integer or float array of any shape
    value : what JSON holds; its floats and integers come back exactly.

    Raises
    ------
    LhcError : the file cannot be written.
    """
    whole = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    text = json.dumps(value)
    metadata = {"format": FORMAT, "value": text, "fingerprint": _fingerprint(whole, text)}
    atomic_write_bytes(path, safetensors.numpy.save(whole, metadata))


def load(path: Path) -> tuple[dict[str, np.ndarray], Any]:
    """Read what `save` wrote.

    Returns
    -------
    arrays, value : new memory

    Raises
    ------
    CheckpointError : no such file, another format, or damaged.
    """
    try:
        with safetensors.safe_open(path, framework="np") as f:
            metadata = f.metadata() or {}
            arrays = {name: f.get_tensor(name) for name in f.keys()}  # noqa: SIM118 - no mapping
    except FileNotFoundError as e:
        raise CheckpointError(f"{path}: expected a checkpoint, got no such file. Check the run's folder.") from e
    except (OSError, safetensors.SafetensorError, ValueError) as e:
        raise CheckpointError(f"{path}: expected a checkpoint, got {e}. The file is damaged: use a copy of it.") from e
    if metadata.get("format") != FORMAT:
        raise CheckpointError(
            f"{path}: expected {FORMAT!r}, got {metadata.get('format')!r}. Use another version of lhc."
        )
    text = metadata.get("value", "")
    if metadata.get("fingerprint") != _fingerprint(arrays, text):
        raise CheckpointError(
            f"{path}: expected what its hash says, got something else. The file is damaged: use a copy."
        )
    return arrays, json.loads(text)


def _fingerprint(arrays: Mapping[str, Array], text: str) -> str:
    """Of arrays and JSON text together: what has it was written by `save`, whole."""
    return fingerprint({**arrays, "": np.frombuffer(text.encode(), np.uint8)})


def prefixed(prefix: str, arrays: Mapping[str, Array]) -> dict[str, Array]:
    """The arrays as `prefix/name`, so that several kinds fit into one checkpoint."""
    return {f"{prefix}/{name}": array for name, array in arrays.items()}


def part(prefix: str, arrays: Mapping[str, Array]) -> dict[str, Array]:
    """The arrays under a prefix, by their own names: undoes `prefixed`."""
    start = f"{prefix}/"
    return {name.removeprefix(start): array for name, array in arrays.items() if name.startswith(start)}
