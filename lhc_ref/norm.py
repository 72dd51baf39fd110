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
    rows = x.reshape(-1, x.shape[-1])
    mean = rows.mean(axis=0)
    return mean, ((rows - mean) ** 2).mean(axis=0)


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


def batch_norm(x: Array, gamma: Array, beta: Array, *, epsilon: float = EPSILON) -> Array:
    """Training form: `gamma * (x - mean) / sqrt(variance + epsilon) + beta`, with the batch's own statistics.

    Parameters
    ----------
    x : f[..., c]
    gamma, beta : f[c]
    epsilon : > 0

    Returns
    -------
    f[..., c], new memory. `batch_statistics(x)` gives what the running statistics need.

    Raises
    ------
    InputError : wrong dtypes or shapes, no data, epsilon not positive.
    """
    mean, variance = batch_statistics(x)
    return batch_norm_inference(x, gamma, beta, mean, variance, epsilon=epsilon)


def batch_norm_vjp(
    dy: Array, x: Array, gamma: Array, beta: Array, *, epsilon: float = EPSILON
) -> tuple[Array, Array, Array]:
    """Vector-Jacobian product of `batch_norm`; the statistics' own dependence on x is part of it."""
    check_like(dy, "dy", x.shape, x, "x")
    mean, variance = batch_statistics(x)
    rate = _rate(x, variance, epsilon)
    normal, dy_rows = ((x - mean) * rate).reshape(-1, x.shape[-1]), dy.reshape(-1, x.shape[-1])
    dgamma, dbeta = (dy_rows * normal).sum(axis=0), dy_rows.sum(axis=0)
    count = x.dtype.type(len(normal))
    dx = (dy_rows - dbeta / count - normal * (dgamma / count)) * (gamma * rate)
    return dx.reshape(x.shape), dgamma, dbeta


def batch_norm_inference(
    x: Array, gamma: Array, beta: Array, mean: Array, variance: Array, *, epsilon: float = EPSILON
) -> Array:
    """Inference form: `gamma * (x - mean) / sqrt(variance + epsilon) + beta`, all statistics f[c] given."""
    check_float(x, "x")
    channels = x.shape[-1:]
    for name, value in {"gamma": gamma, "beta": beta, "mean": mean, "variance": variance}.items():
        check_like(value, name, channels, x, "x")
    return (x - mean) * (gamma * _rate(x, variance, epsilon)) + beta


def batch_norm_inference_vjp(
    dy: Array, x: Array, gamma: Array, beta: Array, mean: Array, variance: Array, *, epsilon: float = EPSILON
) -> tuple[Array, Array, Array, Array, Array]:
    """Vector-Jacobian product of `batch_norm_inference`."""
    check_like(dy, "dy", x.shape, x, "x")
    rate = _rate(x, variance, epsilon)
    dy_rows, centred = dy.reshape(-1, x.shape[-1]), (x - mean).reshape(-1, x.shape[-1])
    dbeta, dcentred = dy_rows.sum(axis=0), (dy_rows * centred).sum(axis=0)
    dvariance = dcentred * gamma * rate**3 * x.dtype.type(-0.5)
    return dy * (gamma * rate), dcentred * rate, dbeta, -dbeta * gamma * rate, dvariance


def _rate(x: Array, variance: Array, epsilon: float) -> Array:
    """1 / sqrt(variance + epsilon)."""
    if not epsilon > 0:
        raise InputError(f"epsilon: expected a number > 0, got {epsilon!r}. Keras uses 1e-3, PyTorch 1e-5.")
    return 1 / namespace(x).sqrt(variance + x.dtype.type(epsilon))
