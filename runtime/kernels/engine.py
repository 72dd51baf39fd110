"""Runs the steps of a plan on threads: every worker walks the same list of steps and claims tasks by atomic counters.

A worker never waits for a task that nobody has claimed, so the run ends however few of the workers really run at once;
it waits only for tasks in the hands of a running thread. Tasks write disjoint parts of the arena: who runs which cannot
change a bit.
"""

import numba
import numpy as np

from runtime.kernels import other, tiles
from runtime.kernels.atomic import fetch_add, load_acquire, pause, yield_core
from runtime.kernels.conv import conv, conv_scattered
from runtime.kernels.options import kernel, parallel_kernel
from runtime.kernels.step import Kernel
from runtime.kernels.vector import CHANNELS, DEPTHWISE, IMAGES, marker

IMPORT, EXPORT, FLATTEN, SOFTMAX = int(Kernel.IMPORT), int(Kernel.EXPORT), int(Kernel.FLATTEN), int(Kernel.SOFTMAX)
CONV_IMAGES, CONV_CHANNELS, CONV_DEPTHWISE = int(Kernel.CONV_IMAGES), int(Kernel.CONV_CHANNELS), int(Kernel.DEPTHWISE)
CONV_SCATTERED = int(Kernel.CONV_SCATTERED)
MAX_POOL, AVERAGE_POOL, ADD, ACTIVATE = (
    int(Kernel.MAX_POOL),
    int(Kernel.AVERAGE_POOL),
    int(Kernel.ADD),
    int(Kernel.ACTIVATE),
)

_IMAGES, _CHANNELS = tiles.images_tiles(), tiles.channels_tiles()
I0, I1, I2 = (marker(t.outputs) for t in (_IMAGES[0], _IMAGES[-2], _IMAGES[-1]))
I0_SIZES, I1_SIZES, I2_SIZES = (tuple(map(marker, t.pixels)) for t in (_IMAGES[0], _IMAGES[-2], _IMAGES[-1]))
SCATTERED_SIZES = tuple(map(marker, tiles.scattered_tile().pixels))
C0, C1 = (marker(t.outputs) for t in _CHANNELS)
C0_SIZES, C1_SIZES = (tuple(map(marker, t.pixels)) for t in _CHANNELS)

SPINS = 2000  # pauses before a waiting thread offers its core: some tens of microseconds
COUNTER_STRIDE = 16  # int64 values: two cache lines apart


@kernel
def run_convolution(step, task, base, arena, weights, index):
    """One task of a convolution: picks the compiled kernel for the layer's tile."""
    outputs = step["tile_outputs"]
    if step["kernel"] == CONV_IMAGES:
        if outputs == len(I0):
            conv(IMAGES, I0, I0_SIZES, step, task, base, arena, weights, index)
        elif outputs == len(I1):
            conv(IMAGES, I1, I1_SIZES, step, task, base, arena, weights, index)
        else:
            conv(IMAGES, I2, I2_SIZES, step, task, base, arena, weights, index)
    elif step["kernel"] == CONV_CHANNELS:
        if outputs == len(C0):
            conv(CHANNELS, C0, C0_SIZES, step, task, base, arena, weights, index)
        else:
            conv(CHANNELS, C1, C1_SIZES, step, task, base, arena, weights, index)
    elif step["kernel"] == CONV_SCATTERED:
        conv_scattered(SCATTERED_SIZES, step, task, base, arena, weights, index)
    else:
        conv(DEPTHWISE, C1, C1_SIZES, step, task, base, arena, weights, index)


@kernel
def run_task(step, task, base, first, count, arena, weights, index):
    """One task of any step, for the image group whose arena begins at `base` and which holds images
    first..first+count-1.
    """
    kind = step["kernel"]
    if kind in (CONV_IMAGES, CONV_CHANNELS, CONV_DEPTHWISE, CONV_SCATTERED):
        run_convolution(step, task, base, arena, weights, index)
    elif kind == MAX_POOL:
        other.pool(True, step, task, base, arena)
    elif kind == AVERAGE_POOL:
        other.pool(False, step, task, base, arena)
    elif kind == ADD:
        other.elementwise(True, step, task, base, arena)
    elif kind == ACTIVATE:
        other.elementwise(False, step, task, base, arena)
    elif kind == FLATTEN:
        other.flatten(step, task, base, arena)
    elif kind == SOFTMAX:
        other.softmax(step, task, base, arena)
    elif kind == IMPORT:
        other.import_images(step, task, base, arena, first, count)
    elif kind == EXPORT:
        other.export_images(step, task, base, arena, first, count)


@kernel
def work_together(steps, groups, lanes, images, first_base, arena_size, arena, weights, index, counters):
    """One worker's part of a run in which all workers share each step: claim tasks, then wait for the step's last
    one.
    """
    for s in range(len(steps)):
        step = steps[s]
        tasks = step["tasks"]
        total = tasks * groups
        claimed, done = 2 * s * COUNTER_STRIDE, (2 * s + 1) * COUNTER_STRIDE
        mine = fetch_add(counters, claimed, 1)
        while mine < total:
            group = mine // tasks
            count = min(lanes, images - group * lanes)
            run_task(step, mine % tasks, first_base + group * arena_size, group * lanes, count, arena, weights, index)
            fetch_add(counters, done, 1)
            mine = fetch_add(counters, claimed, 1)
        waited = 0
        while load_acquire(counters, done) < total:
            waited += 1
            if waited < SPINS:
                pause()
            else:
                yield_core()


@kernel
def work_alone(steps, groups, lanes, images, base, arena, weights, index, counters):
    """One worker's part of a run in which each worker takes whole image groups through all steps."""
    group = fetch_add(counters, 0, 1)
    while group < groups:
        count = min(lanes, images - group * lanes)
        for s in range(len(steps)):
            for task in range(steps[s]["tasks"]):
                run_task(steps[s], task, base, group * lanes, count, arena, weights, index)
        group = fetch_add(counters, 0, 1)


@parallel_kernel
def run_together(workers, steps, groups, lanes, images, first_base, arena_size, arena, weights, index, counters):
    """One parallel region for the whole net, all workers on the same step."""
    for _ in numba.prange(workers):
        work_together(steps, groups, lanes, images, first_base, arena_size, arena, weights, index, counters)


@parallel_kernel
def run_apart(workers, steps, groups, lanes, images, first_base, arena_size, arena, weights, index, counters):
    """One parallel region for the whole net, each worker on image groups of its own."""
    for worker in numba.prange(workers):
        work_alone(steps, groups, lanes, images, first_base + worker * arena_size, arena, weights, index, counters)


def new_counters(steps: np.ndarray) -> np.ndarray:
    """Zeroed claim and completion counters for one run."""
    return np.zeros((2 * len(steps) + 1) * COUNTER_STRIDE, np.int64)
