"""A loaded model: runs arrays through its plans."""

import os
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from lhc_ref import modelfile
from lhc_ref.modelfile import InputError, ModelSpec
from runtime import threads as threading_facts
from runtime.buffers import aligned_zeros
from runtime.explain import Explanation
from runtime.kernels import engine
from runtime.kernels.indirect import task_address
from runtime.kernels.machine import LANES
from runtime.layout import CHANNELS, IMAGES, Layout
from runtime.onnx import importer, is_onnx
from runtime.plan import Border, Draft, Plan, build, draft
from runtime.views import View

Arrays = np.ndarray | Mapping[str, np.ndarray]
Views = tuple[Mapping[str, View], Mapping[str, View]]  # of inputs and of outputs, by the names that users know
MAX_IDLE_ARENAS = 4
MAX_PLACED = 64  # batch sizes whose steps are kept
STEP_CYCLES = 6_000.0  # of work in a step that make one more worker worth its waiting at the step's end


class Arenas:
    """Working memory between runs: a run takes an arena that is large enough, or a new one, and gives it back."""

    def __init__(self) -> None:
        self._idle: list[np.ndarray] = []
        self._lock = threading.Lock()

    def take(self, size: int) -> np.ndarray:
        """f32[>= size] that nobody else uses. New memory is zero; used memory holds what the last run left."""
        with self._lock:
            fitting = sorted((a for a in self._idle if a.size >= size), key=lambda a: a.size)
            if fitting:
                self._idle = [a for a in self._idle if a is not fitting[0]]
                return fitting[0]
        return aligned_zeros(size, np.float32)

    def give(self, arena: np.ndarray) -> None:
        """Keep an arena for the next run; the largest few are kept."""
        with self._lock:
            self._idle = sorted([*self._idle, arena], key=lambda a: -a.size)[:MAX_IDLE_ARENAS]

    @property
    def bytes(self) -> int:
        """Memory of the idle arenas."""
        return sum(a.nbytes for a in self._idle)


class Model:
    """A model, planned once and run many times. Made by `runtime.load`.

    Safe to run from several Python threads at once; the interpreter lock is released while kernels run. For one batch
    size the result does not depend on the number of threads, to the last bit.

    A weight that does not exist is skipped: NaN or infinity in an input that only missing weights would read does not
    reach the output. Where another output channel of the same register tile keeps the (tap, input) pair, the missing
    weight is a stored zero, and 0 * NaN is NaN; `explain()` shows how many such products a layer computes (computed
    against executed). A depthwise layer on a single image computes all its taps.
    """

    def __init__(self, spec: ModelSpec, source: "Source | None" = None, views: Views | None = None) -> None:
        self.spec, self.source = modelfile.validate(spec), source
        self.views = views or views_of(self.spec, View.same)
        self._input_views, self._output_views = self.views
        self._outputs_by_value = {view.value: name for name, view in self._output_views.items()}
        self._drafts: dict[str, Draft] = {}
        self._plans: dict[str, Plan] = {}
        self._plan_lock = threading.RLock()
        self._placed: dict[tuple[str, int], np.ndarray] = {}
        self._arenas = Arenas()

    def plan(self, layout: Layout) -> Plan:
        """The plan for a layout; made at first use."""
        with self._plan_lock:
            if layout.name not in self._plans:
                self._plans[layout.name] = build(self.spec, self._draft(layout))
            return self._plans[layout.name]

    def _draft(self, layout: Layout) -> Draft:
        with self._plan_lock:
            if layout.name not in self._drafts:
                self._drafts[layout.name] = draft(self.spec, layout)
            return self._drafts[layout.name]

    def layouts(self, batch: int) -> list[tuple[Layout, int]]:
        """How a batch is cut: (layout, number of images) in order; each part goes the way that the cost model finds
        cheaper. A single image always goes by itself.
        """
        whole, rest = batch // LANES * LANES, batch % LANES
        if batch <= 1:
            return [(CHANNELS, batch)] if batch else []
        group, single = self._draft(IMAGES).cycles, self._draft(CHANNELS).cycles
        if group > LANES * single:
            return [(CHANNELS, batch)]
        if rest and group <= rest * single:
            whole, rest = batch, 0
        return [part for part in ((IMAGES, whole), (CHANNELS, rest)) if part[1]]

    def run(
        self, x: Arrays, *, threads: int | None = None, out: Arrays | None = None
    ) -> np.ndarray | dict[str, np.ndarray]:
        """Run a batch.

        Parameters
        ----------
        x : f32[n, ...input shape], or one such array for each input by name; any strides, not modified. Images are
            NHWC, or as ONNX has them in a model that was loaded from ONNX: see `load`
        threads : how many cores to use; None: all that are available
        out : f32[n, ...output shape] (or by name), written in place of a new array

        Returns
        -------
        f32[n, ...output shape]; a dict by name if the model has several outputs.

        Raises
        ------
        InputError
            An array of another dtype or shape, a missing or unknown name, fewer than one thread.
        """
        workers = threading_facts.resolve(threads)
        inputs, batch = self._check_inputs(x)
        outputs = self._check_outputs(out, batch)
        at = 0
        for layout, count in self.layouts(batch):
            self._run_part(self.plan(layout), inputs, outputs, at, count, workers)
            at += count
        return outputs if len(outputs) > 1 else next(iter(outputs.values()))

    def _check_inputs(self, x: Arrays) -> tuple[dict[str, np.ndarray], int]:
        names = list(self._input_views)
        given = dict(x) if isinstance(x, Mapping) else {names[0]: x}
        if sorted(given) != sorted(names):
            raise InputError(
                f"inputs: expected arrays named {sorted(names)}, got {sorted(given)}. "
                "Pass a dict with one array for each."
            )
        for name, view in self._input_views.items():
            _check_array(f"input {name!r}", given[name], view.shape)
        sizes = {a.shape[0] for a in given.values()}
        if len(sizes) > 1:
            raise InputError(
                f"inputs: expected one batch size, got {sorted(sizes)}. Pass arrays with equal first axes."
            )
        return {view.value: view.inward(given[name]) for name, view in self._input_views.items()}, sizes.pop()

    def _check_outputs(self, out: Arrays | None, batch: int) -> dict[str, np.ndarray]:
        shapes = {name: view.shape for name, view in self._output_views.items()}
        if out is None:
            return {name: np.empty((batch, *shape), np.float32) for name, shape in shapes.items()}
        given = dict(out) if isinstance(out, Mapping) else {next(iter(shapes)): out}
        if sorted(given) != sorted(shapes):
            raise InputError(
                f"out: expected arrays named {sorted(shapes)}, got {sorted(given)}. Pass one for each output."
            )
        for name, array in given.items():
            _check_array(f"out {name!r}", array, shapes[name])
            if array.shape[0] != batch:
                raise InputError(f"out {name!r}: expected {batch} images, got {array.shape[0]}. Allocate it anew.")
            if not array.flags.writeable:
                raise InputError(f"out {name!r}: expected a writeable array, got a read-only one. Allocate it anew.")
        return given

    def _run_part(self, plan: Plan, inputs: dict, outputs: dict, first: int, count: int, workers: int) -> None:
        groups = -(-count // plan.layout.lanes)
        workers = min(workers, 1 + int(plan.cycles * groups / (STEP_CYCLES * len(plan.steps))))
        apart = groups >= workers and (groups % workers == 0 or groups >= 4 * workers)
        staging = count * sum(b.size for b in (*plan.inputs, *plan.outputs))
        arena_size = plan.arena_size + LANES
        first_base = -(-staging // LANES) * LANES
        arena = self._arenas.take(first_base + arena_size * (min(workers, groups) if apart else groups))
        try:
            steps = self._steps_for(plan, count)
            for border in plan.inputs:
                _staged(arena, steps, border, count)[:] = inputs[border.name][first : first + count]
            self._execute(plan, steps, groups, count, first_base, arena_size, arena, workers, apart)
            for border in plan.outputs:
                name = self._outputs_by_value[border.name]
                made = _staged(arena, steps, border, count)
                outputs[name][first : first + count] = self._output_views[name].outward(made)
        finally:
            self._arenas.give(arena)

    def _steps_for(self, plan: Plan, count: int) -> np.ndarray:
        """The plan's steps with the places of so many images in the staging area; made once for each batch size."""
        key = (plan.layout.name, count)
        steps = self._placed.get(key)
        if steps is None:
            steps = plan.steps.copy()
            _place(steps, plan.outputs, _place(steps, plan.inputs, 0, count), count)
            if len(self._placed) >= MAX_PLACED:
                self._placed.clear()
            self._placed[key] = steps
        return steps

    def _execute(
        self,
        plan: Plan,
        steps: np.ndarray,
        groups: int,
        count: int,
        first_base: int,
        arena_size: int,
        arena: np.ndarray,
        workers: int,
        apart: bool,
    ) -> None:
        counters = engine.new_counters(steps)
        shared = (
            task_address(),
            steps,
            groups,
            plan.layout.lanes,
            count,
            first_base,
            arena_size,
            arena,
            plan.weights,
            plan.index,
            counters,
        )
        work, region = (engine.work_alone, engine.run_apart) if apart else (engine.work_together, engine.run_together)
        threading_facts.run(workers, lambda n: region(n, *shared), lambda: work(0, *shared))

    def explain(self, batch: int = 64) -> Explanation:
        """What each layer runs and why, for a batch size; `str()` gives the table, `.rows` the facts, `.json()`
        JSON.
        """
        if not isinstance(batch, int) or isinstance(batch, bool) or batch < 1:
            raise InputError(f"batch: expected a whole number of at least 1, got {batch!r}. Try 1 or 64.")
        parts = self.layouts(batch)
        layout = parts[0][0]
        return Explanation(batch, layout.name, self.plan(layout).facts, self.plan(layout).bytes)

    def as_stored(self) -> "Model":
        """The model for arrays that lie as in the model file, NHWC: itself, or another with plans of its own."""
        if self.views == views_of(self.spec, View.same):
            return self
        return Model(self.spec, None if self.source is None else replace(self.source, layout="NHWC"))

    @property
    def path(self) -> Path | None:
        """The file that it was loaded from, if it was."""
        return None if self.source is None else Path(self.source.path)

    def __enter__(self) -> "Model":
        return self

    def __exit__(self, *_: object) -> None:
        self._arenas = Arenas()

    def __reduce__(self) -> tuple:
        if self.source is None:
            raise TypeError(
                "a model that was not loaded from a file cannot be pickled. Save it with lhc_ref.modelfile.save first."
            )
        return _load, (self.source,)


def views_of(spec: ModelSpec, make: Callable[[str, tuple[int, ...]], View]) -> Views:
    """A view of each input and of each output, by the model's names."""
    shapes = modelfile.infer_shapes(spec)
    inputs = {entry.name: make(entry.name, entry.shape) for entry in spec.inputs}
    return inputs, {name: make(name, shapes[name]) for name in spec.outputs}


@dataclass(frozen=True)
class Source:
    """What a model was loaded from, and how."""

    path: str
    layout: str | None = None
    shapes: Mapping[str, tuple[int, ...]] | None = None
    constants: Mapping[str, np.ndarray] | None = None


def load(
    path: str | os.PathLike,
    *,
    layout: str | None = None,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
    constants: Mapping[str, np.ndarray] | None = None,
) -> Model:
    """Load a model file or an ONNX file.

    Parameters
    ----------
    path : a file written by `lhc-ref export` or `lhc_ref.modelfile.save`; or one that ends in `.onnx`, for which the
        extra `onnx` must be installed
    layout : how arrays lie: "NHWC", or "NCHW", which for ONNX files is ONNX's own shape of each input and output. None
        is "NCHW" for ONNX files and "NHWC" for model files
    shapes : ONNX files: ONNX's shape without the batch, of inputs whose sizes are symbolic, by name
    constants : ONNX files: arrays for inputs that shall be constants, by name

    Returns
    -------
    Model
        Planned at the first run or `explain` of a batch size.

    Raises
    ------
    ModelFileError
        The file cannot be read, or what is in it isn't a valid model, or cannot be run: then each node that cannot is
        named with the reason.
    InputError
        Another layout; shapes or constants for a model file.
    """
    return _load(Source(str(Path(path).absolute()), layout, shapes, constants))


def _load(source: Source) -> Model:
    if source.layout not in (None, "NHWC", "NCHW"):
        raise InputError(f"layout: expected 'NHWC' or 'NCHW', got {source.layout!r}. Leave it out for the file's own.")
    if is_onnx(source.path):
        found = importer.load(source.path, shapes=source.shapes, constants=source.constants)
        return Model(found.spec, source, None if source.layout == "NHWC" else (found.inputs, found.outputs))
    if source.shapes or source.constants:
        raise InputError("shapes, constants: expected an ONNX file with them, got a model file. Leave them out.")
    spec = modelfile.load(source.path)
    return Model(spec, source, views_of(spec, View.nchw) if source.layout == "NCHW" else None)


def _check_array(what: str, array: object, shape: tuple[int, ...]) -> None:
    if (
        not isinstance(array, np.ndarray)
        or array.dtype != np.float32
        or array.ndim != len(shape) + 1
        or array.shape[1:] != shape
    ):
        got = f"{array.dtype}{list(array.shape)}" if isinstance(array, np.ndarray) else type(array).__name__
        raise InputError(
            f"{what}: expected float32[n, {', '.join(map(str, shape))}], got {got}. "
            "Convert it with numpy.asarray(x, numpy.float32) and put the batch first."
        )


def _place(steps: np.ndarray, borders: tuple[Border, ...], at: int, count: int) -> int:
    for border in borders:
        steps[border.step]["staging_at"] = at
        at += border.size * count
    return at


def _staged(arena: np.ndarray, steps: np.ndarray, border: Border, count: int) -> np.ndarray:
    at = int(steps[border.step]["staging_at"])
    return arena[at : at + border.size * count].reshape(count, *border.user_shape)
