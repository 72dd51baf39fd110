"""Which library's functions are called."""

import sys
import types

import numpy as np
import pytest

from lhc_ref.arrays import describe, namespace, pair
from lhc_ref.errors import InputError


def test_arrays_bring_their_own_namespace(monkeypatch):
    assert namespace(np.zeros(2)) is np
    assert namespace(np.float32(1)) is np
    other = types.ModuleType("other_arrays")
    monkeypatch.setitem(sys.modules, "other_arrays", other)
    array = type("ndarray", (), {"__module__": "other_arrays.core"})()
    assert namespace(array) is other


def test_things_are_described_by_dtype_and_shape():
    assert describe(np.zeros((2, 3), np.float32)) == "float32[2, 3]"
    assert describe(np.float64(1)) == "float64[]"
    assert describe([1, 2]) == "list"


def test_one_number_stands_for_both():
    assert pair(3, "size") == pair((3, 3), "size") == pair(np.int64(3), "size") == (3, 3)
    assert pair([1, 2], "size") == (1, 2)
    for wrong in (0, (1, 0), (1,), "12", None, 1.0, (1, 2, 3)):
        with pytest.raises(InputError, match=r"^size: expected one or two integers >= 1, got .+\. .+\.$"):
            pair(wrong, "size")
