"""The strategies reach the corners that they promise, and what they promise to be exact is."""

import functools

import numpy as np
import pytest
from hypothesis import Phase, given, settings

from tests import oracle, strategies
from tests.tolerances import assert_exact

conv, lhc, pool = strategies.conv_cases(), strategies.lhc_cases(), strategies.pool_cases()


def asymmetric(case):
    return not isinstance(case.padding, str) and any(before != after for before, after in case.padding)


def extent(case):
    return [(k - 1) * d + 1 for k, d in zip(case.kernel_hw, case.dilation, strict=True)]


CORNERS = {
    "one-pixel image": (conv, lambda c: c.size_hw == (1, 1) and c.padding == "same" and c.kernel_hw == (3, 3)),
    "asymmetric padding": (conv, asymmetric),
    "same with an odd pad": (conv, lambda c: c.padding == "same" and c.stride[0] == 2 and c.size_hw[0] % 2 == 0),
    "same, stride 2, odd size": (conv, lambda c: c.padding == "same" and c.stride == (2, 2) and c.size_hw[0] % 2 == 1),
    "valid, exactly one window": (conv, lambda c: c.padding == "valid" and list(c.size_hw) == extent(c) != [1, 1]),
    "stride beyond the window": (conv, lambda c: c.stride[0] > extent(c)[0] and c.output_hw[0] > 1),
    "stride differs by axis": (conv, lambda c: c.stride[0] != c.stride[1] and min(c.output_hw) > 1),
    "dilation differs by axis": (conv, lambda c: c.dilation[0] != c.dilation[1] and min(c.kernel_hw) > 1),
    "dilated beyond the image": (conv, lambda c: c.padding == "same" and extent(c)[0] > 2 * c.size_hw[0]),
    "even kernel": (conv, lambda c: c.kernel_hw == (2, 4)),
    "window that meets only padding": (
        conv,
        lambda c: not isinstance(c.padding, str) and c.padding[0][0] >= extent(c)[0],
    ),
    "depthwise": (conv, lambda c: c.groups == c.c_in == c.c_out == 3),
    "groups with several channels each": (conv, lambda c: c.groups == 2 and c.c_in == 4 and c.c_out == 6),
    "empty mask": (lhc, lambda c: not c.mask().any()),
    "full mask of free patterns": (lhc, lambda c: c.kind == "free" and c.channels_enabled == "all" and c.mask().all()),
    "rigid tie": (lhc, lambda c: c.ties and (np.sort(c.scores(), axis=0)[-1] == np.sort(c.scores(), axis=0)[-2]).any()),
    "groups that do not divide": (lhc, lambda c: c.c_in % c.group_in and c.c_out % c.group_out and c.group_in > 1),
    "a group larger than the channels": (lhc, lambda c: c.group_in > c.c_in),
    "enabled and disabled channels": (lhc, lambda c: c.enabled().any() and not c.enabled().all()),
    "no channel enabled": (lhc, lambda c: not c.enabled().any()),
    "an output that keeps nothing": (lhc, lambda c: (~c.mask().any(axis=(0, 1, 2))).any() and c.mask().any()),
    "score on the edge of the slope": (lhc, lambda c: (np.abs(c.scores()) == 1).any()),
    "score of zero": (lhc, lambda c: c.kind == "free" and (c.scores() == 0).any()),
    "overlapping pools": (pool, lambda c: c.size[0] > c.stride[0] and c.output_hw[0] > 1),
    "pools with gaps": (pool, lambda c: c.size[0] < c.stride[0] and c.output_hw[0] > 1),
    "pools with uneven padding": (pool, asymmetric),
    "pool of a window of ties": (pool, lambda c: c.size == (2, 2) and (np.ptp(c.x()[0, :2, :2, 0]) == 0)),
}


@functools.cache
def examples(strategy):
    """1000 cases, always the same."""
    drawn = []

    @settings(max_examples=1000, derandomize=True, deadline=None, phases=[Phase.generate])
    @given(strategy)
    def collect(case):
        drawn.append(case)

    collect()
    return drawn


@pytest.mark.parametrize("name", CORNERS)
def test_corner_is_drawn(name):
    strategy, is_corner = CORNERS[name]
    assert any(is_corner(case) for case in examples(strategy))


@given(conv)
def test_cases_fit_together(case):
    y = oracle.conv2d(case.x(), case.kernel(), case.bias(), **case.options)
    assert y.shape == case.dy().shape
    assert min(y.shape) >= 1


@given(conv)
def test_integer_arrays_are_exact_in_float32(case):
    """No sum of the convolution or its derivatives leaves the integers that float32 holds."""
    largest = 16 * max(case.kernel()[..., 0].size, case.dy()[..., 0].size, case.kernel()[:, :, 0].size) + 4
    assert largest < 2**24
    for array in (case.x(), case.kernel(), case.bias(), case.dy()):
        assert_exact(array, np.round(array))


@given(pool)
def test_every_pool_window_meets_a_pixel(case):
    assert len(oracle.pool_windows(case.size_hw, case.size, case.stride, case.padding)) == np.prod(case.output_hw)


@given(lhc)
def test_arrays_depend_on_the_case_alone(case):
    for make in (case.x, case.kernel, case.scores, case.enabled, case.mask):
        assert_exact(make(), make())
    assert_exact(case.scores(np.float64), case.scores().astype(np.float64))
    assert "seed=" in repr(case)
