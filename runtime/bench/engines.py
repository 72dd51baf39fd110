"""Which engines can be measured here."""

import importlib.util
from collections.abc import Sequence

from lhc_ref.modelfile import InputError
from runtime.bench.worker import ENGINES

DENSE = "-dense"  # after a name: the engine on the twin whose missing weights are filled
NAMES = ("ours", "ours-dense", "onnxruntime", "openvino", "openvino-bf16", "torch", "deepsparse", "deepsparse-dense")
BY_DEFAULT = ("onnxruntime", "openvino", "torch", "deepsparse")
MODULES = {"openvino-bf16": "openvino"}


def kind(engine: str) -> str:
    """The engine's name for `worker.py`."""
    found = engine.removesuffix(DENSE)
    assert found in ENGINES, "a name of NAMES"
    return found


def importable(engine: str) -> bool:
    """Whether this Python has the engine, and onnx where a net must be written for it."""
    name = kind(engine)
    if name == "ours":
        return True
    return all(importlib.util.find_spec(module) is not None for module in (MODULES.get(name, name), "onnx"))


def choose(asked: Sequence[str] | None, has_masks: bool) -> tuple[str, ...]:
    """The engines to measure: those asked for, or all that are here, ours first.

    Raises InputError where one that is asked for cannot be imported.
    """
    if asked is None:
        return ("ours", *(["ours-dense"] if has_masks else []), *filter(importable, BY_DEFAULT))
    for engine in asked:
        if not importable(engine):
            raise InputError(
                f"engine {engine}: expected the modules {MODULES.get(kind(engine), kind(engine))} and onnx, got none. "
                "Install them, or leave it out of --engine."
            )
    return tuple(dict.fromkeys(asked))
