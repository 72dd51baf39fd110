"""Channel pruning: LASSO chooses the input channels that stay, least squares fits their weights anew.

Source: He, Zhang, Sun, *Channel Pruning for Accelerating Very Deep Neural Networks*, ICCV 2017 (arXiv 1707.06168), and
the authors' code. NumPy arrays only; LASSO is scikit-learn's.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from lhc_ref import extras
from lhc_ref.arrays import check_array, check_like
from lhc_ref.conv import output_size, pad_image, resolve_padding, tap_slices
from lhc_ref.errors import InputError

HALVINGS = 60  # then alpha is known to the last bit


@dataclass(frozen=True)
class Pruned:
    """A layer that reads fewer input channels.

    Attributes
    ----------
    kept : bool[c_in], the channels that it reads
    kernel : f[kh, kw, number kept, c_out]
    bias : f[c_out]
    alpha : the weight of the 1-norm that chose them; 0 where all stay
    """

    kept: np.ndarray
    kernel: np.ndarray
    bias: np.ndarray
    alpha: float


def sample_windows(
    x: np.ndarray, kernel_hw: tuple[int, int], count: int, rng: np.random.Generator, **options: Any
) -> np.ndarray:
    """Windows of x that a convolution meets, drawn without repeats; all of them where there are no more than `count`.

    Parameters
    ----------
    x : f[n, h, w, c]
    options : stride (a pair), padding, dilation (a pair), as for `conv2d`

    Returns
    -------
    f[count, kh, kw, c]; draws with generators of one seed take the same places.
    """
    check_array(x, "x", "n, h, w, c")
    size, stride, dilation = x.shape[1:3], options.get("stride", (1, 1)), options.get("dilation", (1, 1))
    padding = options.get("padding", "same")
    out_hw = output_size(size, kernel_hw, stride=stride, padding=padding, dilation=dilation)
    padded = pad_image(x, resolve_padding(padding, size, kernel_hw, stride, dilation))
    windows = np.stack(
        [padded[:, rows, columns] for _, _, (rows, columns) in tap_slices(kernel_hw, out_hw, stride, dilation)], axis=3
    ).reshape(-1, *kernel_hw, x.shape[3])
    return windows[rng.permutation(len(windows))[:count]]


def prune_channels(
    windows: np.ndarray, responses: np.ndarray, kernel: np.ndarray, *, channels: int, tolerance: float = 0.1
) -> Pruned:
    """Keep about `channels` of the input channels, and fit their weights to the unpruned responses.

    LASSO explains the responses by the sum of each channel's own response, one coefficient a channel; its alpha is
    bisected until between `channels` and (1 + tolerance) * channels coefficients survive. Then
    `min |windows[..., kept] * kernel' + bias' - responses|^2` is solved.

    Parameters
    ----------
    windows : f[m, kh, kw, c_in], what the layer reads (after the pruning of layers before it), see `sample_windows`
    responses : f[m, c_out], what the unpruned layer says there, its bias included
    kernel : f[kh, kw, c_in, c_out], of the unpruned layer
    channels : 1 to c_in

    Returns
    -------
    Pruned, in the kernel's dtype; computed in float64.

    Raises
    ------
    InputError : wrong dtypes or shapes, channels out of range, a number of channels that LASSO jumps over, fewer
        windows than unknowns.
    MissingExtraError : scikit-learn is not installed.

    Notes
    -----
    Cost: at most 60 LASSOs of m*c_out rows and c_in columns, and one least squares of m rows and kh*kw*c columns.
    Source: arXiv 1707.06168 and its code.
    """
    check_array(kernel, "kernel", "kh, kw, c_in, c_out")
    check_array(windows, "windows", "m, kh, kw, c_in")
    check_like(windows, "windows", (len(windows), *kernel.shape[:3]), kernel, "kernel")
    check_like(responses, "responses", (len(windows), kernel.shape[3]), kernel, "windows and kernel")
    if not 1 <= channels <= kernel.shape[2]:
        raise InputError(f"channels: expected 1 to {kernel.shape[2]}, got {channels}. It is how many are to stay.")
    inputs, outputs = windows.astype(np.float64), responses.astype(np.float64)
    kept, alpha = np.ones(kernel.shape[2], bool), 0.0
    if channels < kernel.shape[2]:
        own = np.einsum("mhwi,hwio->moi", inputs, kernel.astype(np.float64)).reshape(-1, kernel.shape[2])
        kept, alpha = _choose(own, outputs.reshape(-1), channels, tolerance)
    fitted, bias = _fit(inputs[..., kept], outputs)
    return Pruned(kept, fitted.astype(kernel.dtype), bias.astype(kernel.dtype), alpha)


def _choose(own: np.ndarray, wanted: np.ndarray, channels: int, tolerance: float) -> tuple[np.ndarray, float]:
    """LASSO of `wanted` [samples] by the columns of `own` [samples, c_in]: the columns that survive, and alpha."""
    # Why so small a tolerance: a looser solution lets channels near their own alpha come and go together.
    lasso = extras.linear_models().Lasso(warm_start=True, max_iter=100_000, tol=1e-10)
    low, high = 0.0, float(abs((own - own.mean(axis=0)).T @ (wanted - wanted.mean())).max()) / len(own)
    too_many, too_few = own.shape[1], 0  # at alpha = high and above, no coefficient survives
    for _ in range(HALVINGS):
        alpha = (low + high) / 2
        if not low < alpha < high:
            break
        kept = lasso.set_params(alpha=alpha).fit(own, wanted).coef_ != 0
        count = int(kept.sum())
        if channels <= count <= (1 + tolerance) * channels:
            return kept, alpha
        if count > channels:
            low, too_many = alpha, count
        else:
            high, too_few = alpha, count
    raise InputError(
        f"channels: expected a number that LASSO reaches, got {channels}: it goes from {too_few} to {too_many}. "
        f"Ask for one of these, or allow a larger tolerance."
    )


def _fit(inputs: np.ndarray, outputs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Kernel [kh, kw, c, c_out] and bias [c_out] of the least squares fit."""
    matrix = np.concatenate([inputs.reshape(len(inputs), -1), np.ones((len(inputs), 1))], axis=1)
    if len(matrix) < matrix.shape[1]:
        raise InputError(f"windows: expected at least {matrix.shape[1]}, got {len(matrix)}. Sample more of them.")
    solution, *_ = np.linalg.lstsq(matrix, outputs, rcond=None)
    return solution[:-1].reshape(*inputs.shape[1:], outputs.shape[1]), solution[-1]
