"""Where numbers are wrong that nothing known reproduces: in which cases, and in which part of the tensor."""

from collections.abc import Mapping, Sequence

import numpy as np

from lhc_ref.check.cases import Array, Case
from lhc_ref.check.compare import wrong
from lhc_ref.check.evidence import Call, Evidence
from lhc_ref.check.observations import factors
from lhc_ref.check.precision import Precision
from lhc_ref.check.reference import Answer, solve

ENOUGH = 8  # elements elsewhere that are right, or the place would say nothing
MOST = 2  # places told of one tensor


def located(
    tensor: str, failed: Sequence[Call], passed: Sequence[Call], precision_of: Mapping[str, Precision]
) -> list[str]:
    """ "wrong only for 1x1 kernels", "wrong only in the first row", a factor: what holds in all calls, else nothing."""
    found = factors(tensor, Evidence(failed, passed, precision_of, {}))
    found += [f"wrong only {name}" for name in _situations(failed, passed)[:1]]
    return found + [f"wrong only {name}" for name in _places(tensor, failed, precision_of)[:MOST]]


def _of_case(case: Case) -> dict[str, bool]:
    """What sets some cases apart from others."""
    groups = case.level in ("free", "rigid") and (case.gi, case.go) != (1, 1)
    return {
        "for 1x1 kernels": (case.kh, case.kw) == (1, 1),
        "for kernels of even height or width": case.kh % 2 == 0 or case.kw % 2 == 0,
        "for kernels that are not square": case.kh != case.kw,
        "with a stride": (case.sy, case.sx) != (1, 1),
        "with strides that differ": case.sy != case.sx,
        "with a dilation": (case.ry, case.rx) != (1, 1),
        "with pads in pixels": case.padding not in ("same", "valid"),
        "with padding `valid`": case.padding == "valid",
        "with several images": case.n > 1,
        "without bias": not case.bias,
        "with a bias": bool(case.bias),
        "with groups": groups,
        "with a short last group": groups and (case.ci % case.gi > 0 or case.co % case.go > 0),
        "with channels that are not enabled": case.enabled != "all",
        "with NaN among the scores": case.scores == "nan",
        "with ties among the scores": case.scores == "ties",
        "with scores on the edges": case.scores == "edges",
        "in numbers that are no integers": case.numbers == "real",
        **{f"in {dtype}": case.dtype == dtype for dtype in ("float64", "float32", "bfloat16", "float16")},
    }


def _situations(failed: Sequence[Call], passed: Sequence[Call]) -> list[str]:
    """What is true of all calls that failed and of none that passed."""
    wrong_in, right_in = ([_of_case(case) for case, _ in calls] for calls in (failed, passed))
    if not right_in:
        return []
    return [name for name in wrong_in[0] if all(c[name] for c in wrong_in) and not any(c[name] for c in right_in)]


def _places(tensor: str, failed: Sequence[Call], precision_of: Mapping[str, Precision]) -> list[str]:
    """Parts of the tensor outside which all is right, the smallest first, and none that holds another."""
    inside: dict[str, list[Array]] = {}
    bad: list[Array] = []
    for case, outcome in failed:
        answer = solve(case, precision_of[case.dtype])
        got = outcome.arrays[tensor].astype(np.float64)
        if got.shape != answer[tensor].value.shape:
            return []
        bad.append(wrong(got, answer[tensor]).ravel())
        for name, part in _parts(tensor, case, answer).items():
            inside.setdefault(name, []).append(np.broadcast_to(part, got.shape).ravel())
    everywhere = np.concatenate(bad)
    parts = {name: np.concatenate(part) for name, part in inside.items() if len(part) == len(bad)}
    parts = {n: p for n, p in parts.items() if not (everywhere & ~p).any() and (~p).sum() >= ENOUGH}
    ordered = sorted(parts, key=lambda name: int(parts[name].sum()))
    return [n for i, n in enumerate(ordered) if all((parts[m] & ~parts[n]).any() for m in ordered[:i])]


def _parts(tensor: str, case: Case, answer: Answer) -> dict[str, Array]:
    shape = answer[tensor].value.shape
    if tensor in ("y", "dx") and len(shape) == 4:
        return _of_image(shape)
    if tensor in ("mask", "dkernel", "kernel"):
        return _of_kernel(tensor, case, answer)
    return _of_scores(case) if tensor == "dscores" else {}


def _along(shape: tuple[int, ...], axis: int, which: Array) -> Array:
    return which.reshape([-1 if i == axis else 1 for i in range(len(shape))])


def _of_image(shape: tuple[int, ...]) -> dict[str, Array]:
    parts: dict[str, Array] = {}
    for axis, (name, last) in enumerate((("image", False), ("row", True), ("column", True), ("channel", True))):
        index = np.arange(shape[axis])
        parts[f"in the first {name}"] = _along(shape, axis, index == 0)
        if last:
            parts[f"in the last {name}"] = _along(shape, axis, index == shape[axis] - 1)
        else:
            parts[f"behind the first {name}"] = _along(shape, axis, index > 0)
    rows, columns = (parts[f"in the first {n}"] | parts[f"in the last {n}"] for n in ("row", "column"))
    return {
        **parts,
        "in the first and last rows": rows,
        "in the first and last columns": columns,
        "at the border": rows | columns,
    }


def _of_kernel(tensor: str, case: Case, answer: Answer) -> dict[str, Array]:
    shape = (case.kh, case.kw, case.ci, case.co)
    centre = np.zeros(shape, bool)
    centre[case.kh // 2, case.kw // 2] = True
    parts = {"at the centre tap": centre, "at the taps around the centre": ~centre}
    if "mask" in answer:
        on = answer["mask"].value == 1
        parts["where the mask is off"] = ~on
        if tensor == "mask":  # dkernel is 0 elsewhere, unless it leaks
            parts["where the mask is on"] = on
    if case.level in ("free", "rigid"):
        enabled = case.arrays["enabled"].astype(bool)
        parts |= {"in channels that are not enabled": ~enabled}
        short_in, short_out = (_short(c, g) for c, g in ((case.ci, case.gi), (case.co, case.go)))
        parts |= {"in a short last group": short_in[:, None] | short_out}
    return parts


def _short(channels: int, group: int) -> Array:
    """Which channels are in a last group that is not full."""
    return np.arange(channels) >= channels // group * group


def _of_scores(case: Case) -> dict[str, Array]:
    scores, (rows, columns) = case.arrays["scores"], case.group_counts
    short_in = np.arange(rows) >= case.ci // case.gi
    short_out = np.arange(columns) >= case.co // case.go
    parts = {"in a short last group": short_in[:, None] | short_out}
    if case.level == "rigid":
        winner = scores == scores.max(axis=0)
        return {**parts, "at the winner of the 15": winner, "at the others of the 15": ~winner}
    size = np.abs(scores)
    return {
        **parts,
        "where the score is 0": scores == 0,
        "where the score is NaN": scores != scores,
        "where |score| is 1": size == 1,
        "where |score| < 1": size < 1,
        "where |score| is not below 1": ~(size < 1),
        "where the step is on": scores > 0,
        "where the step is off": ~(scores > 0),
    }
