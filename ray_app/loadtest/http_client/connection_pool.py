"""HTTP/1.1 client of the load test: a pool of persistent connections, each with one request at a time."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import cast

from ray_app.loadtest.http_client.http_response import BadResponse, parse
from ray_app.loadtest.http_client.target import Target
from ray_app.loadtest.samples import MALFORMED, REFUSED, RESET, TIMEOUT, Samples

_IDLE = -1


class ConnectionPool:
    """Sends requests on a free connection, and opens another when there is none, up to a limit.

    Past the limit requests wait in a queue; their latency counts from their due time all the same. Create and use it
    inside a running event loop; it is not thread-safe.

    Args:
        target: the service.
        bodies: request bodies; request number i sends body i modulo their number.
        samples: receives latency and outcome of each request; a request is identified by its index in it.
        origin: time of the event loop at which the samples' time is 0.
        connections: most connections at once.
        timeout_s: time limit in s, from a request's due time; its connection is closed with it.

    Raises:
        Unreachable: the target's host name cannot be resolved.
    """

    def __init__(
        self,
        target: Target,
        bodies: Sequence[bytes],
        samples: Samples,
        origin: float,
        connections: int,
        timeout_s: float,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._target, self._address = target, target.resolve()
        self._requests = [target.post(body) for body in bodies]
        self._samples, self._origin = samples, origin
        self._due = (samples.due + origin).tolist()
        self._limit, self._timeout = connections, timeout_s
        self._waiting: deque[int] = deque()
        self._idle: deque[Connection] = deque()
        self._open: set[Connection] = set()
        self._opening: set[asyncio.Task[None]] = set()
        self._closed = False
        self.finished: list[int] = []
        """Indices of the requests that ended since the progress line last emptied this list, in that order."""

    @property
    def under_way(self) -> int:
        """Number of requests that are queued or wait for their answer."""
        return len(self._waiting) + len(self._open) - len(self._idle)

    def submit(self, index: int) -> None:
        """Send a request now when a connection is free, else queue it."""
        if self._idle and not self._waiting:
            self._send(self._idle.popleft(), index)
        else:
            self._waiting.append(index)
            self._pump()

    def release(self, connection: Connection) -> None:
        """Return a connection to the pool after its answer has arrived."""
        self._idle.append(connection)
        if self._waiting:
            self._pump()

    def forget(self, connection: Connection) -> None:
        """Remove a closed connection, and open another when requests are queued."""
        self._open.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)
        self._pump()

    def finish(self, index: int, outcome: int) -> None:
        """Record the latency and the outcome of a request: an HTTP status or a code of `samples`."""
        self._samples.latency[index] = self._loop.time() - self._due[index]
        self._samples.outcome[index] = outcome
        self.finished.append(index)

    def expire(self) -> None:
        """End the requests that are past their time limit as TIMEOUT; the caller repeats this every few ms."""
        oldest = self._loop.time() - self._timeout
        while self._waiting and self._due[self._waiting[0]] < oldest:
            self.finish(self._waiting.popleft(), TIMEOUT)
        for connection in [c for c in self._open if c.request != _IDLE and self._due[c.request] < oldest]:
            connection.give_up()

    async def close(self) -> None:
        """Close every connection; requests without an answer keep the outcome PENDING."""
        self._closed = True
        for task in self._opening:
            task.cancel()
        await asyncio.gather(*self._opening, return_exceptions=True)
        for connection in list(self._open):
            connection.abort()

    def _pump(self) -> None:
        while self._waiting and self._idle:
            self._send(self._idle.popleft(), self._waiting.popleft())
        room = self._limit - len(self._open) - len(self._opening)
        for _ in range(min(len(self._waiting) - len(self._opening), room)):
            if not self._closed:
                task = self._loop.create_task(self._connect())
                self._opening.add(task)
                task.add_done_callback(self._opening.discard)

    def _send(self, connection: Connection, index: int) -> None:
        connection.send(index, self._requests[index % len(self._requests)])

    async def _connect(self) -> None:
        connection = Connection(self)
        opened = self._loop.create_connection(
            lambda: connection,
            self._address,
            self._target.port,
            ssl=self._target.tls,
            server_hostname=self._target.host if self._target.tls else None,
        )
        try:
            await asyncio.wait_for(opened, self._timeout)
        except asyncio.TimeoutError:
            # No outcome to record: the requests that waited for it are past their limit too, and expire() ends them.
            self._loop.call_soon(self._pump)
            return
        except OSError:
            self._failed(REFUSED)
            return
        if connection.ended:
            # Closed by the peer before this task resumed: connection_lost() has run already and will not run again.
            self._failed(RESET)
            return
        self._open.add(connection)
        self.release(connection)

    def _failed(self, outcome: int) -> None:
        """Fail the oldest queued request after a failed attempt to connect, and try again for the others."""
        # One attempt is made for each queued request, so one request fails with it: the oldest.
        if self._waiting:
            self.finish(self._waiting.popleft(), outcome)
        self._loop.call_soon(self._pump)


class Connection(asyncio.Protocol):
    """One persistent connection of a pool, with at most one request at a time."""

    def __init__(self, pool: ConnectionPool) -> None:
        self._pool = pool
        self._transport: asyncio.Transport | None = None
        self._received = b""
        self.request = _IDLE
        """Index of the request whose answer is awaited; -1 when the connection is idle."""

    @property
    def ended(self) -> bool:
        """True while there is no open connection: before it is made and after it is lost."""
        return self._transport is None

    def send(self, index: int, content: bytes) -> None:
        """Send the bytes of request `index`; the previous one must have ended."""
        self.request = index
        if self._transport:
            self._transport.write(content)

    def give_up(self) -> None:
        """End the request as TIMEOUT and close: a late answer would be taken for that of the next request."""
        self._end(TIMEOUT)

    def abort(self) -> None:
        """Close at once; a request under way gets no outcome."""
        self.request = _IDLE
        if self._transport:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by asyncio when the connection is open."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Called by asyncio with received bytes; a complete answer ends the request and frees the connection."""
        self._received = self._received + data if self._received else data
        if self.request == _IDLE:
            self.abort()
        else:
            self._read(closed=False)

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by asyncio at the close; ends a request under way as RESET, unless closing is what ends its answer."""
        if self.request != _IDLE and self._received and exc is None:
            self._read(closed=True)
        if self.request != _IDLE:
            index, self.request = self.request, _IDLE
            self._pool.finish(index, RESET)
        self._transport = None
        self._pool.forget(self)

    def _read(self, closed: bool) -> None:
        try:
            response = parse(self._received, closed)
        except BadResponse:
            self._end(MALFORMED)
            return
        if response is None:
            return
        index, self.request = self.request, _IDLE
        self._pool.finish(index, response.status)
        surplus, self._received = len(self._received) > response.end, b""
        if response.keep_alive and not surplus:
            self._pool.release(self)
        else:
            self.abort()

    def _end(self, outcome: int) -> None:
        index = self.request
        self.abort()
        self._pool.finish(index, outcome)
