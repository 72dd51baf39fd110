"""What only a real GPU shows: graphs, arrays and streams of other libraries, memory that runs out."""

import importlib

import numpy as np
import pytest
from numba import cuda

from runtime.cuda.gate import DeviceError
from runtime.cuda.graphs import Graph
from runtime.cuda.model import GpuModel
from tests.cuda.gpus import AVAILABLE, SIMULATED
from tests.runtime.nets import classifier, definition
from tests.strategies import numbers
from tests.tolerances import assert_exact

pytestmark = pytest.mark.skipif(SIMULATED or not AVAILABLE, reason="needs an NVIDIA GPU: python -m benchmarks.gpu")


def x_of(batch, seed=0):
    spec = classifier()
    return numbers(seed, "x", (batch, *spec.inputs[0].shape))


def want_of(x):
    spec = classifier()
    return definition(spec, {spec.inputs[0].name: x})[spec.outputs[0]]


def model():
    return GpuModel(classifier())


def test_graphs_compute_what_single_launches_did():
    made, first = model(), None
    for batch in (5, 5, 5, 64, 64, 5, 5):  # the memory moves for 64 images: what was recorded is recorded anew
        x = x_of(batch, seed=batch)
        y = made.run(cuda.to_device(x)).copy_to_host()
        np.testing.assert_allclose(y, want_of(x), rtol=1e-5, atol=1e-6)
        if batch == 5:
            first = y if first is None else first
            assert np.array_equal(y, first)
    before = made.launches, made.calls
    made.run(cuda.to_device(x))
    launches, calls = made.launches - before[0], made.calls - before[1]
    assert launches == len(made.gpu_plan(5).launches)
    assert calls <= len(made.gpu_plan(5).stretches) == 3 < launches
    sent, out = cuda.to_device(x), cuda.device_array(want_of(x).shape, np.float32)
    for turn in range(4):  # the same arrays again: one call for all launches
        sent.copy_to_device(x + turn)
        before = made.launches, made.calls
        made.run(sent, out=out)
        np.testing.assert_allclose(out.copy_to_host(), want_of(x + turn), rtol=1e-5, atol=1e-6)
    assert (made.launches - before[0], made.calls - before[1]) == (launches, 1)


def test_graphs_run_in_the_order_of_their_stream():
    made, x, wants = model(), x_of(8), []
    streams = [0, cuda.stream(), cuda.stream()]
    for turn in range(3):
        for stream in streams:
            sent = cuda.to_device(x + turn, stream=stream)
            wants.append((made.run(sent, stream=stream), want_of(x + turn), stream))
    for y, want, stream in wants:
        np.testing.assert_allclose(y.copy_to_host(stream=stream), want, rtol=1e-5, atol=1e-6)


def test_what_cannot_be_recorded_is_an_error_of_the_device():
    def fails(stream):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        Graph(fails, None)
    x = x_of(2)
    assert np.allclose(model().run(x), want_of(x), atol=1e-5)  # the device still works


@pytest.mark.parametrize("library", ["torch", "cupy"])
def test_arrays_of_other_libraries_are_read_and_written_where_they_are(library):
    module = pytest.importorskip(library)
    x = x_of(6)
    if library == "torch":
        sent, out = module.from_numpy(x).cuda(), module.full((6, *want_of(x).shape[1:]), np.nan, device="cuda")
        place, fetch, done = sent.data_ptr(), lambda y: y.cpu().numpy(), module.cuda.synchronize
    else:
        sent, out = module.asarray(x), module.full((6, *want_of(x).shape[1:]), np.nan, np.float32)
        place, fetch, done = sent.data.ptr, module.asnumpy, module.cuda.runtime.deviceSynchronize
    assert cuda.as_cuda_array(sent).__cuda_array_interface__["data"][0] == place
    made = model()
    for _ in range(3):
        assert made.run(sent, out=out) is out
        done()
        np.testing.assert_allclose(fetch(out), want_of(x), rtol=1e-5, atol=1e-6)


def test_streams_of_other_libraries():
    torch = pytest.importorskip("torch")
    made, stream, x = model(), torch.cuda.Stream(), x_of(4)
    with torch.cuda.stream(stream):
        sent = torch.from_numpy(x).cuda(non_blocking=True)
        out = torch.empty((4, *want_of(x).shape[1:]), device="cuda")
        for _ in range(3):
            made.run(sent, out=out, stream=stream.cuda_stream)
        doubled = out * 2
    stream.synchronize()
    np.testing.assert_allclose(doubled.cpu().numpy(), 2 * want_of(x), rtol=1e-5, atol=1e-6)


def test_memory_that_runs_out_is_told_and_the_model_stays_usable():
    made, x = model(), x_of(4)
    assert_exact(made.run(x), made.run(x), np.float32)
    batch = 1 << 16
    sent = cuda.to_device(x_of(batch))
    importlib.import_module("gc").collect()
    free = cuda.current_context().get_memory_info()[0]
    taken = [cuda.device_array(size, np.uint8) for size in (free - (256 << 20),) if size > 0]
    needs = made.gpu_plan(batch).arena_size * 4 * batch
    if needs < 300 << 20:
        taken.append(cuda.device_array(cuda.current_context().get_memory_info()[0] - needs // 2, np.uint8))
    with pytest.raises(DeviceError, match="expected enough memory on the GPU"):
        made.run(sent)
    del taken
    np.testing.assert_allclose(made.run(x), want_of(x), rtol=1e-5, atol=1e-6)
