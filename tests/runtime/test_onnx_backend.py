"""The ONNX package's backend node tests: which of them pass is listed, and each of the others has a written reason."""

import json

import pytest

onnx = pytest.importorskip("onnx")
from tests.runtime import onnx_backend  # noqa: E402  # it imports onnx

LISTED = json.loads(onnx_backend.LIST.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def found():
    return onnx_backend.cases()


def test_no_case_that_passed_fails(found, tmp_path):
    """All at once: a case takes a few milliseconds."""
    known = [name for name in LISTED["passing"] if name in found]
    assert known
    wrong = {name: why for name in known if (why := onnx_backend.outcome(found[name], tmp_path)) is not None}
    assert wrong == {}


def test_each_other_case_is_refused_for_its_written_reason(found, tmp_path):
    for name, why in LISTED["unclaimed"].items():
        assert why in onnx_backend.REASONS, name
        if name in found:
            assert onnx_backend.outcome(found[name], tmp_path) == why, name


def test_every_case_is_listed(found):
    """Of the version of the package that the list was made with; others have other cases."""
    if onnx.__version__ != LISTED["onnx"]:
        pytest.skip(f"the list is of onnx {LISTED['onnx']}, this is {onnx.__version__}")
    assert sorted(found) == sorted([*LISTED["passing"], *LISTED["unclaimed"]])
