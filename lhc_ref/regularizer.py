"""The density regularizer: how many weights the masks keep, and how far that is from the target."""

from collections.abc import Sequence

from lhc_ref.arrays import Array, check_array, namespace
from lhc_ref.errors import InputError
from lhc_ref.tape import define_vjp

MACS_WEIGHT = 0.01
DENSITY_WEIGHT = 0.99


def density_penalty(*masks: Array, pixels: Sequence[int], target_density: float) -> Array:
    """What a net's masks cost.

    `R = 0.01 * sum(nnz * pixels) / sum(size * pixels) + 0.99 * |target_density - sum(nnz) / sum(size)|`, the sums
    going over layers: a small share for the MACs that are executed, a large one for the distance to the target.

    Parameters
    ----------
    masks : f[kh, kw, c_in, c_out] each
        The masks of the LHC layers as used in the convolutions, after `enabled`; 0 or 1.
    pixels : integers >= 1
        Output height x width of each layer.
    target_density : in [0, 1]

    Returns
    -------
    f[] of the masks' dtype. Checks, for a target of 0.1: all dense .901, all empty .099, exactly a tenth kept .001.

    Raises
    ------
    InputError : no mask, or not one number of pixels for each.

    Notes
    -----
    Cost: one pass over the masks. Source: the authors' training code for LHC (arXiv 2301.05440). The slope of the
    absolute value is 0 at the target.
    """
    size, work = _totals(masks, pixels)
    xp = namespace(masks[0])
    kept = [xp.sum(mask) for mask in masks]
    macs_share = sum(k * p for k, p in zip(kept, pixels, strict=True)) / work
    return MACS_WEIGHT * macs_share + DENSITY_WEIGHT * abs(target_density - sum(kept) / size)


def density_penalty_vjp(dy: Array, *masks: Array, pixels: Sequence[int], target_density: float) -> tuple[Array, ...]:
    """Vector-Jacobian product of `density_penalty`: one constant a layer.

    Parameters
    ----------
    dy : f[]
        Cotangent of the penalty.
    masks, pixels, target_density : as given to `density_penalty`

    Returns
    -------
    dmasks : f[kh, kw, c_in, c_out] each, read-only views of one number.
    """
    size, work = _totals(masks, pixels)
    xp = namespace(masks[0])
    side = xp.sign(sum(xp.sum(mask) for mask in masks) / size - target_density)
    slopes = (dy * (MACS_WEIGHT * p / work + DENSITY_WEIGHT / size * side) for p in pixels)
    return tuple(xp.broadcast_to(slope, mask.shape) for slope, mask in zip(slopes, masks, strict=True))


define_vjp(density_penalty, density_penalty_vjp)


def _totals(masks: Sequence[Array], pixels: Sequence[int]) -> tuple[int, int]:
    """All the weights there are, and all the MACs of one image."""
    if not masks or len(masks) != len(pixels):
        raise InputError(
            f"density_penalty: expected masks and one number of pixels for each, got {len(masks)} masks and "
            f"{len(pixels)} numbers. Pass both for every LHC layer."
        )
    for mask in masks:
        check_array(mask, "mask", "kh, kw, c_in, c_out")
    return sum(mask.size for mask in masks), sum(mask.size * p for mask, p in zip(masks, pixels, strict=True))
