"""Every operator of the tape's table has its derivative checked, and its check is seen to fail on a planted error.

Estimators of steps are checked against the surrogates that are declared beside them.
"""

import importlib
import pkgutil
import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import pytest

import lhc_ref.related
from lhc_ref import conv, conv_transpose, mask, ops, regularizer
from lhc_ref.inference import DEFINITIONS
from lhc_ref.related import binary, circulant, csg, fourier, implicit, involution, lean, nm, steps, xsepconv
from lhc_ref.tape import VJPS
from tests.lhc_ref.derivatives import assert_derivatives

RNG = np.random.default_rng(20)
GROUPS = {"c_in": 5, "c_out": 3, "group_in": 2, "group_out": 4}  # short groups on both sides


def real(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape)


def off_kinks(*shape: int) -> np.ndarray:
    """Numbers further than 1/16 from 0, from 1 and from -1, on all sides of them."""
    return RNG.choice([-1.6, -1.3, -0.7, -0.3, 0.3, 0.7, 1.3, 1.6], shape) + RNG.uniform(-0.1, 0.1, shape)


def apart(*shape: int) -> np.ndarray:
    """Numbers that lie further than 1/16 from each other."""
    return RNG.permutation(np.prod(shape)).reshape(shape) * 0.3


class Case(NamedTuple):
    args: list[Any]
    options: Mapping[str, Any] = MappingProxyType({})
    surrogate: Callable[..., np.ndarray] | None = None


SCORES, RIGID = off_kinks(3, 3, 3, 1), 3 * real(15, 3, 1)
while (abs(abs(RIGID - RIGID.mean(axis=0)) - 1) < 0.1).any():
    RIGID = 3 * real(15, 3, 1)
CENTRE = RIGID.mean(axis=0)
ENABLED = np.array([True, False, True])


def free_surrogate(scores, enabled=None, **groups):
    made = mask.expand_groups(mask.step_surrogate(scores), **{k: v for k, v in groups.items() if k != "kind"})
    return made if enabled is None else mask.apply_enabled(made, enabled)


def rigid_surrogate(scores, **groups):
    return mask.expand_groups(mask.combine_patterns(mask.rigid_one_hot_surrogate(scores, CENTRE)), **groups)


X, SMALL = real(2, 5, 4, 3), real(2, 4)
CASES: dict[Callable, Case] = {
    ops.relu: Case([off_kinks(3, 4)]),
    ops.add: Case([real(3, 2), real(3, 2)]),
    ops.multiply: Case([real(3, 2), real(3, 2)]),
    ops.scale: Case([real(3, 2)], {"factor": 0.7}),
    ops.bias_add: Case([real(2, 3, 4), real(4)]),
    ops.dense: Case([real(3, 4), real(4, 2)]),
    ops.prelu: Case([off_kinks(2, 3, 4), real(4)]),
    ops.clipped_relu: Case([off_kinks(3, 4)], {"limit": 1.0}),
    ops.sigmoid: Case([real(3, 4)]),
    ops.dropout: Case([real(3, 4), RNG.random((3, 4)) < 0.5], {"rate": 0.5}),
    ops.flatten: Case([real(2, 2, 3)]),
    ops.reshape: Case([real(2, 6)], {"shape": (3, 4)}),
    ops.concat: Case([real(2, 3), real(2, 1)]),
    ops.pad: Case([real(2, 3)], {"widths": ((0, 1), (2, 0)), "value": 3.0}),
    ops.max_pool: Case([apart(1, 5, 4, 2)], {"size": 3, "stride": 2, "padding": "same"}),
    ops.average_pool: Case([real(1, 5, 4, 2)], {"size": 3, "stride": 2, "padding": "same"}),
    ops.global_average_pool: Case([X]),
    ops.batch_norm: Case([X, real(3), real(3)]),
    ops.batch_norm_inference: Case([X, real(3), real(3), real(3), 1 + RNG.random(3)]),
    ops.softmax: Case([SMALL]),
    ops.softmax_cross_entropy: Case([SMALL, np.array([3, 0])], {"smoothing": 0.1}),
    conv.conv2d: Case([X, real(3, 2, 3, 2)], {"stride": (2, 1), "dilation": (1, 2)}),
    conv_transpose.conv2d_transpose: Case([real(1, 3, 3, 4), real(3, 2, 2, 4)], {"stride": 2, "groups": 2}),
    mask.step: Case([SCORES], surrogate=mask.step_surrogate),
    mask.rigid_one_hot: Case([RIGID], surrogate=lambda scores: mask.rigid_one_hot_surrogate(scores, CENTRE)),
    mask.combine_patterns: Case([real(15, 2, 1)]),
    mask.expand_groups: Case([real(1, 2, 3, 1)], GROUPS),
    mask.free_mask: Case([SCORES], GROUPS, free_surrogate),
    mask.rigid_mask: Case([RIGID], GROUPS, rigid_surrogate),
    mask.apply_enabled: Case([real(1, 1, 2, 3), ENABLED]),
    mask.lhc_mask: Case([SCORES, ENABLED], {"kind": "free", **GROUPS}, free_surrogate),
    regularizer.density_penalty: Case([real(1, 2, 2, 1), real(1, 1, 3, 1)], {"pixels": (4, 9), "target_density": 3.0}),
    fourier.fft2: Case([real(1, 3, 4, 2)]),
    fourier.inverse_fft2: Case([real(1, 3, 4, 2, 2)]),
    csg.csg_kernel: Case([real(4, 3), real(12, 3)], {"slice_shape": (3, 2, 2, 1), "c_in": 3, "c_out": 4}),
    lean.stencil_kernel: Case([real(4, 2, 2)], {"stencil": "4-point"}),
    lean.lean_conv2d: Case([real(1, 4, 4, 4), real(5, 2, 4), real(1, 1, 4, 4)], {"stencil": "5-point", "stride": 2}),
    circulant.circulant_kernel: Case([real(1, 2, 1, 2, 3)]),
    circulant.circulant_conv2d: Case([real(1, 4, 3, 6), real(3, 1, 2, 1, 3)]),
    implicit.implicit_diffusion: Case([real(1, 4, 3, 2), real(3, 3, 1, 2)], {"h": 0.5}),
    nm.nm_kernel: Case([real(1, 1, 6, 2)], {"n": 2, "m": 4, "decay": 0.0}, lambda kernel, **_: nm.nm_surrogate(kernel)),
    involution.involution: Case([real(1, 4, 3, 4), real(1, 2, 2, 18)], {"size": 3, "stride": 2}),
    xsepconv.symmetric_pad: Case([real(1, 2, 3, 4)]),
    binary.sign: Case([off_kinks(3, 4)], surrogate=binary.sign_surrogate),
    binary.block_scale: Case([off_kinks(2, 2, 2, 2)], {"block": (0, 1, 2, 1)}),
    binary.scale_channels: Case([real(2, 2, 2, 3), real(2, 3)]),
}


def test_every_operator_has_a_case():
    for module in pkgutil.iter_modules(lhc_ref.related.__path__, "lhc_ref.related."):
        importlib.import_module(module.name)
    assert {primal for primal in VJPS if primal.__module__.startswith("lhc_ref.")} == set(CASES)


COMPOSED = [
    binary.binary_conv2d, binary.gate, binary.real_to_binary, xsepconv.xsepconv, steps.parabolic_step,
    steps.diffusion_reaction_step, steps.imex_step, involution.involution_kernels,
]  # fmt: skip


# Definitions without a derivative: nobody trains with them. In an order that is the same in every process.
IN_FILES = [primal for primal in DEFINITIONS.values() if primal not in CASES]


@pytest.mark.parametrize("primal", [*CASES, *COMPOSED, *IN_FILES], ids=lambda primal: primal.__name__)
def test_docstring_has_formula_shapes_cost_and_source(primal):
    text = primal.__doc__
    assert "`" in text
    assert re.search(r"\bf\[", text)
    assert re.search(r"\bCost(:|, )", text)
    assert "ource: " in text or "source as for" in text


@pytest.mark.parametrize("module", [lean, steps, xsepconv, binary], ids=lambda module: module.__name__)
def test_what_is_only_our_reading_is_called_a_hypothesis(module):
    assert "Hypothesis: " in module.__doc__


@pytest.mark.parametrize("primal", CASES, ids=lambda primal: primal.__name__)
def test_derivative(primal):
    case, vjp = CASES[primal], VJPS[primal]

    def whole(dy, *args, **options):
        return (
            tuple(part(dy, *args, **options) for part in vjp) if isinstance(vjp, tuple) else vjp(dy, *args, **options)
        )

    y = primal(*case.args, **case.options)
    cotangents = whole(np.zeros_like(y), *case.args, **case.options)
    # Nothing is left unchecked by being None.
    assert [d is not None for d in cotangents] == [a.dtype == np.float64 for a in case.args]
    assert_derivatives(case.surrogate or primal, whole, case.args, options=case.options)
