"""Where compiled kernels are kept on disk, and a word when a run has to compile them."""

import logging
import os
from pathlib import Path
from typing import Any, ClassVar

import numba
from numba.core import event
from numba.core.caching import CompileResultCacheImpl, FunctionCache, NullCache

from lhc_ref.modelfile import InputError
from runtime.kernels import dispatch, engine, team
from runtime.kernels.machine import MACHINE
from runtime.kernels.options import SOURCES
from runtime.kernels.vector import COMPILED

KEPT: tuple[Any, ...] = (
    (*dispatch.TASKS, engine.run_alone, team.make_bells, team.share, team.serve, team.stop) if COMPILED else ()
)
"""Every kernel that is kept: Python calls these, and the others are part of their code."""

LOGGER = logging.getLogger("runtime")


def kept_in() -> str | None:
    """The folder where kernels are kept once they are compiled; None where no folder can be written."""
    if not KEPT or isinstance(KEPT[0]._cache, NullCache | _Filled):
        return None
    return str(KEPT[0].stats.cache_path)


def keep_kernels_in(folder: str | os.PathLike[str]) -> None:
    """Keep the runtime's compiled kernels in a folder from now on, in this process; it is made where it is missing.

    A folder that holds them already is of use even where it cannot be written.

    Raises
    ------
    InputError
        The folder can neither be written, nor does it hold kernels.
    """
    path, before = Path(folder).absolute(), numba.config.CACHE_DIR
    numba.config.CACHE_DIR = str(path)
    try:
        caches = [_cache(kernel) for kernel in KEPT]
    finally:
        numba.config.CACHE_DIR = before
    if not all(_is_below(cache, path) for cache in caches):
        raise InputError(
            f"{folder}: expected a folder that can be written, or that holds compiled kernels, got neither. "
            "Name another."
        )
    for kernel, cache in zip(KEPT, caches, strict=True):
        kernel._cache = cache


def _cache(kernel: Any) -> Any:
    """Where a kernel's code is kept: in the folder that Numba is told of, in another that can be written, or in one
    that can be read, since somebody who could write it has left it there.
    """
    caches = []
    for kind in (_Kept, _Filled):
        try:
            caches.append(kind(kernel.py_func))
        except RuntimeError:  # there is no such folder
            continue
        caches[-1]._cache_file._source_stamp = SOURCES
    named = [cache for cache in caches if _is_below(cache, numba.config.CACHE_DIR)]
    return next(iter([*named, *caches]), NullCache())


def _is_below(cache: Any, folder: str | os.PathLike[str]) -> bool:
    path = cache.cache_path
    return bool(folder) and path is not None and Path(path).is_relative_to(Path(folder).absolute())


def _for_reading(locator: type) -> type:
    """A place of Numba's that need not be writable, but must hold compiled code."""

    def ensure_cache_path(self: Any) -> None:
        if not any(Path(self.get_cache_path()).glob("*.nbi")):
            raise FileNotFoundError(self.get_cache_path())

    return type(locator.__name__, (locator,), {"ensure_cache_path": ensure_cache_path})


class _FilledPlace(CompileResultCacheImpl):
    _locator_classes: ClassVar = [_for_reading(locator) for locator in CompileResultCacheImpl._locator_classes]


class _Kept(FunctionCache):
    """Compiled code in a folder. What is damaged there, say since the machine stopped while it was written, is compiled
    anew and replaced; what cannot be written is not kept.
    """

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """The code for a signature, or None where there is none that can be read."""
        try:
            return super().load_overload(sig, target_context)
        except Exception:  # Why all: damaged bytes can make pickle raise nearly anything.
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        """Keep the code for a signature, in a new index where the old one is damaged."""
        try:
            try:
                super().save_overload(sig, data)
            except OSError:
                raise
            except Exception:  # Why all: as above
                self.flush()
                super().save_overload(sig, data)
        except OSError as error:
            LOGGER.warning("lhc: compiled kernels cannot be kept in %s: %s", self.cache_path, error.strerror or error)


class _Filled(_Kept):
    """Compiled code in a folder that this process cannot write, say of a container's image."""

    _impl_class = _FilledPlace

    def save_overload(self, sig: Any, data: Any) -> None:
        """Nothing can be kept here."""


for _kernel in KEPT:
    _kernel._cache = _cache(_kernel)


# --- A word when they are missing -------------------------------------------------------------------------------------


class _Notice(event.Listener):
    """Says once in a process that a kernel of ours is being compiled, when the first is."""

    told = False

    def on_start(self, event: Any) -> None:
        """Numba begins to compile a function: it was not in the cache."""
        if self.told or not event.data["dispatcher"].py_func.__module__.startswith("runtime.kernels."):
            return
        self.told = True
        folder = kept_in()
        LOGGER.warning(
            "lhc: compiling kernels for %s, in less than a minute; %s",
            MACHINE.name,
            "every process does so, for no cache folder can be written: name one with NUMBA_CACHE_DIR or --cache-dir"
            if folder is None
            else f"later runs take them from {folder}. `lhc-run warmup` does it beforehand",
        )

    def on_end(self, event: Any) -> None:
        """It has been compiled."""


_notice = _Notice()
event.register("numba:compile", _notice)


def expected() -> None:
    """Somebody has been told that kernels are compiled now."""
    _notice.told = True
