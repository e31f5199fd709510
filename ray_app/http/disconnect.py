"""Detects clients that disconnect before their response, so that their rows are dropped instead of scored."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

_WATCH_AFTER_S = 0.02


class DisconnectWatch:
    """Cancels the current task when the client of its request disconnects. Use it after the body has been read.

    The watch is a task, which costs a tenth of a prediction, so it starts only after 20 ms without an answer.
    """

    def __init__(self, receive: Callable[[], Awaitable[MutableMapping[str, Any]]]) -> None:
        loop = asyncio.get_running_loop()
        self._receive = receive
        self._request = asyncio.current_task()
        self._watch: asyncio.Task[None] | None = None
        self._timer = loop.call_later(_WATCH_AFTER_S, self._start)
        self.happened = False
        """True when the client has disconnected and the task was cancelled because of it."""

    def close(self) -> None:
        """Stop watching; call it when the answer is ready."""
        self._timer.cancel()
        if self._watch is not None:
            self._watch.cancel()

    def _start(self) -> None:
        self._watch = asyncio.get_running_loop().create_task(self._wait_for_disconnect())

    async def _wait_for_disconnect(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self.happened = True
        if self._request is not None:
            self._request.cancel()
