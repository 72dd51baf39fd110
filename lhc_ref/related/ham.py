"""HAM and sHAM: a weight matrix stored as Huffman code, of all its entries or of the non-zeros of a sparse one.

Source: Marinò, Frasca, Malchiodi et al., *Reproducing the sparse Huffman Address Map compression for deep neural
networks*, RRPR 2021, and the papers before it, from their text. It pays off where few values occur, as after
quantization. NumPy arrays only. Round trips are exact to the bit: -0.0 and NaN come back as they were.
"""

from dataclasses import dataclass

import numpy as np

from lhc_ref.arrays import check_array
from lhc_ref.errors import InputError
from lhc_ref.related import huffman

WORDS_A_VALUE = 2  # of the dictionary: the value, and the length of its code word. The paper's has at most 6.


@dataclass(frozen=True)
class Coded:
    """A sequence of numbers as Huffman code.

    Attributes
    ----------
    values : f[k], those that occur
    lengths : bits of each value's code word
    packed : uint8[...], the code words
    count : how many numbers there are
    code_bits : bits of all code words together
    """

    values: np.ndarray
    lengths: tuple[int, ...]
    packed: np.ndarray
    count: int
    code_bits: int

    @classmethod
    def of(cls, numbers: np.ndarray) -> "Coded":
        """Code a row of numbers f[count]; those of different bits count as different."""
        bits, symbols, counts = np.unique(_bits(numbers), return_inverse=True, return_counts=True)
        lengths = huffman.code_lengths(counts.tolist()) if len(counts) else []
        packed = huffman.encode(symbols, lengths)
        return cls(bits.view(numbers.dtype), tuple(lengths), packed, len(numbers), int(np.dot(counts, lengths)))

    def numbers(self) -> np.ndarray:
        """The row of numbers, f[count]."""
        if not self.count:
            return self.values
        return self.values[huffman.decode(self.packed, self.count, self.lengths)]

    def words(self, bits_a_word: int) -> int:
        """Words of memory: the code, rounded up to whole words, and the dictionary."""
        return -(-self.code_bits // bits_a_word) + WORDS_A_VALUE * len(self.values)


def _bits(numbers: np.ndarray) -> np.ndarray:
    """The numbers' bits as unsigned integers, in which -0.0 is not 0.0 and NaN equals itself."""
    return np.ascontiguousarray(numbers).view(f"u{numbers.itemsize}")


def _check(matrix: np.ndarray) -> None:
    check_array(matrix, "matrix", "n, m")
    if matrix.size == 0:
        raise InputError(f"matrix: expected at least one entry, got {matrix.shape}. There is nothing to store.")


@dataclass(frozen=True)
class Ham:
    """A matrix f[n, m] as the Huffman code of all its entries, column by column.

    Words of B bits: `ceil(code bits / B) + 2k` for k different values. Cost: a sort of the entries, one pass to code
    them. Source: the papers' text, see the module.
    """

    shape: tuple[int, int]
    entries: Coded

    @classmethod
    def of(cls, matrix: np.ndarray) -> "Ham":
        """Store a matrix f[n, m]."""
        _check(matrix)
        return cls(matrix.shape, Coded.of(matrix.ravel(order="F")))

    def matrix(self) -> np.ndarray:
        """The matrix, f[n, m], bit for bit."""
        return self.entries.numbers().reshape(self.shape, order="F")

    def ratio(self, bits_a_word: int = 32) -> float:
        """Memory over that of the plain matrix, one word an entry.

        At most `(1 + log2 k)/B + 6k/(n*m)` for k equally frequent values and words of B bits.
        """
        return self.entries.words(bits_a_word) / (self.shape[0] * self.shape[1])


@dataclass(frozen=True)
class Csc:
    """A sparse matrix column by column.

    Attributes
    ----------
    shape : (n, m)
    values : f[q], the non-zeros, column after column and downwards
    rows : i64[q], the row of each, from 0
    starts : i64[m + 1], where each column begins in `values`; the last is q
    """

    shape: tuple[int, int]
    values: np.ndarray
    rows: np.ndarray
    starts: np.ndarray

    @classmethod
    def of(cls, matrix: np.ndarray) -> "Csc":
        """Store a matrix f[n, m]; -0.0 counts as a non-zero, so that it is kept."""
        _check(matrix)
        columns, rows = np.nonzero(_bits(matrix).reshape(matrix.shape).T)
        starts = np.searchsorted(columns, np.arange(matrix.shape[1] + 1))
        return cls(matrix.shape, matrix[rows, columns], rows, starts)

    def matrix(self) -> np.ndarray:
        """The matrix, f[n, m]."""
        matrix = np.zeros(self.shape, self.values.dtype)
        columns = np.repeat(np.arange(self.shape[1]), np.diff(self.starts))
        matrix[self.rows, columns] = self.values
        return matrix


@dataclass(frozen=True)
class SparseHam:
    """sHAM of f[n, m]: a CSC matrix whose values are Huffman code; `rows` and `starts` as in `Csc`, one word each.

    Words of B bits: `ceil(code bits / B) + 2k + q + m + 1` for q non-zeros of k values. Cost and source as for `Ham`.
    """

    shape: tuple[int, int]
    values: Coded
    rows: np.ndarray
    starts: np.ndarray

    @classmethod
    def of(cls, matrix: np.ndarray) -> "SparseHam":
        """Store a matrix f[n, m]."""
        sparse = Csc.of(matrix)
        return cls(sparse.shape, Coded.of(sparse.values), sparse.rows, sparse.starts)

    def matrix(self) -> np.ndarray:
        """The matrix, f[n, m], bit for bit."""
        return Csc(self.shape, self.values.numbers(), self.rows, self.starts).matrix()

    def ratio(self, bits_a_word: int = 32) -> float:
        """Memory over that of the plain matrix, one word an entry."""
        words = self.values.words(bits_a_word) + len(self.rows) + len(self.starts)
        return words / (self.shape[0] * self.shape[1])
