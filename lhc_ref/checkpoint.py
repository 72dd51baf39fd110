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
    whole = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    text = {"format": FORMAT, "fingerprint": fingerprint(whole), "value": json.dumps(value)}
    atomic_write_bytes(path, safetensors.numpy.save(whole, text))


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
            text = f.metadata() or {}
            arrays = {name: f.get_tensor(name) for name in f.keys()}  # noqa: SIM118 - no mapping
    except FileNotFoundError as e:
        raise CheckpointError(f"{path}: expected a checkpoint, got no such file. Check the run's folder.") from e
    except (OSError, safetensors.SafetensorError, ValueError) as e:
        raise CheckpointError(f"{path}: expected a checkpoint, got {e}. The file is damaged: use a copy of it.") from e
    if text.get("format") != FORMAT:
        raise CheckpointError(
            f"{path}: expected format {FORMAT!r}, got {text.get('format')!r}. Use another version of lhc."
        )
    try:
        value = json.loads(text["value"])
    except (KeyError, json.JSONDecodeError) as e:
        raise CheckpointError(f"{path}: expected a JSON value, got {e}. The file is damaged: use a copy of it.") from e
    if text.get("fingerprint") != fingerprint(arrays):
        raise CheckpointError(
            f"{path}: expected arrays that fit their hash, got others. The file is damaged: use a copy."
        )
    return arrays, value
