"""Dense layer, pointwise operators and losses, each with its vector-Jacobian product beside it.

`f_vjp(dy, *args)` returns one cotangent per array argument of `f`, None where `f` has no derivative in it. Operators
keep the array's own dtype. Convolution is in `conv`; those of `pool`, `norm` and `shapes` can also be had here.
"""

from math import prod

from lhc_ref.arrays import Array, check_array, check_float, check_like, describe, namespace
from lhc_ref.errors import InputError
from lhc_ref.norm import (
    batch_norm,
    batch_norm_inference,
    batch_norm_inference_vjp,
    batch_norm_vjp,
    batch_statistics,
    update_running,
)
from lhc_ref.pool import (
    average_pool,
    average_pool_vjp,
    global_average_pool,
    global_average_pool_vjp,
    max_pool,
    max_pool_vjp,
)
from lhc_ref.shapes import concat, concat_vjp, pad, pad_vjp, reshape, reshape_vjp

__all__ = [
    "add", "add_vjp", "average_pool", "average_pool_vjp", "batch_norm", "batch_norm_inference",
    "batch_norm_inference_vjp", "batch_norm_vjp", "batch_statistics", "bias_add", "bias_add_vjp", "clipped_relu",
    "clipped_relu_vjp", "concat", "concat_vjp", "dense", "dense_vjp", "dropout", "dropout_vjp", "flatten",
    "flatten_vjp", "global_average_pool", "global_average_pool_vjp", "max_pool", "max_pool_vjp", "multiply",
    "multiply_vjp", "pad", "pad_vjp", "prelu", "prelu_vjp", "relu", "relu_vjp", "reshape", "reshape_vjp", "scale",
    "scale_vjp", "sigmoid", "sigmoid_vjp", "softmax", "softmax_cross_entropy", "softmax_cross_entropy_vjp",
    "softmax_vjp", "update_running",
]  # fmt: skip


def relu(x: Array) -> Array:
    """`y = max(x, 0)`, elementwise: f[...] -> f[...]. NaN stays NaN; the derivative at 0 is 0.

    Cost: one pass over x. Source: Nair and Hinton, ICML 2010.
    """
    check_float(x, "x")
    return namespace(x).maximum(x, 0)


def relu_vjp(dy: Array, x: Array) -> tuple[Array]:
    """Vector-Jacobian product of `relu`; the derivative at 0 is 0."""
    check_like(dy, "dy", x.shape, x, "x")
    return (dy * (x > 0),)


def add(a: Array, b: Array) -> Array:
    """`y = a + b`: f[...] and f[...] of the same shape -> f[...]. The residual connection's operator.

    Cost: one pass over both. Source: elementary; in residual nets He et al. 2015 (arXiv 1512.03385).
    """
    check_float(a, "a")
    check_like(b, "b", a.shape, a, "a")
    return a + b


def add_vjp(dy: Array, a: Array, b: Array) -> tuple[Array, Array]:
    """Vector-Jacobian product of `add`."""
    check_like(dy, "dy", a.shape, a, "a")
    return dy, dy


def multiply(a: Array, b: Array) -> Array:
    """`y = a * b`, elementwise: f[...] and f[...] of the same shape -> f[...]. Kernel times mask, for one.

    Cost: one pass over both. Source: elementary.
    """
    check_float(a, "a")
    check_like(b, "b", a.shape, a, "a")
    return a * b


def multiply_vjp(dy: Array, a: Array, b: Array) -> tuple[Array, Array]:
    """Vector-Jacobian product of `multiply`."""
    check_like(dy, "dy", a.shape, a, "a")
    return dy * b, dy * a


def scale(x: Array, *, factor: float) -> Array:
    """`y = x * factor`: f[...] -> f[...]. The factor is a constant, rounded to x's dtype.

    Cost: one pass over x. Source: elementary.
    """
    check_float(x, "x")
    return x * x.dtype.type(factor)


def scale_vjp(dy: Array, x: Array, *, factor: float) -> tuple[Array]:
    """Vector-Jacobian product of `scale`."""
    check_like(dy, "dy", x.shape, x, "x")
    return (dy * dy.dtype.type(factor),)


def bias_add(x: Array, bias: Array) -> Array:
    """Add a number to each channel: `y[..., c] = x[..., c] + bias[c]`.

    Parameters
    ----------
    x : f[..., c]
    bias : f[c]

    Returns
    -------
    f[..., c], new memory. Cost: one pass over x. Source: elementary.
    """
    check_float(x, "x")
    check_like(bias, "bias", x.shape[-1:], x, "x")
    return x + bias


def bias_add_vjp(dy: Array, x: Array, bias: Array) -> tuple[Array, Array]:
    """Vector-Jacobian product of `bias_add`."""
    check_like(dy, "dy", x.shape, x, "x")
    return dy, dy.reshape(-1, bias.shape[0]).sum(axis=0)


def dense(x: Array, kernel: Array) -> Array:
    """Matrix product `y = x @ kernel`; `bias_add` adds the bias.

    Parameters
    ----------
    x : f[n, features]
    kernel : f[features, units]

    Returns
    -------
    f[n, units], new memory. Cost: n*features*units MACs. Source: elementary.

    Raises
    ------
    InputError : wrong dtypes or shapes.
    """
    check_array(x, "x", "n, features")
    check_array(kernel, "kernel", "features, units")
    check_like(kernel, "kernel", (x.shape[1], kernel.shape[1]), x, "x")
    return x @ kernel


def dense_vjp(dy: Array, x: Array, kernel: Array) -> tuple[Array, Array]:
    """Vector-Jacobian product of `dense`."""
    check_like(dy, "dy", (x.shape[0], kernel.shape[1]), x, "x and kernel")
    return dy @ kernel.T, x.T @ dy


def flatten(x: Array) -> Array:
    """`x.reshape(n, features)`: f[n, ...] -> f[n, features], in C order (height, width, channel for an image).

    Cost: none, a view of x where that is contiguous. Source: elementary.
    """
    check_float(x, "x")
    features = prod(x.shape[1:])
    return x.reshape(x.shape[0], features)


def flatten_vjp(dy: Array, x: Array) -> tuple[Array]:
    """Vector-Jacobian product of `flatten`."""
    check_like(dy, "dy", (x.shape[0], prod(x.shape[1:])), x, "x")
    return (dy.reshape(x.shape),)


def prelu(x: Array, slope: Array) -> Array:
    """`y = x where x > 0, else slope[c] * x`: f[..., c] and f[c] -> f[..., c] (He et al. 2015).

    Cost: one pass over x. Source: He et al., *Delving Deep into Rectifiers*, ICCV 2015 (arXiv 1502.01852).
    """
    check_float(x, "x")
    check_like(slope, "slope", x.shape[-1:], x, "x")
    return namespace(x).where(x > 0, x, x * slope)


def prelu_vjp(dy: Array, x: Array, slope: Array) -> tuple[Array, Array]:
    """Vector-Jacobian product of `prelu`; the derivative at 0 is the slope."""
    check_like(dy, "dy", x.shape, x, "x")
    off = dy * (x <= 0)
    return namespace(x).where(x > 0, dy, dy * slope), (off * x).reshape(-1, slope.shape[0]).sum(axis=0)


def clipped_relu(x: Array, *, limit: float = 6.0) -> Array:
    """`y = min(max(x, 0), limit)`, elementwise: f[...] -> f[...].

    Cost: one pass over x. Source: Krizhevsky 2010, with a limit of 6; the ReLU6 of MobileNetV2 (arXiv 1801.04381).
    """
    check_float(x, "x")
    if not limit > 0:
        raise InputError(f"limit: expected a number > 0, got {limit!r}. ReLU6 has 6.")
    return namespace(x).clip(x, 0, x.dtype.type(limit))


def clipped_relu_vjp(dy: Array, x: Array, *, limit: float = 6.0) -> tuple[Array]:
    """Vector-Jacobian product of `clipped_relu`; the derivative at 0 and at the limit is 0."""
    check_like(dy, "dy", x.shape, x, "x")
    return (dy * ((x > 0) & (x < x.dtype.type(limit))),)


def sigmoid(x: Array) -> Array:
    """`y = 1 / (1 + exp(-x))`, elementwise: f[...] -> f[...]; no overflow.

    Cost: one pass over x. Source: elementary; by exp(-|x|), so that nothing overflows.
    """
    check_float(x, "x")
    xp = namespace(x)
    e = xp.exp(-abs(x))
    return xp.where(x >= 0, 1, e) / (1 + e)


def sigmoid_vjp(dy: Array, x: Array) -> tuple[Array]:
    """Vector-Jacobian product of `sigmoid`: `dy * y * (1 - y)`, the latter factor being sigmoid(-x)."""
    check_like(dy, "dy", x.shape, x, "x")
    return (dy * sigmoid(x) * sigmoid(-x),)


def dropout(x: Array, keep: Array, *, rate: float) -> Array:
    """`y = x / (1 - rate)` where `keep`, else 0 (Srivastava et al. 2014, scaled in training).

    Parameters
    ----------
    x : f[...]
    keep : bool[...] of x's shape; the caller draws it, each True with probability 1 - rate
    rate : in [0, 1)

    Returns
    -------
    f[...], new memory. Cost: one pass over x. Source: Srivastava et al., JMLR 2014.
    """
    _check_dropout(x, keep, rate)
    return namespace(x).where(keep, x * x.dtype.type(1 / (1 - rate)), x.dtype.type(0))


def dropout_vjp(dy: Array, x: Array, keep: Array, *, rate: float) -> tuple[Array, None]:
    """Vector-Jacobian product of `dropout`: the same numbers dropped."""
    _check_dropout(x, keep, rate)
    check_like(dy, "dy", x.shape, x, "x")
    return namespace(dy).where(keep, dy * dy.dtype.type(1 / (1 - rate)), dy.dtype.type(0)), None


def _check_dropout(x: Array, keep: Array, rate: float) -> None:
    check_float(x, "x")
    if str(getattr(keep, "dtype", "")) != "bool" or keep.shape != x.shape:
        raise InputError(
            f"keep: expected bool{list(x.shape)} to go with x, got {describe(keep)}. Draw it in x's shape."
        )
    if not 0 <= rate < 1:
        raise InputError(f"rate: expected a number in [0, 1), got {rate!r}. 0 turns dropout off.")


def softmax(x: Array) -> Array:
    """`y = exp(x) / sum(exp(x))` along the last axis: f[..., k] -> f[..., k]; no overflow for finite x.

    Cost: three passes over x. Source: elementary; the maximum is subtracted first.
    """
    check_float(x, "x")
    xp = namespace(x)
    e = xp.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def softmax_vjp(dy: Array, x: Array) -> tuple[Array]:
    """Vector-Jacobian product of `softmax`."""
    check_like(dy, "dy", x.shape, x, "x")
    y = softmax(x)
    return (y * (dy - (dy * y).sum(axis=-1, keepdims=True)),)


def softmax_cross_entropy(logits: Array, labels: Array, *, smoothing: float = 0.0) -> Array:
    """Mean over the batch of `-sum_k target_k * log(softmax(logits)_k)`, computed without overflow.

    Parameters
    ----------
    logits : f[n, classes]
    labels : integer[n], each in 0 ... classes-1
    smoothing : in [0, 1)
        Share of the target spread evenly: `target = (1 - smoothing) * one_hot + smoothing / classes`.

    Returns
    -------
    f[] : a scalar array of the logits' dtype. Cost: a few passes over the logits. Source: elementary, the maximum taken
    out of the exponentials; smoothing: Szegedy et al. 2015 (arXiv 1512.00567).

    Raises
    ------
    InputError : wrong dtypes or shapes, an empty batch, a label or smoothing out of range.
    """
    targets = _targets(logits, labels, smoothing)
    return -(targets * _log_softmax(logits)).sum() / logits.dtype.type(len(logits))


def softmax_cross_entropy_vjp(dy: Array, logits: Array, labels: Array, *, smoothing: float = 0.0) -> tuple[Array, None]:
    """Vector-Jacobian product of `softmax_cross_entropy`: `dy * (softmax - target) / n`."""
    targets = _targets(logits, labels, smoothing)
    return (softmax(logits) - targets) * (dy / logits.dtype.type(len(logits))), None


def _log_softmax(x: Array) -> Array:
    xp = namespace(x)
    shifted = x - x.max(axis=-1, keepdims=True)
    return shifted - xp.log(xp.exp(shifted).sum(axis=-1, keepdims=True))


def _targets(logits: Array, labels: Array, smoothing: float) -> Array:
    """Smoothed one-hot rows in the logits' dtype; checks all arguments."""
    check_array(logits, "logits", "n, classes")
    xp = namespace(logits)
    n, classes = logits.shape
    if str(getattr(labels, "dtype", ""))[:3] not in ("int", "uin") or tuple(labels.shape) != (n,) or n == 0:
        raise InputError(f"labels: expected integers [{n or 'at least 1'}], got {describe(labels)}. Give one per row.")
    if int(labels.min()) < 0 or int(labels.max()) >= classes:
        raise InputError(
            f"labels: expected 0 to {classes - 1}, got {int(labels.min())} to {int(labels.max())}. "
            f"Check the labels and the number of classes."
        )
    if not 0 <= smoothing < 1:
        raise InputError(f"smoothing: expected a number in [0, 1), got {smoothing!r}. 0 turns it off.")
    one_hot = (labels[:, None] == xp.arange(classes)).astype(logits.dtype)
    return one_hot * logits.dtype.type(1 - smoothing) + logits.dtype.type(smoothing / classes)
