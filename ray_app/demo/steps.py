"""Steps of the demo: each a public command in a process of its own, numbered, timed, and stopped with the demo."""

from __future__ import annotations

import shlex
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from data.cli.terminal import err
from data.distributed.child_process import child_command
from data.errors import RayscoreError

_STOP_TIMEOUT_S = 60.0


class DemoFailed(RayscoreError):
    """A step of the demo failed; the results of earlier steps are kept and reused by the next run."""


@dataclass
class Steps:
    """Runs the steps of the demo, numbers them on stderr and records the s that each took."""

    environment: dict[str, str]
    total: int
    done: list[tuple[str, float]] = field(default_factory=list)

    def run(self, title: str, command: Sequence[str], reuse: str | None = None) -> None:
        """Run `rayscore COMMAND` as a step, or say what is reused instead."""
        self._say(title)
        if reuse:
            err.print(f"      reused: {reuse}", markup=False)
            self.done.append((title, 0.0))
            return
        started = time.monotonic()
        err.print(f"      $ rayscore {shlex.join(command)}", markup=False, style="dim")
        with child_process(child_command("ray_app.cli.rayscore", "main", *command), self.environment) as child:
            code = child.wait()
        if code:
            raise DemoFailed(f"step '{title}' ended with exit code {code}; its message is above")
        self.done.append((title, time.monotonic() - started))

    @contextmanager
    def timed(self, title: str) -> Iterator[None]:
        """Time a step that runs in this process."""
        self._say(title)
        started = time.monotonic()
        yield
        self.done.append((title, time.monotonic() - started))

    def _say(self, title: str) -> None:
        err.print(f"[{len(self.done) + 1}/{self.total}] {title}", markup=False, style="bold")


@contextmanager
def child_process(
    command: Sequence[str], environment: dict[str, str], output: Any = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a child process until the block ends.

    The child has a session of its own: otherwise the terminal would send it Ctrl-C, and `_end` a second time.
    """
    child = subprocess.Popen(command, env=environment, stdout=output, stderr=output, start_new_session=True)
    try:
        yield child
    finally:
        _end(child)


def _end(child: subprocess.Popen[bytes]) -> None:
    # SIGINT first, which `serve run` takes as Ctrl-C: it answers the requests under way and shuts Ray down.
    for number, timeout_s in ((signal.SIGINT, _STOP_TIMEOUT_S), (signal.SIGTERM, 10.0), (signal.SIGKILL, 10.0)):
        if child.poll() is not None:
            return
        child.send_signal(number)
        try:
            child.wait(timeout_s)
        except subprocess.TimeoutExpired:
            err.print("      it does not stop; asking again, harder", markup=False)


def wait_for_server(done: Callable[[], bool], server: subprocess.Popen[bytes], log: Path, timeout_s: float) -> None:
    """Wait until `done` says so; raises DemoFailed with the end of the log when the server ends, or after a time."""
    deadline = time.monotonic() + timeout_s
    while not done():
        if server.poll() is not None or time.monotonic() > deadline:
            tail = "\n".join(log.read_text(errors="replace").splitlines()[-20:])
            what = "did not become ready" if server.poll() is None else f"ended with exit code {server.returncode}"
            raise DemoFailed(f"the server {what}; the end of {log}:\n{tail}")
        time.sleep(0.25)
