"""XGBoost's Rabit tracker, to which the actors of a distributed fit connect, in a process of its own.

The tracker's threads abort their process when a connection breaks at the wrong moment, such as that of an actor that is
killed while it connects. That process must not be the one that runs the search.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from typing import Any

from data.distributed.child_process import start_child
from data.errors import TrainingFailed

_STOP_TIMEOUT_S = 5.0


class TrackerProcess:
    """A child process that runs the tracker. It starts with the object, in the background, and ends with this process.

    Start it before it is needed: it takes a moment to import XGBoost.
    """

    def __init__(self) -> None:
        # Its stderr is dropped: failures are reported by the actors and by its exit code.
        self._process = start_child("tune.training.rabit_tracker", stderr=subprocess.DEVNULL)

    @property
    def pid(self) -> int:
        """Id of the process."""
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """Exit code of the process, negative for a signal; None while it runs."""
        return self._process.poll()

    @property
    def aborted(self) -> bool:
        """Whether the tracker aborted its process because a connection broke."""
        return self.exit_code == -signal.SIGABRT

    def begin(self, workers: int, host: str) -> dict[str, Any]:
        """Let the tracker listen for workers.

        Args:
            workers: number of workers that will connect.
            host: address of this machine to listen on.

        Returns:
            The arguments with which a worker connects (`RabitTracker.worker_args`).

        Raises:
            TrainingFailed: the process ended instead.
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
        """Wait up to `timeout_s` seconds for the tracker to end, as it does when every worker has left, then kill it.

        Workers that died never leave.
        """
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()


def serve() -> None:
    """Run the tracker in the child process: arguments as JSON on stdin, worker arguments as JSON on stdout.

    Returns when every worker has left; ends the process when the parent ends.
    """
    # XGBoost imports scikit-learn where it is installed, and that SciPy: three quarters of this process's start, and a
    # tracker uses nothing of it. With None there, Python says that the package is missing, and XGBoost does without.
    sys.modules["sklearn"] = None  # pyright: ignore[reportArgumentType]
    from xgboost.tracker import RabitTracker

    # Asked for only now: the import goes on beside what the parent prepares.
    arguments = json.loads(sys.stdin.readline() or "null")
    if arguments is None:
        return
    # By task id, which is the actor's rank: the order in which histograms are summed decides the last bits.
    tracker = RabitTracker(sortby="task", **arguments)
    tracker.start()
    sys.stdout.write(json.dumps(tracker.worker_args()) + "\n")
    sys.stdout.flush()
    threading.Thread(target=_end_with_parent, daemon=True).start()
    tracker.wait_for()


def _end_with_parent() -> None:
    # Blocks until the parent closes the pipe. Not by `sys.stdin`, whose lock this thread would hold when the
    # interpreter shuts down.
    os.read(sys.stdin.fileno(), 1)
    os._exit(0)
