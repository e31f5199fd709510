"""The bridge from the driver's callback thread to its callers: an event loop for reads, a blocked thread for writers.

Waking an event loop from another thread costs more than decoding a response, so the responses of one `get_many` are
collected in the driver's thread and handed over with one wake-up.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from cassandra.cluster import Session
from cassandra.query import Statement

from data.errors import StoreUnavailable


class InFlight:
    """Counter of requests under way with an upper limit, so that a slow store does not pile them up. Thread-safe.

    Args:
        limit: most requests at once.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._count = 0
        self._lock = threading.Lock()

    @property
    def count(self) -> int:
        """Number of requests under way."""
        return self._count

    def enter(self, requests: int) -> None:
        """Count requests in; each must be counted out by `leave`.

        Raises:
            StoreUnavailable: there would be more than `limit` under way; none is counted.
        """
        with self._lock:
            if self._count + requests > self._limit:
                raise StoreUnavailable(
                    f"{self._count} store requests are under way, more than {self._limit} may not be"
                )
            self._count += requests

    def leave(self) -> None:
        """Count one request out."""
        with self._lock:
            self._count -= 1


class Gathering:
    """Collects the responses of several requests, from any thread, into one future of payload by key.

    More than one request may be under way for a key: the first answer counts. An error ends the wait only when no
    other request can still answer. Responses after the caller was cancelled or its loop closed are dropped.

    Args:
        loop: the caller's event loop, on which `future` completes.
        keys: the keys that are waited for; each request covers some of them.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, keys: Iterable[str]) -> None:
        self.future: asyncio.Future[dict[str, bytes]] = loop.create_future()
        self._loop = loop
        self._missing = set(keys)
        self._found: dict[str, bytes] = {}
        self._under_way = 0
        self._error: Exception | None = None
        self._lock = threading.Lock()

    def sent(self) -> None:
        """Count a request as sent; each ends with one call of `answer` or of `fail`."""
        with self._lock:
            self._under_way += 1

    def answer(self, rows: Iterable[tuple[str, bytes]], keys: Sequence[str]) -> None:
        """Add the response of a request for `keys`: rows (entity, payload) of those that exist."""
        with self._lock:
            self._under_way -= 1
            if not self._missing:
                return
            self._found.update(rows)
            self._missing.difference_update(keys)
            over = not self._missing or not self._under_way
        if over:
            self.call(self._finish)

    def fail(self, error: Exception) -> None:
        """Record the error of a request."""
        with self._lock:
            self._under_way -= 1
            self._error = error
            over = not self._under_way
        if over:
            self.call(self._finish)

    def lacks(self, keys: Sequence[str]) -> bool:
        """Return whether one of `keys` has no answer yet and the caller still waits."""
        with self._lock:
            return not self.future.done() and not self._missing.isdisjoint(keys)

    def call(self, callback: Callable[..., None], *args: Any) -> None:
        """Run a callback on the loop's thread; dropped when the loop is closed."""
        try:
            self._loop.call_soon_threadsafe(callback, *args)
        except RuntimeError:  # the loop is closed: nobody waits any more
            return

    def _finish(self) -> None:
        # Checked here, on the loop's thread: a check in the driver's thread races with the caller's cancellation,
        # and a result set on a cancelled future raises InvalidStateError.
        if self.future.done():
            return
        if self._missing and self._error is not None:
            self.future.set_exception(self._error)
        else:
            self.future.set_result(self._found)


class StatementWindow:
    """Sends statements, a bounded number at once; blocks the calling thread. Used for one `send`.

    Args:
        session: a connected driver session.
        limit: most statements under way at once.
        received: called with the rows of each answer, in the driver's thread.
    """

    def __init__(self, session: Session, limit: int, received: Callable[[Iterable[Any]], None]) -> None:
        self._session = session
        self._limit = limit
        self._received = received
        self._free = threading.Semaphore(limit)
        self._failed: list[Statement] = []
        self._error: Exception | None = None

    def send(self, statements: Sequence[Statement]) -> tuple[list[Statement], Exception | None]:
        """Send statements and wait for all answers; after the first error no more are sent.

        Returns:
            The statements without an answer, and one error; ([], None) when all were answered.
        """
        sent = 0
        for statement in statements:
            self._free.acquire()
            if self._error is not None:
                self._free.release()
                break
            future = self._session.execute_async(statement)
            future.add_callbacks(self._answered, self._refused, errback_args=(statement,))
            sent += 1
        # All places of the semaphore are free only when the last callback has run.
        for _ in range(self._limit):
            self._free.acquire()
        return [*self._failed, *statements[sent:]], self._error

    def _answered(self, rows: Iterable[Any] | None) -> None:
        self._received(rows or ())
        self._free.release()

    def _refused(self, error: Exception, statement: Statement) -> None:
        self._failed.append(statement)
        self._error = error
        self._free.release()
