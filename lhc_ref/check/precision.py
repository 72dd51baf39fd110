"""Number formats, and what a chain of sums and roundings in them may be off by."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from lhc_ref.errors import InputError

Array = np.ndarray


@dataclass(frozen=True)
class Format:
    """A binary floating-point format: significant bits, smallest normal number, and NumPy's dtype that carries it."""

    name: str
    bits: int
    tiny: float
    carrier: str

    @property
    def u(self) -> float:
        """Unit roundoff."""
        return 2.0**-self.bits

    def round(self, values: Array, to_integer: Callable[[Array], Array] = np.rint) -> Array:
        """`values` rounded to this format, ties to even, as float64. Exponents are taken to be in range.

        `to_integer` : how numbers are rounded whose unit is the last bit that is kept, where that is not ties to even
        """
        if self.name in ("float64", "float32", "float16") and to_integer is np.rint:
            return np.asarray(values, np.float64).astype(self.name).astype(np.float64)
        mantissa, exponent = np.frexp(np.asarray(values, np.float64))
        return np.ldexp(to_integer(np.ldexp(mantissa, self.bits)), exponent - self.bits)


FORMATS = {
    "float64": Format("float64", 53, 2.0**-1022, "float64"),
    "float32": Format("float32", 24, 2.0**-126, "float32"),
    "bfloat16": Format("bfloat16", 8, 2.0**-126, "float32"),
    "float16": Format("float16", 11, 2.0**-14, "float16"),
}
TF32 = Format("tf32", 11, 2.0**-126, "float32")
ALGORITHMS = ("direct", "winograd", "fft")


@dataclass(frozen=True)
class Precision:
    """What the user declares: the dtype of arrays, the dtype sums are kept in, and how convolutions are computed."""

    storage: Format
    accumulate: Format
    algorithm: str = "direct"
    exact: bool = True  # whether sums of integers are held to be exact; diagnosis, which divides them, does not

    @classmethod
    def of(cls, storage: str, accumulate: str | None = None, algorithm: str = "direct") -> "Precision":
        """By name. Without `accumulate`: float32 for the half formats, else the storage format itself.

        Raises
        ------
        InputError : an unknown name.
        """
        accumulate = accumulate or ("float32" if storage in ("float16", "bfloat16") else storage)
        for name in (storage, accumulate):
            if name not in FORMATS:
                raise InputError(f"dtype: expected one of {', '.join(FORMATS)}, got {name!r}. Use one of these.")
        if algorithm not in ALGORITHMS:
            raise InputError(
                f"algorithm: expected one of {', '.join(ALGORITHMS)}, got {algorithm!r}. Use one of these."
            )
        return cls(FORMATS[storage], FORMATS[accumulate], algorithm)


def gamma(k: Array | int, u: float) -> Array:
    """k*u / (1 - k*u), the relative error of k roundings; infinite where it says nothing (Higham, section 3.1)."""
    ku = np.asarray(k, np.float64) * u
    return np.where(ku < 1, ku / np.where(ku < 1, 1 - ku, 1.0), np.inf)


def sum_budget(
    magnitude: Array, terms: int, roundings: int, precision: Precision, *, integers: Array | bool = False
) -> Array:
    """How far a correct result may be from the float64 value, elementwise, for any order of summation.

    Parameters
    ----------
    magnitude : f64[...], sum of the absolute values of the terms
    terms : how many are added, each passing through at most that many roundings to the accumulation format
    roundings : how often a value on the way is rounded to the storage format
    integers : where the terms are integers: sums below 2**bits are then exact, and only what exceeds the storage
        format's integers is rounded

    Notes
    -----
    `(gamma(terms, u_acc) + gamma(roundings, u_sto)) * magnitude`, plus what may underflow or be flushed to zero, plus
    the reference's own roundings.
    """
    storage, accumulate = precision.storage, precision.accumulate
    stored = gamma(roundings, storage.u) * magnitude
    general = (
        gamma(terms, accumulate.u) * magnitude * (1 + gamma(roundings, storage.u))
        + stored
        + gamma(terms + roundings, 2.0**-53) * magnitude
        + terms * accumulate.tiny
        + roundings * storage.tiny
    )
    exact = np.asarray(integers) & (magnitude <= 2.0**accumulate.bits)
    return np.where(exact, np.where(magnitude <= 2.0**storage.bits, 0.0, stored), general)


# F(4x4, 3x3) with the usual points 0, 1, -1, 2, -2 (Lavin and Gray 2016): the largest growth in use.
_WINOGRAD_B = np.array([[4, 0, -5, 0, 1, 0], [0, -4, -4, 1, 1, 0], [0, 4, -4, -1, 1, 0], [0, -2, -1, 2, 1, 0],
                        [0, 2, -1, -2, 1, 0], [0, 4, 0, -5, 0, 1]])  # fmt: skip
_WINOGRAD_G = np.array([[6, 0, 0], [-4, -4, -4], [-4, 4, -4], [1, 2, 4], [1, -2, 4], [0, 0, 24]]) / 24
_WINOGRAD_A = np.array([[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]])


def normwise_factor(algorithm: str, points: int, terms: int, u: float) -> float:
    """Relative to sum over channels of ||image|| * ||kernel||, what a fast algorithm's convolution may be off by.

    fft : three transforms of `points` points in all, each off by log2(points) * (u + gamma_4 * (sqrt(2) + u)) of its
        norm (Higham, theorem 24.2), and the complex products and the sum over channels, gamma_(terms + 4).
    winograd : the 2-norms of |A|, |G|, |B|, squared for two dimensions, times the roundings on the way (Barabasz et
        al. 2020): rows of the three transforms and the sum over channels.
    """
    if algorithm == "fft":
        eta = u + float(gamma(4, u)) * (2**0.5 + u)
        transforms = 3 * float(np.log2(max(points, 2))) * eta
        return transforms / (1 - transforms) + float(gamma(terms + 4, u))
    growth = float(np.prod([np.linalg.norm(np.abs(m), 2) ** 2 for m in (_WINOGRAD_A, _WINOGRAD_G, _WINOGRAD_B)]))
    return growth * float(gamma(2 * (6 + 3 + 6) + terms, u))
