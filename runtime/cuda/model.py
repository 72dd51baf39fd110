"""A model on a GPU: the same files, inputs, outputs and explanations as on the CPU."""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import pairwise
from statistics import median
from typing import Any

import numpy as np

from lhc_ref.modelfile import InputError, ModelSpec, infer_shapes
from runtime import borders
from runtime.cuda import memory
from runtime.cuda.gate import cuda, event, failures, launcher, occupy, require_device, simulated
from runtime.cuda.graphs import Graph
from runtime.cuda.plan import USER, GpuPlan, Launch, build
from runtime.cuda.registry import ENTRIES, LAYOUT, Entry
from runtime.explain import Explanation, Part
from runtime.model import Model, Source, Views, require_count
from runtime.profile import LayerTime, Profile
from runtime.views import View

MAX_PLANS = 4  # kept on the device; plans differ by their tiles alone, and weights are in each
MAX_ARENAS = 4  # streams whose memory is kept
OCCUPIED_TURNS = 100_000  # for each launch: of 4 cycles or more, so 0.2 ms at 2 GHz; numba needs less to queue one


@dataclass
class _Run:
    """One batch, ready to be launched; the values that users pass in or get are added to the others."""

    loaded: memory.Loaded
    batch: int
    arena: memory.Arena
    between: memory.Between
    values: memory.Arrays
    stream: Any


class GpuModel(Model):
    """A model on a GPU, planned once and run many times. Made by `runtime.load(path, device="cuda")`.

    Safe to use from several Python threads: runs are queued one after the other. For a fixed plan every run gives the
    same bits. Missing weights are skipped as `Model` says.

    From the second run of a batch size on a stream, what lies between the user's arrays is launched as one CUDA graph;
    and everything is, where the arrays lie where they did in a run before: pass the same ones, with `out=`.

    Attributes
    ----------
    device, storage : as for `runtime.load`
    launches : kernels launched so far
    calls : of the driver that launched them, of single kernels and of graphs
    """

    def __init__(
        self,
        spec: ModelSpec,
        source: Source | None = None,
        views: Views | None = None,
        *,
        device: str = "cuda",
        storage: str = "float32",
        entries: tuple[Entry, ...] = ENTRIES,
    ) -> None:
        super().__init__(spec, source, views)
        self.device, self.storage = (device, storage) if source is None else (source.device, source.storage)
        self._number = require_device(self.device)
        self.launches = self.calls = 0
        self._entries = entries
        self._forced: dict[str, Entry] = {}
        self._lock = threading.RLock()
        self._gpu_plans: dict[int, GpuPlan] = {}
        self._forget()

    def transformed(self, batch: int) -> frozenset[str]:
        return frozenset()

    def _forget(self) -> None:
        """Drop everything on the device; the next run sends it again."""
        self._loaded: dict[int, memory.Loaded] = {}
        self._arenas: dict[Any, memory.Arena] = {}

    def gpu_plan(self, batch: int) -> GpuPlan:
        """The plan for a batch size; sizes up to the next power of two share one."""
        size = _plan_size(batch)
        with self._lock:
            if size not in self._gpu_plans:
                while len(self._gpu_plans) >= MAX_PLANS:
                    self._drop(next(iter(self._gpu_plans)))
                self._gpu_plans[size] = build(self.spec, size, self.storage, self._entries, self._forced)
            return self._gpu_plans[size]

    def _drop(self, size: int) -> None:
        """Forget the plan of a size, and all that the device has of it."""
        plan = self._gpu_plans.pop(size)
        self._loaded.pop(size, None)
        for arena in self._arenas.values():
            arena.drop(plan)

    @contextmanager
    def _device(self, what: str) -> Iterator[None]:
        """Sole use of the model with its device current. After a failure nothing on the device is trusted any more."""
        with self._lock:
            try:
                with failures(what), cuda().gpus[self._number]:
                    yield
            except InputError:
                raise
            except Exception:
                self._forget()
                raise

    def run(
        self, x: Any, *, threads: int | None = None, out: Any = None, pin: str | None = None, stream: Any = None
    ) -> Any:
        """Run a batch.

        Parameters
        ----------
        x : f32[n, ...input shape], or one such array for each input by name: host arrays, or arrays on the device
            (numba's, or any with `__cuda_array_interface__`: CuPy, torch), which are read where they are. On a stream
            these, and host arrays in pinned memory, must stay as they are until the GPU has come to them
        threads, pin : not used; accepted as `Model.run` has them
        out : arrays to write, on the host or on the device
        stream : a stream of numba's, or the number of another library's; None: the default stream

        Returns
        -------
        Host arrays for host inputs, and device arrays of numba's if every input lies on the device; a dict by name if
        the model has several outputs. Where host arrays are written the call waits for them; else it returns while the
        GPU works, in the order of the stream.

        Raises
        ------
        InputError
            As `Model.run`; an array on another device, or not contiguous; on the device and not NHWC.
        DeviceError
            Out of memory, or a GPU that fails. The model can be run again.
        """
        with self._device("run"):
            kinds = np.ndarray, memory.array_type()
            given, batch = borders.check_inputs(self._input_views, self._as_arrays("input", x), kinds)
            if out is None:
                on_device = batch and all(memory.is_device_array(array) for array in given.values())
                shapes = {name: view.user_shape(batch) for name, view in self._output_views.items()}
                make = cuda().device_array if on_device else np.empty
                made = {name: make(shape, np.float32) for name, shape in shapes.items()}
            else:
                made = borders.check_outputs(self._output_views, self._as_arrays("out", out), batch, kinds)
            if batch:
                self._run(given, made, batch, memory.as_stream(stream))
        if out is not None:  # the arrays themselves, not numba's views of them
            made = dict(out) if isinstance(out, Mapping) else {next(iter(made)): out}
        return made if len(made) > 1 else next(iter(made.values()))

    def _as_arrays(self, what: str, arrays: Any) -> Any:
        """What was passed, with every array on a device as one of numba's."""
        if isinstance(arrays, Mapping):
            return {name: self._as_arrays(f"{what} {name!r}", array) for name, array in arrays.items()}
        if not memory.is_device_array(arrays):
            return arrays
        views = [view for part in self.views for view in part.values()]
        if views != [View.same(view.value, view.shape) for view in views]:
            raise InputError(
                f"{what}: expected a host array for a model whose arrays are not NHWC, got one on a GPU. "
                "Load the model with layout='NHWC'."
            )
        return memory.as_device_array(what, arrays, self._number)

    def _run(self, given: Mapping[str, Any], made: Mapping[str, Any], batch: int, stream: Any) -> None:
        """Send what lies on the host, launch, and fetch what belongs there."""
        run = self._prepare(batch, stream)
        for name, array in given.items():
            view, values = self._input_views[name], array
            if not memory.is_device_array(array):
                host = np.ascontiguousarray(view.inward(array)).reshape(-1)
                values = run.arena.take(f"input {name}", host.size, "float32")
                values.copy_to_device(host, stream)
            run.values[view.value + USER] = values.reshape(values.size)
        waiting = []
        for name, array in made.items():
            view, values = self._output_views[name], array
            if not memory.is_device_array(array):
                values = run.arena.take(f"output {name}", array.size, "float32")
                waiting.append((values, array, view))
            run.values[view.value + USER] = values.reshape(values.size)
        self._launch_all(run)
        for values, array, view in waiting:
            host = values.copy_to_host(stream=stream)
            if stream:
                stream.synchronize()
            array[...] = view.outward(host.reshape(batch, *view.inner))

    def _prepare(self, batch: int, stream: Any) -> _Run:
        """Plan and memory for a batch; the users' arrays are still missing from its values."""
        plan, size, key = self.gpu_plan(batch), _plan_size(batch), memory.stream_key(stream)
        if size not in self._loaded:
            self._loaded[size] = memory.Loaded(plan)
        if key not in self._arenas:
            while len(self._arenas) >= MAX_ARENAS:
                del self._arenas[next(iter(self._arenas))]
            self._arenas[key] = memory.Arena()
        arena = self._arenas[key]
        found = memory.between(plan, arena, batch)
        return _Run(self._loaded[size], batch, arena, found, dict(found.arrays), stream)

    def _launch_all(self, run: _Run) -> None:
        """Launch a run. Once its kernels were launched before, what uses no array of the user's is a graph; where the
        user's arrays lie where they did before, all is one.
        """
        plan, between = run.loaded.plan, run.between
        if between.runs == 0 or simulated():
            for launch in plan.launches:
                self._launch(run, launch)
        else:
            places = tuple(memory.address(run.values[name]) for name in sorted(run.values.keys() - plan.places.keys()))
            again = between.come_again(places)
            if places not in between.wholes and again and len(between.wholes) < memory.MAX_WHOLES:
                between.wholes[places] = self._record(run, plan.launches)
            if places in between.wholes:
                self._repeat(run, between.wholes[places], plan.launches)
            else:
                self._launch_stretches(run)
        between.runs += 1

    def _launch_stretches(self, run: _Run) -> None:
        """Launch what uses the user's arrays by itself, and what does not as graphs."""
        graphs = run.between.stretches
        for number, launches in enumerate(run.loaded.plan.stretches):
            if len(launches) == 1:
                self._launch(run, launches[0])
                continue
            if number not in graphs:
                graphs[number] = self._record(run, launches)
            self._repeat(run, graphs[number], launches)

    def _repeat(self, run: _Run, graph: Graph, launches: Sequence[Launch]) -> None:
        graph.launch(memory.stream_key(run.stream))
        self.calls += 1
        self.launches += len(launches)

    def _record(self, run: _Run, launches: Sequence[Launch]) -> Graph:
        """A graph of some launches, which are counted when it runs."""

        def record(stream: Any) -> None:
            recorded = replace(run, stream=stream)
            for launch in launches:
                self._queue(recorded, launch, launcher)

        return Graph(record, (run.loaded, run.loaded.steps(run.batch), run.between.arrays))

    def _launch(self, run: _Run, launch: Launch) -> None:
        """Launch a kernel by itself."""
        self._queue(run, launch, run.arena.launcher)
        self.launches += 1
        self.calls += 1

    def _queue(self, run: _Run, launch: Launch, grid: Callable[[Entry, int, Any], Any]) -> None:
        """Put a kernel, with its `grid`, into the run's stream."""
        loaded, (host, steps) = run.loaded, run.loaded.steps(run.batch)
        blocks = launch.entry.blocks(host[launch.step])
        x = run.values[launch.x]
        other = x if launch.other is None else run.values[launch.other]
        grid(launch.entry, blocks, run.stream)(
            steps,
            np.int32(launch.step),
            x,
            other,
            loaded.weights,
            loaded.vectors,
            loaded.index,
            run.values[launch.out],
        )

    def time_launches(self, batch: int, repeats: int = 20) -> list[float]:
        """Seconds of each launch of a batch by the device's events: medians over `repeats` runs on zeros, after one
        that is not timed. All are queued while the device is kept busy, so that what Python takes is not in them.
        """
        batch = require_count("batch", batch)
        repeats = require_count("repeats", repeats)
        with self._device("timing"):
            run, samples = self._prepare(batch, 0), []
            shapes = infer_shapes(self.spec)
            for name in {view.value for part in self.views for view in part.values()}:
                host = np.zeros(batch * int(np.prod(shapes[name])), np.float32)
                values = run.arena.take(f"timed {name}", host.size, "float32")
                values.copy_to_device(host)
                run.values[name + USER] = values
            launches, busy = run.loaded.plan.launches, run.arena.take("busy", 1, "float32")
            for _ in range(repeats + 1):
                marks = [event() for _ in range(len(launches) + 1)]
                occupy(busy, 1 if simulated() else OCCUPIED_TURNS * len(launches))
                marks[0].record()
                for launch, mark in zip(launches, marks[1:], strict=True):
                    self._launch(run, launch)
                    mark.record()
                marks[-1].synchronize()
                samples.append([1e-3 * before.elapsed_time(after) for before, after in pairwise(marks)])
        return [median(times) for times in zip(*samples[1:], strict=True)]

    def profile(self, x: Any, *, threads: int | None = None, repeats: int = 20, pin: str | None = None) -> Profile:
        """Time each layer by the device's events, as `Model.profile`; only the size of `x` matters."""
        _, batch = borders.check_inputs(self._input_views, x)
        require_count("images in x", batch)
        times, plan = self.time_launches(batch, repeats), self.gpu_plan(batch)
        total, of_layer, copies = sum(times), *plan.seconds_of_layers(times)
        shares = [seconds / total for seconds in of_layer]
        layers = tuple(
            LayerTime(facts.layer, facts.kernel, seconds, share, (share,))
            for facts, seconds, share in zip(plan.facts, of_layer, shares, strict=True)
        )
        return Profile(batch, 1, repeats, total, layers, *copies, 0.0)

    def trial(self, batch: int, repeats: int = 5, threads: int | None = None) -> dict[str, str]:
        """Try every tile for every convolution on the device at a batch size, and keep the fastest for each layer.
        `threads` is not used; accepted as `Model.trial` has it. The times are not kept: `save_trial` has none to write.

        Returns
        -------
        Kernel names by layer. Which is faster depends on the device and the moment; results do not change.
        """
        layers = [facts.layer.partition("+")[0] for facts in self.gpu_plan(batch).facts]
        best: dict[str, tuple[float, Entry]] = {}
        with self._lock:
            before = self._forced
            try:
                for entry in (entry for entry in self._entries if entry.tile is not None):
                    self._force(dict.fromkeys(layers, entry))
                    times, plan = self.time_launches(batch, repeats), self.gpu_plan(batch)
                    for seconds, launch in zip(times, plan.launches, strict=True):
                        if launch.entry == entry and seconds < best.get(layers[launch.layer], (np.inf, entry))[0]:
                            best[layers[launch.layer]] = seconds, entry
            except Exception:
                self._force(before)
                raise
            self._force({layer: entry for layer, (_, entry) in best.items()})
        return {layer: entry.name(self.storage) for layer, entry in self._forced.items()}

    def _force(self, forced: dict[str, Entry]) -> None:
        """Use these kernels for these layers, by name, in plans from now on."""
        self._forced = forced
        for size in list(self._gpu_plans):
            self._drop(size)

    def explain(self, batch: int = 64) -> Explanation:
        """What each layer runs and why, with the roofline that the choice rests on; nothing in it is measured."""
        batch = require_count("batch", batch)
        plan = self.gpu_plan(batch)
        return Explanation(batch, (Part(batch, LAYOUT, plan.bytes, plan.facts),))

    def packed_bytes(self, batch: int) -> int:
        """Memory of the device that the weights take."""
        return self.explain(batch).bytes

    def working_bytes(self, batch: int, workers: int) -> int:
        """Nothing: what passes between layers is on the device."""
        return 0

    def _with_source(self, source: Source | None) -> "GpuModel":
        return GpuModel(self.spec, source, device=self.device, storage=self.storage, entries=self._entries)

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._forget()


def _plan_size(batch: int) -> int:
    """The batch size whose plan is used."""
    return 1 << max(batch - 1, 0).bit_length()
