"""Places in the arena: what is alive together lies apart, and tensors begin where vectors want them to."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.buffers import ALIGN, LARGE, Lifetime, aligned_copy, aligned_empty, aligned_zeros, assign
from runtime.kernels.step import Kernel
from runtime.layout import LAYOUTS
from runtime.plan import build, draft
from tests.model_strategies import models
from tests.tolerances import assert_identical


@st.composite
def lifetimes(draw):
    """Tensors with sizes and lifetimes of every kind, also empty and one step long."""
    out = []
    for i in range(draw(st.integers(0, 12))):
        first = draw(st.integers(0, 8))
        out.append(Lifetime(f"t{i}", draw(st.integers(0, 200)), first, first + draw(st.integers(0, 6))))
    return out


@given(lifetimes())
def test_tensors_alive_together_do_not_overlap(tensors):
    offsets, size = assign(tensors)
    assert set(offsets) == {t.name for t in tensors}
    for t in tensors:
        assert offsets[t.name] % ALIGN == 0
        assert 0 <= offsets[t.name] <= offsets[t.name] + t.size <= size
        for other in tensors:
            together = t.first <= other.last and other.first <= t.last
            if t is not other and together and t.size and other.size:
                apart = (
                    offsets[t.name] + t.size <= offsets[other.name]
                    or offsets[other.name] + other.size <= offsets[t.name]
                )
                assert apart


@given(lifetimes())
def test_the_order_in_which_tensors_are_named_changes_nothing(tensors):
    assert assign(tensors) == assign(tensors[::-1])


def test_tensors_never_alive_together_share_memory():
    chain = [Lifetime(f"t{i}", 100, i, i + 1) for i in range(10)]
    assert assign(chain)[1] == 2 * 128


def test_no_tensor_needs_no_memory():
    assert assign([]) == ({}, 0)


@pytest.mark.parametrize("dtype", [np.float32, np.int32])
def test_memory_is_aligned_and_zero(dtype):
    for size in (0, 1, 33, 1000):
        array = aligned_zeros(size, dtype)
        assert array.dtype == dtype
        assert size == 0 or array.ctypes.data % 128 == 0
        assert_identical(array, np.zeros(size, dtype))
    parts = [np.arange(5, dtype=dtype), np.arange(3, dtype=dtype)]
    assert_identical(aligned_copy(parts, dtype), np.concatenate(parts))


@pytest.mark.parametrize("shape", [(0,), (3, 5), (LARGE // 4, 4), (2, 3, LARGE)])
def test_large_outputs_are_aligned(shape):
    arrays = [aligned_empty(shape) for _ in range(4)]
    for array in arrays:
        assert (array.shape, array.dtype, array.flags.c_contiguous) == (shape, np.float32, True)
        assert array.size < LARGE or array.ctypes.data % 128 == 0


IN_STEP = {  # operands of which each number is read last where, and before, the output's own is written
    Kernel.ADD: ("x_at", "residual_at"),
    Kernel.ACTIVATE: ("x_at",),
    Kernel.MAP: ("x_at", "residual_at"),  # the second only where both are one value
    Kernel.CONV_IMAGES: ("residual_at",),
    Kernel.CONV_CHANNELS: ("residual_at",),
    Kernel.DEPTHWISE: ("residual_at",),
}


@given(models(), st.sampled_from(LAYOUTS))
def test_a_step_never_writes_what_a_later_step_still_reads(spec, layout):
    """Replays a plan's steps on labels instead of numbers."""
    plan = build(spec, draft(spec, layout))
    labels, written = np.full(plan.arena_size, -1), {}
    inputs, outputs = len(plan.inputs), len(plan.steps) - len(plan.outputs)
    for n, step in enumerate(plan.steps):
        read = []
        if n >= inputs:
            for field in [field for field in ("x_at", "residual_at") if step[field] >= 0]:
                owner = int(labels[step[field]])
                start, stop = written[owner]
                assert step[field] == start
                assert (labels[start:stop] == owner).all()
                read.append((start, stop, field in IN_STEP.get(Kernel(step["kernel"]), ())))
        if n < outputs:
            blocks = -(-int(step["out_c"]) // int(step["out_block"]))
            size = blocks * int(step["oh"]) * int(step["ow"]) * int(step["out_pixel"])
            start, stop = int(step["out_at"]), int(step["out_at"]) + size
            assert 0 <= start <= stop <= plan.arena_size
            for first, last, in_step in read:
                assert stop <= first or last <= start or (in_step and (first, last) == (start, stop))
            labels[start:stop], written[n] = n, (start, stop)
