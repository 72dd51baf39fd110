"""When runs are recorded as graphs and what graphs hold, without a GPU: the simulator repeats recorded launches."""

import gc
import weakref
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest
from numba import cuda

from runtime.cuda import gate, memory
from runtime.cuda import graphs as recording
from runtime.cuda import model as models
from runtime.cuda.memory import Between
from runtime.cuda.model import MAX_PLANS, GpuModel
from tests.cuda.gpus import SIMULATED, SMALL_TILE, entries_of, turns
from tests.runtime.nets import definition, net
from tests.strategies import numbers
from tests.tolerances import assert_exact

simulated = pytest.mark.skipif(not SIMULATED, reason="graphs of a GPU: test_device.py")

KERNEL = numbers(1, "kernel", (1, 1, 2, 2))
SPEC = net(
    {"x": (2, 3, 2)},
    ["y"],
    ("conv2d", "a", ["x"], {}, {"kernel": KERNEL}),
    ("max_pool", "b", ["a"], {"size": (1, 2), "stride": (1, 1)}),
    ("conv2d", "y", ["b"], {}, {"kernel": KERNEL}),
)
SINGLE, STRETCHED, WHOLE = 5, 3, 1  # calls of the driver for a run


class RecordedGraph:
    """A graph: launches with the arguments that they had when it was recorded."""

    recording: ClassVar[list] = []
    made: ClassVar[list["RecordedGraph"]] = []

    def __init__(self, record, held):
        self.held, self.launches, self.streams = held, [], []
        RecordedGraph.recording = self.launches
        record("recording")
        RecordedGraph.recording = []
        RecordedGraph.made.append(self)

    @classmethod
    def launcher(cls, entry, blocks, stream):
        assert stream == "recording"
        return lambda *arguments: cls.recording.append((entry, blocks, arguments))

    def launch(self, stream):
        self.streams.append(stream)
        for entry, blocks, arguments in self.launches:
            gate.launcher(entry, blocks, 0)(*arguments)


@pytest.fixture(autouse=True)
def graphs(monkeypatch):
    """Runs as on a GPU; gives the graphs made."""
    monkeypatch.setattr(models, "simulated", lambda: False)
    monkeypatch.setattr(models, "Graph", RecordedGraph)
    monkeypatch.setattr(models, "launcher", RecordedGraph.launcher)
    monkeypatch.setattr(memory, "address", lambda array: array._ary.ctypes.data)
    monkeypatch.setattr(RecordedGraph, "made", [])
    with turns():
        yield RecordedGraph.made


def model():
    return GpuModel(SPEC, entries=entries_of(SMALL_TILE))


def x_of(batch=2, seed=0):
    return numbers(seed, "x", (batch, 2, 3, 2))


def want_of(x):
    return definition(SPEC, {"x": x})["y"]


def calls_of(made, x, sent=None, out=None, **options):
    """Run, compare, and give the driver's calls; the launches are always all."""
    before = made.launches, made.calls
    y = made.run(x if sent is None else sent, out=out, **options)
    assert_exact(y if isinstance(y, np.ndarray) else y.copy_to_host(), want_of(x), np.float32)
    assert made.launches - before[0] == SINGLE
    return made.calls - before[1]


def places(batch=2):
    """Memory of a user's on the device, for input and output."""
    return cuda.device_array((batch, 2, 3, 2), np.float32), cuda.device_array((batch, 2, 2, 2), np.float32)


@simulated
def test_the_same_arrays_again_are_one_call():
    made, (sent, out), calls = model(), places(), []
    for seed in range(5):
        x = x_of(seed=seed)
        sent.copy_to_device(x)
        calls.append(calls_of(made, x, sent, out))
    assert calls == [SINGLE, STRETCHED, WHOLE, WHOLE, WHOLE]


@simulated
def test_other_arrays_are_used_where_they_lie(graphs):
    made, kept = model(), []
    for seed, want in enumerate([SINGLE, STRETCHED, STRETCHED, STRETCHED]):
        x = x_of(seed=seed)
        kept.append((cuda.to_device(x), places()[1]))
        assert calls_of(made, x, *kept[-1]) == want
    assert len(graphs) == 1


@simulated
def test_host_arrays_are_recorded_from_the_second_run_on():
    made = model()
    assert [calls_of(made, x_of(seed=seed)) for seed in range(4)] == [SINGLE, STRETCHED, WHOLE, WHOLE]


@simulated
def test_memory_that_grows_is_recorded_anew():
    made = model()
    for batch in (2, 2, 2, 9, 9, 2, 2, 2, 9):
        calls_of(made, x_of(batch, seed=batch))


@simulated
def test_graphs_run_on_the_stream_of_their_run(graphs):
    made, streams = model(), [0, cuda.stream(), cuda.stream()]
    for seed in range(2):
        for stream in streams:
            x = x_of(seed=seed)
            calls_of(made, x, cuda.to_device(x), places()[1], stream=stream)
    assert [graph.streams for graph in graphs] == [[memory.stream_key(stream)] for stream in streams]


@simulated
def test_graphs_hold_what_they_use(graphs):
    made, x, (sent, out) = model(), x_of(), places()
    sent.copy_to_device(x)
    for _ in range(3):
        calls_of(made, x, sent, out)
    users = {memory.address(array) for array in (sent, out)}
    for graph in graphs:
        loaded, (_, steps), arrays = graph.held
        held = {id(array) for array in (loaded.weights, loaded.vectors, loaded.index, steps, *arrays.values())}
        for _, _, arguments in graph.launches:
            used = [array for array in arguments if memory.is_device_array(array)]
            assert len(used) == 7
            assert all(id(array) in held or memory.address(array) in users for array in used)


@simulated
def test_wholes_are_few_and_other_places_still_run(monkeypatch):
    monkeypatch.setattr(memory, "MAX_WHOLES", 2)
    made, x = model(), x_of()
    pairs = [places() for _ in range(3)]
    for sent, _ in pairs:
        sent.copy_to_device(x)
    calls = [[calls_of(made, x, *pair) for pair in pairs] for _ in range(4)]
    assert calls[-2:] == [[STRETCHED, WHOLE, WHOLE]] * 2  # the first run of all remembers no place


@simulated
@pytest.mark.parametrize("dropped", ["by other plans", "by a trial"])
def test_weights_of_plans_that_are_dropped_leave_the_device(dropped, graphs):
    made, batch = model(), 1
    for _ in range(3):
        calls_of(made, x_of(batch))
    loaded = weakref.ref(made._loaded[batch])
    assert graphs
    graphs.clear()
    if dropped == "by other plans":
        for size in range(1, MAX_PLANS + 1):
            made.gpu_plan(2**size)
    else:
        made._force({})
    gc.collect()
    assert loaded() is None
    calls_of(made, x_of(batch))


class FakeDriver:
    """Answers every call of the driver with success, or a given status, and gives out handles."""

    def __init__(self, **statuses):
        self.statuses, self.called = statuses, []

    def __getattr__(self, name):
        def call(*arguments):
            self.called.append(name)
            if name in ("cuStreamCreate", "cuStreamEndCapture"):
                arguments[name == "cuStreamEndCapture"]._obj.value = 7
            return self.statuses.get(name, 0)

        return call


def fails(stream):
    raise ZeroDivisionError


@pytest.mark.parametrize(
    ("record", "statuses", "error"),
    [(fails, {}, ZeroDivisionError), (lambda stream: None, {"cuGraphInstantiateWithFlags": 2}, gate.DeviceError)],
)
def test_a_recording_that_fails_leaves_nothing_behind(record, statuses, error, monkeypatch):
    driver = FakeDriver(**statuses)
    monkeypatch.setattr(recording, "_driver", lambda: driver)
    monkeypatch.setattr(recording, "cuda", lambda: SimpleNamespace(external_stream=int))
    with pytest.raises(error):
        recording.Graph(record, None)
    assert driver.called[-2:] == ["cuGraphDestroy", "cuStreamDestroy_v2"]


def test_the_places_of_the_last_runs_are_remembered(monkeypatch):
    monkeypatch.setattr(memory, "MAX_SEEN", 2)
    between = Between(None, {})
    asked = [((place,), again) for place, again in zip("aabacab", [0, 1, 0, 1, 0, 1, 0], strict=True)]
    assert [between.come_again(place) for place, _ in asked] == [bool(again) for _, again in asked]
