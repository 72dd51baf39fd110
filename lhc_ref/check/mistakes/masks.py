"""How scores become masks."""

from collections.abc import Callable, Iterator
from itertools import combinations

import numpy as np

from lhc_ref import mask
from lhc_ref.check.cases import Array, Case
from lhc_ref.check.mistakes.base import PATTERNED, Mistake
from lhc_ref.check.steps import CORRECT

Index = Callable[[int, int], Array]  # (channels, size of a group) -> the group of each channel


def _repeat(c: int, g: int) -> Array:
    return np.arange(c) // g


def _tile(c: int, g: int) -> Array:
    return np.arange(c) % -(-c // g)


def _short_first(c: int, g: int) -> Array:
    return (np.arange(c) + -c % g) // g


def _even(c: int, g: int) -> Array:
    return np.arange(c) * -(-c // g) // c


def _joined(c: int, g: int) -> Array:
    return np.minimum(np.arange(c) // g, max(c // g - 1, 0))


INDICES: dict[str, Index] = {
    "tiled instead of repeated": _tile,
    "cropped at the start: the short group comes first": _short_first,
    "spread evenly over the channels, as by nearest interpolation": _even,
    "with the rest joined to the last whole group": _joined,
}


def _grouping(name: str, rows: Index, columns: Index, swap: bool = False) -> Iterator[Mistake]:
    """The mask expanded by other indices, with its adjoint; and the adjoint alone beside the right expansion."""

    def indices(case: Case) -> tuple[Array, Array]:
        gi, go = (case.go, case.gi) if swap else (case.gi, case.go)
        return rows(case.ci, gi)[:, None], columns(case.co, go)

    def expand(patterns: Array, case: Case) -> Array:
        i, j = indices(case)
        return patterns[:, :, i, j]

    def collect(dmask: Array, case: Case) -> Array:
        i, j = indices(case)
        out = np.zeros((case.kh, case.kw, *case.group_counts))
        np.add.at(out.transpose(2, 3, 0, 1), (i, j), dmask.transpose(2, 3, 0, 1))
        return out

    yield Mistake(f"groups {name}", {"expand": expand, "collect": collect}, PATTERNED)
    yield Mistake(f"gradients of groups gathered as if {name}", {"collect": collect}, PATTERNED, common=False)


def masks() -> Iterator[Mistake]:
    """Each as a `Mistake`."""
    steps: dict[str, Callable[[Array], Array]] = {
        "step is on at 0 (>= instead of >)": lambda s: (s >= 0) * 1.0,
        "step is on for NaN": lambda s: 1.0 - (s <= 0),
        "step is inverted": lambda s: (s < 0) * 1.0,
        "step is at 0.5, not at 0": lambda s: (s > 0.5) * 1.0,
        "step by the score's size, not its sign (|score| > 0.5)": lambda s: (abs(s) > 0.5) * 1.0,
        "sign (-1 or 1) instead of step (0 or 1)": np.sign,
    }
    for name, step in steps.items():
        yield Mistake(name, {"step": step}, ("free",))
    about_mean = {
        "step": lambda s: (s > s.mean()) * 1.0,
        "slope": lambda s: CORRECT.slope(s - s.mean()),
        "center_vjp": lambda d, s: d - d.mean(),
    }
    yield Mistake("step is about the mean of all scores", about_mean, ("free",), common=False)
    yield Mistake(
        "step is at the median of the scores: half of them are on",
        {"step": lambda s: (s > np.median(s)) * 1.0},
        ("free",),
        common=False,
    )
    hots: dict[str, Callable[[Array], Array]] = {
        "rigid tie: every largest score is marked": lambda s: (s == s.max(axis=0)) * 1.0,
        "rigid tie: the last largest score wins": lambda s: mask.rigid_one_hot(s[::-1])[::-1],
        "the smallest of the 15 scores wins": lambda s: mask.rigid_one_hot(-s),
        "the score that is largest in size wins, whatever its sign": lambda s: mask.rigid_one_hot(abs(s)),
    }
    for name, hot in hots.items():
        yield Mistake(name, {"one_hot": hot}, ("rigid",))
    table = mask.PATTERNS.astype(np.float64)
    turned = {"transposed": table.swapaxes(1, 2), "upside down": table[:, ::-1], "mirrored": table[:, :, ::-1]}
    turned |= {"in reverse order": table[::-1], "inverted": 1 - table}
    turned |= {"one further in their table": np.roll(table, -1, 0), "one back in their table": np.roll(table, 1, 0)}
    turned |= {"divided by their number of taps": table / np.maximum(table.sum(axis=(1, 2), keepdims=True), 1)}
    for name, patterns in turned.items():
        yield Mistake(f"the 15 patterns are {name}", {"patterns": np.ascontiguousarray(patterns)}, ("rigid",))
    for i, j in combinations(range(len(table)), 2):
        order = list(range(len(table)))
        order[i], order[j] = j, i
        yield Mistake(f"patterns {i} and {j} have changed places", {"patterns": table[order]}, ("rigid",), common=False)
    for name, index in INDICES.items():
        yield from _grouping(name, index, index)
        yield from _grouping(f"of input channels {name}", index, _repeat)
        yield from _grouping(f"of output channels {name}", _repeat, index)
    yield from _grouping("with group_in and group_out swapped", _repeat, _repeat, swap=True)
    enabled: dict[str, Callable[[Array, Array], Array]] = {
        "`enabled` ignored": lambda m, e: m,
        "`enabled` inverted": lambda m, e: mask.apply_enabled(m, ~e),
        "channels that are not enabled are switched off instead of dense": lambda m, e: m * e,
    }
    backward = (lambda dm, e: dm, lambda dm, e: np.where(e, 0.0, dm), CORRECT.enable_vjp)
    for (name, enable), vjp in zip(enabled.items(), backward, strict=True):
        yield Mistake(name, {"enable": enable, "enable_vjp": vjp}, PATTERNED)
    yield Mistake("`enabled` ignored in the gradient of the scores", {"enable_vjp": backward[0]}, PATTERNED)
    yield Mistake("`enabled` ignored in the forward pass alone", {"enable": enabled["`enabled` ignored"]}, PATTERNED)
