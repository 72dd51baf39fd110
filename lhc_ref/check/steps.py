"""The choices that make up a layer, as functions: the reference's, each of which a known mistake can replace."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from lhc_ref import handmade, mask
from lhc_ref.check.cases import Array, Arrays, Case
from lhc_ref.regularizer import density_penalty, density_penalty_vjp

SR_STE_DECAY = 2e-4


@dataclass(frozen=True)
class Steps:
    """The choices that make up a layer; the defaults are right. Kernels are HWIO, activations NHWC."""

    pads: Callable[[Case], Any] = lambda case: case.pads
    stride: Callable[[Case], Any] = lambda case: (case.sy, case.sx)
    dilation: Callable[[Case], Any] = lambda case: (case.ry, case.rx)
    read_x: Callable[[Array, Case], Array] = lambda x, case: x
    write_dx: Callable[[Array, Case], Array] = lambda dx, case: dx  # the adjoint of read_x
    read_weight: Callable[[Array], Array] = lambda kernel: kernel  # before it is masked
    write_dweight: Callable[[Array], Array] = lambda dkernel: dkernel  # the adjoint of read_weight
    read_kernel: Callable[[Array], Array] = lambda kernel: kernel  # as the forward pass uses it
    write_dkernel: Callable[[Array], Array] = lambda dkernel: dkernel  # the adjoint of read_kernel
    kernel_of_dx: Callable[[Array], Array] = lambda kernel: kernel
    after: Callable[[Array], Array] = lambda y: y
    after_vjp: Callable[[Array, Array], Array] = lambda dy, y: dy
    add_bias: Callable[[Array, Array], Array] = lambda y, bias: y + bias
    dbias: Callable[[Array, Array], Array] = lambda dy, bias: dy.sum(axis=(0, 1, 2))
    step: Callable[[Array], Array] = mask.step
    slope: Callable[[Array], Array] = lambda scores: np.where(np.abs(scores) < 1, 1.0, 0.1)
    one_hot: Callable[[Array], Array] = mask.rigid_one_hot
    rigid_slope: Callable[[Array], Array] = lambda s: np.where(np.abs(s - s.mean(axis=0)) < 1, 1.0, 0.1)
    center_vjp: Callable[[Array, Array], Array] = lambda dscores, scores: dscores
    patterns: Array | None = None
    expand: Callable[[Array, Case], Array] = lambda patterns, case: mask.expand_groups(patterns, **groups(case))
    collect: Callable[[Array, Case], Array] = lambda dmask, case: sum_groups(dmask, case)
    enable: Callable[[Array, Array], Array] = lambda m, enabled: mask.apply_enabled(m, enabled)
    enable_vjp: Callable[[Array, Array], Array] = lambda dm, enabled: np.where(enabled, dm, 0.0)
    combine: Callable[[Array, Array], Array] = lambda kernel, m: kernel * m
    dkernel: Callable[[Array, Array, Array], Array] = lambda dmasked, m, patterns_only: m * dmasked
    dmask: Callable[[Array, Array, Array], Array] = lambda dmasked, kernel, m: kernel * dmasked
    mask_for_dx: Callable[[Array], Array] = lambda m: m
    hetconv: Callable[[Case], Array] = lambda case: hetconv_mask(case)
    nm: Callable[[Array, Case], Array] = lambda kernel, case: nm_mask(kernel, case)
    decay: Callable[[Array, Array], Array] = lambda kernel, m: SR_STE_DECAY * (1 - m) * kernel
    nm_dkernel: Callable[[Array, Array], Array] = lambda dmasked, m: dmasked
    generate: Callable[[Array, Array, Case], Array] = lambda codes, generator, case: arrange(codes @ generator.T, case)
    slices: Callable[[Array, Case], Array] = lambda dkernel, case: slices_of(dkernel, case)
    penalty: Callable[..., Any] = density_penalty
    penalty_vjp: Callable[..., Any] = density_penalty_vjp
    operands: Callable[[Array, Case], Array] = lambda a, case: a  # what arithmetic sees of x, the kernel and dy
    seen: Callable[[Array, Case], Array] = lambda x, case: strided(x, case)  # by lean's 1x1
    seen_vjp: Callable[[Array, Case], Array] = lambda dseen, case: strided_vjp(dseen, case)
    finish: Callable[[Arrays, Case], Arrays] = lambda tensors, case: tensors


CORRECT = Steps()


# --- Definitions that lhc_ref has no operator for ---------------------------------------------------------------------


def groups(case: Case) -> dict[str, int]:
    return {"c_in": case.ci, "c_out": case.co, "group_in": case.gi, "group_out": case.go}


def sum_groups(dmask: Array, case: Case) -> Array:
    patterns_like = np.empty((case.kh, case.kw, *case.group_counts))
    return mask.expand_groups_vjp(np.ascontiguousarray(dmask), patterns_like, **groups(case))[0]


def hetconv_mask(case: Case) -> Array:
    return handmade.hetconv((case.kh, case.kw), case.ci, case.co, p=case.p).astype(np.float64)


def nm_mask(kernel: Array, case: Case, kept: Callable[[int], int] | None = None) -> Array:
    """Of every m weights along the input channels the N largest; a short last run of k keeps ceil(N*k/m), or `kept`."""
    m = np.zeros(kernel.shape)
    for start in range(0, case.ci, case.m):
        run = np.abs(kernel[:, :, start : start + case.m])
        keep = kept(run.shape[2]) if kept else -(-case.s * run.shape[2] // case.m)
        order = np.argsort(-run, axis=2, kind="stable")
        np.put_along_axis(m[:, :, start : start + case.m], order[:, :, :keep], 1.0, axis=2)
    return m


def arrange(rows: Array, case: Case) -> Array:
    """[slices, s*s*kh*kw] as OIHW row-major, cropped, and turned to HWIO."""
    outs, ins = (-(-c // case.s) * case.s for c in (case.co, case.ci))
    oihw = rows.reshape(outs, ins, case.kh, case.kw)[: case.co, : case.ci]
    return np.ascontiguousarray(oihw.transpose(2, 3, 1, 0))


def slices_of(dkernel: Array, case: Case) -> Array:
    """The adjoint of `arrange`: zero in the cropped part."""
    outs, ins = (-(-c // case.s) * case.s for c in (case.co, case.ci))
    whole = np.zeros((outs, ins, case.kh, case.kw))
    whole[: case.co, : case.ci] = dkernel.transpose(3, 2, 0, 1)
    return whole.reshape(-1, case.s * case.s * case.kh * case.kw)


def strided(x: Array, case: Case, offset: tuple[int, int] = (0, 0)) -> Array:
    """Each stride's pixel at `offset`; zeros beyond the image."""
    (oh, ow), (down, right) = case.output_hw, offset
    padded = np.pad(x, ((0, 0), (0, case.sy), (0, case.sx), (0, 0)))
    return np.ascontiguousarray(padded[:, down :: case.sy, right :: case.sx][:, :oh, :ow])


def strided_vjp(dseen: Array, case: Case, offset: tuple[int, int] = (0, 0)) -> Array:
    """The adjoint of `strided`."""
    (oh, ow), (down, right) = case.output_hw, offset
    dx = np.zeros((case.n, oh * case.sy + case.sy, ow * case.sx + case.sx, case.ci))
    dx[:, down :: case.sy, right :: case.sx][:, :oh, :ow] = dseen
    return dx[:, : case.h, : case.w]
