"""The other side of `worker.py`: starts an engine's process, asks it, and survives its end.

Between its answers a process is stopped. Threads of some engines spin long after a call, on cores that others are timed
on: behind ONNX Runtime 1.32 our nets took on two threads as long as on one. On Linux a worker ends with the one who
asks; elsewhere one who is killed may leave stopped workers behind.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lhc_ref.errors import LhcError
from runtime.bench import worker

WORKER = Path(worker.__file__)
PACKAGES = Path(__file__).parents[2]  # where lhc_ref and runtime lie
TOLD = 240  # characters of what a process that ended had written
PATIENCE_S = 5.0  # with a process that should end


class EngineError(LhcError):
    """An engine that cannot run a net, or whose process ended."""


class Process:
    """A process that answers each line of JSON on stdin by one on stdout.

    Parameters
    ----------
    name : of the engine, for messages
    command : to start
    errors : file for what it writes on stderr
    environment : of the process; None: this one's
    """

    def __init__(
        self, name: str, command: list[str], errors: Path, environment: Mapping[str, str] | None = None
    ) -> None:
        self.name, self._errors = name, errors
        with errors.open("w") as written:
            # Why a session of its own: Ctrl-C is for the one who asks; the processes then end with their pipes.
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=written,
                text=True,
                env=environment,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """The system's number of the process."""
        return self._process.pid

    def ask(self, request: Any) -> Any:
        """Send a request; gives the reply. EngineError where it refuses or has ended."""
        assert self._process.stdin is not None, "started with pipes"
        self._signal("SIGCONT")
        with contextlib.suppress(BrokenPipeError):  # what it wrote at its end tells more
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
        try:
            return self.reply()
        finally:
            self._signal("SIGSTOP")

    def _signal(self, name: str) -> None:
        if number := getattr(signal, name, None):  # Windows cannot stop a process
            self._process.send_signal(number)

    def reply(self) -> Any:
        """Wait for a line of JSON; engines print greetings of their own between."""
        assert self._process.stdout is not None, "started with pipes"
        for line in self._process.stdout:
            if line.startswith(("{", "[")):
                reply = json.loads(line)
                if isinstance(reply, dict) and "error" in reply:
                    told = " ".join(reply["error"].split())[:TOLD]
                    raise EngineError(f"{self.name}: expected it to run the net, got '{told}'. Leave it out.")
                return reply
        code = self._process.wait()
        told = self._errors.read_text(errors="replace")[-TOLD:].strip()
        raise EngineError(f"{self.name}: expected an answer, got exit code {code}. Leave it out. It wrote: {told}")

    def stop(self) -> None:
        """End it by closing its pipes; kill it where that is not enough."""
        assert self._process.stdin is not None, "started with pipes"
        assert self._process.stdout is not None, "started with pipes"
        self._signal("SIGCONT")
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(timeout=PATIENCE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()


class EngineProcess(Process):
    """An engine's process: `load` a net, then `time` calls of it.

    Parameters
    ----------
    engine : a key of `worker.ENGINES`
    folder : for its files
    python : the Python that has the engine
    environment : more variables of the process
    """

    def __init__(
        self,
        engine: str,
        folder: Path,
        *,
        name: str | None = None,
        python: str = sys.executable,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        name = name or engine
        self._inputs, self._answers = folder / f"{name}.in.npz", folder / f"{name}.out.npz"
        variables = {**os.environ, **(environment or {})}
        if python != sys.executable:
            variables.pop("PYTHONPATH", None)  # Why: packages for this Python, not for that one
        if engine == "ours":
            variables["PYTHONPATH"] = os.pathsep.join(filter(None, [str(PACKAGES), variables.get("PYTHONPATH")]))
        super().__init__(name, [python, str(WORKER), engine], folder / f"{name}.err", variables)

    def load(
        self,
        model: Path,
        inputs: Mapping[str, np.ndarray],
        *,
        threads: int,
        streams: int = 1,
        net: str = "",
        cores: Sequence[int] = (),
        options: Mapping[str, Any] | None = None,
    ) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """Load a net, under a name, and run it once: what `worker.py` tells of it, and its outputs by name."""
        np.savez(self._inputs, *inputs.values())
        files = {"model": str(model), "inputs": str(self._inputs), "answers": str(self._answers)}
        how = {"net": net, "names": list(inputs), "threads": threads, "streams": streams, "options": options or {}}
        how["cores"] = list(cores)
        try:
            facts = self.ask({"do": "load", **how, **files})
        finally:
            self._inputs.unlink()
        with np.load(self._answers) as archive:
            return facts, {name: archive[f"arr_{i}"] for i, name in enumerate(facts["names"])}

    def time(self, calls: int, net: str = "") -> dict[str, Any]:
        """Time so many calls of each stream: "times_s", "wall_s", "peak_bytes"."""
        reply: dict[str, Any] = self.ask({"do": "time", "net": net, "calls": calls})
        return reply

    def profile(self, repeats: int, net: str = "") -> dict[str, Any]:
        """Seconds of each layer of a net of ours: the fields of `runtime.profile.Profile`."""
        reply: dict[str, Any] = self.ask({"do": "profile", "net": net, "repeats": repeats})
        return reply
