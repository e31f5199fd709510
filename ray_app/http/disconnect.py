"""Callers that leave before their answer: what they wait for is dropped before it costs."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

_WATCH_AFTER_S = 0.02


class DisconnectWatch:
    """Cancels the current task when the caller of its request leaves. Use it after the body is read.

    Watching takes a task, which costs as much as a tenth of a prediction: it starts when an answer takes long.
    """

    def __init__(self, receive: Callable[[], Awaitable[MutableMapping[str, Any]]]) -> None:
        loop = asyncio.get_running_loop()
        self._receive = receive
        self._request = asyncio.current_task()
        self._watch: asyncio.Task[None] | None = None
        self._timer = loop.call_later(_WATCH_AFTER_S, self._start)
        self.happened = False
        """True when the caller has left, and the task was cancelled for that."""

    def close(self) -> None:
        """Stop watching: the answer is there."""
        self._timer.cancel()
        if self._watch is not None:
            self._watch.cancel()

    def _start(self) -> None:
        self._watch = asyncio.get_running_loop().create_task(self._until_left())

    async def _until_left(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self.happened = True
        if self._request is not None:
            self._request.cancel()
