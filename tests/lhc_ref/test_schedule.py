import itertools

import numpy as np
import pytest

from lhc_ref.errors import ConfigError
from lhc_ref.schedule import LearningRate, base_strength, draw_enabled, enabled_fraction, nested_enabled, strength


def test_enabled_fraction_rises_linearly_to_one():
    assert [enabled_fraction(epoch, 4) for epoch in range(6)] == [0, 0.25, 0.5, 0.75, 1, 1]
    assert enabled_fraction(0, 0) == 1


def test_no_channel_is_enabled_first_and_all_from_the_end_of_the_warm_up():
    rng = np.random.default_rng(0)
    assert not draw_enabled(rng, 100, 0, 3).any()
    assert draw_enabled(rng, 100, 3, 3).all()


def test_draws_are_independent_and_of_the_right_chance():
    """10,000 draws at chance 1/2: five deviations are 250. Nested draws would agree on every enabled channel."""
    rng = np.random.default_rng(0)
    first, second = (draw_enabled(rng, 10_000, 1, 2) for _ in range(2))
    for count, expected, deviation in ((first.sum(), 5000, 50), ((first & second).sum(), 2500, 43.3)):
        assert abs(count - expected) <= 5 * deviation


def test_nested_channels_stay_enabled():
    """Chances as for independent draws: of 10,000 at 1/4, 1/2, 3/4 five deviations are 217, 250, 217."""
    epochs = [nested_enabled(3, 1, 10_000, epoch, 4) for epoch in range(6)]
    for before, after in itertools.pairwise(epochs):
        assert (before <= after).all()
    for epoch, limit in ((1, 217), (2, 250), (3, 217)):
        assert abs(epochs[epoch].sum() - 2500 * epoch) <= limit
    assert not epochs[0].any()
    assert epochs[4].all()
    assert (nested_enabled(3, 1, 100, 2, 4) != nested_enabled(3, 2, 100, 2, 4)).any()
    assert (nested_enabled(3, 1, 100, 2, 4) != nested_enabled(4, 1, 100, 2, 4)).any()


def test_strength_is_zero_first_then_a_ramp_to_four_times_its_base():
    assert [strength(epoch, 4, 0.5) for epoch in range(6)] == [0, 0.5, 1, 1.5, 2, 2]
    assert strength(1, 0, 0.5) == 2
    assert strength(0, 0, 0.5) == 0


@pytest.mark.parametrize(("target", "largest"), [(0.1, 0.01 + 0.99 * 0.9), (0.8, 0.01 + 0.99 * 0.8)])
def test_base_strength_divides_by_the_largest_penalty(target, largest):
    assert base_strength(3.0, target) == 3.0 / largest


def test_the_first_epoch_has_half_the_rate():
    rule = LearningRate(base=0.5, epochs=3, decay="constant")
    assert [rule.rate(epoch, []) for epoch in range(3)] == [0.25, 0.5, 0.5]


def test_plateau_cuts_after_its_patience_and_again():
    rule = LearningRate(base=1.0, epochs=20, decay="plateau", patience=2, factor=0.5)
    accuracies = [0.5, 0.6, 0.6, 0.6, 0.5, 0.6, 0.7, 0.7]
    assert [rule.rate(n, accuracies[:n]) for n in range(1, 9)] == [1, 1, 1, 0.5, 0.5, 0.25, 0.25, 0.25]


def test_cosine_falls_from_the_base_to_a_hundredth():
    rule = LearningRate(base=2.0, epochs=9, first=1.0)
    rates = [rule.rate(epoch, []) for epoch in range(9)]
    assert rates[0] == 2.0
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] == pytest.approx(0.02, rel=1e-12)
    assert LearningRate(base=2.0, epochs=1, first=1.0).rate(0, []) == 2.0


def test_a_stage_ends_after_so_many_epochs_without_gain():
    rule = LearningRate(base=1.0, epochs=20, stop=2)
    assert not rule.stopped([])
    assert not rule.stopped([0.5, 0.6, 0.6])
    assert rule.stopped([0.5, 0.6, 0.6, 0.6])
    assert not LearningRate(base=1.0, epochs=20).stopped([0.5] * 100)


@pytest.mark.parametrize("base", [0.0, -1.0, float("nan"), float("inf")])
def test_a_rate_is_a_number_above_zero(base):
    with pytest.raises(ConfigError, match="learning rate: expected a number above 0"):
        LearningRate(base=base, epochs=1)


def test_a_decay_is_a_known_one():
    with pytest.raises(ConfigError, match="decay: expected one of constant, plateau, cosine, got 'linear'"):
        LearningRate(base=1.0, epochs=1, decay="linear")
