"""The one way to numba.cuda: whether there is a device, what its failures mean, and the kernels, which import it.

Works with numba's own CUDA target, with its simulator (``NUMBA_ENABLE_CUDASIM=1``), and with the package numba-cuda,
which takes the place of the first where it is installed.
"""

import importlib
import re
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from lhc_ref import extras
from lhc_ref.modelfile import InputError, LhcError
from runtime.cuda.registry import Entry


class DeviceError(LhcError):
    """A GPU that failed while it was used; the model can be run again, on this device or another."""


def cuda() -> Any:
    """The module numba.cuda."""
    return extras.cuda()


def simulated() -> bool:
    """Whether kernels run in numba's simulator."""
    return bool(cuda().config.ENABLE_CUDASIM)


class HostEvent:
    """An event of the simulator, whose own have no time: the host's clock, as it runs everything before it returns."""

    def record(self) -> None:
        """Keep the time."""
        self._at = time.perf_counter()

    def synchronize(self) -> None:
        """Nothing to wait for."""

    def elapsed_time(self, later: "HostEvent") -> float:
        """Milliseconds from this one to a later one."""
        return 1e3 * (later._at - self._at)


def event() -> Any:
    """An event that tells when the device came to it."""
    return HostEvent() if simulated() else cuda().event()


def launcher(entry: Entry, blocks: int, stream: Any) -> Any:
    """A kernel with its grid, to be called with its arguments."""
    cuda()
    kernel = importlib.import_module("runtime.cuda.kernels.table").kernel_of(entry)
    return _configured(kernel, blocks, entry.threads, stream)


def occupy(array: Any, turns: int) -> None:
    """Keep the device busy on its default stream for so many turns of a few cycles; f32[1] is written."""
    cuda()
    kernel = importlib.import_module("runtime.cuda.kernels.occupy").occupy
    _configured(kernel, 1, 1, 0)(array, turns)


def _configured(kernel: Any, blocks: int, threads: int, stream: Any) -> Any:
    """kernel[...] without numba's warning of grids of few blocks: small batches have them."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r".*Grid size")  # the message may begin with the codes of bold print
        return kernel[blocks, threads, stream]


def require_device(device: str) -> int:
    """The number of the device that "cuda" or "cuda:1" names; InputError where the name is none, or there is no GPU."""
    match = re.fullmatch(r"cuda(?::(\d+))?", device) if isinstance(device, str) else None
    if match is None:
        raise InputError(f"device: expected 'cpu', 'cuda' or 'cuda:N', got {device!r}. Name one of these.")
    number, module = int(match[1] or 0), cuda()
    try:
        found = len(module.gpus)
    except Exception as error:  # Why: which one depends on what is missing and on whose numba.cuda it is.
        raise InputError(
            f"device {device!r}: expected an NVIDIA GPU with its driver, got none: {_first_line(error)}. Install the "
            "driver, and pip install 'lhc[cuda]' for the compiler; or use device='cpu'."
        ) from error
    if number >= found:
        raise InputError(f"device {device!r}: expected a number below {found}, got {number}. Use another device.")
    if not simulated():
        _require_compiler(device, tuple(module.gpus[number].compute_capability))
    return number


@cache
def _require_compiler(device: str, capability: tuple[int, int]) -> None:
    """Raise InputError where nothing compiles for a device; compiles a kernel that does nothing, .02 to .6 s."""
    try:
        cuda().compile_ptx(_nothing, (), cc=capability)
    except (
        Exception
    ) as error:  # Why: no NVVM, a GPU too old for it, or NumPy too new for numba-cuda, each with its own.
        raise InputError(
            f"device {device!r}: expected a compiler for compute capability {'.'.join(map(str, capability))}, got "
            f"{_first_line(error)!r}. Install versions that go together: pip install 'lhc[cuda]'; or use device='cpu'."
        ) from error


def _nothing() -> None:
    """A kernel, to see whether one compiles."""


def _first_line(error: Exception) -> str:
    """What the driver says: its second line, where the first is a heading that ends in a colon."""
    lines = [line.strip(" .:") for line in str(error).splitlines() if line.strip(" .:")]
    return next((line for line in lines if not line.lower().startswith("error at driver init")), type(error).__name__)


@contextmanager
def failures(what: str) -> Iterator[None]:
    """Turns what the driver reports into DeviceError: out of memory, or a device that can't be used any more."""
    try:
        yield
    except LhcError:
        raise
    except Exception as error:
        if not _of_the_driver(error):
            raise
        if "OUT_OF_MEMORY" in str(error).upper() or getattr(error, "code", None) == 2:
            raise DeviceError(
                f"{what}: expected enough memory on the GPU, got '{_first_line(error)}'. Use a smaller batch."
            ) from error
        raise DeviceError(
            f"{what}: expected a working GPU, got '{_first_line(error)}'. Run again; if it stays so, start a new "
            "process: a failed kernel of any library ends the use of a GPU in its process."
        ) from error


def _of_the_driver(error: Exception) -> bool:
    """Whether an error comes from the driver, by the names that numba and NVIDIA's bindings give them."""
    return any(kind.__name__ in ("CudaDriverError", "CudaAPIError", "CUDAError") for kind in type(error).__mro__)
