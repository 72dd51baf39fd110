"""Batch normalization: over the batch in training, by running statistics at inference (Ioffe and Szegedy 2015)."""

from lhc_ref.arrays import Array, check_float, check_like, namespace
from lhc_ref.errors import InputError

EPSILON = 1e-3  # Keras' default


def batch_statistics(x: Array) -> tuple[Array, Array]:
    """Mean and variance of each channel over all other axes.

    Parameters
    ----------
    x : f[..., c]

    Returns
    -------
    mean, variance : f[c] each; the variance is the biased one, divided by the number of values.

    Raises
    ------
    InputError : no values.
    """
    check_float(x, "x")
    if x.ndim < 2 or x.size == 0:
        raise InputError(f"x: expected [..., c] with at least one value a channel, got {tuple(x.shape)}. Add data.")
    lines, c = _lines(x), x.shape[-1]
    count = x.dtype.type(x.size // c)
    mean = _sum(lines, c) / count
    centred = lines - _along(lines, mean)
    return mean, _sum_of_products(centred, centred, c) / count


def update_running(
    running: tuple[Array, Array], batch: tuple[Array, Array], *, momentum: float = 0.99
) -> tuple[Array, Array]:
    """The next running statistics, `momentum * running + (1 - momentum) * batch`.

    Parameters
    ----------
    running, batch : (mean, variance), f[c] each; the batch's as `batch_statistics` gives them (biased, as in Keras)
    momentum : in [0, 1]

    Returns
    -------
    (mean, variance) : f[c] each, new memory.
    """
    old_mean, old_variance = running
    mean, variance = batch
    keep = old_mean.dtype.type(momentum)
    return keep * old_mean + (1 - keep) * mean, keep * old_variance + (1 - keep) * variance


def batch_norm(
    x: Array, gamma: Array, beta: Array, *, epsilon: float = EPSILON, statistics: tuple[Array, Array] | None = None
) -> Array:
    """Training form: `gamma * (x - mean) / sqrt(variance + epsilon) + beta`, with the batch's own statistics.

    Parameters
    ----------
    x : f[..., c]
    gamma, beta : f[c]
    epsilon : > 0
    statistics : `batch_statistics(x)`, from a caller who has them already

    Returns
    -------
    f[..., c], new memory. Cost: four passes over x. Source: Ioffe and Szegedy, ICML 2015 (arXiv 1502.03167).

    Raises
    ------
    InputError : wrong dtypes or shapes, no data, epsilon not positive.
    """
    mean, variance = batch_statistics(x) if statistics is None else statistics
    return batch_norm_inference(x, gamma, beta, mean, variance, epsilon=epsilon)


def batch_norm_vjp(
    dy: Array,
    x: Array,
    gamma: Array,
    beta: Array,
    *,
    epsilon: float = EPSILON,
    statistics: tuple[Array, Array] | None = None,
) -> tuple[Array, Array, Array]:
    """Vector-Jacobian product of `batch_norm`; the statistics' own dependence on x is part of it."""
    check_like(dy, "dy", x.shape, x, "x")
    mean, variance = batch_statistics(x) if statistics is None else statistics
    rate, c = _rate(x, variance, epsilon), x.shape[-1]
    dy_lines, centred = _lines(dy), _lines(x) - _along(_lines(x), mean)
    dgamma, dbeta = _sum_of_products(dy_lines, centred, c) * rate, _sum(dy_lines, c)
    # Same as: (dy - dbeta / count - (x - mean) * rate * (dgamma / count)) * (gamma * rate), in place of `centred`.
    count = x.dtype.type(x.size // c)
    dx = centred
    dx *= _along(dx, -rate * (dgamma / count))
    dx -= _along(dx, dbeta / count)
    dx += dy_lines
    dx *= _along(dx, gamma * rate)
    return dx.reshape(x.shape), dgamma, dbeta


def batch_norm_inference(
    x: Array, gamma: Array, beta: Array, mean: Array, variance: Array, *, epsilon: float = EPSILON
) -> Array:
    """Inference form: `gamma * (x - mean) / sqrt(variance + epsilon) + beta`, all statistics f[c] given.

    f[..., c] -> f[..., c]. Cost: one pass over x. Source: as for `batch_norm`.
    """
    check_float(x, "x")
    channels = x.shape[-1:]
    for name, value in {"gamma": gamma, "beta": beta, "mean": mean, "variance": variance}.items():
        check_like(value, name, channels, x, "x")
    # Same as: (x - mean) * (gamma * rate) + beta, in one memory.
    lines = _lines(x)
    y = lines - _along(lines, mean)
    y *= _along(lines, gamma * _rate(x, variance, epsilon))
    y += _along(lines, beta)
    return y.reshape(x.shape)


def batch_norm_inference_vjp(
    dy: Array, x: Array, gamma: Array, beta: Array, mean: Array, variance: Array, *, epsilon: float = EPSILON
) -> tuple[Array, Array, Array, Array, Array]:
    """Vector-Jacobian product of `batch_norm_inference`."""
    check_like(dy, "dy", x.shape, x, "x")
    rate, c = _rate(x, variance, epsilon), x.shape[-1]
    dbeta, dcentred = _sum(_lines(dy), c), _sum_of_products(_lines(dy), _lines(x - mean), c)
    dvariance = dcentred * gamma * rate**3 * x.dtype.type(-0.5)
    return dy * (gamma * rate), dcentred * rate, dbeta, -dbeta * gamma * rate, dvariance


def _rate(x: Array, variance: Array, epsilon: float) -> Array:
    """1 / sqrt(variance + epsilon)."""
    if not epsilon > 0:
        raise InputError(f"epsilon: expected a number > 0, got {epsilon!r}. Keras uses 1e-3, PyTorch 1e-5.")
    return 1 / namespace(x).sqrt(variance + x.dtype.type(epsilon))


def _lines(x: Array) -> Array:
    """[..., w, c] as the matrix [lines, w * c]: what is done to channels runs over long rows, three times as fast."""
    return x.reshape(-1, x.shape[-1] if x.ndim < 3 else x.shape[-2] * x.shape[-1])


def _along(lines: Array, channels: Array) -> Array:
    """f[c] as a row that goes with `lines`."""
    return namespace(lines).tile(channels, lines.shape[1] // channels.shape[0])


def _sum(lines: Array, c: int) -> Array:
    """The sum of each channel, f[c]."""
    ones = namespace(lines).ones(lines.shape[0], dtype=lines.dtype)
    return (ones @ lines).reshape(-1, c).sum(axis=0)


def _sum_of_products(a: Array, b: Array, c: int) -> Array:
    """The sum of each channel of a * b, f[c]."""
    return namespace(a).einsum("ij,ij->j", a, b).reshape(-1, c).sum(axis=0)
