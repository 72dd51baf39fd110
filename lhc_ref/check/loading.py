"""Imports a target in its process, and tells where and how that fails in words about the user's own files."""

import difflib
import operator
import pkgutil
import sys
import sysconfig
import traceback
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import Any

from lhc_ref.errors import ConfigError

_OURS = str(Path(__file__).parent), "<frozen "
_INSTALLED = tuple({sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")})


def resolve(target: str) -> Any:
    """What `package.module:object` names.

    Raises
    ------
    ConfigError : there is no such module or object; with what may have been meant. What the module raises passes.
    """
    name, _, path = target.partition(":")
    try:
        module = pkgutil.resolve_name(f"{name}:")
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise
        parent, _, last = error.name.rpartition(".")
        folders = getattr(sys.modules.get(parent), "__path__", None) if parent else None
        there = [module.name for module in pkgutil.iter_modules(folders)]
        raise ConfigError(f"no module {error.name!r}{_meant(last, there)}") from None
    owner: Any = module
    for part in path.split("."):
        if not hasattr(owner, part):
            raise ConfigError(f"no {part!r} in {_place(owner)}{_meant(part, _callables(owner))}")
        owner = operator.attrgetter(part)(owner)
    return owner


def _place(owner: Any) -> str:
    return str(getattr(owner, "__file__", None) or getattr(owner, "__qualname__", type(owner).__name__))


def _callables(owner: Any) -> list[str]:
    """Names that may be meant: those of a module's own, and then what it has imported."""
    names = [name for name in dir(owner) if not name.startswith("__") and callable(getattr(owner, name, None))]
    own = owner.__name__ if isinstance(owner, ModuleType) else None
    return sorted(names, key=lambda name: getattr(getattr(owner, name), "__module__", None) != own)


def _meant(name: str, there: Iterable[str]) -> str:
    """ " (did you mean 'LhcConv2d'?)", or nothing where no name is like it."""
    spelt = {other.lower(): other for other in reversed(list(there))}
    found = difflib.get_close_matches(name.lower(), spelt, n=1)
    return f" (did you mean {spelt[found[0]]!r}?)" if found else ""


def declined(error: NotImplementedError) -> bool:
    """Whether a `raise` statement says so, and not compiled code that lacks something."""
    frames = traceback.extract_tb(error.__traceback__)
    return bool(frames) and (frames[-1].line or "").startswith("raise")


def told(error: Exception) -> str:
    """The error, and the last of the user's own lines that it went through, else of the packages' lines."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{type(error).__name__}: {error.msg} ({error.filename}:{error.lineno})"
    text = "".join(traceback.format_exception_only(error)).strip()
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not f.filename.startswith(_OURS)]
    frames = [f for f in frames if not f.filename.startswith(_INSTALLED)] or frames
    return f"{text} ({frames[-1].filename}:{frames[-1].lineno})" if frames else text
