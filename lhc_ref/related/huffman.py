"""Canonical Huffman codes: the shortest prefix code for given counts, told by its lengths alone."""

import heapq
from collections.abc import Sequence

import numpy as np

from lhc_ref.errors import InputError


def code_lengths(counts: Sequence[int]) -> list[int]:
    """Bits of each symbol's code word; a lone symbol has one bit.

    Parameters
    ----------
    counts : how often each symbol occurs, >= 1

    Raises
    ------
    InputError : no symbol, or one that does not occur.
    """
    if not counts or min(counts) < 1:
        raise InputError(f"counts: expected numbers >= 1, at least one, got {list(counts)[:9]}. Leave out the others.")
    lengths = [0] * len(counts)
    # (weight, an order that makes ties unambiguous, the symbols below)
    nodes = [(count, symbol, [symbol]) for symbol, count in enumerate(counts)]
    heapq.heapify(nodes)
    order = len(counts)
    while len(nodes) > 1:
        (weight_a, _, below_a), (weight_b, _, below_b) = heapq.heappop(nodes), heapq.heappop(nodes)
        for symbol in below_a + below_b:
            lengths[symbol] += 1
        heapq.heappush(nodes, (weight_a + weight_b, order, below_a + below_b))
        order += 1
    return lengths if len(counts) > 1 else [1]


def code_words(lengths: Sequence[int]) -> list[str]:
    """The canonical code of these lengths, as strings of 0 and 1: shorter first, equal lengths by symbol."""
    words, word, length = [""] * len(lengths), 0, 0
    for symbol in sorted(range(len(lengths)), key=lambda symbol: (lengths[symbol], symbol)):
        word <<= lengths[symbol] - length
        length = lengths[symbol]
        words[symbol] = format(word, f"0{length}b")
        word += 1
    return words


def encode(symbols: np.ndarray, lengths: Sequence[int]) -> np.ndarray:
    """The code words of integers one after the other: uint8 of eight bits each, the first highest, zeros at the end."""
    words = [np.frombuffer(word.encode(), np.uint8) - ord("0") for word in code_words(lengths)]
    bits = [words[symbol] for symbol in symbols.tolist()]
    return np.packbits(np.concatenate(bits)) if bits else np.zeros(0, np.uint8)


def decode(packed: np.ndarray, count: int, lengths: Sequence[int]) -> np.ndarray:
    """The first `count` symbols of `encode`'s result, as i64[count].

    Raises
    ------
    InputError : the bits end before, or are no code word.
    """
    symbol_of = {word: symbol for symbol, word in enumerate(code_words(lengths))}
    symbols: list[int] = []
    longest, word = max(lengths), ""
    bits = iter("".join(map(str, np.unpackbits(packed).tolist())))
    while len(symbols) < count:
        word += next(bits, "end")
        if word in symbol_of:
            symbols.append(symbol_of[word])
            word = ""
        elif len(word) > longest:
            raise InputError(
                f"bits: expected {count} code words, got {len(symbols)} and then none. They are cut or damaged."
            )
    return np.array(symbols, np.int64)
