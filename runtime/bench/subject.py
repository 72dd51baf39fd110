"""The net that is measured, in the forms that engines take, with the outputs that each form has to have."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

import runtime
from lhc_ref import extras, modelfile
from lhc_ref.errors import LhcError
from lhc_ref.evaluate import evaluate_with_bounds
from lhc_ref.modelfile import InputError, MaskedKernel, ModelSpec
from runtime.bench import onnx_twin
from runtime.bench.twins import dense_twin
from runtime.commands import memory
from runtime.model import Views, views_of
from runtime.onnx import graph, is_onnx
from runtime.views import View

Arrays = dict[str, np.ndarray]
# Images of a batch that differ; the others repeat them. Why a prime: images in swapped lanes are then found wrong.
# Why so few: the float64 reference is slow, and this way it covers every image of the batch.
DISTINCT = 7
# Largest difference from the reference over the largest value that still counts as the same net, for engines that may
# sum in ways (Winograd) that the bounds of float32 rounding do not cover; and for those that round to bfloat16.
TOLERATED, TOLERATED_BF16 = 1e-4, 0.1
TINY = 1e-30  # for outputs that are all zero


class WrongAnswerError(LhcError):
    """An engine whose outputs are not the reference's."""


@dataclass(frozen=True)
class Expected:
    """An output in float64, and how far float32 rounding can be from it; None where no bound is known."""

    value: np.ndarray
    bound: np.ndarray | None


@dataclass(frozen=True)
class Form:
    """The net as some engines take it: a file, the inputs f32[batch, ...] by name, and the outputs of the images that
    differ.
    """

    path: Path
    inputs: Arrays
    expected: Mapping[str, Expected]
    options: Mapping[str, Any] = field(default_factory=dict)

    def check(self, engine: str, answers: Mapping[str, np.ndarray]) -> dict[str, float | None]:
        """How far an engine's outputs are from the reference: the largest difference over the largest value, and the
        largest share of the bound.

        Raises WrongAnswerError: ours outside the bounds; others where it is no rounding error.
        """
        if sorted(answers) != sorted(self.expected):
            raise _wrong(engine, f"outputs {sorted(self.expected)}", f"{sorted(answers)}")
        tolerated = TOLERATED_BF16 if engine.endswith("bf16") else TOLERATED
        relative, share = 0.0, None
        for name, expected in self.expected.items():
            batch, distinct = len(answers[name]), len(expected.value)
            if answers[name].shape[1:] != expected.value.shape[1:]:
                raise _wrong(engine, f"{name} [n, {expected.value.shape[1:]}]", f"{answers[name].shape}")
            repeated = np.arange(batch) % distinct
            difference = np.abs(answers[name] - expected.value[repeated])
            found = float(difference.max() / max(float(np.abs(expected.value).max()), TINY))
            inside = False
            if expected.bound is not None:
                ratio = float((difference / np.maximum(expected.bound[repeated], TINY)).max())
                inside, share = ratio <= 1, ratio if share is None else max(share, ratio)
            relative = max(relative, found) if found == found else found
            mine = engine.startswith("ours") and expected.bound is not None
            if not inside and (mine or not found <= tolerated):
                raise _wrong(engine, f"the reference's {name}", f"a relative difference of {found:.1e}")
        return {"relative_difference": relative, "share_of_bound": share}


def _wrong(engine: str, expected: str, got: str) -> WrongAnswerError:
    return WrongAnswerError(
        f"{engine}: expected {expected}, got {got}. Nothing was timed: leave this engine out, or report a bug."
    )


class Subject:
    """A model file or ONNX file with a batch of random images.

    Parameters
    ----------
    path : of the file
    batch : images
    folder : for the other forms
    shapes, device : as for `runtime.load`
    choice : its `trial` and `winograd`, where they are given

    Raises
    ------
    LhcError : what `runtime.load` refuses; images that do not fit into memory.
    """

    def __init__(
        self,
        path: Path,
        batch: int,
        folder: Path,
        shapes: Mapping[str, tuple[int, ...]] | None,
        device: str,
        choice: Mapping[str, Any] | None = None,
    ) -> None:
        self.path, self.batch, self._folder = path, batch, folder
        self.options: dict[str, Any] = {
            **({"shapes": shapes} if shapes else {}),
            **({"device": device} if device != "cpu" else {}),
            **(choice or {}),
        }
        if "trial" in self.options:
            self.options["trial"] = str(Path(self.options["trial"]).absolute())
        model = runtime.load(path, **self.options)
        self.spec, self._views = model.spec, model.views
        size = 4 * batch * sum(prod(entry.shape) for entry in self.spec.inputs)
        memory.require(3.0 * size, f"{batch:,} images", "Use a smaller --batch.")
        rng = np.random.default_rng(0)
        self._few = {
            entry.name: rng.standard_normal((min(batch, DISTINCT), *entry.shape), np.float32)
            for entry in self.spec.inputs
        }

    @property
    def is_onnx(self) -> bool:
        """Whether other engines can read the file itself."""
        return is_onnx(self.path)

    @property
    def has_masks(self) -> bool:
        """Whether weights are missing."""
        kernels = (node.tensors.get("kernel") for node in self.spec.nodes)
        return any(isinstance(kernel, MaskedKernel) and kernel.density < 1 for kernel in kernels)

    def counts(self) -> dict[str, Any]:
        """Inputs, outputs, and how many weights there are and how many are kept."""
        inputs, outputs = self._views
        tensors = [tensor for node in self.spec.nodes for tensor in node.tensors.values()]
        return {
            "inputs": {name: view.shape for name, view in inputs.items()},
            "outputs": {name: view.shape for name, view in outputs.items()},
            "weights": sum(prod(tensor.shape) for tensor in tensors),
            "weights_kept": sum(t.kept if isinstance(t, MaskedKernel) else t.size for t in tensors),
        }

    @cached_property
    def own(self) -> Form:
        """The file itself."""
        return self._form(self.path, self._views, self._reference, self.options)

    @cached_property
    def twin(self) -> Form:
        """The net as ONNX of the plainest kind, zeros in the place of missing weights."""
        path = self._folder / "twin.onnx"
        onnx_twin.write(path, self.spec)
        return self._form(path, views_of(self.spec, View.nchw), self._reference)

    @cached_property
    def dense(self) -> Form:
        """A model file with small numbers in the place of missing weights."""
        path, spec = self._folder / "dense.lhc", self._dense_spec
        modelfile.save(path, spec)
        device = {key: value for key, value in self.options.items() if key == "device"}
        return self._form(path, views_of(spec, View.same), self._dense_reference, device)

    @cached_property
    def dense_twin(self) -> Form:
        """The same as ONNX."""
        path, spec = self._folder / "dense.onnx", self._dense_spec
        onnx_twin.write(path, spec)
        return self._form(path, views_of(spec, View.nchw), self._dense_reference)

    def form_for(self, engine: str) -> Form:
        """The form that an engine gets: others the file itself where they can read it and its batch is free."""
        if engine == "ours":
            return self.own
        if engine == "ours-dense":
            return self.dense
        if engine.endswith("-dense"):
            return self.dense_twin
        return self.own if self._readable_by_others and engine != "torch" else self.twin

    @cached_property
    def _readable_by_others(self) -> bool:
        if not self.is_onnx:
            return False
        inputs = graph.read(self.path, {}).inputs.values()
        return all(sizes is not None and (not sizes or sizes[0] in (None, self.batch)) for sizes in inputs)

    @cached_property
    def _dense_spec(self) -> ModelSpec:
        return modelfile.validate(dense_twin(self.spec))

    @cached_property
    def _reference(self) -> Mapping[str, Expected]:
        return self._evaluate(self.spec)

    @cached_property
    def _dense_reference(self) -> Mapping[str, Expected]:
        return self._evaluate(self._dense_spec)

    def _evaluate(self, spec: ModelSpec) -> Mapping[str, Expected]:
        """Outputs by value."""
        found = evaluate_with_bounds(spec, self._few, winograd=[node.name for node in spec.nodes])
        return {name: Expected(one.value, one.bound) for name, one in found.items()}

    def _form(
        self, path: Path, views: Views, reference: Mapping[str, Expected], options: Mapping[str, Any] | None = None
    ) -> Form:
        inputs, outputs = views
        repeated = np.arange(self.batch) % min(self.batch, DISTINCT)
        given = {
            name: np.ascontiguousarray(view.outward(self._few[view.value])[repeated]) for name, view in inputs.items()
        }
        expected = {
            name: Expected(
                view.outward(reference[view.value].value),
                None if (bound := reference[view.value].bound) is None else view.outward(bound),
            )
            for name, view in outputs.items()
        }
        return Form(path, given, expected, options or {})


class ForeignSubject:
    """An ONNX file with operators that the runtime lacks, for other engines alone.

    The reference is the onnx package's own evaluator, in float32.
    """

    is_onnx, has_masks, spec = True, False, None

    def __init__(self, path: Path, batch: int, shapes: Mapping[str, tuple[int, ...]] | None) -> None:
        self.path, self.batch = path, batch
        onnx, reference = extras.onnx(), extras.require("onnx", "onnx.reference")
        read = graph.read(path, {})
        rng = np.random.default_rng(0)
        self._inputs: Arrays = {}
        for name, sizes in read.inputs.items():
            shape = () if isinstance(sizes, str) else (shapes or {}).get(name, sizes[1:])
            if not sizes or isinstance(sizes, str) or sizes[0] not in (None, batch) or None in shape:
                raise InputError(
                    f"{path}: expected an input {name!r} of {batch} images and known sizes, got {sizes}. "
                    "Give sizes by --shape, and the file's own batch by --batch."
                )
            self._inputs[name] = rng.standard_normal((batch, *(size for size in shape if size is not None)), np.float32)
        made = reference.ReferenceEvaluator(onnx.load(str(path))).run(list(read.outputs), self._inputs)
        self._expected = {
            name: Expected(np.asarray(y, np.float64), None) for name, y in zip(read.outputs, made, strict=True)
        }

    def form_for(self, engine: str) -> Form:
        """The file itself, for every engine that reads ONNX."""
        if engine == "torch" or engine.startswith("ours") or engine.endswith("-dense"):
            raise InputError(
                f"{self.path}: expected an engine that reads any ONNX file, got {engine}: the file has operators that "
                "lhc lacks. Name others with --engine."
            )
        return Form(self.path, self._inputs, self._expected)
