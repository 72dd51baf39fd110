"""Nets exported by PyTorch against what onnxruntime computes: small ones that are stored, and whole ones where both are
installed.
"""

from pathlib import Path

import numpy as np
import pytest

import runtime

pytest.importorskip("onnx")
from tests.runtime.onnx_nets import assert_agrees  # it imports onnx

STORED = sorted(Path(__file__).with_name("exported").glob("*.onnx"))


def test_both_exporters_files_are_stored():
    assert [path.stem for path in STORED] == [
        f"{net}-{exporter}" for net in ("mobilenet", "resnet", "unet") for exporter in ("dynamo", "script")
    ]


@pytest.mark.parametrize("path", STORED, ids=lambda path: path.stem)
def test_stored_nets_agree_with_onnxruntime(path):
    arrays = np.load(path.with_suffix(".npz"))
    assert_agrees(runtime.load(path, shapes={"x": arrays["x"].shape[1:]}), arrays["x"], arrays["y"])


@pytest.mark.parametrize("exporter", ["script", "dynamo"])
@pytest.mark.parametrize("name", ["resnet", "mobilenet", "unet"])
def test_whole_nets_agree_with_onnxruntime(name, exporter, tmp_path):
    for package in ("torch", "onnxscript", "onnxruntime"):
        pytest.importorskip(package)
    from tests.runtime import torch_nets  # noqa: PLC0415  # it imports them

    path = tmp_path / "net.onnx"
    torch_nets.export(torch_nets.made(torch_nets.NETS[name]), path, exporter)
    for batch, h, w in ((1, 64, 48), (3, 32, 40)):
        x = np.random.default_rng(batch).standard_normal((batch, 3, h, w)).astype(np.float32)
        loaded = runtime.load(path, shapes={"x": (3, h, w)})
        assert_agrees(loaded, x, torch_nets.onnxruntime_output(path, x))
