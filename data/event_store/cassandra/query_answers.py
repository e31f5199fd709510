"""The answers of many queries, handed over to the event loop in one: to wake it costs more than to decode an answer."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from data.online_store.cassandra.async_bridge import InFlight
from data.online_store.cassandra.driver import DRIVER_ERRORS

if TYPE_CHECKING:
    from cassandra.cluster import Session
    from cassandra.query import Statement


class QueryAnswers:
    """Sends statements at once and collects their answers. Used for one `gather`, on the loop that runs.

    Args:
        session: a connected driver session.
        bound: the limit of requests under way that each counts against.
        profile: name of the execution profile.
    """

    def __init__(self, session: Session, bound: InFlight, profile: Any) -> None:
        self._session = session
        self._bound = bound
        self._profile = profile
        self._loop = asyncio.get_running_loop()
        self._future: asyncio.Future[list[Any]] = self._loop.create_future()
        self._lock = threading.Lock()

    async def gather(self, statements: Sequence[Statement], timeout_s: float) -> list[Any]:
        """Return the rows of each answer, in the order of the statements.

        Raises:
            StoreUnavailable: too many requests are under way; none is sent.
            DRIVER_ERRORS: one of the statements failed.
        """
        if not statements:
            return []
        self._bound.enter(len(statements))
        self._left, self._error = len(statements), None
        self._answers: list[Any] = [None] * len(statements)
        for at, statement in enumerate(statements):
            try:
                future = self._session.execute_async(statement, timeout=timeout_s, execution_profile=self._profile)
            except DRIVER_ERRORS as exc:
                self._failed(exc)
            else:
                future.add_callbacks(self._answered, self._failed, (at,))
        return await self._future

    def _answered(self, rows: Any, at: int) -> None:
        self._answers[at] = rows
        self._count()

    def _failed(self, error: BaseException) -> None:
        self._error = error
        self._count()

    def _count(self) -> None:
        self._bound.leave()
        with self._lock:
            self._left -= 1
            over = not self._left
        if over:
            try:
                self._loop.call_soon_threadsafe(self._finish)
            except RuntimeError:  # the loop is closed: nobody waits any more
                return

    def _finish(self) -> None:
        # Looked at here, on the loop's thread: a look in the driver's thread races with the caller's cancellation.
        if self._future.done():
            return
        if self._error is not None:
            self._future.set_exception(self._error)
        else:
            self._future.set_result(self._answers)
