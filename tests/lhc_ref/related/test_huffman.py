"""Huffman codes: optimal among all prefix codes, prefix-free, and back again."""

from fractions import Fraction
from itertools import combinations_with_replacement

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lhc_ref.errors import InputError
from lhc_ref.related import huffman

counts = st.lists(st.integers(1, 50), min_size=1, max_size=12)


def test_equal_counts_of_a_power_of_two_have_equal_lengths():
    for k in range(1, 6):
        assert huffman.code_lengths([7] * 2**k) == [k] * 2**k


def test_known_codes():
    assert huffman.code_lengths([3]) == [1]
    assert huffman.code_lengths([1, 1, 2, 4, 8]) == [4, 4, 3, 2, 1]
    assert huffman.code_words([2, 1, 3, 3]) == ["10", "0", "110", "111"]


@given(st.lists(st.integers(1, 50), min_size=2, max_size=5))
def test_no_other_prefix_code_is_shorter(counts):
    """Lengths belong to a prefix code if their powers of 1/2 sum to at most 1 (Kraft); all up to k - 1 are tried."""
    k = len(counts)
    best = min(
        sum(c * n for c, n in zip(sorted(counts, reverse=True), lengths, strict=True))
        for lengths in combinations_with_replacement(range(1, k), k)
        if sum(Fraction(1, 2**n) for n in lengths) <= 1
    )
    assert sum(c * n for c, n in zip(counts, huffman.code_lengths(counts), strict=True)) == best


@given(counts)
def test_words_have_their_lengths_and_none_begins_another(counts):
    lengths = huffman.code_lengths(counts)
    words = huffman.code_words(lengths)
    assert [len(word) for word in words] == lengths
    assert not any(a != b and b.startswith(a) for a in words for b in words)
    assert len(set(words)) == len(words)
    assert len(counts) == 1 or sum(Fraction(1, 2**n) for n in lengths) == 1


@given(counts, st.lists(st.integers(0, 11), max_size=30))
def test_what_is_encoded_comes_back(counts, symbols):
    lengths = huffman.code_lengths(counts)
    symbols = np.array([s % len(counts) for s in symbols], int)
    packed = huffman.encode(symbols, lengths)
    assert packed.dtype == np.uint8
    assert len(packed) == -(-sum(lengths[s] for s in symbols) // 8)
    assert huffman.decode(packed, len(symbols), lengths).tolist() == symbols.tolist()


def test_bits_that_end_or_are_no_word():
    lengths = huffman.code_lengths([1, 1, 1, 1])
    packed = huffman.encode(np.arange(4), lengths)
    with pytest.raises(InputError, match=r"^bits: expected 9 code words, got 4 and then none\. They .+\.$"):
        huffman.decode(packed, 9, lengths)
    with pytest.raises(InputError, match=r"^bits: expected 1 code words, got 0 and then none\."):
        huffman.decode(np.array([255], np.uint8), 1, [1])  # a lone symbol is 0
    with pytest.raises(InputError, match=r"^counts: expected numbers >= 1, at least one, got \[1, 0\]\. .+\.$"):
        huffman.code_lengths([1, 0])
    with pytest.raises(InputError, match=r"^counts: "):
        huffman.code_lengths([])
