"""The target's process as the runner sees it: calls with a time limit, and whatever ends them as an outcome."""

import contextlib
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lhc_ref.check.adapters import Declaration
from lhc_ref.check.cases import Case
from lhc_ref.check.child import PIPE_LOST, printable, receive, send
from lhc_ref.check.precision import FORMATS

TAIL = 8192  # bytes of what a target printed, of which the last lines are told
END_S = 5.0  # for the child to end, once its pipe has
START_S = 120.0  # for the child to import the target and its framework
SLICE_S = 0.25  # waiting is counted in these, so that a pause of us and the child together counts as one of them


@dataclass(frozen=True)
class Outcome:
    """What one call came to.

    Attributes
    ----------
    status : "ok", "raised", "crashed", "timed out", "unsupported", "missing"
    arrays, dtypes : what was returned, in our layouts
    text : what went wrong
    """

    status: str
    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    dtypes: dict[str, str] = field(default_factory=dict)
    text: str = ""


class Target:
    """A target in a child process, started when first needed and anew after it has died.

    Parameters
    ----------
    framework, declaration : see `adapters`
    timeout_s : for one call
    paths : folders to import from, before the others
    """

    def __init__(
        self, framework: str, declaration: Declaration, timeout_s: float = 20.0, paths: tuple[str, ...] = ("",)
    ) -> None:
        self.framework, self.declaration, self.timeout_s, self.paths = framework, declaration, timeout_s, paths
        self._process: subprocess.Popen | None = None
        self._answers: queue.Queue = queue.Queue()
        self._loaded: set[str] = set()

    def __enter__(self) -> "Target":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the process, and those that the target has started and left."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            for stream in (self._process.stdin, self._process.stdout, self._errors):
                if stream is not None:
                    stream.close()
        self._process, self._loaded = None, set()

    def load(self, name: str) -> Outcome:
        """Import the target `package.module:object`."""
        if name in self._loaded and self._process is not None:
            return Outcome("ok")
        outcome = self._ask(("load", name), START_S)
        if outcome.status == "ok":
            self._loaded.add(name)
        return outcome

    def call(self, name: str, case: Case, threads: int = 0, rows: slice | None = None) -> Outcome:
        """The target's answer to a case, or to some of its images (`rows`), with so many threads (0: as it is)."""
        loaded = self.load(name)
        if loaded.status != "ok":
            return loaded
        arrays = case.arrays
        if rows is not None:
            arrays = {k: a[rows] if k in ("x", "dy") else a for k, a in arrays.items()}
        return self._ask(("call", name, arrays, case.geometry, FORMATS[case.dtype].carrier, threads), self.timeout_s)

    def _start(self) -> subprocess.Popen:
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed in close()
        command = [sys.executable, "-m", "lhc_ref.check.child"]
        pipe = subprocess.PIPE
        process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=self._errors, start_new_session=True)
        self._answers = queue.Queue()
        threading.Thread(target=_forward, args=(process.stdout, self._answers), daemon=True).start()
        send(process.stdin, (self.framework, self.declaration, self.paths))  # type: ignore[arg-type]
        return process

    def _ask(self, message: tuple[Any, ...], timeout_s: float) -> Outcome:
        if self._process is None:
            self._process = self._start()
        try:
            send(self._process.stdin, message)  # type: ignore[arg-type]
            answer = self._answer(timeout_s)
        except queue.Empty:
            self.close()
            return Outcome("timed out", text=f"no answer within {timeout_s:g} s")
        except OSError:
            answer = None
        if answer is None:
            return self._crashed()
        status, content = answer
        if status == "ok" and content is not None:
            return Outcome("ok", content["arrays"], content["dtypes"])
        return Outcome(status, text=content or "")

    def _answer(self, timeout_s: float) -> Any:
        while timeout_s > SLICE_S:
            with contextlib.suppress(queue.Empty):
                return self._answers.get(timeout=SLICE_S)
            timeout_s -= SLICE_S
        return self._answers.get(timeout=timeout_s)

    def _crashed(self) -> Outcome:
        """The process has ended, or its pipe: by which signal or exit code, and its last lines."""
        try:
            code = self._process.wait(END_S) if self._process is not None else 0
        except subprocess.TimeoutExpired:
            code = PIPE_LOST
        self._errors.seek(max(0, self._errors.seek(0, os.SEEK_END) - TAIL))
        tail = [printable(t) for t in self._errors.read().decode(errors="replace").strip().splitlines()[-3:]]
        self.close()
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        if code == PIPE_LOST:
            how = "closed descriptors that it had not opened, and with them the pipe that its answers go through"
        return Outcome("crashed", text="; ".join([f"the process {how}", *tail]))


def _forward(stream: Any, answers: queue.Queue) -> None:
    """Move messages from the pipe to the queue; None when it ends."""
    try:
        while (message := receive(stream)) is not None:
            answers.put(message)
    except (OSError, ValueError, EOFError):
        pass
    answers.put(None)
