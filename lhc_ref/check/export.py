"""Golden vectors: cases, answers and budgets as .npy files and a JSON index, for tests in any language."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import numpy as np

from lhc_ref.check.cases import LEVELS, Case
from lhc_ref.check.precision import Precision
from lhc_ref.check.reference import solve
from lhc_ref.check.suite import suite
from lhc_ref.errors import ConfigError
from lhc_ref.files import atomic_write_text


def export(
    folder: Path,
    levels: Sequence[str],
    dtypes: Sequence[str] = ("float32",),
    accumulate: Mapping[str, str] = MappingProxyType({}),
    seed: int = 0,
    long: bool = False,
) -> int:
    """Write a suite's cases into a new or empty folder; how many.

    Every file is float64, little endian, C order, in NHWC and HWIO, whatever the case's dtype, which can hold the
    inputs: `CASE/in-NAME.npy`, `CASE/out-NAME.npy` and `CASE/budget-NAME.npy`. `index.json` lists for every case its
    id, area, geometry and files. A correct result differs from `out` by no more than `budget`, element by element.

    Raises
    ------
    ConfigError : the folder has files in it, or an unknown level.

    Notes
    -----
    The index is written last: a folder that has one is complete.
    """
    unknown = [level for level in levels if level not in LEVELS]
    if unknown:
        raise ConfigError(f"level: expected one of {', '.join(LEVELS)}, got {unknown[0]!r}. Use one of these.")
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise ConfigError(f"{folder}: expected a new or empty folder, got files in it. Name another.")
    index = []
    for level in levels:
        for i, case in enumerate(suite(level, tuple(dtypes), seed, long)):
            index.append(_write(folder, f"{level}-{i:03}", case, Precision.of(case.dtype, accumulate.get(case.dtype))))
    atomic_write_text(folder / "index.json", json.dumps({"format": 1, "cases": index}, indent=1) + "\n")
    return len(index)


def _write(folder: Path, name: str, case: Case, precision: Precision) -> dict:
    (folder / name).mkdir()
    answer = solve(case, precision)
    groups = {
        "in": case.arrays,
        "out": {k: e.value for k, e in answer.items()},
        "budget": {k: e.budget for k, e in answer.items()},
    }
    files: dict[str, dict[str, str]] = {}
    for group, arrays in groups.items():
        files[group] = {}
        for key, array in arrays.items():
            path = f"{name}/{group}-{key}.npy"
            files[group][key] = path
            np.save(folder / path, np.array(array, dtype="<f8", order="C"))
    return {"name": name, "id": case.id, "area": case.area, "dtype": case.dtype, "geometry": case.geometry, **files}
