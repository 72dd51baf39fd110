"""Dense layers, pointwise operators, pooling, batch norm and losses against the definition, and their errors."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lhc_ref import ops
from lhc_ref.errors import InputError
from lhc_ref.gradcheck import check_vjp, compare_vjp
from tests import oracle
from tests.strategies import dense_cases, numbers, pool_cases, seeds
from tests.tolerances import (
    EXP_ULPS,
    assert_adjoint,
    assert_exact,
    assert_within,
    dense_bound,
    gamma,
    mean_bound,
    softmax_bound,
    sum_bound,
    unit_roundoff,
)

dtypes = pytest.mark.parametrize("dtype", [np.float32, np.float64])
modes = pytest.mark.parametrize("mode", ["projection", "jacobian", "taylor"])
rng = np.random.default_rng
shapes = st.lists(st.integers(1, 4), min_size=1, max_size=4).map(tuple)


# --- Pointwise, shapes, dense ----------------------------------------------------------------------------------------


@dtypes
@given(shapes, seeds)
def test_pointwise_operators_are_exact_on_integers(dtype, shape, seed):
    a, b, dy = (numbers(seed, role, shape, dtype) for role in ("a", "b", "dy"))
    assert_exact(ops.relu(a), oracle.relu(a), dtype)
    assert_exact(ops.relu_vjp(dy, a)[0], oracle.relu_vjp(dy, a), dtype)
    assert_exact(ops.add(a, b), oracle.f64(a) + b, dtype)
    for got in ops.add_vjp(dy, a, b):
        assert_exact(got, dy)
    assert_exact(ops.multiply(a, b), oracle.f64(a) * b, dtype)
    for got, want in zip(ops.multiply_vjp(dy, a, b), (dy * b, dy * a), strict=True):
        assert_exact(got, want)
    assert_exact(ops.scale(a, factor=0.5), a / 2)
    assert_exact(ops.scale_vjp(dy, a, factor=0.5)[0], dy / 2)
    bias = numbers(seed, "bias", shape[-1:], dtype)
    assert_exact(ops.bias_add(a, bias), oracle.f64(a) + bias, dtype)
    da, dbias = ops.bias_add_vjp(dy, a, bias)
    assert_exact(da, dy)
    assert_exact(dbias, oracle.add_bias_vjp(dy), dtype)


@dtypes
def test_relu_at_the_special_values(dtype):
    x = np.array([-np.inf, -1, -0.0, 0, 1, np.inf], dtype)
    assert_exact(ops.relu(x), np.array([0, 0, 0, 0, 1, np.inf], dtype))
    assert_exact(ops.relu_vjp(np.ones_like(x), x)[0], np.array([0, 0, 0, 0, 1, 1], dtype))
    assert np.isnan(ops.relu(np.array([np.nan], dtype))).all()


@dtypes
def test_other_activations_at_the_special_values(dtype):
    x = np.array([-np.inf, -1, 0, 1, 6, 7, np.inf], dtype)
    ones = np.ones_like(x)
    assert_exact(ops.clipped_relu(x), np.array([0, 0, 0, 1, 6, 6, 6], dtype))
    assert_exact(ops.clipped_relu_vjp(ones, x)[0], np.array([0, 0, 0, 1, 0, 0, 0], dtype))
    assert_exact(ops.sigmoid(x)[[0, 2, 6]], np.array([0, 0.5, 1], dtype))
    assert_exact(ops.sigmoid_vjp(ones, x)[0][[0, 2, 6]], np.array([0, 0.25, 0], dtype))
    x, slope = np.array([[-2, 3], [0, -4]], dtype), np.array([0.5, -1], dtype)
    assert_exact(ops.prelu(x, slope), np.array([[-1, 3], [0, 4]], dtype))
    dx, dslope = ops.prelu_vjp(np.ones_like(x), x, slope)
    assert_exact(dx, np.array([[0.5, 1], [0.5, -1]], dtype))
    assert_exact(dslope, np.array([-2, -4], dtype))


@dtypes
def test_sigmoid_within_rounding(dtype):
    """exp within EXP_ULPS (which the quotient at most passes on), a sum, a quotient; doubled for the second order."""
    x = np.linspace(-30, 30, 241).astype(dtype)
    want = 1 / (1 + np.exp(-oracle.f64(x)))
    assert_within(ops.sigmoid(x), want, 2 * (2 * EXP_ULPS + 2) * unit_roundoff(dtype) * want, dtype)


@dtypes
def test_dropout_keeps_what_it_is_told_and_the_mean(dtype):
    x, keep = np.array([1, -2, np.inf, 4], dtype), np.array([True, True, False, False])
    assert_exact(ops.dropout(x, keep, rate=0.75), np.array([4, -8, 0, 0], dtype))
    dx, none = ops.dropout_vjp(x, x, keep, rate=0.75)
    assert none is None
    assert_exact(dx, np.array([4, -8, 0, 0], dtype))


@dtypes
@given(pool_cases())
def test_flatten_is_in_height_width_channel_order(dtype, case):
    x = case.x(dtype)
    y = ops.flatten(x)
    assert_exact(y, oracle.flatten(x), dtype)
    assert_exact(ops.flatten_vjp(y, x)[0], x)


@dtypes
@given(dense_cases())
def test_dense_is_the_definition_and_adjoint(dtype, case):
    x, kernel, dy = case.x(dtype), case.kernel(dtype), case.dy(dtype)
    y = ops.dense(x, kernel)
    assert_exact(y, oracle.dense(x, kernel), dtype)
    dx, dkernel = ops.dense_vjp(dy, x, kernel)
    for got, want in zip((dx, dkernel), oracle.dense_vjp(dy, x, kernel), strict=True):
        assert_exact(got, want, dtype)
    assert_adjoint(y, dy, x, dx)
    assert_adjoint(y, dy, kernel, dkernel)
    x, kernel = case.x(dtype, exact=False), case.kernel(dtype, exact=False)
    assert_within(ops.dense(x, kernel), oracle.dense(x, kernel), dense_bound(x, kernel), dtype)


# --- Pooling ---------------------------------------------------------------------------------------------------------


@dtypes
@given(pool_cases())
def test_max_pool_is_the_definition_with_ties_to_the_first(dtype, case):
    """The images hold nine different integers, so ties are everywhere."""
    x, dy = case.x(dtype), case.dy(dtype)
    assert_exact(ops.max_pool(x, **case.options), oracle.max_pool(x, **case.options), dtype)
    assert_exact(ops.max_pool_vjp(dy, x, **case.options)[0], oracle.max_pool_vjp(dy, x, **case.options), dtype)


@dtypes
@given(pool_cases())
def test_average_pool_counts_real_pixels_only(dtype, case):
    """A quotient of small integers rounds to the same float32 directly and by way of float64."""
    x, dy = case.x(dtype), case.dy(dtype)
    y = ops.average_pool(x, **case.options)
    assert_exact(y, oracle.average_pool(x, **case.options).astype(dtype))
    (dx,) = ops.average_pool_vjp(dy, x, **case.options)
    terms = case.size[0] * case.size[1] + 1
    bound = sum_bound(oracle.average_pool_vjp(abs(dy), x, **case.options), terms, dtype)
    assert_within(dx, oracle.average_pool_vjp(dy, x, **case.options), bound, dtype)


@dtypes
@given(pool_cases())
def test_pools_on_real_numbers(dtype, case):
    x = case.x(dtype, exact=False)
    assert_exact(ops.max_pool(x, **case.options), oracle.max_pool(x, **case.options), dtype)
    magnitude = oracle.average_pool(abs(x), **case.options)
    bound = sum_bound(magnitude, case.size[0] * case.size[1] + 1, dtype)
    assert_within(ops.average_pool(x, **case.options), oracle.average_pool(x, **case.options), bound, dtype)
    got = ops.global_average_pool(x)
    assert_within(got, oracle.global_average_pool(x), mean_bound(x, (1, 2)), dtype)
    dy = numbers(case.seed, "dy", got.shape, dtype)
    (dx,) = ops.global_average_pool_vjp(dy, x)
    assert_exact(dx, oracle.global_average_pool_vjp(dy, x).astype(dtype))


@given(pool_cases())
def test_average_pools_are_adjoint_on_windows_that_divide(case):
    size = (2, 4)
    x = numbers(case.seed, "x", (2, 7, 9, 3), np.float64)
    y = ops.average_pool(x, size=size, stride=case.stride)
    dy = numbers(case.seed, "dy", y.shape, np.float64)
    assert_adjoint(y, dy, x, ops.average_pool_vjp(dy, x, size=size, stride=case.stride)[0])
    x = numbers(case.seed, "x", (2, 4, 8, 3), np.float64)
    y = ops.global_average_pool(x)
    dy = numbers(case.seed, "dy", y.shape, np.float64)
    assert_adjoint(y, dy, x, ops.global_average_pool_vjp(dy, x)[0])


def test_pooling_strides_by_its_size_unless_told():
    x = numbers(0, "x", (1, 7, 9, 2))
    assert_exact(ops.max_pool(x, size=3), ops.max_pool(x, size=(3, 3), stride=(3, 3), padding="valid"))
    assert_exact(ops.average_pool(x), ops.average_pool(x, size=(2, 2), stride=(2, 2)))


def test_max_pool_of_nan_is_nan_and_passes_nothing_back():
    x = np.zeros((1, 2, 4, 1))
    x[0, 1, 1] = np.nan
    assert np.isnan(ops.max_pool(x)).tolist() == [[[[True], [False]]]]
    (dx,) = ops.max_pool_vjp(np.ones((1, 1, 2, 1)), x)
    assert dx[0, :, :, 0].tolist() == [[0, 0, 1, 0], [0, 0, 0, 0]]


# --- Batch norm ------------------------------------------------------------------------------------------------------


@dtypes
@given(st.integers(1, 4), st.integers(1, 3), seeds)
def test_batch_norm_is_exact_where_its_root_is(dtype, log_pairs, channels, seed):
    """Columns of a +- b in equal numbers, a power of two of them, b in {1, 31}: variance + 63 is 8^2 or 32^2."""
    random = rng(seed)
    rows = 2**log_pairs
    signs = np.stack([random.permutation(np.repeat([-1, 1], rows // 2)) for _ in range(channels)], axis=-1)
    x = random.integers(-4, 5, channels) + signs * random.choice([1, 31], channels)
    x = x.reshape(1, 2, rows // 2, channels).astype(dtype)
    gamma, beta = (numbers(seed, role, (channels,), dtype) for role in ("gamma", "beta"))
    dy = numbers(seed, "dy", x.shape, dtype)
    want, mean, variance = oracle.batch_norm_train(x, gamma, beta, 63)
    for got, statistic in zip(ops.batch_statistics(x), (mean, variance), strict=True):
        assert_exact(got, statistic, dtype)
    assert_exact(ops.batch_norm(x, gamma, beta, epsilon=63), want, dtype)
    for got, w in zip(
        ops.batch_norm_vjp(dy, x, gamma, beta, epsilon=63), oracle.batch_norm_train_vjp(dy, x, gamma, 63), strict=True
    ):
        assert_exact(got, w, dtype)
    statistics = mean.astype(dtype), variance.astype(dtype)
    assert_exact(ops.batch_norm_inference(x, gamma, beta, *statistics, epsilon=63), want, dtype)


def test_running_statistics_move_by_momentum():
    old = np.array([4.0, 8.0]), np.array([1.0, 1.0])
    new = np.array([0.0, 4.0]), np.array([3.0, 5.0])
    mean, variance = ops.update_running(old, new, momentum=0.75)
    assert mean.tolist() == [3, 7]
    assert variance.tolist() == [1.5, 2]


@modes
def test_derivatives_of_batch_norm(mode):
    x = rng(0).standard_normal((3, 2, 2, 4))
    gamma, beta, mean = rng(1).standard_normal((3, 4))
    check_vjp(ops.batch_norm, ops.batch_norm_vjp, [x, gamma, beta], mode=mode)
    args = [x, gamma, beta, mean, 0.5 + rng(2).random(4)]
    check_vjp(ops.batch_norm_inference, ops.batch_norm_inference_vjp, args, mode=mode)


# --- Softmax and cross-entropy ---------------------------------------------------------------------------------------


@dtypes
@given(dense_cases(), st.sampled_from([0.1, 1.0, 20.0]))
def test_softmax_and_its_vjp_within_rounding(dtype, case, scale):
    x, dy = case.logits(dtype, scale), case.dy(dtype)
    p, bound, u = oracle.softmax(x), softmax_bound(x), unit_roundoff(dtype)
    assert_within(ops.softmax(x), p, bound, dtype)
    mean, classes = abs((p * dy).sum(axis=-1, keepdims=True)), x.shape[-1]
    mean_error = ((bound + gamma(classes, dtype) * p) * abs(dy)).sum(axis=-1, keepdims=True)
    # first order: p's error times (dy - mean), p times the errors of mean and difference, the product's; then doubled
    vjp_bound = 2 * ((bound + 2 * u * p) * (abs(dy) + mean) + p * mean_error)
    assert_within(ops.softmax_vjp(dy, x)[0], oracle.softmax_vjp(dy, x), vjp_bound, dtype)


@dtypes
@given(dense_cases(), st.sampled_from([0.1, 1.0, 20.0]))
def test_cross_entropy_and_its_vjp_within_rounding(dtype, case, scale):
    logits, labels, u = case.logits(dtype, scale), case.labels(), unit_roundoff(dtype)
    shift = oracle.f64(logits).max(axis=-1, keepdims=True) - logits
    log_sum = np.log(np.exp(-shift).sum(axis=-1, keepdims=True))
    relative_sum = (shift.max(axis=-1, keepdims=True) + 2 * EXP_ULPS + logits.shape[1]) * u
    # first order: shift, exp and sum, log (as good as exp), difference, then the mean's sums; doubled
    per_row = (shift + (shift + log_sum) + 2 * EXP_ULPS * log_sum) * u + relative_sum
    per_row = per_row + gamma(case.n * logits.shape[1] + 2, dtype) * (shift + log_sum)
    want = oracle.softmax_cross_entropy(logits, labels)
    loss = ops.softmax_cross_entropy(logits, labels)
    assert loss.shape == ()
    assert_within(loss, np.float64(want), 2 * per_row.max(axis=-1).mean(), dtype)
    one = np.ones((), dtype)
    dlogits, none = ops.softmax_cross_entropy_vjp(one, logits, labels)
    assert none is None
    bound = 2 * (softmax_bound(logits) + 3 * u) / case.n
    assert_within(dlogits, oracle.softmax_cross_entropy_vjp(1.0, logits, labels), bound, dtype)


@dtypes
def test_softmax_survives_large_logits(dtype):
    x = np.array([[1e4, 0, -1e4], [-3e4, -3e4, -3e4]], dtype)
    assert_exact(ops.softmax(x)[0], np.array([1, 0, 0], dtype))
    third = np.full(3, 1 / 3)
    assert_within(ops.softmax(x)[1], third, softmax_bound(x)[1], dtype)
    assert_exact(ops.softmax_cross_entropy(x[:1], np.array([2])), np.array(2e4, dtype))


def test_label_smoothing_spreads_its_share_evenly():
    logits, labels = rng(0).standard_normal((6, 4)), np.array([0, 1, 2, 3, 3, 0])
    plain = ops.softmax_cross_entropy(logits, labels)
    even = np.mean([ops.softmax_cross_entropy(logits, np.full(6, k)) for k in range(4)])
    smoothed = ops.softmax_cross_entropy(logits, labels, smoothing=0.25)
    # four losses of 24 terms each, whose magnitudes are bounded by those of the losses' own parts
    size = abs(logits).sum() + 6 * np.log(4) + 6 * abs(logits).max()
    assert_within(smoothed, np.float64(0.75 * plain + 0.25 * even), gamma(64, np.float64) * size)


@modes
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_derivatives_of_softmax_and_cross_entropy(mode, smoothing):
    logits, labels = rng(0).standard_normal((5, 4)), np.array([0, 1, 2, 3, 1])
    check_vjp(ops.softmax, ops.softmax_vjp, [logits], mode=mode)
    options = {"smoothing": smoothing}
    check_vjp(ops.softmax_cross_entropy, ops.softmax_cross_entropy_vjp, [logits, labels], options=options, mode=mode)


# --- Derivatives of all ----------------------------------------------------------------------------------------------


def apart(shape, seed=0):
    """Different odd eighths: 1/8 from 0 and 1/4 from each other, twice and more what a check moves."""
    size = int(np.prod(shape))
    return rng(seed).permutation(2 * np.arange(size) - size // 2 * 2 + 1).reshape(shape) / 8


POOL = {"size": (3, 2), "stride": (2, 1), "padding": ((1, 0), (0, 1))}
CASES = {
    "relu": (ops.relu, ops.relu_vjp, [apart((3, 4))], {}),
    "add": (ops.add, ops.add_vjp, [apart((3, 2)), apart((3, 2), 1)], {}),
    "multiply": (ops.multiply, ops.multiply_vjp, [apart((3, 2)), apart((3, 2), 1)], {}),
    "scale": (ops.scale, ops.scale_vjp, [apart((3, 2))], {"factor": 1.75}),
    "bias_add": (ops.bias_add, ops.bias_add_vjp, [apart((2, 2, 3)), apart((3,), 1)], {}),
    "dense": (ops.dense, ops.dense_vjp, [apart((2, 3)), apart((3, 4), 1)], {}),
    "prelu": (ops.prelu, ops.prelu_vjp, [apart((2, 2, 3)), apart((3,), 1)], {}),
    "clipped_relu": (ops.clipped_relu, ops.clipped_relu_vjp, [apart((3, 8))], {"limit": 1.0}),
    "sigmoid": (ops.sigmoid, ops.sigmoid_vjp, [apart((3, 4))], {}),
    "dropout": (ops.dropout, ops.dropout_vjp, [apart((3, 4)), rng(0).random((3, 4)) < 0.5], {"rate": 0.5}),
    "flatten": (ops.flatten, ops.flatten_vjp, [apart((2, 2, 1, 3))], {}),
    "max_pool": (ops.max_pool, ops.max_pool_vjp, [apart((2, 4, 3, 2))], POOL),
    "average_pool": (ops.average_pool, ops.average_pool_vjp, [apart((2, 4, 3, 2))], POOL),
    "global_average_pool": (ops.global_average_pool, ops.global_average_pool_vjp, [apart((2, 3, 2, 3))], {}),
    "batch_norm": (ops.batch_norm, ops.batch_norm_vjp, [apart((4, 3)), apart((3,)), apart((3,), 1)], {}),
    "softmax": (ops.softmax, ops.softmax_vjp, [apart((2, 4))], {}),
    "softmax_cross_entropy": (
        ops.softmax_cross_entropy,
        ops.softmax_cross_entropy_vjp,
        [apart((3, 4)), np.array([3, 0, 1])],
        {},
    ),
}
every_case = pytest.mark.parametrize("name", CASES)


@modes
@every_case
def test_every_derivative_is_right_by_differences(name, mode):
    f, vjp, args, options = CASES[name]
    check_vjp(f, vjp, args, options=options, mode=mode)


@modes
@every_case
def test_every_check_catches_an_error_of_a_ten_thousandth(name, mode):
    f, vjp, args, options = CASES[name]

    def planted(*args, **options):
        return tuple(None if c is None else c * (1 + 1e-4) for c in vjp(*args, **options))

    report = compare_vjp(f, planted, args, options=options, mode=mode)
    assert [row.verdict for row in report.rows] == ["wrong"] * len(report.rows)


SIGNS = np.array([[1, 1, -1], [-1, 1, 1], [1, -1, -1], [-1, -1, 1]])
EXACT = {  # arguments in whose neighbourhood no integer cotangent of these operators is rounded
    "max_pool": ([apart((2, 4, 3, 2))], POOL),
    "average_pool": ([apart((2, 4, 5, 2))], {"size": (4, 2), "stride": 1}),
    "global_average_pool": ([apart((2, 4, 2, 3))], {}),
    "batch_norm": ([SIGNS * [1.0, 31.0, 1.0], np.array([1.0, 2.0, -3.0]), np.zeros(3)], {"epsilon": 63}),
    "sigmoid": ([np.zeros((3, 4))], {}),
    "softmax": ([np.zeros((2, 4))], {}),
    "softmax_cross_entropy": ([np.zeros((2, 4)), np.array([3, 0])], {}),
}


@every_case
def test_every_vjp_is_linear_in_the_cotangent(name):
    f, vjp, default_args, default_options = CASES[name]
    args, options = EXACT.get(name, (default_args, default_options))
    shape = np.shape(f(*args, **options))
    a, b = (numbers(0, role, shape, np.float64) for role in "ab")
    pulled = (vjp(dy, *args, **options) for dy in (2 * a - 3 * b, a, b))
    for both, of_a, of_b in zip(*pulled, strict=True):
        if both is not None:
            assert_exact(both, 2 * of_a - 3 * of_b)


# --- Errors ----------------------------------------------------------------------------------------------------------

IMAGE, ROW, LABELS = np.zeros((2, 4, 4, 3), np.float32), np.zeros((2, 3), np.float32), np.array([0, 2])
VECTOR = np.zeros(3, np.float32)


@pytest.mark.parametrize(
    ("thing", "call"),
    [
        ("x", lambda: ops.relu(IMAGE.astype(int))),
        ("x", lambda: ops.relu([1.0])),
        ("dy", lambda: ops.relu_vjp(ROW, IMAGE)),
        ("a", lambda: ops.add(IMAGE.astype(int), IMAGE)),
        ("b", lambda: ops.add(IMAGE, ROW)),
        ("b", lambda: ops.multiply(ROW, ROW.astype(np.float64))),
        ("x", lambda: ops.scale(LABELS, factor=2)),
        ("bias", lambda: ops.bias_add(IMAGE, VECTOR[:2])),
        ("dy", lambda: ops.bias_add_vjp(ROW, IMAGE, VECTOR)),
        ("x", lambda: ops.dense(IMAGE, ROW)),
        ("kernel", lambda: ops.dense(ROW, VECTOR)),
        ("kernel", lambda: ops.dense(ROW, ROW)),
        ("dy", lambda: ops.dense_vjp(ROW, ROW, np.zeros((3, 5), np.float32))),
        ("x", lambda: ops.flatten(LABELS)),
        ("dy", lambda: ops.flatten_vjp(ROW, IMAGE)),
        ("x", lambda: ops.max_pool(ROW)),
        ("size", lambda: ops.max_pool(IMAGE, size=0)),
        ("stride", lambda: ops.average_pool(IMAGE, stride=(1, 0))),
        ("padding", lambda: ops.max_pool(IMAGE, padding=((2, 0), (0, 0)))),
        ("padding", lambda: ops.average_pool(IMAGE, padding="full")),
        ("image", lambda: ops.average_pool(IMAGE, size=5)),
        ("dy", lambda: ops.max_pool_vjp(IMAGE, IMAGE)),
        ("dy", lambda: ops.average_pool_vjp(IMAGE, IMAGE)),
        ("x", lambda: ops.global_average_pool(ROW)),
        ("x", lambda: ops.global_average_pool(IMAGE[:, :0])),
        ("dy", lambda: ops.global_average_pool_vjp(IMAGE, IMAGE)),
        ("x", lambda: ops.batch_norm(VECTOR, VECTOR, VECTOR)),
        ("x", lambda: ops.batch_norm(ROW[:0], VECTOR, VECTOR)),
        ("gamma", lambda: ops.batch_norm(ROW, VECTOR[:2], VECTOR)),
        ("beta", lambda: ops.batch_norm(ROW, VECTOR, VECTOR.astype(np.float64))),
        ("epsilon", lambda: ops.batch_norm(ROW, VECTOR, VECTOR, epsilon=0)),
        ("variance", lambda: ops.batch_norm_inference(ROW, VECTOR, VECTOR, VECTOR, ROW)),
        ("dy", lambda: ops.batch_norm_vjp(VECTOR, ROW, VECTOR, VECTOR)),
        ("x", lambda: ops.softmax(LABELS)),
        ("dy", lambda: ops.softmax_vjp(IMAGE, ROW)),
        ("slope", lambda: ops.prelu(ROW, VECTOR[:2])),
        ("dy", lambda: ops.prelu_vjp(VECTOR, ROW, VECTOR)),
        ("limit", lambda: ops.clipped_relu(ROW, limit=0)),
        ("dy", lambda: ops.clipped_relu_vjp(VECTOR, ROW)),
        ("x", lambda: ops.sigmoid(LABELS)),
        ("dy", lambda: ops.sigmoid_vjp(VECTOR, ROW)),
        ("keep", lambda: ops.dropout(ROW, VECTOR, rate=0.5)),
        ("keep", lambda: ops.dropout(ROW, VECTOR > 0, rate=0.5)),
        ("rate", lambda: ops.dropout(ROW, ROW > 0, rate=1)),
        ("dy", lambda: ops.dropout_vjp(VECTOR, ROW, ROW > 0, rate=0.5)),
        ("logits", lambda: ops.softmax_cross_entropy(IMAGE, LABELS)),
        ("labels", lambda: ops.softmax_cross_entropy(ROW, VECTOR)),
        ("labels", lambda: ops.softmax_cross_entropy(ROW, LABELS[:1])),
        ("labels", lambda: ops.softmax_cross_entropy(ROW, [0, 1])),
        ("labels", lambda: ops.softmax_cross_entropy(ROW[:0], LABELS[:0])),
        ("labels", lambda: ops.softmax_cross_entropy(ROW, LABELS + 1)),
        ("labels", lambda: ops.softmax_cross_entropy(ROW, LABELS - 1)),
        ("smoothing", lambda: ops.softmax_cross_entropy(ROW, LABELS, smoothing=1.0)),
    ],
)
def test_wrong_input_is_named(thing, call):
    with pytest.raises(InputError, match=r": expected .+, got .+\. .+\.$") as caught:
        call()
    assert str(caught.value).startswith(f"{thing}: ")
