import numpy as np

from lhc_ref.augment import Augmentation, cropped, flipped, shifted
from tests.tolerances import assert_exact

IMAGES = np.arange(1, 1 + 6 * 4 * 5 * 2, dtype=np.float32).reshape(6, 4, 5, 2)


def test_shift_moves_each_image_and_repeats_its_border():
    rng = np.random.default_rng(0)
    down, right = np.random.default_rng(0).integers(-2, 3, (2, 6))
    y = shifted(IMAGES, 2, rng)
    for b in range(6):
        for oy in range(4):
            for ox in range(5):
                iy, ix = np.clip(oy - down[b], 0, 3), np.clip(ox - right[b], 0, 4)
                assert_exact(y[b, oy, ox], IMAGES[b, iy, ix])
    assert shifted(IMAGES, 0, rng) is IMAGES


def test_crop_moves_each_image_and_fills_with_zeros():
    top, left = np.random.default_rng(0).integers(0, 5, (2, 6))
    y = cropped(IMAGES, 2, np.random.default_rng(0))
    for b in range(6):
        for oy in range(4):
            for ox in range(5):
                iy, ix = oy + top[b] - 2, ox + left[b] - 2
                inside = 0 <= iy < 4 and 0 <= ix < 5
                assert_exact(y[b, oy, ox], IMAGES[b, iy, ix] if inside else np.zeros(2, np.float32))
    assert cropped(IMAGES, 0, np.random.default_rng(0)) is IMAGES


def test_flip_mirrors_left_to_right_those_whose_turn_it_is():
    turn = np.random.default_rng(0).random(6) < 0.5
    assert 0 < turn.sum() < 6
    y = flipped(IMAGES, np.random.default_rng(0))
    for b in range(6):
        for ox in range(5):
            assert_exact(y[b, :, ox], IMAGES[b, :, 4 - ox if turn[b] else ox])


def test_what_is_not_asked_for_draws_nothing():
    rng = np.random.default_rng(0)
    before = rng.bit_generator.state
    assert Augmentation()(IMAGES, rng) is IMAGES
    assert rng.bit_generator.state == before
    both = Augmentation(shift=1, flip=True)(IMAGES, rng)
    again = np.random.default_rng(0)
    assert_exact(both, flipped(shifted(IMAGES, 1, again), again))
