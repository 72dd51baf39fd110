from pathlib import Path

import numpy as np
import pytest

from lhc_ref.errors import InputError
from lhc_ref.gradcheck import check_vjp
from lhc_ref.regularizer import density_penalty, density_penalty_vjp
from tests import oracle
from tests.tolerances import assert_exact, assert_within, gamma

GOLDEN = np.load(Path(__file__).parents[1] / "golden" / "mask_loss.npz")
CASES = sorted({key.split(".")[0] for key in GOLDEN.files})
ROUNDINGS = 12  # of a value at most 1: two products, sums of a few layers (exact: integers), two quotients, two weights


def masks_of(case):
    """Masks, (height, width) and target of a golden case."""
    layers = range(sum(key.startswith(f"{case}.mask") for key in GOLDEN.files))
    masks = [GOLDEN[f"{case}.mask{j}"] for j in layers]
    return masks, [tuple(map(int, GOLDEN[f"{case}.hw{j}"])) for j in layers], float(GOLDEN[f"{case}.dt"])


def random_masks(rng, dtype):
    masks = [(rng.random(shape) < 0.3).astype(dtype) for shape in ((3, 3, 4, 5), (3, 3, 5, 2), (1, 1, 2, 7))]
    return masks, [(6, 5), (3, 3), (1, 4)]


def pixels_of(hws):
    return [h * w for h, w in hws]


@pytest.mark.parametrize("case", CASES)
def test_the_authors_values(case):
    masks, hws, target = masks_of(case)
    got = density_penalty(*masks, pixels=pixels_of(hws), target_density=target)
    bound = 2 * gamma(ROUNDINGS, np.float32)  # twice: the authors' value is rounded as well
    assert_within(got, GOLDEN[f"{case}.loss"], bound, dtype=np.float32)


@pytest.mark.parametrize(("kept", "value"), [(10, 0.901), (0, 0.099), (1, 0.001)])
def test_dense_empty_and_on_target(kept, value):
    """Of ten channels 10, 0 or 1 are kept in each layer; target 0.1."""
    masks = [np.zeros((3, 3, 4, 10)), np.zeros((3, 3, 10, 10))]
    for mask in masks:
        mask[..., :kept] = 1
    got = density_penalty(*masks, pixels=[64, 16], target_density=0.1)
    assert_within(got, value, gamma(ROUNDINGS, np.float64), dtype=np.float64)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("target", [0.05, 0.3, 0.9])
def test_value_and_cotangents_are_the_definition(dtype, target):
    masks, hws = random_masks(np.random.default_rng(1), dtype)
    got = density_penalty(*masks, pixels=pixels_of(hws), target_density=target)
    bound = gamma(ROUNDINGS, dtype)
    assert_within(got, oracle.density_regularizer(masks, hws, target), bound, dtype=dtype)
    dmasks = density_penalty_vjp(dtype(3), *masks, pixels=pixels_of(hws), target_density=target)
    for dmask, want in zip(dmasks, oracle.density_regularizer_vjp(3.0, masks, hws, target), strict=True):
        assert_within(dmask, want, bound * (abs(want) + 3 / sum(m.size for m in masks)), dtype=dtype)


@pytest.mark.parametrize("target", [0.0, 1.0])
def test_the_vjp_is_the_derivative(target):
    """Masks of any value strictly between: the density is then away from the kink at the target."""
    rng = np.random.default_rng(2)
    masks = [rng.uniform(0.4, 0.6, shape) for shape in ((3, 3, 2, 3), (3, 3, 3, 1))]
    check_vjp(
        density_penalty,
        density_penalty_vjp,
        masks,
        options={"pixels": [9, 4], "target_density": target},
        mode="jacobian",
    )


def test_on_target_only_the_macs_pull():
    mask = np.zeros((1, 1, 2, 2))
    mask[0, 0, 0] = 1
    (dmask,) = density_penalty_vjp(np.float64(1), mask, pixels=[7], target_density=0.5)
    assert_exact(dmask, np.full(mask.shape, 0.01 * 7 / (4 * 7)))


@pytest.mark.parametrize(("masks", "pixels"), [([], []), ([np.ones((1, 1, 1, 1))], [1, 2])])
def test_each_mask_needs_its_pixels(masks, pixels):
    with pytest.raises(InputError, match="expected masks and one number of pixels for each"):
        density_penalty(*masks, pixels=pixels, target_density=0.1)
