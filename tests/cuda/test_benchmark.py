"""The benchmark of GPUs runs at toy size, checks its answers first, and says what it could not do."""

import json

import numpy as np
import pytest

from benchmarks import gpu
from tests.cuda.gpus import launching, turns


@launching
@pytest.mark.filterwarnings("ignore:overflow encountered")  # the simulator's float32, in what finds the ceiling
def test_the_toy_run_writes_what_it_found(tmp_path, capsys):
    out = tmp_path / "gpu.json"
    with turns():
        assert gpu.main(["--toy", "--only-ours", "--out", str(out)]) == 0
    (result,) = json.loads(out.read_text())["results"]
    assert {"float32", "float16"} <= set(result["engines"])
    assert result["engines"]["float32"]["launches"] == 1
    assert [row["layer"] for row in result["engines"]["float16"]["layers"]] == ["copy", "conv2d0+relu1", "copy"]


@pytest.mark.parametrize("wrong", [1.001, np.nan])
def test_a_wrong_answer_is_no_measurement(wrong):
    want = np.ones(3)
    assert gpu.compare("float32", want * (1 + 1e-6), want) < 1e-5
    with pytest.raises(ValueError, match="float32: expected the reference's outputs"):
        gpu.compare("float32", want * wrong, want)
