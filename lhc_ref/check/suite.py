"""The suite: which cases a level is checked with, area by area."""

from dataclasses import replace
from typing import Any

from lhc_ref.check.cases import NUMBERS, Case, valid

PADDINGS: tuple[dict[str, Any], ...] = (
    {"kh": 2, "kw": 2},
    {"kh": 4, "kw": 2, "h": 5},
    {"padding": "valid"},
    {"padding": "1.0.2.1"},
    {"padding": "0.2.0.1"},
    {"sy": 2, "sx": 2, "h": 6, "w": 6},
    {"kh": 5, "kw": 1, "h": 3},
    {"padding": "same", "sy": 2, "sx": 2, "h": 6, "w": 5},
)
STRIDES: tuple[dict[str, Any], ...] = (
    {"sy": 2, "sx": 2, "h": 5, "w": 7},
    {"sy": 2, "h": 5},
    {"sx": 2, "w": 7},
    {"sy": 3, "sx": 2, "h": 7, "w": 5},
    {"sy": 2, "sx": 2, "h": 7, "w": 7, "padding": "valid"},
)
DILATIONS: tuple[dict[str, Any], ...] = (
    {"ry": 2, "rx": 2, "h": 7, "w": 6},
    {"rx": 2, "w": 7},
    {"ry": 3, "h": 8, "padding": "valid"},
)
GROUPINGS: tuple[dict[str, Any], ...] = (
    {"gi": 2, "go": 2, "ci": 4, "co": 4},
    {"gi": 2, "ci": 6, "co": 2},
    {"go": 3, "co": 6},
    {"gi": 2, "go": 3, "ci": 5, "co": 7},
    {"gi": 4, "go": 4, "ci": 6, "co": 6},
    {"gi": 3, "go": 5, "ci": 2, "co": 3},
    {"gi": 3, "go": 2, "ci": 7, "co": 5},
)
PLAIN: tuple[dict[str, Any], ...] = (
    {"n": 2, "h": 5, "w": 4, "ci": 3, "co": 4},
    {"ci": 3, "co": 3, "h": 4, "w": 4},
    {"n": 3, "h": 4, "w": 6, "ci": 2, "co": 5},
    {"n": 1, "h": 6, "w": 5, "ci": 1, "co": 1},
)
SHAPES: tuple[dict[str, Any], ...] = ({"kh": 1, "kw": 1}, {"kh": 1, "kw": 3}, {"kh": 5, "kw": 3, "h": 6})


def suite(level: str, dtypes: tuple[str, ...] = ("float32",), seed: int = 0, long: bool = False) -> list[Case]:
    """The cases of a level, the first dtype's in all areas and the others' in the area "dtype".

    Parameters
    ----------
    level : one of LEVELS
    dtypes : the storage formats that the user declares
    seed : what the numbers depend on
    long : four times as many, of other seeds and with larger and odder sizes
    """
    found: list[Case] = []
    for round_ in range(4 if long else 1):
        start = Case(level, dtype=dtypes[0], n=1 + round_ % 3, seed=1000 * seed + 100 * round_)
        cases = _regularizer(start) if level == "regularizer" else _layer(start)
        found += [c for c in cases if valid(c)]
        some = [c for c in cases if valid(c)][:: 1 if long else 3]
        found += [replace(c, dtype=dtype, area="dtype") for dtype in dtypes[1:] for c in some]
    numbered = [replace(c, seed=c.seed + i) for i, c in enumerate(found)]
    return list(dict.fromkeys(numbered))


def _layer(start: Case) -> list[Case]:
    level = start.level
    patterned = level in ("free", "rigid")
    rows: list[dict[str, Any]] = [{**row, "numbers": numbers} for row in PLAIN for numbers in NUMBERS]
    if level == "free":
        rows += [{**shape, "numbers": numbers} for shape in SHAPES for numbers in NUMBERS]
    if level == "nm":
        rows = [{**row, "ci": ci} for row, ci in zip(rows, (4, 8, 6, 4, 5, 8, 3, 4), strict=True)]
    if level == "lean":
        rows += [{"groups": 2, "ci": 4, "co": 6}, {"groups": 4, "ci": 4, "co": 4, "numbers": "real"}]
    if level in ("csg", "hetconv"):
        more: tuple[dict[str, Any], ...] = ({"s": 3, "m": 5}, {"s": 1}) if level == "csg" else ({"p": 4}, {"p": 3})
        rows += [{"ci": 5, "co": 7, **row, "numbers": numbers} for row in more for numbers in NUMBERS]
    rows += [{"bias": 0}]
    if patterned:
        kinds = ("edges", "nan") if level == "free" else ("edges", "ties")
        rows += [{"scores": kind, "n": 2, "ci": 3, "co": 4, "numbers": x} for kind in kinds for x in NUMBERS]
        rows += [{"area": "grouping", "n": 2, "numbers": x, **row} for row in GROUPINGS for x in NUMBERS]
        rows += [
            {"area": "enabled", "enabled": which, "co": 4, **row, "numbers": x}
            for which, row in [
                ("some", {}),
                ("some", {"gi": 2, "go": 3, "ci": 3}),
                ("none", {}),
                ("some", {"ci": 4, "go": 2}),
            ]
            for x in NUMBERS
        ]
    for area, geometries in (("padding", PADDINGS), ("stride", STRIDES), ("dilation", DILATIONS)):
        rows += [{"area": area, "numbers": NUMBERS[i % 2], **row} for i, row in enumerate(geometries)]
    fixed = level == "rigid" or level == "hetconv"
    cases = [replace(start, **row) for row in rows if not (fixed and ("kh" in row or "kw" in row))]
    return [replace(c, ci=c.ci * c.p) for c in cases] if level == "hetconv" else cases


def _regularizer(start: Case) -> list[Case]:
    rows: list[dict[str, Any]] = [{"layers": layers, "numbers": x, "h": 6} for layers in (1, 2, 3) for x in NUMBERS]
    rows += [
        {"layers": 2, "target": 0.5},
        {"layers": 2, "target": 0.9},
        {"layers": 3, "scores": "edges", "target": 0.25},
    ]
    return [replace(start, area="regularizer", ci=3, co=4, **row) for row in rows]
