"""An event loop that wakes up on time: epoll counts in ms and rounds up, which is too coarse for a load test."""

from __future__ import annotations

import asyncio
import gc
import select
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

Result = TypeVar("Result")


class _FineSelector(selectors.EpollSelector):
    """Waits by select(2), which counts in us, for the one descriptor of epoll, which can watch many."""

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Wait for at most `timeout` s for events."""
        if timeout is not None and timeout > 0:
            select.select([self], [], [], timeout)
            timeout = 0
        return super().select(timeout)


def run_on_time(main: Coroutine[Any, Any, Result]) -> Result:
    """Run a coroutine to its end on such a loop, without the pauses of garbage collection meanwhile."""
    loop = asyncio.SelectorEventLoop(_FineSelector())
    gc.collect()
    gc.disable()
    try:
        return loop.run_until_complete(main)
    finally:
        gc.enable()
        loop.close()
