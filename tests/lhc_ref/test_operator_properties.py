"""What every operator of the tape's table has in common: float32 stays float32, linear ones are adjoint to their
derivatives exactly, and where a derivative jumps its value is given in closed form.
"""

import numpy as np
import pytest

from lhc_ref import conv, conv_transpose, mask, ops, regularizer
from lhc_ref.related import binary, circulant, csg, fourier, implicit, involution, lean, nm, xsepconv
from lhc_ref.tape import VJPS
from tests.lhc_ref.test_every_operator import CASES
from tests.strategies import numbers
from tests.tolerances import assert_adjoint, assert_exact

operators = pytest.mark.parametrize("primal", CASES, ids=lambda primal: primal.__name__)
EIGHTHS = 8  # floats that are so many parts of a whole number have exact sums of products in float32 as in float64


def cotangents(primal, dy, args, options):
    """Of every argument, None where there is none."""
    vjp = VJPS[primal]
    return [part(dy, *args, **options) for part in vjp] if isinstance(vjp, tuple) else vjp(dy, *args, **options)


def is_float(array):
    return array.dtype.kind == "f"


# --- float32 ---------------------------------------------------------------------------------------------------------

# Quotients, roots, exponentials, Fourier transforms, a slope of 0.1: these round, and their own tests hold them in
# float32 to derived bounds. All others are exact on eighths.
ROUND = {
    ops.sigmoid, ops.softmax, ops.softmax_cross_entropy, ops.batch_norm, ops.batch_norm_inference, ops.average_pool,
    ops.global_average_pool, ops.scale, mask.step, mask.rigid_one_hot, mask.free_mask, mask.rigid_mask, mask.lhc_mask,
    regularizer.density_penalty, fourier.fft2, fourier.inverse_fft2, implicit.implicit_diffusion, binary.block_scale,
    circulant.circulant_conv2d,
}  # fmt: skip


@operators
def test_float32_in_float32_out_and_exact_where_nothing_rounds(primal):
    args = [np.round(a * EIGHTHS) / EIGHTHS if is_float(a) else a for a in CASES[primal].args]
    if primal is ops.batch_norm_inference:
        args[4] = abs(args[4]) + 1  # a variance
    options, found = CASES[primal].options, {}
    for dtype in (np.float32, np.float64):
        own = [a.astype(dtype) if is_float(a) else a for a in args]
        y = primal(*own, **options)
        dy = np.asarray(numbers(0, "dy", np.shape(y), dtype) / dtype(EIGHTHS))
        found[dtype] = [y, *cotangents(primal, dy, own, options)]
    for single, double in zip(found[np.float32], found[np.float64], strict=True):
        assert (single is None) == (double is None)
        if single is not None:
            assert single.dtype == np.float32
            assert single.shape == double.shape
            if primal not in ROUND:
                assert_exact(single.astype(np.float64), double)


# --- Adjoint identities ----------------------------------------------------------------------------------------------

# Operator -> the arguments in which it is linear, but for a constant, and what other sizes or options make it exact.
LINEAR = {
    ops.add: ((0, 1), {}, {}),
    ops.multiply: ((0, 1), {}, {}),
    ops.scale: ((0,), {}, {"factor": 0.5}),
    ops.bias_add: ((0, 1), {}, {}),
    ops.dense: ((0, 1), {}, {}),
    ops.prelu: ((1,), {}, {}),
    ops.dropout: ((0,), {}, {}),
    ops.flatten: ((0,), {}, {}),
    ops.reshape: ((0,), {}, {}),
    ops.concat: ((0, 1), {}, {}),
    ops.pad: ((0,), {}, {}),
    ops.average_pool: ((0,), {}, {"size": (2, 4), "stride": 1, "padding": "valid"}),
    ops.global_average_pool: ((0,), {0: (2, 2, 4, 3)}, {}),
    ops.batch_norm: ((1, 2), {0: (1, 1, 2, 3)}, {"statistics": (np.zeros(3), np.full(3, 3.0)), "epsilon": 1.0}),
    ops.batch_norm_inference: ((0, 1, 2, 3), {}, {"epsilon": 1.0}),
    conv.conv2d: ((0, 1), {}, {}),
    conv_transpose.conv2d_transpose: ((0, 1), {}, {}),
    mask.combine_patterns: ((0,), {}, {}),
    mask.expand_groups: ((0,), {}, {}),
    mask.apply_enabled: ((0,), {}, {}),
    fourier.fft2: ((0,), {0: (1, 2, 4, 3)}, {}),
    fourier.inverse_fft2: ((0,), {0: (1, 2, 4, 2, 2)}, {}),
    csg.csg_kernel: ((0, 1), {}, {}),
    lean.stencil_kernel: ((0,), {}, {}),
    lean.lean_conv2d: ((0, 1, 2), {}, {}),
    circulant.circulant_kernel: ((0,), {}, {}),
    circulant.circulant_conv2d: ((0, 1), {0: (1, 4, 3, 4), 1: (3, 1, 2, 2, 2)}, {}),
    involution.involution: ((0, 1), {}, {}),
    xsepconv.symmetric_pad: ((0,), {}, {}),
    binary.scale_channels: ((0, 1), {}, {}),
}
STRAIGHT_THROUGH = {
    mask.step,
    mask.rigid_one_hot,
    mask.free_mask,
    mask.rigid_mask,
    mask.lhc_mask,
    nm.nm_kernel,
    binary.sign,
}
CURVED = {
    ops.relu, ops.clipped_relu, ops.sigmoid, ops.max_pool, ops.softmax, ops.softmax_cross_entropy, binary.block_scale,
    regularizer.density_penalty,
}  # fmt: skip
INEXACT = {implicit.implicit_diffusion}  # its own test solves the linear system back, within a bound


def test_every_operator_is_linear_or_said_to_be_none():
    assert LINEAR.keys() | STRAIGHT_THROUGH | CURVED | INEXACT == CASES.keys()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("primal", LINEAR, ids=lambda primal: primal.__name__)
def test_the_adjoint_identity_is_exact_on_whole_numbers(primal, dtype):
    """`<A x, dy> == <x, A* dy>`, A being the operator without its constant part."""
    linear, sizes, changed = LINEAR[primal]
    options = {**CASES[primal].options, **changed}
    if "statistics" in options:
        options["statistics"] = tuple(s.astype(dtype) for s in options["statistics"])
    args = [
        numbers(i, "argument", sizes.get(i, np.shape(a)), dtype) if is_float(a) else a
        for i, a in enumerate(CASES[primal].args)
    ]
    if primal is ops.batch_norm_inference:
        args[4] = np.full_like(args[4], 3)  # with epsilon 1 a root of 2
    y = primal(*args, **options)
    dy = numbers(9, "dy", y.shape, dtype)
    found = cotangents(primal, dy, args, options)
    for i in linear:
        constant = primal(*(0 * a if i == j else a for j, a in enumerate(args)), **options)
        assert np.abs(y - constant).max() > 0
        assert_adjoint(y - constant, dy, args[i], found[i])


# --- Kinks and ties --------------------------------------------------------------------------------------------------


def image(*values):
    return np.array(values, np.float64).reshape(1, 1, -1, 1)


RIGID_AT_EDGE = np.array([15.0] + [0.0] * 13 + [-15.0]).reshape(15, 1, 1) / 15  # of mean 0: the ends are at 1 and -1
HALF_KEPT = np.array([1.0, 0.0]).reshape(1, 1, 1, 2)

# Operator -> a point on its kink or tie, options, and the cotangent there for dy = 1.
KINKS = {
    ops.relu: ([image(0, -1, 2)], {}, image(0, 0, 1)),
    ops.prelu: ([image(0, -1, 2), np.array([0.5])], {}, image(0.5, 0.5, 1)),
    ops.clipped_relu: ([image(0, 1, 0.5)], {"limit": 1.0}, image(0, 0, 1)),
    ops.max_pool: ([image(3, 3, 1, 3)], {"size": (1, 4)}, image(1, 0, 0, 0)),
    mask.step: ([image(-1, 0, 1)], {}, image(0.1, 1, 0.1)),
    mask.rigid_one_hot: ([RIGID_AT_EDGE], {}, np.where(RIGID_AT_EDGE == 0, 1, 0.1)),
    mask.free_mask: (
        [image(-1, 0, 1)],
        {"c_in": 3, "c_out": 1, "group_in": 1, "group_out": 1},
        image(0.1, 1, 0.1),
    ),
    regularizer.density_penalty: (
        [HALF_KEPT],
        {"pixels": (7,), "target_density": 0.5},
        np.full(HALF_KEPT.shape, 0.01 / 2),
    ),
    nm.nm_kernel: ([image(2, -2, 2, 1)], {"n": 1, "m": 4, "decay": 0.5}, image(1, 1 - 1, 1 + 1, 1 + 0.5)),
    binary.sign: ([image(-1, 0, 1, 1.5)], {}, image(1, 1, 1, 0)),
    binary.block_scale: ([image(0, -3, 1, 2)], {}, image(0, -1, 1, 1)),
}
# The other masks are made of these steps; all else has no kink.
MADE_OF_STEPS = {mask.rigid_mask, mask.lhc_mask}
SMOOTH = (LINEAR.keys() - KINKS.keys()) | INEXACT | {ops.sigmoid, ops.softmax, ops.softmax_cross_entropy}


def test_every_operator_with_a_kink_has_its_closed_form():
    assert KINKS.keys() | MADE_OF_STEPS | SMOOTH == CASES.keys()


@pytest.mark.parametrize("primal", KINKS, ids=lambda primal: primal.__name__)
def test_the_derivative_at_a_kink_is_what_the_docstring_says(primal):
    args, options, want = KINKS[primal]
    y = primal(*args, **options)
    dx = cotangents(primal, np.ones(np.shape(y)), args, options)[0]
    assert_exact(np.asarray(dx), want)
