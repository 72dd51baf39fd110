"""A loaded model: runs arrays through its plans."""

import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from weakref import WeakSet

import numpy as np

from lhc_ref import modelfile
from lhc_ref.modelfile import InputError, ModelSpec
from runtime import borders
from runtime.borders import Arrays
from runtime.buffers import aligned_empty
from runtime.cut import cut
from runtime.execute import Executor
from runtime.explain import Explanation, Part
from runtime.facts import LayerFacts
from runtime.layout import Layout
from runtime.plan import Draft, Plan, build, draft
from runtime.profile import Profile, require_clock, summarize
from runtime.threads import check_pin, resolve
from runtime.trial import Timed, Trial, decide, here, measure
from runtime.views import View

Views = tuple[Mapping[str, View], Mapping[str, View]]  # of inputs and of outputs, by the names that users know

_models: WeakSet["Model"] = WeakSet()


def _after_fork() -> None:
    """In a child: a lock that another thread held stays locked."""
    for model in _models:
        model._plan_lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


@dataclass(frozen=True)
class Source:
    """What a model was loaded from, how, and the function that does so again."""

    path: str
    reopen: "Callable[[Source], Model]"
    layout: str | None = None
    shapes: Mapping[str, tuple[int, ...]] | None = None
    constants: Mapping[str, np.ndarray] | None = None
    device: str = "cpu"
    storage: str = "float32"
    winograd: bool = True
    trial: Trial | None = None


class Model:
    """A model, planned once and run many times. Made by `runtime.load`.

    Safe to run from several Python threads at once; the interpreter lock is released while kernels run. For one batch
    size the result does not depend on the number of threads, to the last bit.

    A weight that does not exist is skipped: NaN or infinity in an input that only missing weights would read does not
    reach the output. Where another output channel of the same register tile keeps the (tap, input) pair, the missing
    weight is a stored zero, and 0 * NaN is NaN; `explain()` shows how many such products a layer computes (computed
    against executed). A depthwise layer on a single image computes all its taps, and a layer by Winograd's transform
    whole kernels: all nine taps of an input channel, or none.
    """

    device = "cpu"

    def __init__(self, spec: ModelSpec, source: Source | None = None, views: Views | None = None) -> None:
        self.spec, self.source = modelfile.validate(spec), source
        self.views = views or views_of(self.spec, View.same)
        self._input_views, self._output_views = self.views
        self._transforms = source is None or source.winograd
        self._drafts: dict[str, Draft] = {}  # until they are laid out, or another layout is chosen
        self._cycles: dict[str, float] = {}
        self._plans: dict[str, Plan] = {}
        self._plan_lock = threading.RLock()
        self._executor = Executor()
        self._timed: dict[str, Timed] = {}
        self._profiles: dict[int, Profile] = {}  # the last of each batch size
        if source is not None and source.trial is not None:
            source.trial.require(self.spec, "trial")
            self._timed.update(source.trial.layouts)
        _models.add(self)

    def plan(self, layout: Layout) -> Plan:
        """The plan for a layout; made at first use."""
        with self._plan_lock:
            if layout.name not in self._plans:
                made, timed = self._draft(layout), self._timed.get(layout.name)
                self._plans[layout.name] = build(self.spec, decide(made, timed) if timed else made)
                del self._drafts[layout.name]  # Why: it has every weight that does not exist, as a zero.
            return self._plans[layout.name]

    def _draft(self, layout: Layout) -> Draft:
        with self._plan_lock:
            if layout.name not in self._drafts:
                self._drafts[layout.name] = made = draft(self.spec, layout, self._transforms)
                self._cycles[layout.name] = made.cycles
            return self._drafts[layout.name]

    def layouts(self, batch: int) -> list[tuple[Layout, int]]:
        """How a batch is cut: (layout, number of images) in order."""
        parts = cut(batch, self._predicted_cycles)
        if self._drafts:
            self._forget_drafts(kept={layout.name for layout, _ in parts})
        return parts

    def _predicted_cycles(self, layout: Layout) -> float:
        with self._plan_lock:
            if layout.name not in self._cycles:
                self._draft(layout)
            return self._cycles[layout.name]

    def _forget_drafts(self, kept: set[str]) -> None:
        with self._plan_lock:
            for name in self._drafts.keys() - kept:
                del self._drafts[name]

    def transformed(self, batch: int) -> frozenset[str]:
        """Names of the nodes that a batch size computes by Winograd's transform, whose rounding has another bound: see
        `lhc_ref.evaluate.evaluate_with_bounds`.
        """
        return frozenset().union(*(self.plan(layout).transformed for layout, _ in self.layouts(batch)))

    def run(
        self, x: Arrays, *, threads: int | None = None, out: Arrays | None = None, pin: str | None = None
    ) -> np.ndarray | dict[str, np.ndarray]:
        """Run a batch.

        Parameters
        ----------
        x : f32[n, ...input shape], or one such array for each input by name; any strides, not modified. Images are
            NHWC, or as ONNX has them in a model that was loaded from ONNX: see `load`
        threads : how many cores to use; None: all that are available
        out : f32[n, ...output shape] (or by name), written in place of a new array
        pin : "core": each thread stays on a core of its own, the calling one until the run ends; Linux. For one run at
            a time: others that are pinned would use the same cores

        Returns
        -------
        f32[n, ...output shape]; a dict by name if the model has several outputs.

        Raises
        ------
        InputError
            An array of another dtype or shape, a missing or unknown name, fewer than one thread, another pin.
        """
        workers = resolve(threads)
        check_pin(pin)
        inputs, batch = self._check_inputs(x)
        outputs = self._check_outputs(out, batch)
        targets = borders.targets(self._output_views, outputs, inputs)
        for plan, part in self._parts(batch):
            self._executor.run(plan, inputs, targets, part, workers, pin)
        borders.deliver(self._output_views, targets, outputs)
        return outputs if len(outputs) > 1 else next(iter(outputs.values()))

    def _parts(self, batch: int) -> Iterator[tuple[Plan, slice]]:
        """The plan of each part of a batch, and its images."""
        first = 0
        for layout, count in self.layouts(batch):
            yield self.plan(layout), slice(first, first + count)
            first += count

    def profile(self, x: Arrays, *, threads: int | None = None, repeats: int = 20, pin: str | None = None) -> Profile:
        """Time each layer of a run: medians over `repeats` runs, after one that is not timed.

        Parameters
        ----------
        x, threads, pin : as for `run`
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
        repeats = require_count("repeats", repeats)
        require_clock()
        workers = resolve(threads)
        check_pin(pin)
        inputs, batch = self._check_inputs(x)
        if not batch:
            raise InputError("x: expected at least one image to time, got none. Pass a batch as large as those of use.")
        self.run(x, threads=workers, pin=pin)
        samples = []
        for _ in range(repeats):
            begin = time.perf_counter()
            outputs = self._check_outputs(None, batch)
            targets = borders.targets(self._output_views, outputs, inputs)
            timed = [
                (plan, self._executor.run(plan, inputs, targets, part, workers, pin, timed=True))
                for plan, part in self._parts(batch)
            ]
            borders.deliver(self._output_views, targets, outputs)
            samples.append((time.perf_counter() - begin, timed))
        self._profiles[batch] = found = summarize(batch, workers, samples)
        return found

    def trial(self, batch: int, repeats: int = 5, threads: int | None = None) -> dict[str, str]:
        """Time every kernel that could run each layer at a batch size, and from now on use the fastest.

        The first run after it plans anew. Outputs may change in their last bits, since kernels add in different orders;
        they depend on the threads of a run as little as before. How a batch is cut into layouts does not change. A
        trial of another batch size replaces that of its layout: single images and batches have one each.

        Parameters
        ----------
        batch : images in a run, on random numbers
        repeats : timed runs of each kernel, taking turns with the others, after one that is not timed
        threads : of the runs that are timed; None: all that are available

        Returns
        -------
        Kernel names by layer; of both parts, where a batch is cut in two.

        Raises
        ------
        InputError
            A batch, repeats or threads below 1; a system without a POSIX clock.
        """
        batch = require_count("batch", batch)
        repeats = require_count("repeats", repeats)
        require_clock()
        workers = resolve(threads)
        parts = self.layouts(batch)
        timed = {
            layout.name: measure(self.spec, self._draft(layout), count, workers, repeats) for layout, count in parts
        }
        with self._plan_lock:
            self._timed.update(timed)
            for name in timed:
                self._plans.pop(name, None)
            self._executor = Executor()
            self._profiles.clear()
        rows = zip(*(self.plan(layout).facts for layout, _ in parts), strict=True)
        return {part[0].layer: " and ".join(dict.fromkeys(facts.kernel for facts in part)) for part in rows}

    def save_trial(self, path: str | os.PathLike[str]) -> None:
        """Write what `trial` measured, for `runtime.load(..., trial=path)` of the same net on this machine.

        Raises
        ------
        InputError
            Nothing was measured.
        LhcError
            The file cannot be written; an old one is then as it was.
        """
        found = self._trial()
        if found is None:
            raise InputError("trial: expected times measured on a CPU to write, got none. Call trial(batch) first.")
        found.save(path)

    def _trial(self) -> Trial | None:
        """What was measured, if anything was."""
        return Trial(modelfile.fingerprint(self.spec), here(), dict(self._timed)) if self._timed else None

    def _check_inputs(self, x: Arrays) -> tuple[dict[str, np.ndarray], int]:
        given, batch = borders.check_inputs(self._input_views, x)
        return borders.sources(self._input_views, given), batch

    def _check_outputs(self, out: Arrays | None, batch: int) -> dict[str, np.ndarray]:
        if out is None:
            return {name: aligned_empty(view.user_shape(batch)) for name, view in self._output_views.items()}
        return borders.check_outputs(self._output_views, out, batch)

    def explain(self, batch: int = 64) -> Explanation:
        """What each layer runs and why, for a batch size; `str()` gives the table, `.rows` the facts, `.json()`
        JSON. A batch that is cut has rows for each of its `.parts`, and `.rows` are those of the first. Layers have
        their share of the time where this batch size was profiled.
        """
        batch = require_count("batch", batch)
        with self._plan_lock:
            plans = [(self.plan(layout), layout.name, count) for layout, count in self.layouts(batch)]
            profile = self._profiles.get(batch)
        parts = [
            Part(count, name, plan.bytes, plan.facts if profile is None else _with_shares(plan.facts, profile, number))
            for number, (plan, name, count) in enumerate(plans)
        ]
        return Explanation(batch, tuple(parts))

    def packed_bytes(self, batch: int) -> int:
        """Memory that the weights take as they are packed for a batch size, in each layout that it runs in."""
        batch = require_count("batch", batch)
        return sum(self.plan(layout).bytes for layout, _ in self.layouts(batch))

    def working_bytes(self, batch: int, workers: int) -> int:
        """Memory that a run takes on the host for what passes between its layers."""
        parts = [(self.plan(layout), -(-count // layout.lanes)) for layout, count in self.layouts(batch)]
        return max((4 * plan.arena_size * min(groups, workers) for plan, groups in parts), default=0)

    def as_stored(self) -> "Model":
        """The model for arrays that lie as in the model file, NHWC: itself, or another with plans of its own."""
        if self.views == views_of(self.spec, View.same):
            return self
        made = self._with_source(None if self.source is None else replace(self.source, layout="NHWC"))
        made._timed.update(self._timed)
        return made

    def _with_source(self, source: Source | None) -> "Model":
        """The same net, given arrays as they lie in the model file."""
        return Model(self.spec, source)

    @property
    def path(self) -> Path | None:
        """The file that it was loaded from, if it was."""
        return None if self.source is None else Path(self.source.path)

    def __repr__(self) -> str:
        inputs, outputs = (", ".join(f"{name} {view}" for name, view in views.items()) for views in self.views)
        return f"<{type(self).__name__} of {self.path}: {inputs} -> {outputs}>"

    def __enter__(self) -> "Model":
        return self

    def __exit__(self, *_: object) -> None:
        self._executor = Executor()

    def __reduce__(self) -> tuple:
        if self.source is None:
            raise TypeError(
                "a model that was not loaded from a file cannot be pickled. Save it with lhc_ref.modelfile.save first."
            )
        return self.source.reopen, (replace(self.source, trial=self._trial()),)


def _with_shares(rows: tuple[LayerFacts, ...], profile: Profile, part: int) -> tuple[LayerFacts, ...]:
    """The layers of a part of a batch, each with its share of the run's time."""
    return tuple(replace(row, share=timed.shares[part]) for row, timed in zip(rows, profile.layers, strict=True))


def views_of(spec: ModelSpec, make: Callable[[str, tuple[int, ...]], View]) -> Views:
    """A view of each input and of each output, by the model's names."""
    shapes = modelfile.infer_shapes(spec)
    inputs = {entry.name: make(entry.name, entry.shape) for entry in spec.inputs}
    return inputs, {name: make(name, shapes[name]) for name in spec.outputs}


def require_count(what: str, value: object) -> int:
    """The value if it is a whole number of at least 1; else InputError is raised."""
    if not isinstance(value, int | np.integer) or isinstance(value, bool) or value < 1:
        raise InputError(f"{what}: expected a whole number of at least 1, got {value!r}. Try 1 or 64.")
    return int(value)
