"""Channel pruning: the right channels stay, the fit is the best there is, and the convolution it makes is as good."""

import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lhc_ref.conv import conv2d
from lhc_ref.errors import InputError, MissingExtraError
from lhc_ref.related.pruning import prune_channels, sample_windows
from tests import oracle
from tests.strategies import conv_cases, seeds
from tests.tolerances import assert_exact, assert_within, conv_bound, gamma

pytest.importorskip("sklearn")

F64 = np.float64


def layer(seed, m=80, c_in=6, c_out=3, used=None):
    """Windows, responses, kernel and bias; the kernel reads the channels `used` only."""
    rng = np.random.default_rng(seed)
    windows, kernel, bias = (
        rng.normal(size=(m, 2, 1, c_in)),
        rng.normal(size=(2, 1, c_in, c_out)),
        rng.normal(size=c_out),
    )
    if used is not None:
        kernel[:, :, [c for c in range(c_in) if c not in used]] = 0
    return windows, np.einsum("mhwi,hwio->mo", windows, kernel) + bias, kernel, bias


def fit_bound(windows, responses):
    """|fitted - best weights|: backward stable, so at most that many roundings of the data, amplified by the condition
    (Higham, Accuracy and Stability of Numerical Algorithms, theorem 20.1) where the residual is zero."""
    matrix = np.concatenate([windows.reshape(len(windows), -1), np.ones((len(windows), 1))], axis=1)
    sizes = np.linalg.svd(matrix, compute_uv=False)
    return gamma(matrix.size, F64) * (sizes[0] / sizes[-1]) * np.linalg.norm(responses) / sizes[-1]


@given(st.sets(st.integers(0, 5), min_size=1, max_size=5), seeds)
def test_channels_that_say_nothing_go_and_the_others_keep_their_weights(used, seed):
    windows, responses, kernel, bias = layer(seed, used=used)
    pruned = prune_channels(windows, responses, kernel, channels=len(used))
    assert set(np.flatnonzero(pruned.kept)) == used
    assert pruned.alpha > 0
    bound = fit_bound(windows[..., pruned.kept], responses)
    assert_within(pruned.kernel, kernel[:, :, pruned.kept], bound)
    assert_within(pruned.bias, bias, bound)


@given(seeds)
def test_a_channel_that_repeats_another_goes_and_nothing_is_lost(seed):
    windows, _, kernel, bias = layer(seed, c_in=3)
    windows[..., 2], kernel[:, :, 2] = -windows[..., 0] / 2, kernel[:, :, 0]
    responses = np.einsum("mhwi,hwio->mo", windows, kernel) + bias
    pruned = prune_channels(windows, responses, kernel, channels=2)
    assert pruned.kept.tolist() == [True, True, False]  # the louder of the two
    bound = fit_bound(windows[..., :2], responses)
    assert_within(pruned.kernel, kernel[:, :, :2] * np.array([0.5, 1])[:, None], bound)
    assert_within(pruned.bias, bias, bound)


@given(st.integers(1, 20), st.sampled_from([0.1, 0.5]), seeds)
def test_as_many_channels_stay_as_asked_for(channels, tolerance, seed):
    windows, responses, kernel, _ = layer(seed, m=60, c_in=20, c_out=2)
    pruned = prune_channels(windows, responses, kernel, channels=channels, tolerance=tolerance)
    assert channels <= pruned.kept.sum() <= (1 + tolerance) * channels
    assert pruned.kernel.shape == (2, 1, pruned.kept.sum(), 2)


@given(st.integers(1, 5), seeds)
def test_the_fit_leaves_nothing_that_its_channels_could_explain(channels, seed):
    """The residual is orthogonal to the windows, within roundings of a backward stable solution."""
    windows, responses, kernel, _ = layer(seed)
    pruned = prune_channels(windows, responses, kernel, channels=channels)
    matrix = np.concatenate([windows[..., pruned.kept].reshape(len(windows), -1), np.ones((len(windows), 1))], axis=1)
    weights = np.concatenate([pruned.kernel.reshape(-1, 3), pruned.bias[None]])
    residual = responses - matrix @ weights
    size = np.linalg.norm(matrix)
    bound = gamma(2 * matrix.size, F64) * size * (np.linalg.norm(responses) + size * np.linalg.norm(weights))
    assert_within(matrix.T @ residual, np.zeros(weights.shape), bound)
    plain = responses - np.einsum("mhwi,hwio->mo", windows[..., pruned.kept], kernel[:, :, pruned.kept])
    assert np.linalg.norm(residual) <= np.linalg.norm(plain - plain.mean(axis=0)) + bound


def test_all_channels_are_left_as_they_are():
    windows, responses, kernel, bias = layer(0)
    pruned = prune_channels(windows, responses, kernel, channels=6)
    assert pruned.kept.all()
    assert pruned.alpha == 0
    assert_within(pruned.kernel, kernel, fit_bound(windows, responses))
    assert_within(pruned.bias, bias, fit_bound(windows, responses))


def test_float32_comes_back_as_float32():
    pruned = prune_channels(*(a.astype(np.float32) for a in layer(0, used={1, 4})[:3]), channels=2)
    assert (pruned.kernel.dtype, pruned.bias.dtype) == (np.float32, np.float32)
    assert np.flatnonzero(pruned.kept).tolist() == [1, 4]


@given(conv_cases(max_groups=1))
def test_windows_are_those_that_the_convolution_meets(case):
    options = {"stride": case.stride, "padding": case.padding, "dilation": case.dilation}
    x, kernel = case.x(F64), case.kernel(F64)
    windows = sample_windows(x, case.kernel_hw, 10**6, np.random.default_rng(0), **options)
    rows = oracle.conv2d(x, kernel, **options).reshape(-1, case.c_out)
    got = np.einsum("mhwi,hwio->mo", windows, kernel)
    assert sorted(map(tuple, got)) == sorted(map(tuple, rows))
    some = sample_windows(x, case.kernel_hw, 3, np.random.default_rng(0), **options)
    assert_exact(some, windows[:3])


def test_a_pruned_layer_in_its_place():
    """Half the channels carry no weight: after pruning the smaller convolution says what the large one said."""
    rng = np.random.default_rng(0)
    x, kernel = rng.normal(size=(2, 6, 6, 4)), rng.normal(size=(3, 3, 4, 2))
    kernel[:, :, [0, 2]] = 0
    windows = sample_windows(x, (3, 3), 60, np.random.default_rng(1))
    responses = np.einsum("mhwi,hwio->mo", windows, kernel)
    pruned = prune_channels(windows, responses, kernel, channels=2)
    y = conv2d(x[..., pruned.kept], pruned.kernel) + pruned.bias
    off = fit_bound(windows[..., pruned.kept], responses)
    assert_within(y, conv2d(x, kernel), off + oracle.conv2d(abs(x), off + 0 * kernel) + 2 * conv_bound(x, kernel))


def test_a_number_of_channels_that_lasso_jumps_over_is_an_error():
    windows, _, kernel, _ = layer(0, c_in=2)
    responses = np.zeros((len(windows), 3))
    with pytest.raises(InputError, match=r"^channels: expected a number that LASSO reaches, got 1: .+\. Ask .+\.$"):
        prune_channels(windows, responses, kernel, channels=1)


def test_without_scikit_learn_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.linear_model", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'lhc\[demo\]'"):
        prune_channels(*layer(0)[:3], channels=2)


WINDOWS, RESPONSES, KERNEL, _ = layer(0)


@pytest.mark.parametrize(
    ("thing", "call"),
    [
        ("kernel", lambda: prune_channels(WINDOWS, RESPONSES, KERNEL[0], channels=2)),
        ("windows", lambda: prune_channels(WINDOWS[..., :3], RESPONSES, KERNEL, channels=2)),
        ("windows", lambda: prune_channels(WINDOWS[:3], RESPONSES[:3], KERNEL, channels=6)),
        ("responses", lambda: prune_channels(WINDOWS, RESPONSES[:3], KERNEL, channels=2)),
        ("channels", lambda: prune_channels(WINDOWS, RESPONSES, KERNEL, channels=0)),
        ("channels", lambda: prune_channels(WINDOWS, RESPONSES, KERNEL, channels=7)),
        ("x", lambda: sample_windows(WINDOWS[0], (3, 3), 1, np.random.default_rng(0))),
    ],
)
def test_wrong_input_is_named(thing, call):
    with pytest.raises(InputError, match=r": expected .+, got .+\. .+\.$") as caught:
        call()
    assert str(caught.value).startswith(f"{thing}: ")
