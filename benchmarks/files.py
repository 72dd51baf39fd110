"""How large a sparse net's file is: ours, ONNX with the zeros written out, that in a zip archive, and as sHAM.

sHAM stores the values as Huffman code, which pays where few values occur: it is also shown for weights rounded to 32
values a layer. Every file is read again and compared before its size counts.
"""

import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

import runtime
from benchmarks import problems
from benchmarks.measuring import How, WrongAnswerError, shown
from benchmarks.tables import Table
from lhc_ref import modelfile
from lhc_ref.modelfile import MaskedKernel, ModelSpec
from lhc_ref.related.ham import SparseHam
from runtime.bench import onnx_twin

ABOUT = "Size of a sparse net's file beside ONNX, zipped ONNX and sHAM."
PROBLEMS = ("vgg16_cifar_d0.1", "vgg16_cifar_unstructured_d0.1", "resnet34_cifar_d0.1")
FEW = 32  # values a layer, five bits each
WORD_BITS = 32
KINDS = {"ours": "ours", "zipped": "ours, zipped", "onnx": "ONNX", "onnx-zipped": "ONNX, zipped", "sham": "sHAM"}


def measure(how: How) -> Iterator[dict[str, Any]]:
    """Bytes by kind of file, for each net as it is and with few values."""
    for name in how.only or (PROBLEMS[:1] if how.toy else PROBLEMS):
        spec = modelfile.validate(problems.find(name, how.toy).make())
        for kind, one in shown([(name, spec), (f"{name}, {FEW} values a layer", few_values(spec))], name):
            yield {"problem": kind, "bytes": sizes(one)}


def sizes(spec: ModelSpec) -> dict[str, int]:
    """Bytes of a net's files; WrongAnswerError where one does not give the net back."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ours, onnx = folder / "net.lhc", folder / "net.onnx"
        modelfile.save(ours, spec)
        onnx_twin.write(onnx, spec)
        for path in (ours, onnx):
            _compare(spec, runtime.load(path).spec, path.suffix)
        return {
            "ours": ours.stat().st_size,
            "zipped": _zipped(ours),
            "onnx": onnx.stat().st_size,
            "onnx-zipped": _zipped(onnx),
            "sham": sum(_sham_bytes(node.tensors[role]) for node in spec.nodes for role in node.tensors),
        }


def few_values(spec: ModelSpec) -> ModelSpec:
    """The net with the weights of each layer rounded to the nearest of 32 values, its quantiles."""
    nodes = []
    for node in spec.nodes:
        kernel = node.tensors.get("kernel")
        if kernel is not None:
            values = kernel.values if isinstance(kernel, MaskedKernel) else kernel
            rounded = _rounded(values)
            stored = replace(kernel, values=rounded) if isinstance(kernel, MaskedKernel) else rounded
            node = replace(node, tensors={**node.tensors, "kernel": stored})
        nodes.append(node)
    return replace(spec, nodes=tuple(nodes))


def _rounded(values: np.ndarray) -> np.ndarray:
    if not values.size:  # every block of the layer is missing
        return values
    levels = np.quantile(values, (np.arange(FEW) + 0.5) / FEW).astype(np.float32)
    return levels[np.searchsorted((levels[1:] + levels[:-1]) / 2, values)]


def _compare(spec: ModelSpec, read: ModelSpec, suffix: str) -> None:
    """Weights that were read again are those that were written, in the order of the layers."""
    written, found = _kernels(spec), _kernels(read)
    if len(written) != len(found) or not all(np.array_equal(a, b) for a, b in zip(written, found, strict=True)):
        raise WrongAnswerError(f"net{suffix}: expected the weights that were written, got others.")


def _kernels(spec: ModelSpec) -> list[np.ndarray]:
    kernels = (node.tensors["kernel"] for node in spec.nodes if "kernel" in node.tensors)
    return [k.dense() if isinstance(k, MaskedKernel) else k for k in kernels]


def _zipped(path: Path) -> int:
    archive = path.with_suffix(path.suffix + ".zip")
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        file.write(path, path.name)
    return archive.stat().st_size


def _sham_bytes(tensor: modelfile.Tensor) -> int:
    """As sHAM where that is smaller than the plain numbers, which is what its authors would store."""
    dense = tensor.dense() if isinstance(tensor, MaskedKernel) else tensor
    if dense.ndim == 1:
        return dense.nbytes
    matrix = dense.reshape(-1, dense.shape[-1])
    coded = SparseHam.of(matrix)
    if not np.array_equal(coded.matrix(), matrix):
        raise WrongAnswerError("sHAM: expected the weights that were written, got others.")
    return min(matrix.nbytes, round(coded.ratio(WORD_BITS) * matrix.size) * WORD_BITS // 8)


def table(results: Sequence[dict[str, Any]]) -> Table:
    """Bytes, and ours as a share of the zipped ONNX file."""
    rows = []
    for result in results:
        sizes = result["bytes"]
        share = sizes["ours"] / sizes["onnx-zipped"]
        rows.append((result["problem"], *(f"{sizes[kind]:,}" for kind in KINDS), f"{share:.2f}"))
    return Table(("net", *(f"{text}, bytes" for text in KINDS.values()), "ours / zipped ONNX"), rows)
