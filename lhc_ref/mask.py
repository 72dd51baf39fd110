"""LHC masks: which weights of a kernel exist, made from trainable scores (spec of Zhao, Wu, Zhang, arXiv 2301.05440).

`free` patterns switch every tap on its own; `rigid` patterns pick one of 15 pictures of 3x3 taps. `group_in` adjacent
input channels and `group_out` adjacent output channels share a pattern. The choices are steps, whose derivative is zero
or undefined; training uses the straight-through estimators `*_vjp`, each the true derivative of the `*_surrogate`
beside it.
"""

import numpy as np

from lhc_ref.arrays import Array, check_array, check_float, check_like, describe, namespace
from lhc_ref.errors import InputError

_PICTURES = (
    "000/000/000 000/010/000 000/111/000 001/010/100 010/010/010 100/010/001 011/011/000 110/110/000 "
    "000/110/110 000/011/011 111/111/000 110/110/110 000/111/111 011/011/011 111/111/111"
)
PATTERNS = np.array([[[tap == "1" for tap in row] for row in p.split("/")] for p in _PICTURES.split()])
"""The 15 rigid patterns, bool[15, 3, 3], in the authors' order."""
PATTERNS.setflags(write=False)


def step(scores: Array) -> Array:
    """`y = 1 if score > 0 else 0`: f[...] -> f[...]. Zero and NaN give 0. Straight-through derivative: `step_vjp`.

    Cost: one pass over the scores. Source: the authors' code for LHC (arXiv 2301.05440).
    """
    check_float(scores, "scores")
    return (scores > 0).astype(scores.dtype)


def step_vjp(dy: Array, scores: Array) -> tuple[Array]:
    """STE of `step`: slope 1 where |score| < 1, else 0.1; the derivative of `step_surrogate`."""
    check_like(dy, "dy", scores.shape, scores, "scores")
    return (dy * _slope(scores),)


def step_surrogate(scores: Array) -> Array:
    """The function that `step_vjp` differentiates: slope 1 on (-1, 1) and 0.1 outside, 0 at 0."""
    return 0.9 * namespace(scores).clip(scores, -1, 1) + 0.1 * scores


def _slope(scores: Array) -> Array:
    xp = namespace(scores)
    return xp.where(abs(scores) < 1, scores.dtype.type(1), scores.dtype.type(0.1))


def rigid_one_hot(scores: Array) -> Array:
    """`y[k] = 1 if k is the first argmax of the 15 scores else 0`, along axis 0; all zero where a score is NaN.

    Parameters
    ----------
    scores : f[15, ceil(c_in/group_in), ceil(c_out/group_out)]

    Returns
    -------
    f[15, ...] of the same shape, of 0 and 1.

    Notes
    -----
    Cost: three passes over the scores. Source: the authors' code for LHC (arXiv 2301.05440).
    The authors' code marks every tied maximum, which makes masks above 1; ours are always 0 or 1.
    """
    check_array(scores, "scores", "15, in groups, out groups")
    check_like(scores, "scores", (len(PATTERNS), *scores.shape[1:]), scores, "the 15 patterns")
    xp = namespace(scores)
    winner = xp.arange(len(PATTERNS))[:, None, None] == scores.argmax(axis=0)
    return (winner & ~xp.isnan(scores).any(axis=0)).astype(scores.dtype)


def rigid_one_hot_vjp(dy: Array, scores: Array) -> tuple[Array]:
    """STE of `rigid_one_hot`: slope 1 where |score - mean of the 15| < 1, else 0.1; the mean counts as a constant."""
    check_like(dy, "dy", scores.shape, scores, "scores")
    return (dy * _slope(scores - scores.mean(axis=0)),)


def rigid_one_hot_surrogate(scores: Array, centre: Array) -> Array:
    """The function that `rigid_one_hot_vjp` differentiates, `centre` being the mean over the 15 at that point."""
    return step_surrogate(scores - centre)


def combine_patterns(one_hot: Array) -> Array:
    """`mask = sum over k of PATTERNS[k] * one_hot[k]`: f[15, gi, go] -> f[3, 3, gi, go].

    Cost: 135*gi*go MACs. Source: the authors' code for LHC (arXiv 2301.05440).
    """
    xp = namespace(one_hot)
    return xp.tensordot(_patterns(one_hot), one_hot, axes=(0, 0))


def combine_patterns_vjp(dy: Array, one_hot: Array) -> tuple[Array]:
    """Vector-Jacobian product of `combine_patterns`: f[3, 3, gi, go] -> f[15, gi, go]."""
    xp = namespace(dy)
    return (xp.tensordot(_patterns(dy), dy, axes=((1, 2), (0, 1))),)


def _patterns(like: Array) -> Array:
    return namespace(like).asarray(PATTERNS, dtype=like.dtype)


def expand_groups(patterns: Array, *, c_in: int, c_out: int, group_in: int, group_out: int) -> Array:
    """`mask[ky, kx, ci, co] = patterns[ky, kx, ci // group_in, co // group_out]`; the last group may be short.

    Parameters
    ----------
    patterns : f[kh, kw, ceil(c_in/group_in), ceil(c_out/group_out)]
    c_in, c_out, group_in, group_out : channels, and how many adjacent ones share a pattern

    Returns
    -------
    f[kh, kw, c_in, c_out], new memory. Cost: one pass over it. Source: the authors' code for LHC (arXiv 2301.05440).

    Raises
    ------
    InputError : channel or group counts below 1, or a shape that does not follow from them.
    """
    check_array(patterns, "patterns", "kh, kw, in groups, out groups")
    gi, go = group_counts(c_in=c_in, c_out=c_out, group_in=group_in, group_out=group_out)
    check_like(patterns, "patterns", (*patterns.shape[:2], gi, go), patterns, "the channels and groups")
    return patterns.repeat(group_in, axis=2)[:, :, :c_in].repeat(group_out, axis=3)[:, :, :, :c_out]


def expand_groups_vjp(
    dy: Array, patterns: Array, *, c_in: int, c_out: int, group_in: int, group_out: int
) -> tuple[Array]:
    """Vector-Jacobian product of `expand_groups`: the sum over each group; cropped copies add nothing."""
    check_like(dy, "dy", (*patterns.shape[:2], c_in, c_out), patterns, "patterns")
    kh, kw, gi, go = patterns.shape
    whole = ((0, 0), (0, 0), (0, gi * group_in - c_in), (0, go * group_out - c_out))
    return (namespace(dy).pad(dy, whole).reshape(kh, kw, gi, group_in, go, group_out).sum(axis=(3, 5)),)


def group_counts(*, c_in: int, c_out: int, group_in: int, group_out: int) -> tuple[int, int]:
    """Number of groups along the input and the output channels, short last ones included."""
    sizes = {"c_in": c_in, "c_out": c_out, "group_in": group_in, "group_out": group_out}
    for name, value in sizes.items():
        if not isinstance(value, int | np.integer) or value < 1:
            raise InputError(f"{name}: expected an integer >= 1, got {value!r}. Give a number of channels.")
    return -(-c_in // group_in), -(-c_out // group_out)


def free_mask(scores: Array, *, c_in: int, c_out: int, group_in: int, group_out: int) -> Array:
    """Mask of free patterns, `expand_groups(step(scores))`: every tap of every group switched by its own score.

    Parameters
    ----------
    scores : f[kh, kw, ceil(c_in/group_in), ceil(c_out/group_out)]
    c_in, c_out, group_in, group_out : as for `expand_groups`

    Returns
    -------
    f[kh, kw, c_in, c_out] of 0 and 1. Cost: one pass over it. Source: the authors' code for LHC (arXiv 2301.05440).
    """
    return expand_groups(step(scores), c_in=c_in, c_out=c_out, group_in=group_in, group_out=group_out)


def free_mask_vjp(dy: Array, scores: Array, *, c_in: int, c_out: int, group_in: int, group_out: int) -> tuple[Array]:
    """Straight-through vector-Jacobian product of `free_mask`."""
    (dstep,) = expand_groups_vjp(dy, scores, c_in=c_in, c_out=c_out, group_in=group_in, group_out=group_out)
    return step_vjp(dstep, scores)


def rigid_mask(scores: Array, *, c_in: int, c_out: int, group_in: int, group_out: int) -> Array:
    """Mask of rigid patterns, `expand_groups(combine_patterns(rigid_one_hot(scores)))`: the best scored of the 15.

    Parameters
    ----------
    scores : f[15, ceil(c_in/group_in), ceil(c_out/group_out)]
    c_in, c_out, group_in, group_out : as for `expand_groups`

    Returns
    -------
    f[3, 3, c_in, c_out] of 0 and 1. Cost: one pass over it. Source: the authors' code for LHC (arXiv 2301.05440).
    """
    patterns = combine_patterns(rigid_one_hot(scores))
    return expand_groups(patterns, c_in=c_in, c_out=c_out, group_in=group_in, group_out=group_out)


def rigid_mask_vjp(dy: Array, scores: Array, *, c_in: int, c_out: int, group_in: int, group_out: int) -> tuple[Array]:
    """Straight-through vector-Jacobian product of `rigid_mask`."""
    patterns_like = namespace(scores).empty((3, 3, *scores.shape[1:]), dtype=scores.dtype)
    options = {"c_in": c_in, "c_out": c_out, "group_in": group_in, "group_out": group_out}
    (dpatterns,) = expand_groups_vjp(dy, patterns_like, **options)
    (dhot,) = combine_patterns_vjp(dpatterns, scores)
    return rigid_one_hot_vjp(dhot, scores)


def apply_enabled(mask: Array, enabled: Array) -> Array:
    """The mask with every tap on in the output channels that are not enabled: `where(enabled, mask, 1)`.

    Parameters
    ----------
    mask : f[kh, kw, c_in, c_out]
    enabled : bool[c_out]

    Returns
    -------
    f[kh, kw, c_in, c_out], new memory. Cost: one pass over it. Source: the authors' code for LHC (arXiv 2301.05440).
    """
    _check_enabled(mask, enabled)
    return namespace(mask).where(enabled, mask, mask.dtype.type(1))


def apply_enabled_vjp(dy: Array, mask: Array, enabled: Array) -> tuple[Array, None]:
    """Vector-Jacobian product of `apply_enabled`: channels that are not enabled pass nothing on."""
    _check_enabled(mask, enabled)
    check_like(dy, "dy", mask.shape, mask, "mask")
    return namespace(mask).where(enabled, dy, dy.dtype.type(0)), None


def _check_enabled(mask: Array, enabled: Array) -> None:
    check_array(mask, "mask", "kh, kw, c_in, c_out")
    if str(getattr(enabled, "dtype", "")) != "bool" or tuple(enabled.shape) != mask.shape[3:]:
        raise InputError(
            f"enabled: expected bool[{mask.shape[3]}] (a flag per output channel), got {describe(enabled)}. Reshape it."
        )


KINDS = {"free": (free_mask, free_mask_vjp), "rigid": (rigid_mask, rigid_mask_vjp)}


def lhc_mask(
    scores: Array, enabled: Array, *, kind: str, c_in: int, c_out: int, group_in: int = 1, group_out: int = 1
) -> Array:
    """The mask of an LHC layer, `apply_enabled(free_mask or rigid_mask(scores), enabled)`.

    Parameters
    ----------
    scores : f[kh, kw, ceil(c_in/group_in), ceil(c_out/group_out)] for kind "free",
        f[15, ceil(c_in/group_in), ceil(c_out/group_out)] for kind "rigid"
    enabled : bool[c_out]
    kind : "free" | "rigid"

    Returns
    -------
    f[kh, kw, c_in, c_out] of 0 and 1, in the scores' dtype. Cost: two passes over it.
    Source: the authors' code for LHC (arXiv 2301.05440).
    """
    primal, _ = _kind(kind)
    mask = primal(scores, c_in=c_in, c_out=c_out, group_in=group_in, group_out=group_out)
    return apply_enabled(mask, enabled)


def lhc_mask_vjp(
    dy: Array,
    scores: Array,
    enabled: Array,
    *,
    kind: str,
    c_in: int,
    c_out: int,
    group_in: int = 1,
    group_out: int = 1,
) -> tuple[Array, None]:
    """Straight-through vector-Jacobian product of `lhc_mask`: (dscores, None)."""
    _, vjp = _kind(kind)
    dmask, _ = apply_enabled_vjp(dy, dy, enabled)
    (dscores,) = vjp(dmask, scores, c_in=c_in, c_out=c_out, group_in=group_in, group_out=group_out)
    return dscores, None


def _kind(kind: str) -> tuple:
    if kind not in KINDS:
        raise InputError(f'kind: expected "free" or "rigid", got {kind!r}. Use one of these.')
    return KINDS[kind]
