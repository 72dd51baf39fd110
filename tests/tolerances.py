"""Assertions on arrays: exact where possible, otherwise within a derived bound; never a guessed tolerance.

Bounds hold for any order of summation, with or without fused multiply-add (Higham, Accuracy and Stability of Numerical
Algorithms, section 3.1): a sum of k products has an error of at most gamma_k * sum |x| |w|.
"""

import numpy as np

from tests import oracle


def unit_roundoff(dtype):
    return float(np.finfo(dtype).eps) / 2


def gamma(k, dtype):
    """k*u / (1 - k*u): the relative error of k roundings in `dtype`."""
    ku = k * unit_roundoff(dtype)
    if not ku < 1:
        raise ValueError(f"gamma: expected k*u < 1, got k={k} in {np.dtype(dtype).name}. The bound says nothing here.")
    return ku / (1 - ku)


# --- Assertions ------------------------------------------------------------------------------------------------------


def assert_exact(got, want, dtype=None):
    """Every number equal (NaN equals nothing, -0 equals 0), shapes equal, got's dtype is `dtype` or else want's."""
    got, want = _comparable(got, want, dtype)
    wrong = ~(got == want)
    if wrong.any():
        at = _first(wrong)
        raise AssertionError(
            f"{int(wrong.sum())} of {got.size} differ, first at {at}: got {got[at]!r}, want {want[at]!r}"
        )


def assert_identical(got, want):
    """The same bits, shape and dtype: NaN is equal to the same NaN, -0 is not 0."""
    got, want = np.asarray(got), np.asarray(want)
    _comparable(got, want, None)
    bits_got, bits_want = (np.frombuffer(a.tobytes(), np.uint8).reshape(*a.shape, a.itemsize) for a in (got, want))
    wrong = (bits_got != bits_want).any(axis=-1)
    if wrong.any():
        at = _first(wrong)
        raise AssertionError(
            f"{int(wrong.sum())} of {got.size} differ in bits, first at {at}: got {got[at]!r}, want {want[at]!r}"
        )


def assert_within(got, want, bound, dtype=None):
    """|got - want| <= bound everywhere; a NaN fails, equal infinities pass, a bound that is not finite is an error.

    got's dtype must be `dtype`, or where none is given that of `want`.
    """
    got, want = _comparable(got, want, dtype)
    bound = np.asarray(bound, dtype=np.float64)
    if not (np.isfinite(bound) & (bound >= 0)).all():
        raise AssertionError("bound: expected finite numbers >= 0. Such a bound checks nothing.")
    bound = np.broadcast_to(bound, want.shape)
    with np.errstate(invalid="ignore", over="ignore"):
        error = np.where(got == want, 0.0, np.abs(got.astype(np.float64) - want.astype(np.float64)))
        wrong = ~(error <= bound)
    if wrong.any():
        with np.errstate(invalid="ignore", divide="ignore"):
            ratio = np.where(np.isnan(error), np.inf, error / np.maximum(bound, np.finfo(float).tiny))
        excess = np.where(wrong, ratio, -1.0)
        at = tuple(int(i) for i in np.unravel_index(np.argmax(excess), excess.shape))
        raise AssertionError(
            f"{int(wrong.sum())} of {got.size} out of bounds, worst at {at}: "
            f"got {got[at]!r}, want {want[at]!r}, error {error[at]:.3e} > bound {bound[at]:.3e}"
        )


def assert_adjoint(y, dy, x, dx, bound=0.0):
    """<y, dy> == <x, dx> within `bound`: the transpose of a linear map. Exact for integer-valued arrays."""
    if np.shape(y) != np.shape(dy) or np.shape(x) != np.shape(dx):
        raise AssertionError(f"shapes: y {np.shape(y)} and dy {np.shape(dy)}, x {np.shape(x)} and dx {np.shape(dx)}")
    out, back = (float((oracle.f64(a) * oracle.f64(b)).sum()) for a, b in ((y, dy), (x, dx)))
    if not abs(out - back) <= bound:
        raise AssertionError(f"not adjoint: <y, dy> = {out!r}, <x, dx> = {back!r}, bound {bound!r}")


def _comparable(got, want, dtype):
    """Both as arrays, after checking that shapes and dtypes agree."""
    got, want = np.asarray(got), np.asarray(want)
    dtype = want.dtype if dtype is None else np.dtype(dtype)
    if got.shape != want.shape:
        raise AssertionError(f"shape: got {got.shape}, want {want.shape}")
    if got.dtype != dtype:
        raise AssertionError(f"dtype: got {got.dtype}, want {dtype}")
    return got, want


def _first(wrong):
    return tuple(int(i) for i in np.argwhere(wrong)[0])


# --- Bounds on |result computed in dtype - the oracle's result| -------------------------------------------------------


def sum_bound(magnitude, k, dtype):
    """For sums of k products whose absolute values sum to `magnitude` (float64, itself rounded).

    Both sides round: the result in `dtype`, the oracle in float64; a product may underflow, or be flushed to zero.
    """
    relative = gamma(k, dtype) + 2 * gamma(k + 1, np.float64)
    return relative * oracle.f64(magnitude) + k * float(np.finfo(dtype).tiny)


def conv_bound(x, kernel, bias=None, stride=(1, 1), padding="same", dilation=(1, 1), groups=1, dtype=None):
    """For `conv2d` with bias: kh*kw*c_in/groups products and the bias, each in at most that many roundings."""
    options = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    magnitude = oracle.conv2d(np.abs(x), np.abs(kernel), None if bias is None else np.abs(bias), **options)
    return sum_bound(magnitude, int(np.prod(np.shape(kernel)[:3])) + 1, np.asarray(x).dtype if dtype is None else dtype)


def winograd_bound(x, kernel, bias=None, residual=None, padding="same", groups=1):
    """For a 3x3 `conv2d` by Winograd's F(2x2, 3x3), with a residual added: one output after the other, from the
    magnitudes that its sums pass through.

    Roundings on the way of a term: 1 of the transformed weight, 2 of the input's transform, c_in of products and 1 of
    the bias, 4 of the output's transform, 1 of sums of parts, 1 of the residual.
    """
    g = np.array([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]])
    b = np.abs(np.array([[1, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, 1, 0, -1]]))
    a = np.abs(np.array([[1, 1, 1, 0], [0, 1, -1, -1]]))
    weights = oracle.f64(kernel)
    if groups > 1:
        weights = np.concatenate(
            [np.pad(part, [(0, 0)] * 2 + [(i * part.shape[2], (groups - 1 - i) * part.shape[2]), (0, 0)])
             for i, part in enumerate(np.split(weights, groups, axis=3))], axis=3,
        )  # fmt: skip
    weights = np.abs(np.einsum("ik,jl,klcd->ijcd", g, g, weights))
    (n, h, w, c_in), c_out = x.shape, kernel.shape[3]
    (top, bottom), (left, right) = oracle.resolve_padding(padding, (h, w), (3, 3), (1, 1), (1, 1))
    oh, ow = h + top + bottom - 2, w + left + right - 2
    image = np.zeros((n, oh + oh % 2 + 2, ow + ow % 2 + 2, c_in))
    inside = np.abs(oracle.f64(x))[:, : image.shape[1] - top, : image.shape[2] - left]
    image[:, top : top + inside.shape[1], left : left + inside.shape[2]] = inside
    magnitude = np.zeros((n, image.shape[1] - 2, image.shape[2] - 2, c_out))
    for y in range(0, magnitude.shape[1], 2):
        for column in range(0, magnitude.shape[2], 2):
            inputs = np.einsum("ik,jl,nklc->nijc", b, b, image[:, y : y + 4, column : column + 4])
            products = np.einsum("nijc,ijcd->nijd", inputs, weights)
            magnitude[:, y : y + 2, column : column + 2] = np.einsum("pi,qj,nijd->npqd", a, a, products)
    magnitude = magnitude[:, :oh, :ow] + (0 if bias is None else np.abs(bias))
    return sum_bound(magnitude + (0 if residual is None else np.abs(residual)), c_in + 10, np.float32)


def conv_vjp_bounds(dy, x, kernel, stride=(1, 1), padding="same", dilation=(1, 1), groups=1, dtype=None):
    """(bound of dx, bound of dkernel) for `conv2d_vjp`."""
    options = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    dtype = np.asarray(x).dtype if dtype is None else dtype
    dx, dkernel = oracle.conv2d_vjp(np.abs(dy), np.abs(x), np.abs(kernel), **options)
    kh, kw, _, c_out = np.shape(kernel)
    terms_dx, terms_dkernel = kh * kw * c_out // groups, int(np.prod(np.shape(dy)[:3]))
    return sum_bound(dx, terms_dx + 1, dtype), sum_bound(dkernel, terms_dkernel + 1, dtype)


def dense_bound(x, kernel, bias=None, dtype=None):
    """For `dense` with bias."""
    magnitude = oracle.dense(np.abs(x), np.abs(kernel), None if bias is None else np.abs(bias))
    return sum_bound(magnitude, np.shape(kernel)[0] + 1, np.asarray(x).dtype if dtype is None else dtype)


def mean_bound(x, axes, dtype=None):
    """For a mean over `axes`: additions and one division (or product with a rounded reciprocal)."""
    x = np.asarray(x)
    count = int(np.prod([x.shape[a] for a in axes]))
    magnitude = np.abs(oracle.f64(x)).sum(axis=tuple(axes)) / count
    return sum_bound(magnitude, count + 2, x.dtype if dtype is None else dtype)


EXP_ULPS = 4  # NumPy's float32 exp is documented to about 2.5 ulp with AVX512, libm's to 1


def softmax_bound(x, dtype=None):
    """For `softmax`: shift, exp (within EXP_ULPS), sum and division, to first order, doubled for the rest."""
    dtype = np.asarray(x).dtype if dtype is None else dtype
    u, p = unit_roundoff(dtype), oracle.softmax(x)
    shift = oracle.f64(x).max(axis=-1, keepdims=True) - oracle.f64(x)
    exponent = (shift + 2 * EXP_ULPS) * u
    total = (p * exponent).sum(axis=-1, keepdims=True) + (np.shape(x)[-1] + 1) * u
    return 2 * p * (exponent + total) + float(np.finfo(dtype).tiny)
