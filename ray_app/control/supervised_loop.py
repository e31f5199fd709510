"""A background loop that survives unexpected errors: each is logged and counted, and the loop goes on."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

logger = logging.getLogger("ray.serve")

_PAUSE_S = 1.0
_FAILING_S = 60.0
"""How long every round may fail before the replica counts as broken: a short failure must not cost a good one."""


class SupervisedLoop:
    """Runs one coroutine function again and again on the running event loop, until it is stopped.

    Args:
        name: what the log calls it.
        turn: one round; whatever it raises is unexpected.
        clock: monotonic seconds.
        pause_s: waited after a round that failed.
        failing_s: how long rounds may fail, one after the other, before `check` raises.
    """

    def __init__(
        self,
        name: str,
        turn: Callable[[], Awaitable[None]],
        clock: Callable[[], float] = time.monotonic,
        pause_s: float = _PAUSE_S,
        failing_s: float = _FAILING_S,
    ) -> None:
        self.failures = 0
        """Rounds that failed so far."""
        self._name = name
        self._turn = turn
        self._clock = clock
        self._pause_s, self._failing_s = pause_s, failing_s
        self._failing_since: float | None = None
        self._problem = ""
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start the loop, unless it runs."""
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        """Cancel the loop and wait for its end."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    def check(self) -> None:
        """Raise RuntimeError when no round has succeeded for `failing_s`, or the loop was cancelled from outside."""
        if self._task is not None and self._task.done():
            raise RuntimeError(f"{self._name} has ended")
        since = self._failing_since
        if since is not None and self._clock() - since >= self._failing_s:
            raise RuntimeError(f"{self._name} has failed for {self._clock() - since:.0f} s: {self._problem}")

    async def _run(self) -> None:
        while True:
            try:
                await self._turn()
            except Exception as exc:  # noqa: BLE001  whatever it is, it is logged and counted
                self._failed(exc)
                await asyncio.sleep(self._pause_s)
            else:
                self._failing_since = None

    def _failed(self, exc: Exception) -> None:
        self.failures += 1
        if self._failing_since is None:
            self._failing_since = self._clock()
        if repr(exc) != self._problem:
            # The same error each second would bury the rest of the log; the counter shows how often it came.
            logger.error("%s failed, and tries again", self._name, exc_info=exc)
        self._problem = repr(exc)
