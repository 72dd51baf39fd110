"""What stands beside our kernels on a GPU: cuDNN through PyTorch, and kernels that find the device's ceilings."""

import importlib
from collections.abc import Callable
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
from numba import cuda, float32
from numba.core import config

from lhc_ref.modelfile import MaskedKernel, ModelSpec, Node, resolve_padding

CHAINS, REPEATED = 16, 16  # multiply-adds that do not wait for each other in one thread; how often in a turn


def products_kernel() -> Any:
    """Multiply-adds in registers."""

    @cuda.jit
    def products(x, turns):
        sums = cuda.local.array(CHAINS, float32)
        factor = x[0]
        for i in range(CHAINS):
            sums[i] = x[i]
        for _ in range(turns):
            for _ in range(REPEATED):
                for i in range(CHAINS):
                    sums[i] = sums[i] * factor + factor
        total = float32(0)
        for i in range(CHAINS):
            total += sums[i]
        if total == float32(1.5):  # never: x is whole; keeps the sums from being left out
            x[0] = total

    return products


def facts() -> dict[str, Any]:
    """The GPU and who drives it."""
    if config.ENABLE_CUDASIM:
        return {"gpu": "numba's simulator"}
    device = cuda.current_context().device
    free, total = cuda.current_context().get_memory_info()
    torch = _torch()
    return {
        "gpu": device.name.decode() if isinstance(device.name, bytes) else device.name,
        "compute_capability": list(device.compute_capability),
        "memory_bytes": [free, total],
        "numba_cuda": _version_of("numba-cuda"),
        "torch": None if torch is None else torch.__version__,
        "cudnn": None if torch is None else torch.backends.cudnn.version(),
    }


def _version_of(package: str) -> str | None:
    """Of an installed package; None where numba's own target is used."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _torch() -> Any:
    """PyTorch, if it is installed and has a GPU."""
    try:
        torch = importlib.import_module("torch")
    except ImportError:
        return None
    return torch if torch.cuda.is_available() else None


def engines(spec: ModelSpec) -> "dict[str, Callable[[bool], Peer]]":
    """What makes cuDNN's nets in three precisions, of whether channels are last; none without PyTorch."""
    torch = _torch()
    if torch is None:
        print("cuDNN: not measured, PyTorch with a GPU is not installed", flush=True)
        return {}
    return {
        "cudnn-float32": partial(Peer, torch, spec, torch.float32, tf32=False),
        "cudnn-tf32": partial(Peer, torch, spec, torch.float32, tf32=True),
        "cudnn-bfloat16": partial(Peer, torch, spec, torch.bfloat16, tf32=False),
    }


class Peer:
    """A net in PyTorch, cuDNN searching for its fastest algorithms; zeros for what is missing."""

    def __init__(
        self, torch: Any, spec: ModelSpec, dtype: Any, channels_last: bool, tf32: bool, device: str = "cuda"
    ) -> None:
        self.torch, self.spec, self.dtype, self.tf32, self.device = torch, spec, dtype, tf32, device
        self.format = torch.channels_last if channels_last else torch.contiguous_format
        self.tensors = {
            (node.name, role): self._sent(node, role, tensor.dense() if isinstance(tensor, MaskedKernel) else tensor)
            for node in spec.nodes
            for role, tensor in node.tensors.items()
        }

    def _sent(self, node: Node, role: str, values: np.ndarray) -> Any:
        tensor = self.torch.from_numpy(np.ascontiguousarray(values)).to(self.device, self.dtype)
        if role == "kernel" and values.ndim == 4:
            return tensor.permute(3, 2, 0, 1).contiguous(memory_format=self.format)
        return tensor

    def _input(self, x: np.ndarray) -> Any:
        sent = self.torch.from_numpy(np.ascontiguousarray(x.transpose(0, 3, 1, 2))).to(self.device, self.dtype)
        return sent.contiguous(memory_format=self.format)

    def _settings(self) -> None:
        backends = self.torch.backends
        backends.cudnn.benchmark = True
        backends.cudnn.allow_tf32 = backends.cuda.matmul.allow_tf32 = self.tf32

    def _call(self, x: Any) -> Any:
        values = {self.spec.inputs[0].name: x}
        with self.torch.inference_mode():
            for node in self.spec.nodes:
                values[node.output] = self._node(node, [values[name] for name in node.inputs])
        return values[self.spec.outputs[0]]

    def _node(self, node: Node, xs: list) -> Any:
        functional, attrs, x = self.torch.nn.functional, node.attrs, xs[0]
        kernel, bias = (self.tensors.get((node.name, role)) for role in ("kernel", "bias"))
        match node.op:
            case "conv2d":
                pads = self._pads(node, x, kernel.shape[2:])
                options = {"stride": attrs["stride"], "dilation": attrs["dilation"], "groups": attrs["groups"]}
                if pads[0][0] == pads[0][1] and pads[1][0] == pads[1][1]:
                    return functional.conv2d(x, kernel, bias, padding=(pads[0][0], pads[1][0]), **options)
                return functional.conv2d(functional.pad(x, (*pads[1], *pads[0])), kernel, bias, **options)
            case "dense":
                return functional.linear(x, kernel.T, bias)
            case "relu":
                return functional.relu(x, inplace=False)
            case "add":
                return xs[0] + xs[1]
            case "max_pool":
                pads = self._pads(node, x, attrs["size"])
                padded = functional.pad(x, (*pads[1], *pads[0]), value=float("-inf"))
                return functional.max_pool2d(padded, attrs["size"], attrs["stride"])
            case "global_average_pool":
                return x.mean((2, 3))
            case "average_pool" if attrs["padding"] == "valid":
                return functional.avg_pool2d(x, attrs["size"], attrs["stride"])
            case "clip":
                return x.clamp(attrs["low"], attrs["high"])
            case "sigmoid":
                return x.sigmoid()
            case "mul":
                return xs[0] * xs[1]
            case "scale":
                return x * self.tensors[node.name, "scale"][:, None, None] + bias[:, None, None]
            case "concat":
                return self.torch.cat(xs, 1)
            case "upsample":
                return functional.interpolate(x, scale_factor=attrs["factor"], mode="nearest")
            case "rearrange" if attrs["order"] == (0,) and x.ndim == 2:  # features to channels of one pixel
                return x.reshape(len(x), attrs["shape"][2], *attrs["shape"][:2])
            case "flatten":
                return x.permute(0, 2, 3, 1).reshape(len(x), -1)
        raise ValueError(f"{node.op}: expected an operator of the benchmark's nets. Add it to benchmarks/gpu_peer.py.")

    @staticmethod
    def _pads(node: Node, x: Any, size: tuple) -> Any:
        dilation = node.attrs.get("dilation", (1, 1))
        return resolve_padding(node.attrs["padding"], tuple(x.shape[2:]), tuple(size), node.attrs["stride"], dilation)

    def run(self, x: np.ndarray) -> np.ndarray:
        """f32 outputs, NHWC."""
        self._settings()
        y = self._call(self._input(x)).float().cpu().numpy()
        return y.transpose(0, 2, 3, 1) if y.ndim == 4 else y

    def times(self, x: np.ndarray, rounds: int) -> dict[str, list[float]]:
        """Seconds of so many calls by device events, called as they are and as a CUDA graph."""
        self._settings()
        sent = self._input(x)
        called = self._times(lambda: self._call(sent), rounds)
        graph = self.torch.cuda.CUDAGraph()
        with self.torch.cuda.graph(graph):
            self._call(sent)
        return {"called": called, "graph": self._times(graph.replay, rounds)}

    def _times(self, call: Callable[[], Any], rounds: int) -> list[float]:
        """Seconds of calls, after three that are not timed."""
        times = []
        for number in range(rounds + 3):
            before, after = (self.torch.cuda.Event(enable_timing=True) for _ in range(2))
            before.record()
            call()
            after.record()
            after.synchronize()
            if number > 2:
                times.append(1e-3 * before.elapsed_time(after))
        return times
