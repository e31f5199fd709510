"""XGBoost's tracker, to which the actors of a fit connect, in a process of its own.

Its threads answer a connection that breaks at the wrong moment, as that of an actor which is killed while it connects,
by ending their process. It must not be the one that holds the search.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from typing import Any

from xgboost.tracker import RabitTracker

from data.distributed.child_process import start_child
from data.errors import TrainingFailed

_STOP_TIMEOUT_S = 5.0


class TrackerProcess:
    """Starts with its construction, in the background; `begin` may come seconds later. It ends with this process."""

    def __init__(self) -> None:
        # What breaks in it is told by the actors, and by its exit code.
        self._process = start_child("tune.training.rabit_tracker", stderr=subprocess.DEVNULL)

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """Of the process, negative for a signal; None while it lives."""
        return self._process.poll()

    @property
    def aborted(self) -> bool:
        """True when it has ended itself because of what a connection did."""
        return self.exit_code == -signal.SIGABRT

    def begin(self, workers: int, host: str) -> dict[str, Any]:
        """Have it listen for so many workers on an address of this machine; return what they connect by.

        Raises:
            TrainingFailed: it ended instead.
        """
        assert self._process.stdin is not None and self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps({"n_workers": workers, "host_ip": host}).encode() + b"\n")
            self._process.stdin.flush()
            return json.loads(self._process.stdout.readline())
        except (OSError, ValueError) as exc:
            code = self._process.wait()
            raise TrainingFailed(f"XGBoost's tracker could not listen on {host}: it ended with code {code}") from exc

    def stop(self, timeout_s: float = _STOP_TIMEOUT_S) -> None:
        """Wait until the workers have said goodbye, and end it in any case: those that died never do."""
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()


def serve() -> None:
    """Be that process: read what to listen for, write what workers connect by, and end with them or with the parent."""
    given = json.loads(sys.stdin.readline() or "null")
    if given is None:
        return
    tracker = RabitTracker(sortby="task", **given)
    tracker.start()
    sys.stdout.write(json.dumps(tracker.worker_args()) + "\n")
    sys.stdout.flush()
    threading.Thread(target=_end_with_parent, daemon=True).start()
    tracker.wait_for()


def _end_with_parent() -> None:
    # Not by `sys.stdin`: a thread that waits in it may not be there when the interpreter ends.
    os.read(sys.stdin.fileno(), 1)
    os._exit(0)
