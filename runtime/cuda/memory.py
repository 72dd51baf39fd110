"""A device's memory for one model: weights sent once, and an arena for each stream, grown as batches ask and kept."""

from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np

from lhc_ref.modelfile import InputError
from runtime.cuda.gate import cuda, launcher, simulated
from runtime.cuda.graphs import Graph
from runtime.cuda.plan import GpuPlan
from runtime.cuda.registry import Entry
from runtime.cuda.select import images_in_memory

Arrays = dict[str, Any]
Places = tuple[int, ...]  # addresses of the user's arrays
VALUES = "values"  # the use of an arena's memory that lies between layers
MAX_BATCHES = 64  # batch sizes whose steps are kept
MAX_WHOLES, MAX_SEEN = 8, 64  # graphs of whole nets for a batch size, which are never thrown out; places remembered
MAX_LAUNCHERS = 4096  # grids that are kept for a stream: some for each batch size


def is_device_array(array: Any) -> bool:
    """Whether an array lies on a GPU, whoever's it is."""
    return hasattr(array, "__cuda_array_interface__") or hasattr(array, "__cuda_ndarray__")


@cache
def array_type() -> type:
    """numba's class of arrays on a device; found once, since an array is made for it."""
    return type(cuda().device_array(1, np.float32))


def as_device_array(what: str, array: Any, device: int) -> Any:
    """numba's view of an array on a GPU, without a copy: numba's own, or any with `__cuda_array_interface__`."""
    if hasattr(array, "__dlpack_device__"):  # the interface itself does not tell the device
        kind, number = (int(part) for part in array.__dlpack_device__())
        if kind == 2 and number != device:  # 2: DLPack's name of CUDA
            raise InputError(f"{what}: expected an array on cuda:{device}, got one on cuda:{number}. Copy it there.")
    view = array if hasattr(array, "__cuda_ndarray__") else cuda().as_cuda_array(array)
    if not view.is_c_contiguous():
        raise InputError(f"{what}: expected a contiguous array, got strides {view.strides}. Make a contiguous copy.")
    return view


def address(array: Any) -> int:
    """Where an array of numba's begins on the device."""
    return int(array.__cuda_array_interface__["data"][0])


class Loaded:
    """A plan on a device."""

    def __init__(self, plan: GpuPlan) -> None:
        self.plan = plan
        module = cuda()
        self.weights, self.vectors, self.index = (
            module.to_device(array) for array in (plan.weights, plan.vectors, plan.index)
        )
        self._steps: dict[int, tuple[np.ndarray, Any]] = {}

    def steps(self, batch: int) -> tuple[np.ndarray, Any]:
        """The steps for a batch size, on the host and on the device."""
        if batch not in self._steps:
            if len(self._steps) >= MAX_BATCHES:
                self._steps.clear()
            host = self.plan.steps_for(batch)
            self._steps[batch] = host, cuda().to_device(host)
        return self._steps[batch]


@dataclass
class Between:
    """Flat arrays of the values between layers, by name, for a plan and a batch, and the graphs of launches on them.

    Attributes
    ----------
    runs : how often they were used
    stretches : graphs of launches that use no array of the user's, by their place among the plan's stretches
    wholes : graphs of all launches, by where the user's arrays lie; at most `MAX_WHOLES`
    seen : where the user's arrays lay in some last runs
    """

    plan: GpuPlan
    arrays: Arrays
    runs: int = 0
    stretches: dict[int, Graph] = field(default_factory=dict)
    wholes: dict[Places, Graph] = field(default_factory=dict)
    seen: dict[Places, None] = field(default_factory=dict)

    def come_again(self, places: Places) -> bool:
        """Whether the user's arrays lay there in one of the last runs; remembered for the next ones."""
        known = places in self.seen
        self.seen.pop(places, None)  # the last ones stand last
        if len(self.seen) >= MAX_SEEN:
            del self.seen[next(iter(self.seen))]
        self.seen[places] = None
        return known


class Arena:
    """The memory of runs on one stream: what passes between layers, and copies of host arrays."""

    def __init__(self) -> None:
        self._buffers: dict[tuple[str, str], Any] = {}
        self.views: dict[int, Between] = {}  # of a batch: `between`, until more memory is taken for it
        self._launchers: dict[tuple[Entry, int], Any] = {}

    def take(self, use: str, size: int, dtype: str) -> Any:
        """dtype[size]; the memory that this use had before, if it is enough. Holds what the last run left."""
        kept = self._buffers.get((use, dtype))
        if kept is None or kept.size < size:
            self._buffers.pop((use, dtype), None)  # freed before the larger one is allocated
            if use == VALUES:
                self.views.clear()
            kept = None
            self._buffers[use, dtype] = kept = cuda().device_array(max(size, 1), np.dtype(dtype))
        return kept[: max(size, 1)]

    def drop(self, plan: GpuPlan) -> None:
        """Forget the views and graphs of a plan: graphs hold its weights."""
        self.views = {batch: found for batch, found in self.views.items() if found.plan is not plan}

    def launcher(self, entry: Entry, blocks: int, stream: Any) -> Any:
        """A kernel with its grid, on this memory's stream; kept, but a simulated kernel has one grid at a time."""
        if simulated():
            return launcher(entry, blocks, stream)
        if (entry, blocks) not in self._launchers:
            if len(self._launchers) >= MAX_LAUNCHERS:
                self._launchers.clear()
            self._launchers[entry, blocks] = launcher(entry, blocks, stream)
        return self._launchers[entry, blocks]

    @property
    def bytes(self) -> int:
        """Device memory held."""
        return sum(buffer.nbytes for buffer in self._buffers.values())


def between(plan: GpuPlan, arena: Arena, batch: int) -> Between:
    """The values between layers, in the arena. Kept, since numba is slow at making views."""
    found = arena.views.get(batch)
    if found is None:  # else of this plan: those of a plan that is dropped are dropped with it
        images = images_in_memory(batch)
        whole = arena.take(VALUES, plan.arena_size * images, plan.storage)
        arrays = {name: whole[at * images : (at + size) * images] for name, (at, size) in plan.places.items()}
        if len(arena.views) >= MAX_BATCHES:
            arena.views.clear()
        arena.views[batch] = found = Between(plan, arrays)
    return found


def as_stream(stream: Any) -> Any:
    """A stream that numba launches on: 0 is the default one, and numbers are streams of other libraries."""
    if stream is None or (isinstance(stream, int) and stream == 0):
        return 0
    return cuda().external_stream(stream) if isinstance(stream, int) else stream


def stream_key(stream: Any) -> Any:
    """What all objects that stand for one stream have in common."""
    handle = getattr(stream, "handle", stream)
    handle = getattr(handle, "value", handle)
    return int(handle or 0) if hasattr(handle, "__int__") or not handle else handle
