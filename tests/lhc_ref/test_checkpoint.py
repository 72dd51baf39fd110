import numpy as np
import pytest

from lhc_ref import checkpoint
from lhc_ref.errors import CheckpointError
from lhc_ref.fingerprint import fingerprint
from tests.tolerances import assert_identical

ARRAYS = {
    "a": np.array([[1.5, -0.0, np.inf], [np.nan, 1e-45, 2.0]], np.float32),
    "b": np.arange(24, dtype=np.int64).reshape(2, 3, 4).swapaxes(0, 2),
    "c": np.array([True, False]),
    "d": np.array(3.0),
    "e": np.zeros((0, 3)),
}
VALUE = {"random": {"state": 2**127 + 1}, "loss": 0.1 + 0.2, "history": [1, None, "é"]}


def test_everything_comes_back_bit_for_bit(tmp_path):
    checkpoint.save(tmp_path / "c", ARRAYS, VALUE)
    arrays, value = checkpoint.load(tmp_path / "c")
    assert value == VALUE
    assert set(arrays) == set(ARRAYS)
    for name, array in arrays.items():
        assert_identical(array, ARRAYS[name])
    assert [p.name for p in tmp_path.iterdir()] == ["c"]


def test_prefixes():
    assert checkpoint.prefixed("p", {"a/b": 1}) == {"p/a/b": 1}
    assert checkpoint.part("p", {"p/a/b": 1, "pp/a": 2, "a": 3}) == {"a/b": 1}


def test_every_flipped_byte_and_every_cut_is_noticed(tmp_path):
    checkpoint.save(tmp_path / "c", {"a": np.arange(3.0)}, {"x": 1})
    whole = (tmp_path / "c").read_bytes()
    for at in range(len(whole)):
        for damaged in (whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :], whole[:at]):
            (tmp_path / "d").write_bytes(damaged)
            with pytest.raises(CheckpointError, match=r"d: expected .*, got "):
                checkpoint.load(tmp_path / "d")


@pytest.mark.parametrize("name", ["none", "."])
def test_no_file(tmp_path, name):
    with pytest.raises(CheckpointError, match="expected a checkpoint"):
        checkpoint.load(tmp_path / name)


def test_another_format(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "FORMAT", "lhc checkpoint 2")
    checkpoint.save(tmp_path / "c", {}, {})
    monkeypatch.undo()
    with pytest.raises(CheckpointError, match="expected 'lhc checkpoint 1', got 'lhc checkpoint 2'"):
        checkpoint.load(tmp_path / "c")


@pytest.mark.parametrize(
    "other",
    [
        {"b": np.zeros(4, np.float32)},
        {"a": np.zeros(4, np.int32)},
        {"a": np.zeros((2, 2), np.float32)},
        {"a": np.array([0, 0, 0, -0.0], np.float32)},
        {"a": np.zeros(4, np.float32), "b": np.zeros(0)},
    ],
)
def test_a_fingerprint_tells_names_types_shapes_and_bits(other):
    assert fingerprint({"a": np.zeros(4, np.float32)}) != fingerprint(other)


def test_a_fingerprint_does_not_depend_on_order_or_layout():
    a, b = np.arange(6.0).reshape(2, 3), np.ones(2)
    assert fingerprint({"a": a, "b": b}) == fingerprint({"b": b, "a": np.asfortranarray(a)})
