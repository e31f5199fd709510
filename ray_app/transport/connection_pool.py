"""All links of a gateway to one deployment: opened as replicas come, drained as they go, chosen by load.

Serve says which replicas there are (`update`); a call goes to the one with the fewest calls under way.
A call whose connection is lost, or whose replica is silent for half of the time allowed, is tried once
on another replica: every call only reads. Where no link can be had, Serve's own handle carries the call.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Mapping
from typing import NamedTuple

from data.errors import Overloaded
from ray_app.transport.client import Link, LinkLost, LinkRefused, open_link

logger = logging.getLogger("ray.serve")

Transport = Callable[[bytes, float], Awaitable[bytes]]
"""Carries bytes to some replica and its answer back, within so many seconds (asyncio.TimeoutError)."""

_OPEN_TIMEOUT_S = 2.0
_RETRY_FIRST_S = 0.1
_RETRY_MOST_S = 5.0


class Address(NamedTuple):
    """Where a replica listens for links."""

    host: str
    port: int


class LinkPool:
    """A transport over the links to one deployment's replicas. Belongs to one event loop.

    Args:
        deployment: its name, for the log.
        hello: payload of the HELLO frame.
        fallback: carries a call when no link can be had.
        count: told how each call went: "link", "handle" (the fallback) or "retry".
        elsewhere: true for an answer that says "ask another replica".
        max_in_flight: calls under way on one link; with every link full, calls raise Overloaded.
        note: told what happens to links: "opened", "lost", "unreachable" (no connection, no welcome) or "refused".
    """

    def __init__(
        self,
        deployment: str,
        hello: bytes,
        fallback: Transport,
        count: Callable[[str], None] = lambda way: None,
        elsewhere: Callable[[bytes], bool] = lambda answer: False,
        max_in_flight: int = 128,
        note: Callable[[str], None] = lambda event: None,
    ) -> None:
        self._deployment = deployment
        self._hello = hello
        self._fallback = fallback
        self._count = count
        self._elsewhere = elsewhere
        self._max_in_flight = max_in_flight
        self._note = note
        self._loop = asyncio.get_running_loop()
        self._members: dict[str, Address] = {}
        self._links: dict[str, Link] = {}
        self._keepers: dict[str, asyncio.Task[None]] = {}
        self._said_fallback = False
        self._refused: set[str] = set()

    @property
    def open_links(self) -> int:
        """Links that can take a call now."""
        return sum(link.usable for link in self._links.values())

    @property
    def replicas(self) -> int:
        """Replicas that links are kept to: those without an open one are being connected to."""
        return len(self._members)

    def update_threadsafe(self, members: Mapping[str, Address]) -> None:
        """`update` from any thread."""
        self._loop.call_soon_threadsafe(self.update, dict(members))

    def update(self, members: Mapping[str, Address]) -> None:
        """Say which replicas there are, by their ids; links to others are drained and closed."""
        before, self._members = self._members, dict(members)
        for gone in before.keys() - members.keys():
            self._drain(gone)
        for replica, address in members.items():
            if before.get(replica) != address:
                self._drain(replica)
                self._keepers[replica] = self._loop.create_task(self._keep(replica, address))

    async def call(self, payload: bytes, timeout_s: float) -> bytes:
        """Return some replica's answer; a Transport.

        Raises:
            asyncio.TimeoutError: no answer in `timeout_s` seconds.
            Overloaded: every replica has as many calls under way as it may.
            CallFailed: the replica's handler raised.
        """
        deadline = self._loop.time() + timeout_s
        answer = await self._call(payload, timeout_s, deadline)
        return await self._call_others(payload, answer, deadline) if self._elsewhere(answer) else answer

    async def close(self) -> None:
        """Close every link."""
        self.update({})
        for link in self._links.values():
            link.close()
        self._links.clear()

    async def _call(self, payload: bytes, timeout_s: float, deadline: float) -> bytes:
        first = self._pick(None)
        if first is None:
            return await self._call_fallback(payload, timeout_s)
        patience = timeout_s / 2 if self.open_links > 1 else timeout_s
        try:
            self._count("link")
            return await first.call(payload, patience)
        except (LinkLost, asyncio.TimeoutError):
            left = deadline - self._loop.time()
            if left <= 0:
                raise asyncio.TimeoutError from None
        self._count("retry")
        second = self._pick(first)
        if second is None:
            return await self._call_fallback(payload, left)
        try:
            return await second.call(payload, left)
        except LinkLost:
            return await self._call_fallback(payload, max(deadline - self._loop.time(), 0))

    async def _call_others(self, payload: bytes, answer: bytes, deadline: float) -> bytes:
        """Ask every replica in turn until one says more than that another is to be asked."""
        for link in [link for link in self._links.values() if link.usable and not link.suspect]:
            left = deadline - self._loop.time()
            if left <= 0:
                raise asyncio.TimeoutError
            self._count("retry")
            try:
                answer = await link.call(payload, left)
            except LinkLost:
                continue
            if not self._elsewhere(answer):
                break
        return answer

    def _pick(self, other_than: Link | None) -> Link | None:
        links = [link for link in self._links.values() if link.usable and link is not other_than]
        if not links:
            return None
        # A silent replica is asked again only when there is no other, so that its recovery is noticed.
        heard = [link for link in links if not link.suspect] or links
        least = min(link.in_flight for link in heard)
        if least >= self._max_in_flight:
            raise Overloaded(f"every replica of {self._deployment} is full; try again later")
        return random.choice([link for link in heard if link.in_flight == least])

    async def _call_fallback(self, payload: bytes, timeout_s: float) -> bytes:
        self._count("handle")
        if not self._said_fallback:
            self._said_fallback = True
            logger.warning("no link to a replica of %s: calls go by Serve's handle until there is", self._deployment)
        return await self._fallback(payload, timeout_s)

    async def _keep(self, replica: str, address: Address) -> None:
        """Keep one link open for as long as the replica is a member."""
        wait = _RETRY_FIRST_S
        while True:
            try:
                link = await open_link(address.host, address.port, self._hello, _OPEN_TIMEOUT_S)
            except LinkRefused as exc:
                self._note("refused")
                self._say_refused(str(exc))
            except LinkLost:
                self._note("unreachable")
            else:
                if self._members.get(replica) != address:
                    # `asyncio.wait_for` loses a cancellation that comes together with its result.
                    link.close()
                    return
                self._note("opened")
                wait, self._said_fallback = _RETRY_FIRST_S, False
                self._links[replica] = link
                # Not `await link.lost`: cancelling this task would cancel the future that says the link is open.
                await asyncio.wait([link.lost])
                self._note("lost")
                if self._links.get(replica) is link:
                    del self._links[replica]
            await asyncio.sleep(wait)
            wait = min(wait * 2, _RETRY_MOST_S)

    def _drain(self, replica: str) -> None:
        keeper = self._keepers.pop(replica, None)
        if keeper is not None:
            keeper.cancel()
        link = self._links.pop(replica, None)
        if link is not None:
            self._close_when_idle(link)

    def _close_when_idle(self, link: Link) -> None:
        if link.in_flight and not link.lost.done():
            self._loop.call_later(_RETRY_FIRST_S, self._close_when_idle, link)
        else:
            link.close()

    def _say_refused(self, reason: str) -> None:
        if reason not in self._refused:
            self._refused.add(reason)
            logger.warning("a replica of %s refused the link: %s", self._deployment, reason)
