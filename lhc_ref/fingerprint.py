"""One hash for named arrays."""

from collections.abc import Mapping
from hashlib import sha256

from lhc_ref.arrays import Array


def fingerprint(arrays: Mapping[str, Array]) -> str:
    """SHA-256 over every array's name, dtype, shape and bits, in the order of the names: equal for equal arrays alone.

    Parameters
    ----------
    arrays : name -> any dtype and shape

    Returns
    -------
    64 hexadecimal digits.
    """
    digest = sha256()
    for name, array in sorted(arrays.items()):
        digest.update(f"{name} {array.dtype} {tuple(array.shape)}\n".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()
