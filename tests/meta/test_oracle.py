"""The oracle against something simpler still: scalar loops, SciPy, differences, and numbers worked out by hand."""

import ast
import itertools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from scipy.signal import correlate2d

from tests import oracle, strategies
from tests.tolerances import assert_adjoint, assert_exact, assert_within, gamma


def scalar_conv2d(x, kernel, bias, stride, padding, dilation, groups):
    """Convolution with one multiply-add a statement, over an image padded by hand."""
    (top, bottom), (left, right) = oracle.resolve_padding(padding, x.shape[1:3], kernel.shape[:2], stride, dilation)
    padded = np.pad(x, ((0, 0), (top, bottom), (left, right), (0, 0)))
    (kh, kw, group_c_in, c_out), (n, h, w, _) = kernel.shape, padded.shape
    oh = (h - (kh - 1) * dilation[0] - 1) // stride[0] + 1
    ow = (w - (kw - 1) * dilation[1] - 1) // stride[1] + 1
    y = np.zeros((n, oh, ow, c_out))
    for b, oy, ox, co in np.ndindex(y.shape):
        y[b, oy, ox, co] = bias[co]
        for ky, kx, ci in np.ndindex(kh, kw, group_c_in):
            iy, ix = oy * stride[0] + ky * dilation[0], ox * stride[1] + kx * dilation[1]
            channel = co // (c_out // groups) * group_c_in + ci
            y[b, oy, ox, co] += padded[b, iy, ix, channel] * kernel[ky, kx, ci, co]
    return y


@given(strategies.conv_cases())
def test_conv2d_is_the_scalar_loops(case):
    x, kernel, bias = case.x(np.float64), case.kernel(np.float64), case.bias(np.float64)
    assert_exact(oracle.conv2d(x, kernel, bias, **case.options), scalar_conv2d(x, kernel, bias, **case.options))


@pytest.mark.parametrize("mode", ["same", "valid"])
def test_conv2d_is_scipys_correlation(mode):
    x, kernel = strategies.numbers(0, "x", (1, 6, 7, 1)), strategies.numbers(0, "k", (3, 5, 1, 1))
    want = correlate2d(x[0, :, :, 0].astype(np.float64), kernel[:, :, 0, 0].astype(np.float64), mode=mode)
    assert_exact(oracle.conv2d(x, kernel, padding=mode)[0, :, :, 0], want)


@pytest.mark.parametrize(
    ("size", "k", "stride", "dilation", "pads", "outputs"),
    [
        (5, 3, 1, 1, (1, 1), 5),
        (5, 3, 2, 1, (1, 1), 3),
        (6, 3, 2, 1, (0, 1), 3),  # the odd pixel at the end
        (6, 2, 1, 1, (0, 1), 6),
        (7, 3, 1, 2, (2, 2), 7),
        (1, 3, 1, 1, (1, 1), 1),
        (4, 1, 3, 1, (0, 0), 2),  # the window is smaller than the stride: nothing to pad
    ],
)
def test_same_padding_is_tensorflows(size, k, stride, dilation, pads, outputs):
    args = (size, 1), (k, 1), (stride, 1)
    assert oracle.resolve_padding("same", *args, (dilation, 1))[0] == pads
    assert oracle.output_size(*args, "same", (dilation, 1))[0] == outputs


def test_a_ramp_through_an_asymmetric_kernel():
    """y = x[i-1] + 10*x[i] + 100*x[i+1], so a flipped kernel or a shifted tap cannot give the same numbers."""
    x = np.array([1.0, 2.0, 3.0]).reshape(1, 1, 3, 1)
    kernel = np.array([1.0, 10.0, 100.0]).reshape(1, 3, 1, 1)
    assert oracle.conv2d(x, kernel).ravel().tolist() == [210.0, 321.0, 32.0]
    assert oracle.conv2d(x, kernel, padding=((0, 0), (2, 0))).ravel().tolist() == [100.0, 210.0, 321.0]


def test_groups_keep_to_their_own_channels():
    x = np.array([1.0, 2.0, 3.0, 4.0]).reshape(1, 1, 1, 4)
    kernel = np.array([[1.0, 10.0, 100.0, 1000.0]] * 2).reshape(1, 1, 2, 4)
    assert oracle.conv2d(x, kernel, groups=2).ravel().tolist() == [3.0, 30.0, 700.0, 7000.0]


@given(strategies.conv_cases())
def test_conv2d_vjp_is_the_adjoint_in_each_argument(case):
    x, kernel, dy = case.x(), case.kernel(), case.dy()
    y = oracle.conv2d(x, kernel, **case.options)
    dx, dkernel = oracle.conv2d_vjp(dy, x, kernel, **case.options)
    assert_adjoint(y, dy, x, dx)
    assert_adjoint(y, dy, kernel, dkernel)


@given(strategies.pool_cases())
def test_pools_are_numpy_on_a_padded_image(case):
    x = case.x(np.float64)
    (top, bottom), (left, right) = oracle.resolve_padding(case.padding, case.size_hw, case.size, case.stride)
    padded = np.pad(x, ((0, 0), (top, bottom), (left, right), (0, 0)), constant_values=np.nan)
    windows = np.lib.stride_tricks.sliding_window_view(padded, case.size, axis=(1, 2))
    windows = windows[:, :: case.stride[0], :: case.stride[1]]
    assert_exact(oracle.max_pool(x, **case.options), np.nanmax(windows, axis=(-2, -1)))
    count = (~np.isnan(windows)).sum(axis=(-2, -1))
    got = oracle.average_pool(x, **case.options)
    assert_within(got * count, np.nansum(windows, axis=(-2, -1)), gamma(3, np.float64) * 9 * 4)


def test_pools_by_hand():
    x = np.array([[1.0, 5.0, 2.0], [4.0, 5.0, 3.0], [0.0, 8.0, 6.0]]).reshape(1, 3, 3, 1)
    assert oracle.max_pool(x, (2, 2), (2, 2), "same").ravel().tolist() == [5.0, 3.0, 8.0, 6.0]
    assert oracle.average_pool(x, (2, 2), (2, 2), "same").ravel().tolist() == [3.75, 2.5, 4.0, 6.0]
    dx = oracle.max_pool_vjp(np.array([1.0, 2.0, 3.0, 4.0]).reshape(1, 2, 2, 1), x, (2, 2), (2, 2), "same")
    assert dx.ravel().tolist() == [0.0, 1.0, 0.0, 0.0, 0.0, 2.0, 0.0, 3.0, 4.0]  # of the two 5s, the first
    dx = oracle.average_pool_vjp(np.array([4.0, 2.0, 2.0, 1.0]).reshape(1, 2, 2, 1), x, (2, 2), (2, 2), "same")
    assert dx.ravel().tolist() == [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]


@given(strategies.pool_cases())
def test_average_pool_vjp_is_the_adjoint(case):
    x, dy = case.x(), case.dy()
    bound = gamma(64, np.float64) * 16 * dy.size
    y, dx = oracle.average_pool(x, **case.options), oracle.average_pool_vjp(dy, x, **case.options)
    assert_adjoint(y, dy, x, dx, bound)


def test_global_average_pool_and_flatten_by_hand():
    x = np.arange(8.0).reshape(1, 2, 2, 2)
    assert oracle.global_average_pool(x).tolist() == [[3.0, 4.0]]
    assert oracle.global_average_pool_vjp([[4.0, 8.0]], x).tolist() == [[[[1.0, 2.0]] * 2] * 2]
    assert oracle.flatten(x).tolist() == [list(range(8))]


def test_dense_by_hand():
    x, kernel = np.array([[1.0, 2.0]]), np.array([[1.0, 2.0, 3.0], [10.0, 20.0, 30.0]])
    assert oracle.dense(x, kernel, [0.5, 0.0, 0.0]).tolist() == [[21.5, 42.0, 63.0]]
    dx, dkernel = oracle.dense_vjp([[1.0, 0.0, 1.0]], x, kernel)
    assert dx.tolist() == [[4.0, 40.0]]
    assert dkernel.tolist() == [[1.0, 0.0, 1.0], [2.0, 0.0, 2.0]]


def test_relu_at_its_corners():
    x = np.array([-1.0, -0.0, 0.0, 1.0, np.inf, np.nan])
    assert oracle.relu(x)[:5].tolist() == [0.0, 0.0, 0.0, 1.0, np.inf]
    assert np.isnan(oracle.relu(x)[5])
    assert oracle.relu_vjp(np.ones(5), x[:5]).tolist() == [0.0, 0.0, 0.0, 1.0, 1.0]


def assert_slope(f, x, direction, want, third):
    """`want` is the slope along `direction`: differences err by h^2/6 times a third derivative, and by rounding."""
    h, u = 1e-5, np.finfo(float).eps
    up, down = f(x + h * direction), f(x - h * direction)
    bound = h**2 / 6 * third + 100 * u * (abs(up) + abs(down) + 1) / h
    assert_within(np.float64(want), np.float64((up - down) / (2 * h)), bound)


@given(strategies.dense_cases())
def test_smooth_vjps_are_slopes(case):
    """No third derivative of softmax or log-sum-exp exceeds 1 along the axes, so sums of |direction| bound the rest."""
    x, dy, labels = case.logits(np.float64), case.dy(np.float64, exact=False), case.labels()
    direction = strategies.numbers(case.seed, "direction", x.shape, np.float64, exact=False)
    third = np.abs(direction).sum() ** 3 * (np.abs(dy).sum() + 1)
    dx = oracle.softmax_vjp(dy, x)
    assert_slope(lambda v: (oracle.softmax(v) * dy).sum(), x, direction, (dx * direction).sum(), third)
    dx = oracle.softmax_cross_entropy_vjp(1.0, x, labels)
    assert_slope(lambda v: oracle.softmax_cross_entropy(v, labels), x, direction, (dx * direction).sum(), third)


def test_softmax_by_hand():
    logits = np.log([[1.0, 2.0, 5.0]]) + 1000
    assert_within(oracle.softmax(logits), np.array([[0.125, 0.25, 0.625]]), 1e-12)  # log's rounding, scaled by 1000
    assert_within(oracle.softmax_cross_entropy(logits, [1]), np.log(4.0), 1e-12)
    assert_within(oracle.softmax_cross_entropy_vjp(2.0, logits, [1]), np.array([[0.25, -1.5, 1.25]]), 1e-11)


def test_batch_norm_by_hand_and_by_slope():
    x, scale, offset = np.array([[1.0], [3.0]]), np.array([2.0]), np.array([10.0])
    y, mean, variance = oracle.batch_norm_train(x, scale, offset, epsilon=3.0)
    assert (y.ravel().tolist(), mean.tolist(), variance.tolist()) == ([9.0, 11.0], [2.0], [1.0])
    rng = np.random.default_rng(0)
    x, dy, direction = rng.standard_normal((3, 4, 2)), rng.standard_normal((3, 4, 2)), rng.standard_normal((3, 4, 2))
    scale, offset = rng.standard_normal(2), rng.standard_normal(2)
    dx, dscale, doffset = oracle.batch_norm_train_vjp(dy, x, scale, 0.1)

    def weighted(x, scale, offset):
        return (oracle.batch_norm_train(x, scale, offset, 0.1)[0] * dy).sum()

    third = np.abs(dy).sum() * 0.1**-1.5 * 100
    assert_slope(lambda v: weighted(v, scale, offset), x, direction, (dx * direction).sum(), third)
    assert_slope(lambda v: weighted(x, v, offset), scale, np.ones(2), dscale.sum(), third)
    assert_slope(lambda v: weighted(x, scale, v), offset, np.ones(2), doffset.sum(), third)


# --- Masks: the numbers of the specification --------------------------------------------------------------------------


def test_step_and_its_slope():
    scores = np.array([-2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0])
    assert oracle.step(scores).tolist() == [0, 0, 0, 0, 1, 1, 1]
    assert oracle.step_slope(scores).tolist() == [0.1, 0.1, 1, 1, 1, 0.1, 0.1]
    assert oracle.step([np.nan]).tolist() == [0]


def test_the_15_patterns():
    """Their sum, and how many taps each has (the initial density .459 is their mean)."""
    assert oracle.PATTERNS.shape == (15, 3, 3)
    assert oracle.PATTERNS.sum(axis=0).tolist() == [[5, 7, 5], [7, 14, 7], [5, 7, 5]]
    assert round(oracle.PATTERNS.mean(), 3) == 0.459
    assert len({p.tobytes() for p in oracle.PATTERNS}) == 15


def test_rigid_ties_go_to_the_first_and_slopes_ignore_the_mean():
    scores = np.zeros((15, 1, 1))
    assert oracle.one_hot(scores).ravel().tolist() == [1] + [0] * 14
    scores[3] = scores[7] = 15.0
    assert oracle.one_hot(scores).ravel().nonzero()[0].tolist() == [3]
    assert oracle.group_mask(scores)[:, :, 0, 0].tolist() == [[0, 0, 1], [0, 1, 0], [1, 0, 0]]
    assert oracle.one_hot_slope(scores).ravel().tolist() == [0.1] * 15  # the mean is 2
    scores[7] = 0.0
    assert oracle.one_hot_slope(scores).ravel().tolist() == [0.1] * 15  # the mean is 1, and |0 - 1| is not below 1
    scores[3] = 14.0
    assert oracle.one_hot_slope(scores).ravel().tolist() == [1.0] * 3 + [0.1] + [1.0] * 11


def test_expansion_repeats_then_crops():
    groups = np.arange(4.0).reshape(1, 1, 2, 2)
    want = [[0, 0, 1], [0, 0, 1], [0, 0, 1], [2, 2, 3]]
    assert oracle.expand(groups, 4, 3, 3, 2)[0, 0].tolist() == want
    assert oracle.expand_vjp(np.ones((1, 1, 4, 3)), 3, 2)[0, 0].tolist() == [[6, 3], [2, 1]]


def test_lhc_by_hand():
    """One pixel, two inputs, two outputs: only the first input reaches the first output; the second runs dense."""
    x, kernel = np.array([2.0, 3.0]).reshape(1, 1, 1, 2), np.array([[1.0, 10.0], [5.0, 100.0]]).reshape(1, 1, 2, 2)
    scores, enabled = np.array([[0.5, -0.5], [-2.0, 0.5]]).reshape(1, 1, 2, 2), np.array([True, False])
    options = {"group_in": 1, "group_out": 1, "enabled": enabled}
    assert oracle.lhc(x, kernel, scores, [1.0, 1.0], **options).ravel().tolist() == [3.0, 321.0]
    d = oracle.lhc_vjp(np.ones((1, 1, 1, 2)), x, kernel, scores, [1.0, 1.0], **options)
    assert d["dx"].ravel().tolist() == [11.0, 100.0]
    assert d["dkernel"].ravel().tolist() == [2.0, 2.0, 0.0, 3.0]
    assert d["dscores"].ravel().tolist() == [2.0, 0.0, 1.5, 0.0]
    assert d["dbias"].tolist() == [1.0, 1.0]
    dead = oracle.lhc_vjp(np.ones((1, 1, 1, 2)), x, kernel, scores, [-9.0, -9.0], relu_after=True, **options)
    assert dead["dbias"].tolist() == [0.0, 1.0]


@pytest.mark.parametrize(("density", "r"), [(1.0, 0.901), (0.0, 0.099), (0.1, 0.001)])
def test_the_regularizers_checks(density, r):
    masks = [np.arange(100).reshape(1, 1, 10, 10) < 100 * density, np.arange(50).reshape(1, 1, 5, 10) < 50 * density]
    assert_within(oracle.density_regularizer(masks, [(4, 4), (2, 3)], 0.1), np.float64(r), 1e-15)


def test_regularizer_vjp_is_its_slope():
    rng = np.random.default_rng(1)
    masks, hws = [rng.random((3, 3, 2, 4)), rng.random((1, 1, 5, 2))], [(4, 3), (2, 2)]
    for target, weight in itertools.product((0.1, 0.9), (1.0, 3.0)):
        d = oracle.density_regularizer_vjp(weight, masks, hws, target)
        for layer in range(2):
            up, down = ([m + (e if i == layer else 0) for i, m in enumerate(masks)] for e in (1e-3, -1e-3))
            slope = oracle.density_regularizer(up, hws, target) - oracle.density_regularizer(down, hws, target)
            assert_within(d[layer].sum(), weight * slope / 2e-3, 1e-12)  # piecewise linear: differences are exact


def test_the_oracle_imports_numpy_only():
    source = Path(oracle.__file__).read_text(encoding="utf-8")
    names = {
        name.name if isinstance(node, ast.Import) else node.module
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in node.names
    }
    assert names == {"numpy"}
