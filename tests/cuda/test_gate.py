"""What `device="cuda"` says where there is no GPU, and that the CPU does not notice."""

import pickle
import warnings
from types import SimpleNamespace

import numpy as np
import pytest
from numba import cuda

import runtime
from lhc_ref.modelfile import InputError, LhcError, save
from runtime.cuda import gate
from runtime.cuda.gate import DeviceError
from runtime.cuda.model import GpuModel
from tests.cuda.gpus import AVAILABLE, SMALL_TILE, entries_of, launching, turns
from tests.runtime.nets import classifier, definition, images

without_gpu = pytest.mark.skipif(AVAILABLE, reason="there is a GPU, or the simulator")


@pytest.fixture
def path(tmp_path):
    save(tmp_path / "net.lhc", classifier())
    return tmp_path / "net.lhc"


@without_gpu
def test_no_gpu_is_told_with_what_to_install(path):
    with pytest.raises(
        InputError, match=r"device 'cuda': expected an NVIDIA GPU with its driver, got none: CUDA driver"
    ) as e:
        runtime.load(path, device="cuda")
    assert "pip install 'lhc[cuda]'" in str(e.value)
    assert "device='cpu'" in str(e.value)
    assert runtime.load(path).run(images(1)).shape == (1, 5)


@pytest.mark.parametrize("device", ["gpu", "cuda:", "cuda:x", 0, None])
def test_other_devices_are_refused(path, device):
    with pytest.raises(InputError, match=r"device: expected 'cpu', 'cuda' or 'cuda:N', got"):
        runtime.load(path, device=device)


def test_storage_is_the_gpus_alone(path):
    with pytest.raises(InputError, match="storage: expected 'float32' on cpu, got 'float16'"):
        runtime.load(path, storage="float16")
    with pytest.raises(InputError, match="storage: expected 'float32' or 'float16' on cuda, got 'int8'"):
        runtime.load(path, device="cuda", storage="int8")


@launching
def test_a_number_without_a_device_is_refused(path):
    with pytest.raises(InputError, match=r"device 'cuda:99': expected a number below \d+, got 99"):
        runtime.load(path, device="cuda:99")


class OneGpu:
    """numba.cuda as on a machine with a GPU, where compiling ends as a test says."""

    gpus = (SimpleNamespace(compute_capability=(9, 0)),)
    config = SimpleNamespace(ENABLE_CUDASIM=False)

    def __init__(self, error=None):
        self.error = error

    def compile_ptx(self, function, signature, cc):
        if self.error:
            raise self.error


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (AttributeError("module 'numpy' has no attribute 'row_stack'"), "has no attribute 'row_stack'"),
        (
            ImportError("libNVVM cannot be found. Do `conda install cudatoolkit`:\nlibnvvm.so"),
            "libNVVM cannot be found",
        ),
    ],
)
def test_a_compiler_that_does_not_work_is_told_when_a_model_is_loaded(path, monkeypatch, error, text):
    monkeypatch.setattr(gate, "cuda", lambda: OneGpu(error))
    gate._require_compiler.cache_clear()
    with pytest.raises(InputError, match=r"'cuda': expected a compiler for compute capability 9\.0, got ") as e:
        runtime.load(path, device="cuda")
    assert text in str(e.value)
    assert "pip install 'lhc[cuda]'" in str(e.value)
    monkeypatch.setattr(gate, "cuda", OneGpu)
    assert runtime.load(path, device="cuda").device == "cuda"
    gate._require_compiler.cache_clear()


@launching
def test_a_loaded_model_runs_and_comes_out_of_a_pickle(path):
    model = runtime.load(path, device="cuda", storage="float16")
    again = pickle.loads(pickle.dumps(model))
    assert isinstance(again, GpuModel)
    assert (again.device, again.storage, again.path) == ("cuda", "float16", path)
    assert isinstance(model.as_stored(), GpuModel)
    x = images(1)
    np.testing.assert_allclose(runtime.load(path).run(x), definition(classifier(), {"x": x})["scores"])


class CudaAPIError(Exception):
    """As numba's driver raises it."""

    def __init__(self, code, text):
        super().__init__(f"[{code}] {text}")
        self.code = code


@pytest.mark.parametrize(
    ("error", "match"),
    [
        (
            CudaAPIError(2, "Call to cuMemAlloc results in CUDA_ERROR_OUT_OF_MEMORY"),
            "enough memory on the GPU, got '.2",
        ),
        (
            CudaAPIError(700, "Call to cuMemcpy results in ILLEGAL_ADDRESS"),
            "a working GPU, got '.700. .*start a new process",
        ),
    ],
)
def test_failures_of_the_driver_are_told(error, match):
    with pytest.raises(DeviceError, match=match), gate.failures("run"):
        raise error


class WarningKernel:
    """Warns as numba does of a grid of few blocks, or of something else."""

    def __init__(self, text):
        self.text = text

    def __getitem__(self, grid):
        warnings.warn(self.text, stacklevel=1)
        return grid


def test_small_grids_are_no_news_but_other_warnings_are():
    few = WarningKernel("Grid size 1 will likely result in GPU under-utilization due to low occupancy.")
    assert gate._configured(few, 1, 2, 0) == (1, 2, 0)
    with pytest.warns(UserWarning, match="another"):
        gate._configured(WarningKernel("another"), 1, 2, 0)


@launching
def test_the_device_is_occupied_for_so_many_turns():
    array = cuda.to_device(np.zeros(1, np.float32))
    gate.occupy(array, 3)
    assert array.copy_to_host().tolist() == [1.75]


def test_other_failures_pass():
    for error in (InputError("mine"), ZeroDivisionError()):
        with pytest.raises(type(error)), gate.failures("run"):
            raise error
    assert issubclass(DeviceError, LhcError)


@launching
@pytest.mark.parametrize("code", [2, 700])
def test_a_model_is_usable_after_a_failure(code, monkeypatch):
    model, x = GpuModel(classifier(), entries=entries_of(SMALL_TILE)), images(2)
    with turns():
        model.run(x)
        model._drop(2)  # its weights have to be sent again
    with monkeypatch.context() as broken:
        broken.setattr(cuda, "to_device", lambda *_: (_ for _ in ()).throw(CudaAPIError(code, "failed")))
        with pytest.raises(DeviceError):
            model.run(x)
    assert not model._loaded
    assert not model._arenas
    with turns():
        np.testing.assert_allclose(model.run(x), definition(classifier(), {"x": x})["scores"])
