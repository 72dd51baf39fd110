"""Runs the steps of a plan on threads: every worker walks the same list of steps and claims tasks by atomic counters.

A worker never waits for a task that nobody has claimed, so the run ends however few of the workers really run at once;
it waits only for tasks in the hands of a running thread. Tasks write disjoint parts of the arena: who runs which cannot
change a bit. Tasks are called through the address in their step, so that kernels are compiled once, and not once for
each way of running them.

What all workers share is one tuple: (steps, groups, lanes, images, arena_size, arena, weights,
index, counters, times). Numba takes it from Python in 5 us; as arguments in 7, as a NamedTuple in 11 (AVX2 server).
"""

import numpy as np

from runtime.kernels.atomic import fetch_add, load_acquire, pause, yield_core
from runtime.kernels.clock import now_ns
from runtime.kernels.indirect import call_task
from runtime.kernels.options import entry_kernel, kernel

SPINS = 2000  # pauses before a waiting thread offers its core: some tens of microseconds
COUNTER_STRIDE = 16  # int64 values: two cache lines apart
NO_TIMES = np.zeros((0, 0), np.int64)
GROUPS_CLAIMED, GROUPS_DONE = 0, COUNTER_STRIDE  # places among the counters where workers go apart


def new_counters(steps: np.ndarray, shares: int) -> np.ndarray:
    """Zeroed counters for one run: for each step the claimed tasks of each worker's share, and the done tasks of all;
    the last is the run's users.
    """
    return np.zeros((max(2, shares + 1) * len(steps) + 1) * COUNTER_STRIDE, np.int64)


@kernel
def wait_for(counters, place, count):
    """Until a counter has come to `count`: spin, then offer the core."""
    waited = 0
    while load_acquire(counters, place) < count:
        waited += 1
        if waited < SPINS:
            pause()
        else:
            yield_core()


@kernel
def work_together(worker, shared):
    """One worker's part of a run in which all workers share each step: claim tasks, then wait for the step's last
    one.

    Each claims its own share first, the same part of every step, whose inputs it has mostly made itself: they are in
    its core's caches. What others have not begun by then it claims too.
    """
    steps, groups, lanes, images, arena_size, arena, weights, index, counters, times = shared
    timed = len(times) > 0
    each = (len(counters) // COUNTER_STRIDE - 1) // len(steps)
    shares = each - 1
    for s in range(len(steps)):
        step = steps[s]
        tasks = step["tasks"]
        total = tasks * groups
        done = (s * each + shares) * COUNTER_STRIDE
        for k in range(shares):
            share = (worker + k) % shares
            begin, end = total * share // shares, total * (share + 1) // shares
            claimed = (s * each + share) * COUNTER_STRIDE
            mine = end
            if begin + load_acquire(counters, claimed) < end:  # no write where nothing is left: others read it
                mine = begin + fetch_add(counters, claimed, 1)
            while mine < end:
                if timed and s == 0 and times[0, 0] == 0:
                    times[0, 0] = now_ns()
                group = mine // tasks
                base, first = group * arena_size, group * lanes
                count = min(lanes, images - first)
                call_task(step["address"], step, mine % tasks, base, first, count, arena, weights, index)
                if timed:
                    times[0, s + 1] = now_ns()  # of the step's last task in the end
                fetch_add(counters, done, 1)
                mine = begin + fetch_add(counters, claimed, 1)
        wait_for(counters, done, total)


@kernel
def work_alone(worker, shared):
    """One worker's part of a run in which each worker takes whole image groups through all steps."""
    steps, groups, lanes, images, arena_size, arena, weights, index, counters, times = shared
    base = worker * arena_size
    timed = len(times) > 0
    before = now_ns() if timed else 0
    group = fetch_add(counters, GROUPS_CLAIMED, 1)
    while group < groups:
        first = group * lanes
        count = min(lanes, images - first)
        for s in range(len(steps)):
            for task in range(steps[s]["tasks"]):
                call_task(steps[s]["address"], steps[s], task, base, first, count, arena, weights, index)
            if timed:
                now = now_ns()
                times[worker, s] += now - before
                before = now
        fetch_add(counters, GROUPS_DONE, 1)
        group = fetch_add(counters, GROUPS_CLAIMED, 1)


@kernel
def work(worker, apart, shared):
    """One worker's part of a run, either way."""
    if apart:
        work_alone(worker, shared)
    else:
        work_together(worker, shared)


@entry_kernel
def run_alone(apart, shared):
    """A whole run on the calling thread."""
    work(0, apart, shared)


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
