"""Runs plans on arrays: working memory, where the users' arrays lie, and how workers share the work."""

from collections.abc import Mapping

import numpy as np

from runtime import pool
from runtime.buffers import aligned_zeros
from runtime.kernels import engine
from runtime.kernels.indirect import task_address
from runtime.kernels.machine import LANES
from runtime.kernels.step import STEP, USER
from runtime.plan import Plan

MAX_IDLE_ARENAS = 4
STEP_CYCLES = 6_000.0  # of work in a step that make one more worker worth its waiting at the step's end


class Arenas:
    """Working memory between runs: a run takes an arena that is large enough, or a new one, and gives it back.

    Without a lock, which a fork could find locked: each step is one operation on a dict.
    """

    def __init__(self) -> None:
        self._idle: dict[int, np.ndarray] = {}

    def _by_size(self) -> list[np.ndarray]:
        return sorted(self._idle.copy().values(), key=lambda arena: arena.size)

    def take(self, size: int) -> np.ndarray:
        """f32[>= size] that nobody else uses. New memory is zero; used memory holds what the last run left."""
        for arena in self._by_size():
            if arena.size >= size and self._idle.pop(id(arena), None) is not None:
                return arena
        return aligned_zeros(size, np.float32)

    def give(self, arena: np.ndarray) -> None:
        """Keep an arena for the next run; the largest few are kept."""
        self._idle[id(arena)] = arena
        for surplus in self._by_size()[:-MAX_IDLE_ARENAS]:
            self._idle.pop(id(surplus), None)

    @property
    def bytes(self) -> int:
        """Memory of the idle arenas."""
        return sum(arena.nbytes for arena in self._by_size())


class Executor:
    """Runs plans of one model. Safe to use from several Python threads at once."""

    def __init__(self) -> None:
        self.arenas = Arenas()
        self._addressed: dict[Plan, np.ndarray] = {}

    def run(
        self,
        plan: Plan,
        inputs: Mapping[str, np.ndarray],
        outputs: Mapping[str, np.ndarray],
        images: slice,
        workers: int,
        pin: str | None = None,
        timed: bool = False,
    ) -> np.ndarray:
        """Run some images of a batch through a plan.

        Parameters
        ----------
        inputs, outputs : f32[batch, h, w, c] or f32[batch, features] by the name of a value, aligned, of any strides;
            no output shares memory with another array
        images : which of the batch
        workers, pin : how many may share the work, and whether they stay on cores of their own: see `pool.run`

        Returns
        -------
        f64[steps], seconds of each step as `engine.step_seconds` has them; empty unless `timed`.
        """
        count = images.stop - images.start
        groups = -(-count // plan.layout.lanes)
        workers = min(workers, 1 + int(plan.cycles * groups / (STEP_CYCLES * len(plan.steps))))
        apart = groups >= workers and (groups % workers == 0 or groups >= 4 * workers)
        arena_size = plan.arena_size + LANES
        arena = self.arenas.take(arena_size * (min(workers, groups) if apart else groups))
        times = engine.new_times(plan.steps, workers, apart) if timed else engine.NO_TIMES
        try:
            steps = self._steps_of(plan).copy()  # as numbers: of records NumPy copies each field by itself
            for borders, arrays in ((plan.inputs, inputs), (plan.outputs, outputs)):
                for border in borders:
                    steps[border.step, USER] = lying(arrays[border.name][images])
            shared = (
                steps.reshape(-1).view(STEP),
                groups,
                plan.layout.lanes,
                count,
                arena_size,
                arena,
                plan.weights,
                plan.index,
                engine.new_counters(steps, 1 if apart else workers),
                times,
            )
            if workers == 1:
                engine.run_alone(apart, shared)
            else:
                pool.run(workers, apart, shared, pin)
        finally:
            self.arenas.give(arena)
        return engine.step_seconds(times, len(steps), apart) if timed else np.zeros(0)

    def _steps_of(self, plan: Plan) -> np.ndarray:
        """i64[steps, fields]: the plan's steps with the addresses of their kernels; made at its first run."""
        if plan not in self._addressed:
            steps = plan.steps.copy()
            steps["address"] = [task_address(row) for row in steps["row"].tolist()]
            self._addressed[plan] = steps.view(np.int64).reshape(len(steps), -1)
        return self._addressed[plan]


def lying(array: np.ndarray) -> tuple[int, ...]:
    """What a step tells of a user's f32[n, h, w, c] or f32[n, features], aligned: the address and extent of its memory,
    where the first number lies there, and the strides. Negative strides: the memory begins before the first number.
    """
    strides = [stride // 4 for stride in array.strides]
    ends = [(size - 1) * stride for size, stride in zip(array.shape, strides, strict=True)]
    before = -sum([end for end in ends if end < 0])
    if len(strides) == 2:
        strides[1:1] = (0, 0)
    return (array.ctypes.data - 4 * before, sum(ends) + 2 * before + 1, before, *strides)
