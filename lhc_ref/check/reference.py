"""What a case's answer is, in float64, and how far a correct answer may be from it.

Each level is a chain of steps (see `steps`); a known mistake is the same chain with another function in one place.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from lhc_ref import conv, mask
from lhc_ref.check.cases import Array, Arrays, Case
from lhc_ref.check.convolution import Budget, Convolution, exact, finish_y
from lhc_ref.check.precision import Precision, normwise_factor, sum_budget
from lhc_ref.check.steps import CORRECT, Steps, arrange, slices_of, strided_vjp, sum_groups


class Expected(NamedTuple):
    """A tensor of the answer: its float64 value, the budget for each element, and how that came about."""

    value: Array
    budget: Array
    derivation: str


Answer = dict[str, Expected]


def solve(case: Case, precision: Precision, steps: Steps = CORRECT) -> Answer:
    """The answer to a case, tensor by tensor.

    Parameters
    ----------
    case : its arrays are used as they are: its dtype can hold them
    precision : storage and accumulation formats, and the algorithm, that the budgets are for
    steps : the right ones, or those of a known mistake

    Returns
    -------
    "y", "mask" where there is one, and a cotangent "d..." for each differentiable array.
    """
    tensors, budgets = _SOLVERS[case.level](case, precision, steps)
    tensors = steps.finish(tensors, case)
    return {
        name: Expected(np.asarray(value), np.broadcast_to(budgets[name][0], np.shape(value)), budgets[name][1])
        if np.shape(value) == np.shape(budgets[name][0])
        else Expected(
            np.asarray(value), np.full(np.shape(value), np.max(budgets[name][0], initial=0)), budgets[name][1]
        )
        for name, value in tensors.items()
    }


# --- Levels ----------------------------------------------------------------------------------------------------------

Solved = tuple[Arrays, dict[str, Budget]]


def _masked_layer(case: Case, precision: Precision, steps: Steps, m: Array) -> Solved:
    """A convolution with kernel * m: y, mask, dx, the cotangent of the product as "dmasked", and dbias."""
    a, convolution = case.arrays, Convolution(case, precision, steps)
    kernel = steps.read_weight(a["kernel"])
    y = convolution.forward(a["x"], steps.combine(kernel, m))
    budgets = convolution.budgets(a["dy"], a["x"], steps.combine(kernel, m))
    y, budgets = finish_y(y, budgets, case, precision, steps, case.kh * case.kw * case.ci + 1)
    dy = steps.after_vjp(a["dy"], y)
    dx, dmasked = convolution.backward(dy, a["x"], steps.combine(kernel, steps.mask_for_dx(m)))
    tensors = {"y": y, "mask": m, "dx": dx, "dmasked": dmasked}
    if case.bias:
        tensors["dbias"] = steps.dbias(dy, a["bias"])
    return tensors, {**budgets, "mask": (np.zeros(m.shape), "exact: zeros and ones")}


def _lhc(case: Case, precision: Precision, steps: Steps) -> Solved:
    a = case.arrays
    scores, enabled = a["scores"], a["enabled"].astype(bool)
    table = mask.PATTERNS.astype(np.float64) if steps.patterns is None else steps.patterns
    patterns = steps.step(scores) if case.level == "free" else np.tensordot(table, steps.one_hot(scores), axes=(0, 0))
    expanded = steps.expand(patterns, case)
    m = steps.enable(expanded, enabled)
    tensors, budgets = _masked_layer(case, precision, steps, m)
    dmasked = tensors.pop("dmasked")
    tensors["dkernel"] = steps.write_dweight(steps.dkernel(dmasked, m, expanded))
    tensors["dscores"] = _dscores(steps.dmask(dmasked, steps.read_weight(a["kernel"]), m), case, steps, table)
    magnitude = budgets["magnitude"][0] * np.abs(a["kernel"])
    budgets["dscores"] = _dscores_budget(magnitude, case, precision)
    return tensors, budgets


def _dscores(dmask: Array, case: Case, steps: Steps, table: Array) -> Array:
    scores, enabled = case.arrays["scores"], case.arrays["enabled"].astype(bool)
    collected = steps.collect(steps.enable_vjp(dmask, enabled), case)
    if case.level == "free":
        return steps.center_vjp(collected * steps.slope(scores), scores)
    dhot = np.tensordot(table, collected, axes=((1, 2), (0, 1)))
    return steps.center_vjp(dhot * steps.rigid_slope(scores), scores)


def _dscores_budget(magnitude: Array, case: Case, precision: Precision) -> Budget:
    """Sums over pixels, over the group and, for rigid patterns, over taps, in any order, before or after the slope.

    Stored on the way: the cotangent of kernel * mask, times the kernel, sums over two channel axes and over taps, the
    slope 0.1 and its product. Where the slope is 1 and all are integers, nothing is rounded.
    """
    collected, scores = sum_groups(magnitude, case), case.arrays["scores"]
    slope = CORRECT.slope(scores) if case.level == "free" else CORRECT.rigid_slope(scores)
    taps, roundings = 1, 6
    if case.level == "rigid":
        collected, taps, roundings = np.tensordot(mask.PATTERNS.astype(float), collected, axes=((1, 2), (0, 1))), 9, 8
    n, oh, ow, _ = case.arrays["dy"].shape
    terms = n * oh * ow + taps * min(case.gi, case.ci) * min(case.go, case.co)
    integers = np.array(slope == 1) & exact(case, precision)
    text = (
        f"(gamma_{terms}({precision.accumulate.name}) + gamma_{roundings}({precision.storage.name})) * slope * sum "
        f"over the group of |kernel| * |dmasked|; 0 for integers where the slope is 1"
    )
    budget = sum_budget(collected * slope, terms, roundings, precision, integers=integers)
    if precision.algorithm != "direct":
        a = case.arrays
        points = (case.h + case.kh) * (case.w + case.kw)
        norm = np.linalg.norm(a["x"]) * np.linalg.norm(a["dy"])
        factor = normwise_factor(precision.algorithm, points, n * oh * ow, precision.accumulate.u)
        budget = budget + factor * norm * np.abs(a["kernel"]).sum()
    return budget, text


def _given_mask(case: Case, precision: Precision, steps: Steps) -> Solved:
    m = case.arrays["mask"] if case.level == "masked" else steps.hetconv(case)
    tensors, budgets = _masked_layer(case, precision, steps, m)
    tensors["dkernel"] = steps.write_dweight(steps.dkernel(tensors.pop("dmasked"), m, m))
    if case.level == "masked":
        del tensors["mask"]
    return tensors, budgets


def _n_of_m(case: Case, precision: Precision, steps: Steps) -> Solved:
    kernel = case.arrays["kernel"]
    m = steps.nm(kernel, case)
    tensors, budgets = _masked_layer(case, precision, steps, m)
    # The straight-through part reaches every weight: its magnitude is that of the whole kernel's cotangent.
    decay = steps.decay(kernel, m)
    tensors["dkernel"] = steps.nm_dkernel(tensors.pop("dmasked"), m) + decay
    magnitude = budgets["magnitude"][0] + np.abs(decay)
    count = case.n * int(np.prod(case.output_hw))
    integers = np.array(decay == 0) & exact(case, precision)
    extra = sum_budget(magnitude, count + 1, 5, precision, integers=integers)
    text = f"(gamma_{count + 1}({precision.accumulate.name}) + gamma_5({precision.storage.name})) * (cotangent + decay)"
    budgets["dkernel"] = (np.maximum(extra, budgets["dkernel"][0]), text)
    return tensors, budgets


def _csg(case: Case, precision: Precision, steps: Steps) -> Solved:
    """The generated kernel is stored: from then on its error is carried as of an input."""
    a, convolution = case.arrays, Convolution(case, precision, steps)
    kernel = steps.generate(a["codes"], a["generator"], case)
    magnitude = arrange(np.abs(a["codes"]) @ np.abs(a["generator"]).T, case)
    off = sum_budget(magnitude, case.m, 1, precision, integers=convolution.integers)
    y = convolution.forward(a["x"], kernel)
    budgets = convolution.budgets(a["dy"], a["x"], magnitude)
    y, budgets = finish_y(y, budgets, case, precision, steps, case.kh * case.kw * case.ci + 1)
    carry, back = np.abs(conv.conv2d(np.abs(a["x"]), off, **case.window)), np.abs
    budgets["y"] = (budgets["y"][0] + carry, budgets["y"][1] + " + carried error of the generated kernel")
    dcarry = conv.conv2d_dx(back(a["dy"]), a["x"], off, **case.window)
    budgets["dx"] = (budgets["dx"][0] + dcarry, budgets["dx"][1] + " + carried error of the generated kernel")
    dx, dkernel = convolution.backward(steps.after_vjp(a["dy"], y), a["x"], kernel)
    rows, bound = steps.slices(dkernel, case), slices_of(budgets["dkernel"][0], case)
    size = slices_of(budgets["magnitude"][0], case)
    tensors = {"y": y, "kernel": kernel, "dx": dx, "dcodes": rows @ a["generator"], "dgenerator": rows.T @ a["codes"]}
    budgets["kernel"] = (
        off,
        f"(gamma_{case.m}({precision.accumulate.name}) + u({precision.storage.name})) * |C| @ |G|.T",
    )
    for name, other, sums in (("dcodes", np.abs(a["generator"]), size), ("dgenerator", np.abs(a["codes"]), size.T)):
        carried = (bound if name == "dcodes" else bound.T) @ other
        own = sum_budget(sums @ other, sums.shape[1], 1, precision, integers=convolution.integers)
        budgets[name] = (
            own + carried * 1.01,
            f"gamma_{sums.shape[1]} * product of magnitudes + carried error of dkernel",
        )
    if case.bias:
        tensors["dbias"] = steps.dbias(steps.after_vjp(a["dy"], y), a["bias"])
    return tensors, budgets


def _lean(case: Case, precision: Precision, steps: Steps) -> Solved:
    """A grouped stencil and a 1x1 convolution, added. The 1x1 reads the pixel that the stencil's window starts from."""
    a, stencil = case.arrays, Convolution(case, precision, steps, case.groups)
    point = Convolution(case, precision, steps, pointwise=True)
    seen = steps.seen(a["x"], case)
    point.options["stride"] = (1, 1)
    y = stencil.forward(a["x"], a["stencil"]) + point.forward(seen, a["pointwise"])
    one, two = stencil.budgets(a["dy"], a["x"], a["stencil"]), point.budgets(a["dy"], seen, a["pointwise"])
    both = {"y magnitude": (one["y magnitude"][0] + two["y magnitude"][0], ""), "y": one["y"]}
    terms = case.kh * case.kw * case.ci // case.groups + case.ci + 1
    y, budgets = finish_y(y, both, case, precision, steps, terms)
    if not case.bias:
        budgets["y"] = (
            sum_budget(both["y magnitude"][0], terms, 3, precision, integers=stencil.integers),
            "gamma * magnitudes",
        )
    dy = steps.after_vjp(a["dy"], y)
    dx, dstencil = stencil.backward(dy, a["x"], a["stencil"])
    dseen, dpointwise = point.backward(dy, seen, a["pointwise"])
    budgets["dx"] = (one["dx"][0] + strided_vjp(two["dx"][0], case) * 2, one["dx"][1] + " + that of the 1x1")
    # What the two parts were rounded to when they were added.
    if not stencil.integers:
        extra = precision.storage.u * (np.abs(dx) + np.abs(steps.seen_vjp(dseen, case)))
        budgets["dx"] = (budgets["dx"][0] + 2 * extra, budgets["dx"][1])
        budgets["y"] = (budgets["y"][0] + 2 * precision.storage.u * both["y magnitude"][0], budgets["y"][1])
    budgets |= {"dstencil": one["dkernel"], "dpointwise": two["dkernel"]}
    tensors = {"y": y, "dx": dx + steps.seen_vjp(dseen, case), "dstencil": dstencil, "dpointwise": dpointwise}
    if case.bias:
        tensors["dbias"] = steps.dbias(dy, a["bias"])
    return tensors, budgets


def _penalty(case: Case, precision: Precision, steps: Steps) -> Solved:
    """Counts are exact; a handful of products, quotients and one difference follow."""
    names = [f"mask{i}" for i in range(case.layers)]
    masks = [case.arrays[name] for name in names]
    options: dict[str, Any] = {"pixels": case.pixels, "target_density": case.target}
    dy = case.arrays["dy"]
    r, grads = steps.penalty(*masks, **options), steps.penalty_vjp(dy, *masks, **options)
    work = sum(m.size * p for m, p in zip(masks, case.pixels, strict=True))
    size, kept = sum(m.size for m in masks), sum(m.sum() for m in masks)
    finest = Precision(precision.storage, precision.storage)
    text = f"gamma_9({precision.storage.name}) * (0.01 share + 0.99 (target + density))"
    budgets = {"y": (sum_budget(np.asarray(0.01 + 0.99 * (case.target + kept / size)), 4, 5, finest), text)}
    tensors = {"y": np.asarray(r)}
    for name, m, p, dm in zip(names, masks, case.pixels, grads, strict=True):
        magnitude = np.full(m.shape, abs(float(dy)) * (0.01 * p / work + 0.99 / size))
        tensors[f"d{name}"] = np.asarray(dm)
        budgets[f"d{name}"] = (sum_budget(magnitude, 4, 5, finest), f"gamma_9({precision.storage.name}) * magnitudes")
    return tensors, budgets


_SOLVERS: dict[str, Callable[[Case, Precision, Steps], Solved]] = {
    "free": _lhc,
    "rigid": _lhc,
    "masked": _given_mask,
    "hetconv": _given_mask,
    "csg": _csg,
    "lean": _lean,
    "nm": _n_of_m,
    "regularizer": _penalty,
}
