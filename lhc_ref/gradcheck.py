"""Is this vector-Jacobian product the derivative of this function? Answered in float64, with a budget that is derived.

Derivatives are taken along lines x + t v, t = -4h ... 4h, by the central formula of order 8. Its budget has two parts:

- truncation: the difference to the formula of order 6 on the same points, whose error is larger than that of order 8;
- rounding: the noise of the function's values, estimated from their eighth difference (which a smooth function hardly
  has; Hamming 1971, More and Wild 2011), never below half a unit in the last place, times the formula's weights over h.

A budget above `RESOLUTION` of the derivative's size decides nothing and counts as a failure. Functions with kinks
(ReLU, max pool) are to be checked further than 4h from them. Steps have no derivative to difference: check a
straight-through estimator against the surrogate declared beside it, `check_vjp(step_surrogate, step_vjp, ...)`.
"""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import comb, log2, sqrt
from typing import Any

import numpy as np

from lhc_ref.arrays import check_like, describe
from lhc_ref.errors import InputError, LhcError
from lhc_ref.tape import Tape, Variable

STEP = 1 / 64
RESOLUTION = 1e-5
ORDER_8 = np.array([1 / 280, -4 / 105, 1 / 5, -4 / 5, 0, 4 / 5, -1 / 5, 4 / 105, -1 / 280])
ORDER_6 = np.array([0, -1 / 60, 3 / 20, -3 / 4, 0, 3 / 4, -3 / 20, 1 / 60, 0])
SIGMAS = 6  # how many deviations of the estimated noise the budget allows: the worst of many numbers is looked at
TAYLOR_ORDER = 2.5  # the residual of a right derivative shrinks as h^3, that of a wrong one as h


class GradientError(LhcError):
    """A vector-Jacobian product is not the derivative of its function."""


@dataclass(frozen=True)
class Row:
    """One comparison: the cotangent's name, where it is worst, both numbers and the budget for their difference."""

    name: str
    at: str
    analytic: float
    numeric: float
    budget: float
    verdict: str  # "ok", "wrong" or "undecided"

    def __str__(self) -> str:
        error = abs(self.analytic - self.numeric)
        return (
            f"{self.verdict:9} {self.name:12} {self.at:20} analytic {self.analytic:+.15e} numeric {self.numeric:+.15e} "
            f"difference {error:.2e} budget {self.budget:.2e}"
        )


@dataclass(frozen=True)
class Report:
    """All comparisons of one check."""

    rows: tuple[Row, ...]

    @property
    def ok(self) -> bool:
        return all(row.verdict == "ok" for row in self.rows)

    def __str__(self) -> str:
        return "\n".join(map(str, self.rows))


def check_vjp(f: Callable, vjp: Callable, args: Sequence[Any], **how: Any) -> Report:
    """`compare_vjp`, raising GradientError with the report unless every comparison is ok."""
    report = compare_vjp(f, vjp, args, **how)
    if not report.ok:
        name, derivative = getattr(f, "__name__", "f"), getattr(vjp, "__name__", "vjp")
        raise GradientError(
            f"{derivative}: expected the derivative of {name}, got\n{report}\n"
            f"Correct the derivative; where the verdict is undecided, change the step or move away from the kink."
        )
    return report


def compare_vjp(
    f: Callable,
    vjp: Callable,
    args: Sequence[Any],
    *,
    options: dict[str, Any] | None = None,
    wrt: Sequence[int] | None = None,
    mode: str = "projection",
    step: float = STEP,
    projections: int = 3,
    seed: int = 0,
) -> Report:
    """Compare a vector-Jacobian product with derivatives taken numerically.

    Parameters
    ----------
    f : `f(*args, **options)` -> f64 array
    vjp : `vjp(dy, *args, **options)` -> tuple of cotangents, None where there is no derivative
    args : the point; f64 arrays are differentiated, others (labels, flags) are passed on
    wrt : which arguments to check, by position; default: every f64 array for which `vjp` returns a cotangent
    mode : "projection": `projections` random directions a tensor against a random cotangent each; where one disagrees,
        the worst element is found by halving. "jacobian": every element against every output. "taylor": free of a step
        size; the residual f(x + hv) - f(x - hv) - 2h f'v has to shrink as h^3, a wrong derivative leaves h.
    step : h; kinks must be further than 4h away (4h = 1/16 by default)
    seed : of directions (each element +1 or -1) and cotangents (normal)

    Raises
    ------
    InputError : no f64 array to check, an unknown mode, a cotangent of the wrong shape or dtype.

    Notes
    -----
    Cost: 9 calls of `f` a projection, 9 an input element plus one of `vjp` an output element for the Jacobian, 43 for
    taylor.
    """
    modes = {"projection": _projection_rows, "jacobian": _jacobian_rows, "taylor": _taylor_rows}
    if mode not in modes:
        raise InputError(f"mode: expected one of {', '.join(modes)}, got {mode!r}. Use one of these.")
    problem = _Problem(f, vjp, args, options or {}, step)
    rows: list[Row] = []
    for position in problem.positions(wrt):
        rng = np.random.default_rng([seed, position])
        rows += modes[mode](problem, position, rng, projections)
    return Report(tuple(rows))


def tape_vjp(f: Callable[..., Variable]) -> Callable:
    """The vector-Jacobian product, by the tape, of a function that is written with `apply` and takes f64 arrays."""

    def vjp(dy: np.ndarray, *args: Any, **options: Any) -> tuple[np.ndarray, ...]:
        tape = Tape()
        variables = [tape.variable(a) for a in args]
        return tuple(tape.gradients(f(*variables, **options), variables, dy))

    return vjp


class _Problem:
    """A function, its vector-Jacobian product and a point."""

    def __init__(self, f: Callable, vjp: Callable, args: Sequence[Any], options: dict[str, Any], step: float) -> None:
        self.f, self.vjp, self.args, self.options, self.step = f, vjp, list(args), options, step
        self.y = np.asarray(f(*args, **options))
        if self.y.dtype != np.float64:
            raise InputError(f"f: expected a float64 result, got {describe(self.y)}. Check in float64.")
        parameters = inspect.signature(f).parameters.values()
        names = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
        self.names = [*names, *(f"args[{i}]" for i in range(len(names), len(self.args)))]

    def positions(self, wrt: Sequence[int] | None) -> list[int]:
        """Positions of the arguments to check."""
        cotangents = self.vjp(np.zeros_like(self.y), *self.args, **self.options)
        given = {i for i, c in enumerate(cotangents) if c is not None}
        floats = {i for i, a in enumerate(self.args) if isinstance(a, np.ndarray) and a.dtype == np.float64}
        chosen = sorted(floats & given) if wrt is None else list(wrt)
        if not chosen or not set(chosen) <= floats & given:
            raise InputError(
                f"wrt: expected float64 arguments that have a cotangent (of {sorted(floats & given)}), got {wrt}. "
                f"Convert the arguments, or choose among these positions."
            )
        return chosen

    def cotangent(self, dy: np.ndarray, position: int) -> np.ndarray:
        found = self.vjp(dy, *self.args, **self.options)[position]
        check_like(found, f"d{self.names[position]}", self.args[position].shape, self.args[position], "its argument")
        return np.asarray(found)

    def along(self, position: int, v: np.ndarray, t: float) -> np.ndarray:
        """f at x + t v."""
        moved = [*self.args]
        moved[position] = self.args[position] + t * v
        return np.asarray(self.f(*moved, **self.options))

    def derivative(self, position: int, v: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
        """Derivative of every output along v, the budget for each, and the noise of the outputs."""
        values = np.stack([self.along(position, v, t * self.step) for t in range(-4, 5)])
        numeric, truncation = (np.tensordot(w, values, 1) / self.step for w in (ORDER_8, ORDER_8 - ORDER_6))
        if not values.size:
            return numeric, abs(truncation), 0.0
        noise = max(
            float(abs(np.diff(values, 8, axis=0)).max()) / sqrt(comb(16, 8)),
            float(abs(values).max()) * np.finfo(np.float64).eps / 2,
        )
        return numeric, abs(truncation) + SIGMAS * noise * abs(ORDER_8).sum() / self.step, noise

    def row(self, position: int, at: str, analytic: float, numeric: float, budget: float, size: float) -> Row:
        """`size` is how large such a derivative is without cancellation."""
        verdict = "ok" if abs(analytic - numeric) <= budget else "wrong"
        if not budget <= RESOLUTION * max(size, float(abs(self.y).max(initial=0))) and budget > 0:
            verdict = "undecided"
        return Row(f"d{self.names[position]}", at, float(analytic), float(numeric), float(budget), verdict)


def _projection_rows(problem: _Problem, position: int, rng: np.random.Generator, projections: int) -> list[Row]:
    rows = []
    for number in range(projections):
        x, dy = problem.args[position], rng.standard_normal(problem.y.shape)
        v = rng.choice([-1.0, 1.0], x.shape)
        dx = problem.cotangent(dy, position)

        def compare(at: str, v: np.ndarray, dx: np.ndarray = dx, dy: np.ndarray = dy) -> Row:
            numeric, budget, _ = problem.derivative(position, v)
            sizes = abs(dy * numeric).sum(), (abs(dy) * budget).sum()
            return problem.row(position, at, (dx * v).sum(), (dy * numeric).sum(), sizes[1], sizes[0])

        row = compare(f"projection {number}", v)
        rows.append(row if row.verdict == "ok" else _worst_element(compare, row, v))
    return rows


def _worst_element(compare: Callable[[str, np.ndarray], Row], row: Row, v: np.ndarray) -> Row:
    """The element that a wrong projection comes from, found by halving; the projection's row if no element is wrong."""
    low, high = 0, v.size
    while high - low > 1:
        middle = (low + high) // 2
        halves = [(low, middle), (middle, high)]
        errors = []
        for start, stop in halves:
            part = np.where((np.arange(v.size) >= start) & (np.arange(v.size) < stop), v.ravel(), 0).reshape(v.shape)
            half = compare("", part)
            errors.append(abs(half.analytic - half.numeric))
        low, high = halves[int(not errors[0] >= errors[1])]
    index = np.unravel_index(low, v.shape)
    unit = np.zeros(v.shape)
    unit[index] = 1
    found = compare(str(tuple(map(int, index))), unit)
    return found if found.verdict == "wrong" else row


def _jacobian_rows(problem: _Problem, position: int, rng: np.random.Generator, projections: int) -> list[Row]:
    x, y = problem.args[position], problem.y
    analytic = np.empty((y.size, x.size))
    for i, dy in enumerate(np.eye(y.size)):
        analytic[i] = problem.cotangent(dy.reshape(y.shape), position).ravel()
    numeric, budget = np.empty_like(analytic), np.empty_like(analytic)
    for j, v in enumerate(np.eye(x.size)):
        derivative, allowed, _ = problem.derivative(position, v.reshape(x.shape))
        numeric[:, j], budget[:, j] = derivative.ravel(), allowed.ravel()
    if not analytic.size:
        return []
    excess = np.nan_to_num(abs(analytic - numeric) / np.maximum(budget, np.finfo(float).tiny), nan=np.inf)
    i, j = divmod(int(np.argmax(excess)), x.size)
    x_at, y_at = (tuple(map(int, np.unravel_index(k, shape))) for k, shape in ((j, x.shape), (i, y.shape)))
    at = f"{x_at} of output {y_at}"
    return [problem.row(position, at, analytic[i, j], numeric[i, j], budget[i, j], abs(numeric).max())]


def _taylor_rows(problem: _Problem, position: int, rng: np.random.Generator, projections: int) -> list[Row]:
    x, dy = problem.args[position], rng.standard_normal(problem.y.shape)
    v = rng.choice([-1.0, 1.0], x.shape)
    slope = float((problem.cotangent(dy, position) * v).sum())
    floor = 4 * SIGMAS * problem.derivative(position, v)[2] * abs(dy).sum()
    steps = [4 * problem.step / 2**k for k in range(17)]
    changes = [((problem.along(position, v, h) - problem.along(position, v, -h)) * dy).sum() for h in steps]
    residuals = [abs(change - 2 * h * slope) for change, h in zip(changes, steps, strict=True)]
    above = [r for r in residuals if not r <= floor]
    orders = [log2(a / b) for a, b in pairwise(above)][-3:]
    right = len(above) < 2 or min(orders) >= TAYLOR_ORDER
    smallest = steps[max(len(above) - 1, 0)]
    at = "below rounding" if len(above) < 2 else f"order {min(orders):.2f}"
    numeric = float(changes[max(len(above) - 1, 0)] / (2 * smallest))
    name = f"d{problem.names[position]}"
    return [Row(name, at, slope, numeric, float(floor / (2 * smallest)), "ok" if right else "wrong")]
