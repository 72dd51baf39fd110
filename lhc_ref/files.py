"""Files that are either the old one or the whole new one, whatever happens while they are written."""

import contextlib
import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from lhc_ref.errors import LhcError


def atomic_write(path: str | os.PathLike[str], write: Callable[[BinaryIO], object]) -> None:
    """Write a file so that a reader, or a crash at any instant, sees the old content or the new, never a part.

    Parameters
    ----------
    path : where the file shall be; a symbolic link is followed, so that the link stays.
    write : called once with a binary file object open for writing; what it returns is ignored.

    Raises
    ------
    LhcError
        The file cannot be written (OSError), or `path` is there and no regular file. What `write` itself raises, an
        OSError apart, passes unchanged. In each case `path` is as it was and no temporary file is left.

    Notes
    -----
    A temporary file in the same folder is written, flushed and synced, then renamed over `path`, then the folder is
    synced. A process that is killed while it writes leaves a file named `.<name>.<random>.tmp`, which can be deleted.
    """
    target = Path(os.path.realpath(path))
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(8)}.tmp")
    try:
        if target.exists() and not target.is_file():
            raise LhcError(f"{path}: expected a regular file or none, got something else. Choose another path.")
        try:
            with open(temporary, "xb") as f:
                write(f)
                f.flush()
                os.fsync(f.fileno())
            os.replace(temporary, target)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise
        _sync_folder(target.parent)
    except OSError as error:
        raise LhcError(
            f"{path}: expected a place to write a file, got '{error.strerror or error}'. "
            "Check the folder, its permissions and the free space."
        ) from error


def atomic_write_bytes(path: str | os.PathLike[str], data: bytes) -> None:
    """`atomic_write` of `data`."""
    atomic_write(path, lambda f: f.write(data))


def atomic_write_text(path: str | os.PathLike[str], text: str) -> None:
    """`atomic_write` of `text` in UTF-8, line ends as they are."""
    atomic_write_bytes(path, text.encode("utf-8"))


def _sync_folder(folder: Path) -> None:
    """Make a rename in `folder` durable; Windows cannot open a folder and needs no sync."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
