"""Runs the steps of a plan on threads: every worker walks the same list of steps and claims tasks by atomic counters.

A worker never waits for a task that nobody has claimed, so the run ends however few of the workers really run at once;
it waits only for tasks in the hands of a running thread. Tasks write disjoint parts of the arena: who runs which cannot
change a bit. Tasks are called through the address in their step, so that kernels are compiled once, and not once for
each way of running them.
"""

import numba
import numpy as np

from runtime.kernels.atomic import fetch_add, load_acquire, pause, yield_core
from runtime.kernels.clock import now_ns
from runtime.kernels.indirect import call_task
from runtime.kernels.options import entry_kernel, parallel_kernel

SPINS = 2000  # pauses before a waiting thread offers its core: some tens of microseconds
COUNTER_STRIDE = 16  # int64 values: two cache lines apart
NO_TIMES = np.zeros((0, 0), np.int64)


@entry_kernel
def work_together(worker, steps, groups, lanes, images, first_base, arena_size, arena, weights, index, counters, times):
    """One worker's part of a run in which all workers share each step: claim tasks, then wait for the step's last
    one.
    """
    timed = len(times) > 0
    for s in range(len(steps)):
        step = steps[s]
        tasks = step["tasks"]
        total = tasks * groups
        claimed, done = 2 * s * COUNTER_STRIDE, (2 * s + 1) * COUNTER_STRIDE
        mine = fetch_add(counters, claimed, 1)
        while mine < total:
            if timed and s == 0 and mine == 0:
                times[0, 0] = now_ns()
            group = mine // tasks
            count = min(lanes, images - group * lanes)
            call_task(
                step["address"],
                step,
                mine % tasks,
                first_base + group * arena_size,
                group * lanes,
                count,
                arena,
                weights,
                index,
            )
            if timed:
                times[0, s + 1] = now_ns()  # of the step's last task in the end
            fetch_add(counters, done, 1)
            mine = fetch_add(counters, claimed, 1)
        waited = 0
        while load_acquire(counters, done) < total:
            waited += 1
            if waited < SPINS:
                pause()
            else:
                yield_core()


@entry_kernel
def work_alone(worker, steps, groups, lanes, images, first_base, arena_size, arena, weights, index, counters, times):
    """One worker's part of a run in which each worker takes whole image groups through all steps."""
    base = first_base + worker * arena_size
    timed = len(times) > 0
    before = now_ns() if timed else 0
    group = fetch_add(counters, 0, 1)
    while group < groups:
        count = min(lanes, images - group * lanes)
        for s in range(len(steps)):
            for task in range(steps[s]["tasks"]):
                call_task(steps[s]["address"], steps[s], task, base, group * lanes, count, arena, weights, index)
            if timed:
                now = now_ns()
                times[worker, s] += now - before
                before = now
        group = fetch_add(counters, 0, 1)


@parallel_kernel
def run_together(workers, steps, groups, lanes, images, first_base, arena_size, arena, weights, index, counters, times):
    """One parallel region for the whole net, all workers on the same step."""
    for worker in numba.prange(workers):
        work_together(
            worker,
            steps,
            groups,
            lanes,
            images,
            first_base,
            arena_size,
            arena,
            weights,
            index,
            counters,
            times,
        )


@parallel_kernel
def run_apart(workers, steps, groups, lanes, images, first_base, arena_size, arena, weights, index, counters, times):
    """One parallel region for the whole net, each worker on image groups of its own."""
    for worker in numba.prange(workers):
        work_alone(
            worker,
            steps,
            groups,
            lanes,
            images,
            first_base,
            arena_size,
            arena,
            weights,
            index,
            counters,
            times,
        )


def new_counters(steps: np.ndarray) -> np.ndarray:
    """Zeroed claim and completion counters for one run."""
    return np.zeros((2 * len(steps) + 1) * COUNTER_STRIDE, np.int64)


def new_times(steps: np.ndarray, workers: int, apart: bool) -> np.ndarray:
    """Where one run notes its times in nanoseconds, read by `step_seconds`.

    Workers that share each step note when the first began and when each step's last task was done, in one row; a
    worker that takes images through the whole net sums in a row of its own what each step took it.
    """
    return np.zeros((workers if apart else 1, len(steps) + COUNTER_STRIDE), np.int64)


def step_seconds(times: np.ndarray, steps: int, apart: bool) -> np.ndarray:
    """f64[steps]: each step's seconds of the wall clock; where workers go apart, the mean over them."""
    spent = times[:, :steps].mean(0) if apart else np.diff(times[0, : steps + 1])
    return spent / 1e9
