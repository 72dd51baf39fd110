"""HAM, CSC and sHAM: bit for bit round trips, the paper's example, sizes and their bound."""

from dataclasses import replace
from math import log2

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lhc_ref.errors import InputError
from lhc_ref.related.ham import Csc, Ham, SparseHam
from tests.strategies import seeds
from tests.tolerances import assert_identical, gamma

dtypes = pytest.mark.parametrize("dtype", [np.float32, np.float64])
forms = pytest.mark.parametrize("form", [Ham, Csc, SparseHam])
sizes = st.tuples(st.integers(1, 6), st.integers(1, 6))
EXAMPLE = np.array([[1, 0, 4, 0, 0], [0, 10, 0, 0, 0], [2, 3, 0, 0, 5], [0, 0, 0, 0, 0], [0, 0, 0, 0, 6]], np.float32)


@forms
@dtypes
@given(sizes, st.integers(1, 4), st.floats(0, 1), seeds)
def test_round_trip_is_exact_to_the_bit(form, dtype, size, k, density, seed):
    """Few values, -0.0, NaN and infinities among them, at any density, from empty to full."""
    rng = np.random.default_rng(seed)
    values = np.array([1.5, -0.0, np.nan, -np.inf], dtype)[:k]
    matrix = np.where(rng.random(size) < density, rng.choice(values, size), dtype(0))
    assert_identical(form.of(matrix).matrix(), matrix)
    assert_identical(form.of(matrix.T).matrix(), matrix.T)
    assert_identical(form.of(np.asfortranarray(matrix)).matrix(), matrix)


def test_the_papers_example():
    sparse = Csc.of(EXAMPLE)
    assert sparse.values.tolist() == [1, 2, 10, 3, 4, 5, 6]
    assert (sparse.rows + 1).tolist() == [1, 3, 2, 3, 1, 3, 5]
    assert (sparse.starts + 1).tolist() == [1, 3, 5, 6, 6, 8]
    assert_identical(sparse.matrix(), EXAMPLE)


def test_sizes_of_the_example_by_hand():
    """Of 25 entries 18 are zero and 7 differ: 1 bit for a zero; the Huffman tree of seven ones adds 20 bits below it,
    and 7 for being below it. 45 bits are 2 words of 32, beside 8 values of 2 words. Of the non-zeros alone 20 bits."""
    ham, sparse = Ham.of(EXAMPLE), SparseHam.of(EXAMPLE)
    assert (ham.entries.code_bits, ham.entries.words(32)) == (18 + 7 + 20, 2 + 16)
    assert ham.ratio(32) == 18 / 25
    assert (sparse.values.code_bits, sparse.values.words(32)) == (20, 1 + 14)
    assert sparse.ratio(32) == (15 + 7 + 6) / 25
    assert len(ham.entries.packed) == -(-45 // 8)


@dtypes
@pytest.mark.parametrize("k", [1, 2, 3, 5, 8, 13, 32])
@pytest.mark.parametrize("bits", [8, 16, 32, 64])
def test_ratio_is_within_the_papers_bound_for_equally_frequent_values(dtype, k, bits):
    """`(1 + log2 k)/B + 6k/(n*m)`"""
    n, m = 4 * k, 3
    matrix = np.random.default_rng(k).permutation(np.arange(n * m) % k).reshape(n, m).astype(dtype)
    ham = Ham.of(matrix)
    assert len(ham.entries.values) == k
    assert ham.ratio(bits) <= (1 + log2(k)) / bits + 6 * k / (n * m)
    assert log2(k) <= ham.entries.code_bits / (n * m) <= log2(k) + 1


@given(st.lists(st.integers(1, 30), min_size=2, max_size=9))
def test_code_is_within_a_bit_of_the_entropy(counts):
    row = np.repeat(np.arange(1.0, len(counts) + 1), counts)[None]
    shares = np.array(counts) / sum(counts)
    entropy = -(shares * np.log2(shares)).sum()
    assert entropy * (1 - gamma(64, np.float64)) <= Ham.of(row).entries.code_bits / row.size < entropy + 1


def test_a_sparse_matrix_is_smaller_as_sham_and_a_dense_one_as_ham():
    rng = np.random.default_rng(0)
    values = rng.integers(1, 5, (64, 64)).astype(np.float32)
    sparse = values * (rng.random((64, 64)) < 0.01)
    assert SparseHam.of(sparse).ratio() < Ham.of(sparse).ratio() < 1
    assert Ham.of(values).ratio() < 0.1 < 1 < SparseHam.of(values).ratio()


def test_damaged_bits_are_named():
    ham = Ham.of(EXAMPLE)
    with pytest.raises(InputError, match=r"^bits: "):
        replace(ham, entries=replace(ham.entries, packed=ham.entries.packed[:1])).matrix()


@forms
@pytest.mark.parametrize("wrong", [EXAMPLE[0], EXAMPLE.astype(int), EXAMPLE[:0], [[1.0]]])
def test_wrong_input_is_named(form, wrong):
    with pytest.raises(InputError, match=r"^matrix: expected .+, got .+\. .+\.$"):
        form.of(wrong)
