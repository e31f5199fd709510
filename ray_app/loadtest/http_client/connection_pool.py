"""The HTTP client of the load test: persistent connections, one request at a time on each, many in all."""

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
    """Sends requests on whichever connection is free, and opens another when none is, up to a limit.

    Past the limit requests wait here, while their latency counts on. Belongs to the running event loop.

    Args:
        target: where to.
        bodies: request bodies, sent round and round.
        samples: where outcomes are written; requests are named by their place in it.
        origin: loop time of the samples' time 0.
        connections: most connections.
        timeout_s: time from a request's due time at which it is given up, with its connection.
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
        """Requests that are over, in the order in which they ended; the progress line empties it."""

    @property
    def under_way(self) -> int:
        """Requests that wait here or for their answer."""
        return len(self._waiting) + len(self._open) - len(self._idle)

    def submit(self, index: int) -> None:
        """Send a request now, or as soon as a connection is free."""
        if self._idle and not self._waiting:
            self._send(self._idle.popleft(), index)
        else:
            self._waiting.append(index)
            self._pump()

    def release(self, connection: Connection) -> None:
        """Take back a connection whose answer has come."""
        self._idle.append(connection)
        if self._waiting:
            self._pump()

    def forget(self, connection: Connection) -> None:
        """Take out a connection that has ended; others are opened for those who wait."""
        self._open.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)
        self._pump()

    def finish(self, index: int, outcome: int) -> None:
        """Note how a request ended."""
        self._samples.latency[index] = self._loop.time() - self._due[index]
        self._samples.outcome[index] = outcome
        self.finished.append(index)

    def expire(self) -> None:
        """Give up the requests whose time is over; to be called every now and then."""
        late = self._loop.time() - self._timeout
        while self._waiting and self._due[self._waiting[0]] < late:
            self.finish(self._waiting.popleft(), TIMEOUT)
        for connection in [one for one in self._open if one.request != _IDLE and self._due[one.request] < late]:
            connection.give_up()

    async def close(self) -> None:
        """Close every connection; requests under way stay without an outcome."""
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
            # The requests that waited for it have run out of time as well: expire() sees to them.
            self._loop.call_soon(self._pump)
            return
        except OSError:
            self._failed(REFUSED)
            return
        if connection.ended:
            # It was closed before this task went on, and will not be told again.
            self._failed(RESET)
            return
        self._open.add(connection)
        self.release(connection)

    def _failed(self, outcome: int) -> None:
        """Note an attempt to connect that came to nothing, and go on with those who wait."""
        # The request that has waited for longest is why there was an attempt: it fails with it.
        if self._waiting:
            self.finish(self._waiting.popleft(), outcome)
        self._loop.call_soon(self._pump)


class Connection(asyncio.Protocol):
    """One persistent connection of a pool."""

    def __init__(self, pool: ConnectionPool) -> None:
        self._pool = pool
        self._transport: asyncio.Transport | None = None
        self._received = b""
        self.request = _IDLE
        """The request whose answer is awaited; -1 when none is."""

    @property
    def ended(self) -> bool:
        """True before it is made and after it is lost."""
        return self._transport is None

    def send(self, index: int, content: bytes) -> None:
        """Send a request; the one before must be over."""
        self.request = index
        if self._transport:
            self._transport.write(content)

    def give_up(self) -> None:
        """End the request as timed out, and the connection: the answer may still come, and nobody waits for it."""
        self._end(TIMEOUT)

    def abort(self) -> None:
        """Close at once, without a word about a request under way."""
        self.request = _IDLE
        if self._transport:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Collect an answer; when it is whole, the connection is free again."""
        self._received = self._received + data if self._received else data
        if self.request == _IDLE:
            self.abort()
        else:
            self._read(closed=False)

    def connection_lost(self, exc: Exception | None) -> None:
        """A request under way has failed, unless the close is what ends its answer."""
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
