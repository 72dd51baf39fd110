"""HetConv, N:M, CSG and the regularizer."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import product

import numpy as np

from lhc_ref.check.cases import Array, Case
from lhc_ref.check.mistakes.base import Mistake
from lhc_ref.check.mistakes.penalties import PENALTIES
from lhc_ref.check.steps import CORRECT, SR_STE_DECAY, nm_mask, strided, strided_vjp


def _tiles(codes: Array, generator: Array, case: Case) -> Array:
    outs, ins = (-(-c // case.s) for c in (case.co, case.ci))
    rows = (codes @ generator.T).reshape(outs, ins, case.s, case.s, case.kh, case.kw).swapaxes(1, 2)
    oihw = rows.reshape(outs * case.s, ins * case.s, case.kh, case.kw)[: case.co, : case.ci]
    return np.ascontiguousarray(oihw.transpose(2, 3, 1, 0))


def _tiles_back(dkernel: Array, case: Case) -> Array:
    outs, ins = (-(-c // case.s) for c in (case.co, case.ci))
    whole = np.zeros((outs * case.s, ins * case.s, case.kh, case.kw))
    whole[: case.co, : case.ci] = dkernel.transpose(3, 2, 0, 1)
    tiles = whole.reshape(outs, case.s, ins, case.s, case.kh, case.kw).swapaxes(1, 2)
    return tiles.reshape(outs * ins, -1)


def _inputs_first(codes: Array, generator: Array, case: Case) -> Array:
    outs, ins = (-(-c // case.s) * case.s for c in (case.co, case.ci))
    iohw = (codes @ generator.T).reshape(ins, outs, case.kh, case.kw)[: case.ci, : case.co]
    return np.ascontiguousarray(iohw.transpose(2, 3, 0, 1))


def _inputs_first_back(dkernel: Array, case: Case) -> Array:
    outs, ins = (-(-c // case.s) * case.s for c in (case.co, case.ci))
    whole = np.zeros((ins, outs, case.kh, case.kw))
    whole[: case.ci, : case.co] = dkernel.transpose(2, 3, 0, 1)
    return whole.reshape(-1, case.s * case.s * case.kh * case.kw)


def _cropped(codes: Array, generator: Array, case: Case) -> Array:
    outs, ins = (-(-c // case.s) * case.s for c in (case.co, case.ci))
    oihw = (codes @ generator.T).reshape(outs, ins, case.kh, case.kw)[outs - case.co :, ins - case.ci :]
    return np.ascontiguousarray(oihw.transpose(2, 3, 1, 0))


def _cropped_back(dkernel: Array, case: Case) -> Array:
    outs, ins = (-(-c // case.s) * case.s for c in (case.co, case.ci))
    whole = np.zeros((outs, ins, case.kh, case.kw))
    whole[outs - case.co :, ins - case.ci :] = dkernel.transpose(3, 2, 0, 1)
    return whole.reshape(-1, case.s * case.s * case.kh * case.kw)


def _seen_at(offset: Callable[[int], int]) -> dict[str, Callable[[Array, Case], Array]]:
    """Lean's 1x1 reading another pixel of each stride."""
    return {
        "seen": lambda x, c: strided(x, c, (offset(c.sy), offset(c.sx))),
        "seen_vjp": lambda d, c: strided_vjp(d, c, (offset(c.sy), offset(c.sx))),
    }


def _nm_over_outputs(kernel: Array, case: Case) -> Array:
    return nm_mask(kernel.swapaxes(2, 3), replace(case, ci=case.co)).swapaxes(2, 3)


def _offsets(case: Case) -> list[tuple[int, int]]:
    return list(product(range(case.sy), range(case.sx)))


def _pixels_seen(case: Case) -> Array:
    """How many pixels of the image each stride has."""
    ones = np.ones((1, case.h, case.w, 1))
    return sum((strided(ones, case, offset) for offset in _offsets(case)), np.zeros(()))


def _mean_seen(x: Array, case: Case) -> Array:
    return sum((strided(x, case, offset) for offset in _offsets(case)), np.zeros(())) / _pixels_seen(case)


def _mean_seen_vjp(dseen: Array, case: Case) -> Array:
    each = dseen / _pixels_seen(case)
    return sum((strided_vjp(each, case, offset) for offset in _offsets(case)), np.zeros(()))


def _arranged(full: Callable[[Array, Array, int], Array], centre: float = 1.0) -> Callable[[Case], Array]:
    def build(case: Case) -> Array:
        ci, co = np.arange(case.ci)[:, None], np.arange(case.co)
        chosen = np.broadcast_to(full(ci, co, case.p), (case.ci, case.co))
        m = np.broadcast_to(chosen, (case.kh, case.kw, case.ci, case.co)).astype(np.float64)
        m[case.kh // 2, case.kw // 2] = np.maximum(m[case.kh // 2, case.kw // 2], centre)
        return m

    return build


def other_levels() -> Iterator[Mistake]:
    """Each as a `Mistake`."""
    tiles = {"generate": _tiles, "slices": _tiles_back}
    yield Mistake("a slice is an s x s tile of channels instead of a contiguous run", tiles, ("csg",))
    swapped = {"generate": _inputs_first, "slices": _inputs_first_back}
    yield Mistake("slices run over input channels first (IOHW instead of OIHW)", swapped, ("csg",))
    cropped = {"generate": _cropped, "slices": _cropped_back}
    yield Mistake("the generated kernel is cropped at the start instead of the end", cropped, ("csg",))
    yield Mistake("lean's 1x1 reads the last pixel of each stride, not the first", _seen_at(lambda s: s - 1), ("lean",))
    yield Mistake(
        "lean's 1x1 reads the middle pixel of each stride, not the first", _seen_at(lambda s: s // 2), ("lean",)
    )
    mean = {"seen": _mean_seen, "seen_vjp": _mean_seen_vjp}
    yield Mistake("lean's 1x1 reads the mean of each stride's pixels, not the first", mean, ("lean",))
    gone = {"seen": lambda x, c: 0 * CORRECT.seen(x, c), "seen_vjp": lambda d, c: 0 * CORRECT.seen_vjp(d, c)}
    yield Mistake("lean's 1x1 is left out", gone, ("lean",))
    arrangements = {
        "HetConv's arrangement does not shift with the output channel": _arranged(lambda ci, co, p: ci % p == 0),
        "HetConv's arrangement shifts the other way": _arranged(lambda ci, co, p: (ci + co) % p == 0),
        "HetConv's arrangement starts one channel later": _arranged(lambda ci, co, p: (ci - co - 1) % p == 0),
        "HetConv's full channels are one block at the start": _arranged(lambda ci, co, p: ci < ci.size // p),
        "HetConv without its centre taps": _arranged(lambda ci, co, p: (ci - co) % p == 0, 0.0),
        "HetConv keeps p of p channels' complement: the full and the centre kernels swapped": _arranged(
            lambda ci, co, p: (ci - co) % p != 0
        ),
    }
    for name, arrange in arrangements.items():
        yield Mistake(name, {"hetconv": arrange}, ("hetconv",))
    decays = {
        "SR-STE without its decay": lambda k, m: 0 * k,
        "SR-STE's decay on the kept weights instead of the dropped": lambda k, m: SR_STE_DECAY * m * k,
        "SR-STE's decay on all weights": lambda k, m: SR_STE_DECAY * k,
        "SR-STE's decay with the wrong sign": lambda k, m: -SR_STE_DECAY * (1 - m) * k,
        "SR-STE's decay ten times too large": lambda k, m: 10 * SR_STE_DECAY * (1 - m) * k,
    }
    for name, decay in decays.items():
        yield Mistake(name, {"decay": decay}, ("nm",))
    masked: Callable[[Array, Array], Array] = lambda d, m: d * m  # noqa: E731
    yield Mistake("N:M without straight-through: dropped weights get no task gradient", {"nm_dkernel": masked}, ("nm",))
    yield Mistake("N:M keeps the smallest weights", {"nm": lambda k, c: CORRECT.nm(1 / k, c)}, ("nm",))
    yield Mistake(
        "N:M keeps the largest weights, not the largest in size", {"nm": lambda k, c: CORRECT.nm(np.exp(k), c)}, ("nm",)
    )
    yield Mistake("N:M in runs of output channels, not input channels", {"nm": _nm_over_outputs}, ("nm",))
    floor: Callable[[Array, Case], Array] = lambda k, c: nm_mask(k, c, lambda count: c.s * count // c.m)  # noqa: E731
    yield Mistake("N:M keeps the floor of a short last run, not the ceiling", {"nm": floor}, ("nm",))
    for name, (penalty, vjp) in PENALTIES.items():
        yield Mistake(name, {"penalty": penalty, "penalty_vjp": vjp}, ("regularizer",))
