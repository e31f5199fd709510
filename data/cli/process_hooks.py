"""What Python itself would print on stderr: warnings, failures of threads and finalizers, Ctrl-C outside a command.

A command says what its user needs to know. The rest is kept for the report of a crash.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import traceback
import warnings
from collections import deque
from types import TracebackType
from typing import Any

_INTERRUPTED = 130

noise: deque[str] = deque(maxlen=20)
"""The last exceptions that nobody could handle, with their tracebacks."""


def leave_quietly_on_interrupt() -> None:
    """Make Ctrl-C that comes before a command runs, while its modules are imported, end the process without a word."""
    sys.excepthook = _uncaught


def install() -> None:
    """Keep Python's own words from the user of a command; warnings stay where the user asked for them (`-W`)."""
    leave_quietly_on_interrupt()
    sys.unraisablehook = _unraisable
    threading.excepthook = _in_thread
    if not sys.warnoptions:
        warnings.simplefilter("ignore")


def leave_at_once_on_interrupt() -> None:
    """Make Ctrl-C end the process where it stands: the command is done, what follows is Python's own tidying up."""
    signal.signal(signal.SIGINT, _leave)


def _uncaught(kind: type[BaseException], exc: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        raise SystemExit(_INTERRUPTED)
    sys.__excepthook__(kind, exc, trace)


def _unraisable(failure: sys.UnraisableHookArgs) -> None:
    _keep(failure.exc_type, failure.exc_value, failure.exc_traceback)


def _in_thread(failure: threading.ExceptHookArgs) -> None:
    _keep(failure.exc_type, failure.exc_value, failure.exc_traceback)
    if not issubclass(failure.exc_type, SystemExit):
        words = " ".join(str(failure.exc_value).split())[:200]
        sys.stderr.write(f"note: work in the background failed: {failure.exc_type.__name__}: {words}\n")


def _keep(kind: type[BaseException], exc: BaseException | None, trace: TracebackType | None) -> None:
    noise.append("".join(traceback.format_exception(kind, exc, trace)))


def _leave(number: int, frame: Any) -> None:
    os._exit(_INTERRUPTED)
