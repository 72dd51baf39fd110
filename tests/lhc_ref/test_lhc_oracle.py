"""The LHC layer as a whole, and the density regularizer, against the definition."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lhc_ref import conv, mask, ops, regularizer
from lhc_ref.layers import LhcConv2d, Pass
from lhc_ref.tape import Tape, apply
from tests import oracle, strategies, tolerances
from tests.tolerances import assert_exact, assert_within, gamma


def layer_of(case, dtype, exact, bias=True):
    """The case as a layer, its weights put in place of the drawn ones."""
    layer = LhcConv2d(
        "layer", case.c_in, case.c_out, np.random.default_rng(0), size=case.kernel_hw, stride=case.stride,
        padding=case.padding, dilation=case.dilation, kind=case.kind, group_in=case.group_in, group_out=case.group_out,
        bias=bias, dtype=np.dtype(dtype).name,
    )  # fmt: skip
    layer.weights["kernel"], layer.weights["scores"] = case.kernel(dtype, exact), case.scores(dtype)
    if bias:
        layer.weights["bias"] = case.bias(dtype, exact)
    layer.state["enabled"] = case.enabled()
    return layer


def gradients(layer, x, dy, relu_after):
    """(y, {"dx", "dkernel", ...}) of the layer, with ReLU where asked for, by the tape."""
    tape = Tape()
    run, variable = Pass(tape), tape.variable(x)
    y = layer(variable, run)
    if relu_after:
        y = apply(ops.relu, y)
    roles = [name.partition(".")[2] for name in run.variables]
    found = tape.gradients(y, [variable, *run.variables.values()], dy)
    return y.value, dict(zip(["dx", *(f"d{role}" for role in roles)], found, strict=True))


@given(strategies.lhc_cases())
def test_the_mask_is_the_definitions(case):
    got = layer_of(case, np.float32, exact=True).mask(case.scores())
    want = oracle.lhc_mask(case.scores(), case.c_in, case.c_out, **case.mask_options)
    assert_exact(got, want, dtype=np.float32)
    if case.kind == "rigid":
        assert set(np.unique(got)) <= {0.0, 1.0}


@given(strategies.lhc_cases(), st.booleans(), st.booleans(), st.sampled_from([np.float32, np.float64]))
def test_forward_and_gradients_are_exact_on_integers(case, relu_after, bias, dtype):
    """All but the scores' gradient, whose slope 0.1 is rounded: that one within two roundings of each exact sum."""
    layer, x, dy = layer_of(case, dtype, exact=True, bias=bias), case.x(dtype), case.dy(dtype)
    y, got = gradients(layer, x, dy, relu_after)
    args = case.kernel(), case.scores(), case.bias() if bias else None
    options = {**case.mask_options, "relu_after": relu_after, **case.options}
    assert_exact(y, oracle.lhc(x, *args, **options), dtype=dtype)
    assert_exact(layer(x, Pass()), oracle.lhc(x, *args, **{**options, "relu_after": False}), dtype=dtype)
    want = oracle.lhc_vjp(dy, x, *args, **options)
    assert set(got) == (set(want) if bias else set(want) - {"dbias"})
    for name in set(got) - {"dscores"}:
        assert_exact(got[name], want[name], dtype=dtype)
    assert_within(got["dscores"], want["dscores"], gamma(3, dtype) * np.abs(want["dscores"]), dtype=dtype)


@given(strategies.lhc_cases())
def test_forward_and_gradients_within_bounds_on_reals(case):
    layer = layer_of(case, np.float32, exact=False)
    x, dy, kernel = (make(exact=False) for make in (case.x, case.dy, case.kernel))
    y, got = gradients(layer, x, dy, relu_after=False)
    args = kernel, case.scores(), case.bias(exact=False)
    want = oracle.lhc_vjp(dy, x, *args, **case.mask_options, **case.options)
    m = case.mask().astype(np.float32)
    bound = tolerances.conv_bound(x, kernel * m, args[2], **case.options)
    assert_within(y, oracle.lhc(x, *args, **case.mask_options, **case.options), bound, dtype=np.float32)
    dx_bound, _ = tolerances.conv_vjp_bounds(dy, x, kernel * m, **case.options)
    _, dmasked_bound = tolerances.conv_vjp_bounds(dy, x, np.abs(kernel), **case.options)
    assert_within(got["dx"], want["dx"], dx_bound, dtype=np.float32)
    assert_within(got["dkernel"], want["dkernel"], m * dmasked_bound, dtype=np.float32)
    dbias_bound = tolerances.sum_bound(np.abs(dy).sum(axis=(0, 1, 2)), dy.size, np.float32)
    assert_within(got["dbias"], want["dbias"], dbias_bound, dtype=np.float32)


@given(strategies.lhc_cases())
def test_scores_gradient_within_bounds_on_reals(case):
    """The same sums with absolute values in them, in at most n*oh*ow + kh*kw*group + 4 roundings."""
    x, dy, kernel = (make(exact=False) for make in (case.x, case.dy, case.kernel))
    _, got = gradients(layer_of(case, np.float32, exact=False), x, dy, relu_after=False)
    args = kernel, case.scores(), case.bias(exact=False)
    want = oracle.lhc_vjp(dy, x, *args, **case.mask_options, **case.options)
    magnitude = oracle.conv2d_vjp(np.abs(dy), np.abs(x), kernel, **case.options)[1] * np.abs(kernel)
    sums = oracle.lhc_mask_vjp(magnitude, case.scores(), **case.mask_options)
    terms = dy.size + kernel.size + 4
    assert_within(got["dscores"], want["dscores"], tolerances.sum_bound(sums, terms, np.float32), dtype=np.float32)


@given(strategies.lhc_cases(enabled=("some", "none")))
def test_a_frozen_layer_masks_every_channel_and_learns_no_scores(case):
    layer = layer_of(case, np.float64, exact=True)
    layer.formable = False
    y, got = gradients(layer, case.x(np.float64), case.dy(np.float64), relu_after=False)
    options = {"group_in": case.group_in, "group_out": case.group_out, **case.options}
    assert_exact(y, oracle.lhc(case.x(), case.kernel(), case.scores(), case.bias(), **options))
    assert set(got) == {"dx", "dkernel", "dbias"}
    want = oracle.lhc_vjp(case.dy(), case.x(), case.kernel(), case.scores(), case.bias(), **options)
    assert_exact(got["dkernel"], want["dkernel"])


@given(strategies.lhc_cases(enabled=("all", "some")))
def test_masked_weights_change_nothing_and_get_no_gradient(case):
    """Whatever a switched-off weight holds, the output and every gradient but the scores' stay the same."""
    x, dy, layer = case.x(np.float64), case.dy(np.float64), layer_of(case, np.float64, exact=True)
    y, got = gradients(layer, x, dy, relu_after=False)
    layer.weights["kernel"] = np.where(case.mask(), layer.weights["kernel"], 1e6)
    other_y, other = gradients(layer, x, dy, relu_after=False)
    assert_exact(other_y, y)
    assert_exact(other["dx"], got["dx"])
    assert_exact(other["dkernel"], got["dkernel"])
    assert (got["dkernel"][~case.mask()] == 0).all()


# --- Kinds of convolution that are choices of a mask -----------------------------------------------------------------


def test_a_one_group_mask_of_a_rectangle_is_a_smaller_kernel():
    """3x3 with only the middle row on is 1x3; with only the centre on, a pointwise convolution."""
    x, kernel = strategies.numbers(1, "x", (2, 5, 6, 3)), strategies.numbers(1, "k", (3, 3, 3, 4))
    for rows, columns in ((slice(1, 2), slice(0, 3)), (slice(1, 2), slice(1, 2)), (slice(0, 3), slice(1, 2))):
        scores = np.full((3, 3, 1, 1), -1.0, np.float32)
        scores[rows, columns] = 1.0
        m = mask.free_mask(scores, c_in=3, c_out=4, group_in=3, group_out=4)
        assert_exact(conv.conv2d(x, kernel * m), oracle.conv2d(x, kernel[rows, columns]), dtype=np.float32)


def test_a_block_diagonal_mask_is_a_grouped_convolution():
    x, kernel = strategies.numbers(2, "x", (1, 4, 4, 4)), strategies.numbers(2, "k", (3, 3, 4, 6))
    scores = np.where(np.eye(2, dtype=bool), 1, -1).astype(np.float32) * np.ones((3, 3, 1, 1), np.float32)
    m = mask.free_mask(scores, c_in=4, c_out=6, group_in=2, group_out=3)
    grouped = np.concatenate([kernel[:, :, :2, :3], kernel[:, :, 2:, 3:]], axis=3)
    assert_exact(conv.conv2d(x, kernel * m), oracle.conv2d(x, grouped, groups=2), dtype=np.float32)


# --- Regularizer -----------------------------------------------------------------------------------------------------

nets = st.lists(strategies.lhc_cases(), min_size=1, max_size=4)
targets = st.sampled_from([0.0, 0.1, 0.12, 0.5, 1.0])


@given(nets, targets, st.sampled_from([np.float32, np.float64]))
def test_the_regularizer_is_the_definitions(cases, target, dtype):
    """Counts are exact in either dtype; what follows is fewer than 20 roundings of numbers at most 1."""
    masks = [case.mask().astype(dtype) for case in cases]
    hws = [case.output_hw for case in cases]
    options = {"pixels": [oh * ow for oh, ow in hws], "target_density": target}
    got = regularizer.density_penalty(*masks, **options)
    assert_within(
        np.asarray(got, dtype), np.asarray(oracle.density_regularizer(masks, hws, target)), gamma(20, dtype), dtype
    )
    density = sum(m.sum(dtype=np.float64) for m in masks) / sum(m.size for m in masks)
    if abs(density - target) > gamma(20, dtype):  # at the kink the sign is rounding's
        d = regularizer.density_penalty_vjp(dtype(3), *masks, **options)
        wants = oracle.density_regularizer_vjp(3.0, masks, hws, target)
        for got_d, want_d in zip(d, wants, strict=True):
            bound = gamma(20, dtype) * 3 * (0.01 * max(options["pixels"]) + 0.99)
            assert_within(np.asarray(got_d, dtype), want_d, bound / sum(m.size for m in masks), dtype)


@pytest.mark.parametrize(("kept", "value"), [(100, 0.901), (0, 0.099), (10, 0.001)])
def test_the_regularizers_published_values(kept, value):
    masks = [(np.arange(100) < kept).astype(np.float64).reshape(1, 1, 10, 10)] * 2
    got = regularizer.density_penalty(*masks, pixels=[49, 16], target_density=0.1)
    assert_within(np.float64(got), np.float64(value), gamma(20, np.float64))


@given(strategies.lhc_cases(), targets)
def test_the_regularizer_reaches_the_scores_through_the_mask(case, target):
    """Its gradient by the scores is the definition's, disabled channels counting as dense and passing nothing on."""
    layer, tape = layer_of(case, np.float64, exact=True), Tape()
    scores = tape.variable(layer.weights["scores"])
    options = {"pixels": [6], "target_density": target}
    (got,) = tape.gradients(apply(regularizer.density_penalty, layer.mask(scores), **options), [scores])
    m = case.mask().astype(np.float64)
    if abs(m.mean() - target) > gamma(20, np.float64):
        (dmask,) = oracle.density_regularizer_vjp(1.0, [m], [(2, 3)], target)
        want = oracle.lhc_mask_vjp(dmask, case.scores(), **case.mask_options)
        assert_within(got, want, gamma(20 + m.size, np.float64) * np.abs(want))
