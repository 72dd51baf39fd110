"""The process that the target runs in: reads calls from stdin, writes answers to stdout, until stdin ends.

What the target itself prints goes to stderr. Messages are pickles, each after its length: see `process`.
"""

import contextlib
import os
import pickle
import sys
import time
from typing import Any, BinaryIO

import numpy as np

from lhc_ref.check.adapters import ADAPTERS, Declaration
from lhc_ref.check.loading import declined, resolve, told
from lhc_ref.check.protocol import Layouts, UnsupportedError, typed
from lhc_ref.errors import LhcError

LENGTH = 8  # bytes, little endian
PIPE_LOST = 121  # exit code: the target has closed the descriptors that messages go through
NUMBERS = "biufcV"  # kinds of NumPy dtypes; V: the half formats of ml_dtypes


def send(stream: BinaryIO, message: Any) -> None:
    """Write one message."""
    data = pickle.dumps(message)
    stream.write(len(data).to_bytes(LENGTH, "little") + data)
    stream.flush()


def receive(stream: BinaryIO) -> Any:
    """Read one message; None at the end of the stream."""
    head = stream.read(LENGTH)
    if len(head) < LENGTH:
        return None
    data = stream.read(int.from_bytes(head, "little"))
    return pickle.loads(data)


def printable(text: str) -> str:
    """Text of the target's that every report can hold: control characters and halves of pairs as escapes."""
    return "".join(c if c.isprintable() or c in "\n\t" else c.encode("unicode_escape").decode() for c in text)


class Worker:
    """Targets by name, imported once, and their adapters."""

    def __init__(self, framework: str, declaration: Declaration) -> None:
        self.framework, self.declaration = framework, declaration
        self.layouts = Layouts(declaration.activations, declaration.kernels)
        self.adapters: dict[str, Any] = {}

    def load(self, target: str) -> None:
        """Import `package.module:object`, or adopt it again."""
        if target not in self.adapters:
            found = resolve(target)
            if not callable(found):
                raise TypeError(f"expected a class or function, got {type(found).__name__}")
            self.adapters[target] = ADAPTERS[self.framework](found, self.declaration)

    def call(self, target: str, arrays: dict[str, Any], geometry: dict[str, Any], carrier: str, threads: int) -> dict:
        """{"arrays": {name: array}, "dtypes": {name: str}, "seconds": float}."""
        adapter = self.adapters[target]
        if threads:
            adapter.set_threads(threads)
        given = {name: self.layouts.give(name, array) for name, array in typed(arrays, carrier).items()}
        if geometry["level"] == "regularizer":
            masks = [array.astype(carrier) for name, array in given.items() if name != "dy"]
            given = {"masks": masks, "dy": given["dy"]}  # type: ignore[dict-item]
        began = time.perf_counter()
        returned = adapter.call(given, geometry)
        seconds = time.perf_counter() - began
        if not isinstance(returned, dict) or "y" not in returned:
            raise TypeError(f'expected a dict with at least "y", got {type(returned).__name__}')
        present = {name: value for name, value in returned.items() if value is not None}
        for name in present:
            if not isinstance(name, str) or not name:
                raise TypeError(f"expected a dict with names as keys, got the key {name!r}")
        dtypes = {name: adapter.dtype_of(value) for name, value in present.items()}
        answer = {name: self.layouts.take(name, adapter.to_numpy(value)) for name, value in present.items()}
        taken = {name: np.array(value) for name, value in answer.items()}
        for name, array in taken.items():
            if array.dtype.kind not in NUMBERS:
                raise TypeError(f"{name}: expected an array of numbers, got one of {array.dtype}")
        return {"arrays": taken, "dtypes": dtypes, "seconds": seconds}


def serve(inbox: BinaryIO, outbox: BinaryIO) -> None:
    """Answer messages: the first is (framework, declaration, paths), then ("load", ...) and ("call", ...)."""
    framework, declaration, paths = receive(inbox)
    sys.path[:0] = [path for path in paths if path not in sys.path]
    worker, own = Worker(framework, declaration), os.getpid()
    while (message := receive(inbox)) is not None:
        kind, *arguments = message
        try:
            answer = "ok", getattr(worker, kind)(*arguments)
        except UnsupportedError as error:
            answer = "unsupported", printable(str(error))
        except LhcError as error:
            answer = "missing" if kind == "load" else "raised", printable(str(error))
        except Exception as error:
            no = kind == "call" and isinstance(error, NotImplementedError) and declined(error)
            answer = ("unsupported", printable(str(error))) if no else ("raised", printable(told(error)))
        if os.getpid() != own:
            os._exit(0)  # the target has forked, and this is the copy: one answer is enough
        send(outbox, answer)


def main() -> None:
    """Keep the pipes to ourselves: the target reads nothing from descriptor 0 and prints to 1 as to stderr."""
    inbox, outbox = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    with open(os.devnull, "rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    os.dup2(2, 1)
    with contextlib.suppress(OSError):
        serve(inbox, outbox)
    os._exit(PIPE_LOST)  # our caller keeps its ends open as long as it lives


if __name__ == "__main__":
    main()
