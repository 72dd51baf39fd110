"""Runs plans on arrays: working memory, the places of a batch in it, and how workers share the work."""

from collections.abc import Mapping

import numpy as np

from runtime import pool
from runtime.buffers import aligned_zeros
from runtime.kernels import engine
from runtime.kernels.indirect import task_address
from runtime.kernels.machine import LANES
from runtime.plan import Border, Plan
from runtime.views import View

Receivers = Mapping[str, tuple[np.ndarray, View]]  # by the name of a value: the whole output array, how it lies
MAX_IDLE_ARENAS = 4
MAX_PLACED = 64  # batch sizes whose steps are kept
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
        self._placed: dict[tuple[Plan, int], np.ndarray] = {}

    def run(
        self,
        plan: Plan,
        inputs: Mapping[str, np.ndarray],
        outputs: Receivers,
        images: slice,
        workers: int,
        pin: str | None = None,
        timed: bool = False,
    ) -> np.ndarray:
        """Run some images of a batch through a plan.

        Parameters
        ----------
        inputs : f32[batch, ...] by the name of a value
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
        staging = count * sum(b.size for b in (*plan.inputs, *plan.outputs))
        arena_size = plan.arena_size + LANES
        first_base = -(-staging // LANES) * LANES
        arena = self.arenas.take(first_base + arena_size * (min(workers, groups) if apart else groups))
        times = engine.new_times(plan.steps, workers, apart) if timed else engine.NO_TIMES
        try:
            steps = self._steps_for(plan, count)
            for border in plan.inputs:
                _staged(arena, steps, border, count)[:] = inputs[border.name][images]
            shared = (
                steps,
                groups,
                plan.layout.lanes,
                count,
                first_base,
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
            for border in plan.outputs:
                array, view = outputs[border.name]
                array[images] = view.outward(_staged(arena, steps, border, count))
        finally:
            self.arenas.give(arena)
        return engine.step_seconds(times, len(steps), apart) if timed else np.zeros(0)

    def _steps_for(self, plan: Plan, count: int) -> np.ndarray:
        """The plan's steps with the places of so many images in the staging area; made once for each batch size."""
        key = (plan, count)
        steps = self._placed.get(key)
        if steps is None:
            steps = plan.steps.copy()
            steps["address"] = [task_address(row) for row in steps["row"].tolist()]
            _place(steps, plan.outputs, _place(steps, plan.inputs, 0, count), count)
            if len(self._placed) >= MAX_PLACED:
                self._placed.clear()
            self._placed[key] = steps
        return steps


def _place(steps: np.ndarray, borders: tuple[Border, ...], at: int, count: int) -> int:
    for border in borders:
        steps[border.step]["staging_at"] = at
        at += border.size * count
    return at


def _staged(arena: np.ndarray, steps: np.ndarray, border: Border, count: int) -> np.ndarray:
    at = int(steps[border.step]["staging_at"])
    return arena[at : at + border.size * count].reshape(count, *border.user_shape)
