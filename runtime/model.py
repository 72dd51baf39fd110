"""A loaded model: runs arrays through its plans."""

import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from lhc_ref import modelfile
from lhc_ref.modelfile import InputError, ModelSpec
from runtime.execute import Executor, Receivers
from runtime.explain import Explanation
from runtime.kernels.machine import LANES
from runtime.layout import CHANNELS, IMAGES, Layout
from runtime.onnx import importer, is_onnx
from runtime.plan import Draft, Plan, build, draft
from runtime.profile import Profile, require_clock, summarize
from runtime.threads import resolve
from runtime.views import View

Arrays = np.ndarray | Mapping[str, np.ndarray]
Views = tuple[Mapping[str, View], Mapping[str, View]]  # of inputs and of outputs, by the names that users know


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
        self._drafts: dict[str, Draft] = {}
        self._plans: dict[str, Plan] = {}
        self._plan_lock = threading.RLock()
        self._executor = Executor()

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
        workers = resolve(threads)
        inputs, batch = self._check_inputs(x)
        outputs = self._check_outputs(out, batch)
        for plan, part in self._parts(batch):
            self._executor.run(plan, inputs, self._receivers(outputs), part, workers)
        return outputs if len(outputs) > 1 else next(iter(outputs.values()))

    def _parts(self, batch: int) -> Iterator[tuple[Plan, slice]]:
        """The plan of each part of a batch, and its images."""
        first = 0
        for layout, count in self.layouts(batch):
            yield self.plan(layout), slice(first, first + count)
            first += count

    def _receivers(self, outputs: dict[str, np.ndarray]) -> Receivers:
        """Each output array by the name of the value that goes there."""
        return {view.value: (outputs[name], view) for name, view in self._output_views.items()}

    def profile(self, x: Arrays, *, threads: int | None = None, repeats: int = 20) -> Profile:
        """Time each layer of a run: medians over `repeats` runs, after one that is not timed.

        Parameters
        ----------
        x, threads : as for `run`
        repeats : timed runs, at least 1

        Returns
        -------
        Profile
            Seconds of the wall clock by layer, in the order of `explain().rows`; the module says what is in them.

        Raises
        ------
        InputError
            As `run`; fewer than one repeat; a system without a POSIX clock.
        """
        require_count("repeats", repeats)
        require_clock()
        workers = resolve(threads)
        inputs, batch = self._check_inputs(x)
        if not batch:
            raise InputError("x: expected at least one image to time, got none. Pass a batch as large as those of use.")
        self.run(x, threads=workers)
        samples = []
        for _ in range(repeats):
            begin = time.perf_counter()
            outputs = self._check_outputs(None, batch)
            timed = [
                (plan, self._executor.run(plan, inputs, self._receivers(outputs), part, workers, timed=True))
                for plan, part in self._parts(batch)
            ]
            samples.append((time.perf_counter() - begin, timed))
        return summarize(batch, workers, samples)

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

    def explain(self, batch: int = 64) -> Explanation:
        """What each layer runs and why, for a batch size; `str()` gives the table, `.rows` the facts, `.json()`
        JSON.
        """
        require_count("batch", batch)
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
        self._executor = Executor()

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


def require_count(what: str, value: object) -> None:
    """Raise InputError unless the value is a whole number of at least 1."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise InputError(f"{what}: expected a whole number of at least 1, got {value!r}. Try 1 or 64.")


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
