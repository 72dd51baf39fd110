"""A GPU model from outside: arrays on the host and on the device, streams, memory, several threads, failures."""

import threading
from types import SimpleNamespace

import numpy as np
import pytest
from numba import cuda

from lhc_ref.modelfile import InputError
from runtime.cuda import gate, memory, plan
from runtime.cuda.model import MAX_PLANS, GpuModel
from runtime.cuda.pack import LIMIT
from runtime.cuda.registry import conv_entries
from runtime.cuda.tiles import TILES
from runtime.views import View
from tests.cuda.gpus import PLAIN, SIMULATED, SMALL_TILE, TINY, entries_of, launching, turns
from tests.runtime.nets import classifier, conv_spec, definition, images, net
from tests.strategies import numbers
from tests.tolerances import assert_exact, assert_identical

KERNEL = numbers(1, "kernel", (1, 1, 2, 3))
SMALL = conv_spec(KERNEL, (2, 3, 2))
TWO = net({"x": (3,), "r": (3,)}, ["s", "t"], ("add", "s", ["x", "r"]), ("relu", "t", ["x"]))


@pytest.fixture(autouse=True)
def in_turns():
    with turns():
        yield


def model(spec=SMALL, **options):
    return GpuModel(spec, entries=entries_of(SMALL_TILE), **options)


def x_of(batch=2):
    return numbers(batch, "x", (batch, 2, 3, 2))


def want_of(x):
    return definition(SMALL, {"x": x})["y"]


@launching
def test_host_arrays_in_and_out():
    x, out = x_of(), np.full((2, 2, 3, 3), np.nan, np.float32)
    y = model().run(x, out=out)
    assert y is out
    assert_exact(y, want_of(x), np.float32)


@launching
def test_arrays_with_any_strides_and_the_other_layout():
    x = x_of()
    views = {"x": View.nchw("x", (2, 3, 2))}, {"y": View.nchw("y", (2, 3, 3))}
    y = model(views=views).run(np.ascontiguousarray(x.transpose(0, 3, 1, 2)))
    assert_exact(y.transpose(0, 2, 3, 1), want_of(x), np.float32)
    with pytest.raises(InputError, match="input: expected a host array for a model whose arrays are not NHWC"):
        model(views=views).run(cuda.to_device(np.ascontiguousarray(x.transpose(0, 3, 1, 2))))


@launching
@pytest.mark.parametrize("storage", ["float32", "float16"])
def test_device_arrays_are_read_and_written_where_they_are(storage):
    x, sent = x_of(), []
    on_device, out = cuda.to_device(x), cuda.to_device(np.full((2, 2, 3, 3), np.nan, np.float32))
    made = model(storage=storage)
    made.run(x)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(on_device), "copy_to_device", lambda *_: sent.append("in"))
        patch.setattr(type(on_device), "copy_to_host", lambda *_, **__: sent.append("out"))
        y = made.run(on_device)
        assert made.run(on_device, out=out) is out
    assert sent == []
    assert memory.is_device_array(y)
    for array in (y, out):
        assert_exact(array.copy_to_host(), want_of(x), np.float32)


@launching
def test_a_device_array_with_a_host_output():
    x, out = x_of(), np.empty((2, 2, 3, 3), np.float32)
    model().run(cuda.to_device(x), out=out)
    assert_exact(out, want_of(x), np.float32)


@launching
def test_arrays_of_other_libraries(monkeypatch):
    x = x_of()
    theirs = SimpleNamespace(__cuda_array_interface__={}, __dlpack_device__=lambda: (2, 0))
    monkeypatch.setattr(cuda, "as_cuda_array", lambda array: cuda.to_device(x), raising=False)
    assert_exact(model().run(theirs).copy_to_host(), want_of(x), np.float32)


@launching
def test_arrays_on_another_device_are_refused():
    elsewhere = SimpleNamespace(__cuda_array_interface__={}, __dlpack_device__=lambda: (2, 1))
    with pytest.raises(InputError, match=r"input: expected an array on cuda:0, got one on cuda:1\. Copy it there"):
        model().run(elsewhere)


@launching
def test_device_arrays_must_be_contiguous():
    with pytest.raises(InputError, match="input 'x': expected a contiguous array, got strides"):
        model().run({"x": cuda.to_device(x_of(4))[::2]})


@launching
@pytest.mark.parametrize(
    ("x", "match"),
    [
        (np.zeros((1, 2, 3, 2)), r"input 'x': expected float32\[n, 2, 3, 2\], got float64"),
        (np.zeros((1, 2, 3, 1), np.float32), r"input 'x': expected float32\[n, 2, 3, 2\], got float32\[1, 2, 3, 1\]"),
        ({"z": np.zeros(1)}, "inputs: expected arrays named"),
    ],
)
def test_wrong_inputs_are_refused(x, match):
    with pytest.raises(InputError, match=match):
        model().run(x)


@launching
def test_several_inputs_and_outputs_and_no_image():
    x, r = numbers(1, "x", (2, 3)), numbers(1, "r", (2, 3))
    y = model(TWO).run({"x": x, "r": r})
    assert_exact(y["s"], x + r, np.float32)
    assert_exact(y["t"], np.maximum(x, 0), np.float32)
    assert model().run(x_of(2)[:0]).shape == (0, 2, 3, 3)


@launching
def test_memory_is_kept_and_grown_only_for_larger_batches(monkeypatch):
    made, taken = model(classifier()), []
    allocate = cuda.device_array
    monkeypatch.setattr(cuda, "device_array", lambda size, dtype: (taken.append(size), allocate(size, dtype))[1])

    def allocations(batch):
        taken.clear()
        made.run(images(batch))
        return taken

    assert len(allocations(2)) == 3  # values, input, output
    assert allocations(2) == allocations(1) == []
    assert len(allocations(4)) == 2  # input and output: between layers images fill up to four
    assert len(allocations(5)) == 3


@launching
def test_grids_and_views_are_made_once(monkeypatch):
    made, grids = model(), []
    monkeypatch.setattr(memory, "simulated", lambda: False)
    monkeypatch.setattr(memory, "launcher", lambda *grid: (grids.append(grid), gate.launcher(*grid))[1])
    runs = [made._prepare(batch, 0) for batch in (2, 2, 3, 2)]
    assert runs[0].values == runs[1].values
    for _ in range(3):
        made.run(x_of())
    assert len(grids) == 3
    made.run(x_of(), stream=cuda.stream())
    assert len(grids) == 6


@launching
def test_streams_have_memory_of_their_own():
    made, x = model(), x_of()
    streams = [None, cuda.stream(), cuda.stream()]
    for stream in (*streams, *streams):
        assert_exact(made.run(x, stream=stream), want_of(x), np.float32)
    assert len(made._arenas) == len(streams)


@launching
def test_threads_take_turns():
    made, x, found = model(), x_of(), []
    threads = [threading.Thread(target=lambda: found.append(made.run(x))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    for y in found:
        assert_exact(y, want_of(x), np.float32)


@launching
def test_launches_are_counted_and_plans_dropped():
    made = model()
    made.run(x_of())
    assert made.launches == len(made.gpu_plan(2).launches) == 3
    for batch in (1, 2, 3, 5, 9, 17):
        made.gpu_plan(batch)
    assert len(made._gpu_plans) == MAX_PLANS


@launching
def test_trial_and_profile_time_every_launch():
    made = GpuModel(classifier(), entries=(*conv_entries(TINY[:2] if SIMULATED else TILES), *PLAIN))
    before = made.run(images(2))
    found = made.trial(2, repeats=1)
    convolutions = [facts for facts in made.explain(2).rows if "conv2d" in facts.kernel]
    assert set(found.values()) <= {entry.name("float32") for entry in made._entries}
    assert [facts.kernel for facts in convolutions] == [found[facts.layer.partition("+")[0]] for facts in convolutions]
    assert_identical(made.run(images(2)), before)
    profile = made.profile(images(2), repeats=1)
    assert [layer.layer for layer in profile.layers] == [facts.layer for facts in made.explain(2).rows]
    assert profile.run_s > 0


@launching
def test_a_trial_that_fails_changes_no_kernel(monkeypatch):
    made = GpuModel(SMALL, entries=(*conv_entries(TINY[:2] if SIMULATED else TILES), *PLAIN))
    before, tried = [facts.kernel for facts in made.explain(2).rows], []

    def time_launches(batch, repeats):
        tried.append([facts.kernel for facts in made.explain(batch).rows])
        if tried[-1] != before:
            raise gate.DeviceError("failed")
        return [1.0] * len(made.gpu_plan(batch).launches)

    monkeypatch.setattr(made, "time_launches", time_launches)
    with pytest.raises(gate.DeviceError, match="failed"):
        made.trial(2)
    assert tried[-1] != before
    assert [facts.kernel for facts in made.explain(2).rows] == before


@launching
@pytest.mark.parametrize("storage", ["float32", "float16"])
def test_packed_bytes_are_what_is_sent_to_the_device(storage, monkeypatch):
    made, sent = model(classifier(), storage=storage), []
    send = cuda.to_device
    monkeypatch.setattr(cuda, "to_device", lambda array: (sent.append(array), send(array))[1])
    made._prepare(2, 0).loaded.steps(2)
    assert made.packed_bytes(2) == sum(array.nbytes for array in sent) > 0
    assert made.working_bytes(2, 1) == 0
    with pytest.raises(InputError, match="batch: expected"):
        made.packed_bytes(0)


def test_explain_needs_no_launch():
    text = str(plan.build(classifier(), 64).facts)
    assert "us predicted for H200, bound by" in text
    assert "f32_conv2d_" in text


def test_a_batch_beyond_32_bits_is_refused():
    built = plan.build(SMALL, 1)
    assert built.steps_for(built.most_images)["size"].max() < LIMIT
    with pytest.raises(InputError, match=r"batch: expected at most 119,304,644 images, got 119,304,645. Split it."):
        built.steps_for(built.most_images + 1)
