"""An asyncio event loop with timers exact to microseconds, for sending requests on time.

asyncio's own selector waits with epoll, whose timeout is in whole ms and rounded up: each request would be up to 1 ms
late, as long as a whole prediction takes.
"""

from __future__ import annotations

import asyncio
import gc
import select
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

Result = TypeVar("Result")


class _FineSelector(selectors.EpollSelector):
    """Waits with select(2), whose timeout is in us, on the single file descriptor of the epoll instance.

    So select's limit of 1024 descriptors does not apply to the connections, which epoll watches.
    """

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Wait for at most `timeout` s and return the ready descriptors, as EpollSelector does."""
        if timeout is not None and timeout > 0:
            select.select([self], [], [], timeout)
            timeout = 0
        return super().select(timeout)


def run_on_time(main: Coroutine[Any, Any, Result]) -> Result:
    """Run a coroutine to its end on such a loop and return its result.

    Garbage collection is off meanwhile: a collection stops the loop, and requests that are due then would leave late.
    """
    loop = asyncio.SelectorEventLoop(_FineSelector())
    gc.collect()
    gc.disable()
    try:
        return loop.run_until_complete(main)
    finally:
        gc.enable()
        loop.close()
