"""What every console command does with failure: one line on stderr and an exit code, never a traceback."""

import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

from lhc_ref.errors import LhcError

FAILED = 2  # the user can mend it; argparse's code for wrong usage as well
BUG = 70  # EX_SOFTWARE of sysexits.h
INTERRUPTED = 130  # 128 + SIGINT
PIPE_CLOSED = 141  # 128 + SIGPIPE


def run(main: Callable[[], int]) -> int:
    """Call a command's `main` and return the exit code of the process.

    Parameters
    ----------
    main : the command, which reads `sys.argv` and returns its exit code.

    Returns
    -------
    int
        What `main` returned; 2 after LhcError or OSError; 130 after Ctrl-C; 141 when the reader of stdout went away;
        70 after any other exception, which is a bug. SystemExit, argparse's way out, passes.

    Notes
    -----
    The environment variable LHC_TRACEBACK=1 shows the traceback of what ended the command.
    """
    try:
        status = main()
        if sys.stdout is not None:
            sys.stdout.flush()
    except BrokenPipeError:
        status = PIPE_CLOSED
    except KeyboardInterrupt:
        status = _report("interrupted", INTERRUPTED)
    except LhcError as error:
        status = _report(f"error: {error}", FAILED)
    except OSError as error:
        what = str(error) if error.filename is None else f"{error.filename}: {error.strerror}"
        status = _report(f"error: {what}", FAILED)
    except Exception as error:
        hint = "This is a bug of lhc; LHC_TRACEBACK=1 shows where it happened."
        status = _report(f"error: {type(error).__name__}: {error}. {hint}", BUG)
    _drop_unwritable_output()
    return status


def _report(text: str, status: int) -> int:
    """Print one line on stderr, after the traceback if it was asked for; called while an exception is handled."""
    if os.environ.get("LHC_TRACEBACK", "0") not in ("", "0"):
        traceback.print_exc()
    print(f"{Path(sys.argv[0]).stem}: {' '.join(text.splitlines())}", file=sys.stderr)
    return status


def _drop_unwritable_output() -> None:
    """Let output that cannot be written go nowhere: Python flushes stdout once more at exit and would complain."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
