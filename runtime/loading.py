"""Loads models from files."""

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from lhc_ref import modelfile
from lhc_ref.modelfile import InputError, ModelSpec
from runtime.cuda.gate import require_device
from runtime.cuda.model import GpuModel
from runtime.model import Model, Source, Views, views_of
from runtime.onnx import importer, is_onnx
from runtime.trial import read as read_trial
from runtime.views import View


def load(
    path: str | os.PathLike,
    *,
    layout: str | None = None,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
    constants: Mapping[str, np.ndarray] | None = None,
    device: str = "cpu",
    storage: str = "float32",
    winograd: bool = True,
    trial: str | os.PathLike | None = None,
) -> Model:
    """Load a model file or an ONNX file.

    Parameters
    ----------
    path : a file written by `lhc-ref export` or `lhc_ref.modelfile.save`; or one that ends in `.onnx`, for which the
        extra `onnx` must be installed
    layout : how arrays lie: "NHWC", or "NCHW", which for ONNX files is ONNX's own shape of each input and output. None
        is "NCHW" for ONNX files and "NHWC" for model files
    shapes : ONNX files: ONNX's shape without the batch, of inputs whose sizes are symbolic, by name
    constants : ONNX files: arrays for inputs that shall be constants, by name
    device : "cpu"; or an NVIDIA GPU, "cuda" or "cuda:1", for which see `docs/gpu.md`
    storage : how a GPU stores weights and what passes between layers: "float32", or "float16", with sums in float32
    winograd : whether a CPU may compute 3x3 convolutions by Winograd's transform F(2x2, 3x3) where that is predicted to
        be faster: most weights exist. It rounds a little more, and an infinite input may make NaN of an output where
        sums of products give infinity
    trial : a file that `Model.save_trial` or `lhc-run trial` wrote of this net on this machine: kernels are chosen by
        the times in it. None: by the cost model, on a CPU the same on every run

    Returns
    -------
    Model
        Planned at the first run or `explain` of a batch size; a `GpuModel` for a GPU.

    Raises
    ------
    ModelFileError
        The file cannot be read, or what is in it isn't a valid model, or cannot be run: then each node that cannot is
        named with the reason.
    InputError
        Another layout, device or storage; a GPU where there is none; shapes or constants for a model file; a trial of
        another net, machine or version, one that is damaged, or one for a GPU.
    """
    if storage not in ("float32", "float16") or (device == "cpu" and storage != "float32"):
        allowed = "'float32'" if device == "cpu" else "'float32' or 'float16'"
        raise InputError(f"storage: expected {allowed} on {device}, got {storage!r}. Leave it out for 'float32'.")
    if trial is not None and device != "cpu":
        raise InputError(f"trial: expected none on {device}, got {str(trial)!r}. Leave it out, or call trial(batch).")
    timed = None if trial is None else read_trial(trial)
    return open_source(
        Source(str(Path(path).absolute()), open_source, layout, shapes, constants, device, storage, winograd, timed)
    )


def open_source(source: Source) -> Model:
    """Load what a source names; also how a model comes out of a pickle."""
    if source.device != "cpu":
        require_device(source.device)
    spec, views = _read(source)
    return Model(spec, source, views) if source.device == "cpu" else GpuModel(spec, source, views)


def _read(source: Source) -> tuple[ModelSpec, Views | None]:
    if source.layout not in (None, "NHWC", "NCHW"):
        raise InputError(f"layout: expected 'NHWC' or 'NCHW', got {source.layout!r}. Leave it out for the file's own.")
    if is_onnx(source.path):
        found = importer.load(source.path, shapes=source.shapes, constants=source.constants)
        return found.spec, None if source.layout == "NHWC" else (found.inputs, found.outputs)
    if source.shapes or source.constants:
        raise InputError("shapes, constants: expected an ONNX file with them, got a model file. Leave them out.")
    spec = modelfile.load(source.path)
    return spec, views_of(spec, View.nchw) if source.layout == "NCHW" else None
