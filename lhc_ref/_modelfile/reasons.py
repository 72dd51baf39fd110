"""Why a model file or a graph is refused: one code for each place that refuses, and the advice its message ends in."""

import reprlib
from typing import Any, NoReturn

from lhc_ref.errors import ModelFileError

# Limits, checked before anything is allocated on the word of a file.
MAX_HEADER_BYTES = 8 * 2**20
MAX_DEPTH = 16  # of brackets in the JSON
MAX_NODES = 10_000
MAX_INPUTS = 64
MAX_CLASSES = 100_000
MAX_NAME_LENGTH = 256
MAX_RANK = 4
MAX_SPAN = 2**16  # a window's side, a stride, a dilation, a padding, a mask's group
MAX_ELEMENTS = 2**28  # of one activation of one image
MAX_WEIGHTS = 2**30  # of all tensors together, zeros that a mask leaves out included

_DAMAGED = "The file is damaged: fetch it again, or export the model again."
_WRITER = "The program that wrote the file breaks the format: see docs/model-file.md."
_GRAPH = "Correct the graph, or export the model again."
_LIMIT = "Nets of this size are not supported: see the limits in docs/model-file.md."
_NEWER = "Install a newer lhc, or export the model with this version."

REASONS = {
    # the path
    "path": "Give the path of a model file that exists and may be read.",
    "not-a-file": "Give the path of a model file.",
    "read-failed": "Check the disk and try again.",
    "short-read": "Another program is changing the file: try again when it is done.",
    # the container
    "too-short": _DAMAGED,
    "header-length": _DAMAGED,
    "header-limit": _LIMIT,
    "header-start": "This is no model file, or it is damaged.",
    "json-encoding": _DAMAGED,
    "json-syntax": _DAMAGED,
    "json-depth": _WRITER,
    "json-duplicate": _WRITER,
    "json-constant": _WRITER,
    "no-graph": "This is a safetensors file without an LHC graph: export the model with lhc-ref.",
    "entry-dtype": _WRITER,
    "entry-rank": _WRITER,
    "entry-dimension": _WRITER,
    "entry-offsets": _WRITER,
    "entry-bytes": _WRITER,
    "entry-overlap": _WRITER,
    "entry-order": _WRITER,
    "entry-hole": _WRITER,
    "data-truncated": _DAMAGED,
    "data-left-over": _DAMAGED,
    # the fields of the graph
    "field-type": _WRITER,
    "field-missing": _WRITER,
    "field-unknown": _WRITER,
    "format-name": "This is no LHC model file.",
    "version-text": _WRITER,
    "version-major": _NEWER,
    "requires": _NEWER,
    "layout": _NEWER,
    "tensor-missing": _WRITER,
    "tensor-unused": _WRITER,
    "dense-dtype": _WRITER,
    "values-claim": _WRITER,
    "mask-claim": _WRITER,
    "mask-padding": _DAMAGED,
    # the graph
    "name": _GRAPH,
    "shape-type": _GRAPH,
    "shape-limit": _LIMIT,
    "input-count": _GRAPH,
    "input-unused": _GRAPH,
    "node-count": _LIMIT,
    "no-node": _GRAPH,
    "node-name-twice": _GRAPH,
    "value-name-twice": _GRAPH,
    "op-unknown": _NEWER,
    "attribute-unknown": _NEWER,
    "attribute-missing": _GRAPH,
    "attribute-value": _GRAPH,
    "arity": _GRAPH,
    "dangling": _GRAPH,
    "cycle": _GRAPH,
    "node-order": "Write the nodes so that each comes after those it reads.",
    "node-unused": _GRAPH,
    "output-count": _GRAPH,
    "output-twice": _GRAPH,
    "output-unknown": _GRAPH,
    "classes": _GRAPH,
    "preprocessing": _GRAPH,
    "metadata": "Metadata is a table of short texts.",
    # the tensors of a node
    "role-unknown": _NEWER,
    "role-missing": _GRAPH,
    "tensor-type": "Give float32 arrays, or a MaskedKernel where the operator takes one.",
    "weights-limit": _LIMIT,
    "not-finite": "Export a model whose training did not diverge.",
    "kernel-type": "Convert the kernel to float32 first.",
    "kernel-dimensions": _GRAPH,
    "mask-groups": _GRAPH,
    "mask-shape": _GRAPH,
    "mask-values": "Keep one value for each weight that the mask keeps.",
    # shapes
    "rank": _GRAPH,
    "kernel-shape": _GRAPH,
    "dense-shape": _GRAPH,
    "bias-shape": _GRAPH,
    "window": _GRAPH,
    "pool-padding": "Pad by less than the window, so that each window holds a pixel.",
    "add-shapes": _GRAPH,
    "mul-shapes": _GRAPH,
    "channel-vector": _GRAPH,
    "clip-limits": "Give the lower limit first.",
    "concat-shapes": _GRAPH,
    "slice": "Give one number an axis, within the input.",
    "rearrange": "Give shapes that hold as many numbers, and an order of all axes.",
    "activation-limit": _LIMIT,
}


class RefusedError(ModelFileError):
    """A refusal with the code of the place that refused."""

    def __init__(self, message: str, code: str = "") -> None:
        super().__init__(message)
        self.code = code


def refuse(code: str, thing: str, expected: str, got: object) -> NoReturn:
    """Raise the one error of this place: `<thing>: expected <what>, got <what>. <what to do>`."""
    raise RefusedError(f"{thing}: expected {expected}, got {got}. {REASONS[code]}", code)


_short = reprlib.Repr()
_short.maxstring = _short.maxother = 80
_short.maxlist = _short.maxtuple = 8
_short.maxlevel = 3


def show(value: Any) -> str:
    """A value of unknown size and kind, fit for an error message."""
    return _short.repr(value)
