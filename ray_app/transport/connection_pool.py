"""A gateway's links to all replicas of one deployment, one for each replica.

Links are opened and drained as Serve adds and removes replicas. A call goes to the replica with the fewest calls under
way. If its connection is lost, or the replica does not answer within half of the time allowed, the call is repeated
once on another replica, which is safe because all calls only read. Without a usable link, Serve's handle carries it.
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
"""Sends a request to some replica and returns its answer; the float is the time limit in seconds.

Raises asyncio.TimeoutError when the time is over, and Overloaded when no replica takes the call.
"""

_OPEN_TIMEOUT_S = 2.0
_RETRY_MIN_S = 0.1
_RETRY_MAX_S = 5.0


class Address(NamedTuple):
    """Host and port on which a replica accepts links."""

    host: str
    port: int


class LinkPool:
    """A transport over the links to one deployment's replicas. Belongs to one event loop.

    Args:
        deployment: name of the deployment, for messages.
        hello: payload of the HELLO frame, from `Handshake.encode`.
        fallback: carries a call when there is no usable link.
        on_call: called with the way of each attempt: "link", "retry" (another link) or "handle" (the fallback).
        try_another: returns True for an answer by which a replica declines the call, so that another one is called.
        max_in_flight: most calls under way on one link; when every link has that many, calls raise Overloaded.
        on_link_event: called with "opened", "lost", "unreachable" (no connection or no reply to the handshake) or
            "refused".
    """

    def __init__(
        self,
        deployment: str,
        hello: bytes,
        fallback: Transport,
        on_call: Callable[[str], None] = lambda way: None,
        try_another: Callable[[bytes], bool] = lambda answer: False,
        max_in_flight: int = 128,
        on_link_event: Callable[[str], None] = lambda event: None,
    ) -> None:
        self._deployment = deployment
        self._hello = hello
        self._fallback = fallback
        self._on_call = on_call
        self._try_another = try_another
        self._max_in_flight = max_in_flight
        self._on_link_event = on_link_event
        self._loop = asyncio.get_running_loop()
        self._members: dict[str, Address] = {}
        self._links: dict[str, Link] = {}
        self._connectors: dict[str, asyncio.Task[None]] = {}
        self._logged_fallback = False
        self._logged_refusals: set[str] = set()

    @property
    def open_links(self) -> int:
        """Number of links that are usable now."""
        return sum(link.usable for link in self._links.values())

    @property
    def replicas(self) -> int:
        """Number of replicas that have a link or are being connected to."""
        return len(self._members)

    def update_threadsafe(self, members: Mapping[str, Address]) -> None:
        """Schedule `update` from any thread."""
        self._loop.call_soon_threadsafe(self.update, dict(members))

    def update(self, members: Mapping[str, Address]) -> None:
        """Set the current replicas by id: connects to new ones, drains and closes the links to those that are gone."""
        before, self._members = self._members, dict(members)
        for gone in before.keys() - members.keys():
            self._drain(gone)
        for replica, address in members.items():
            if before.get(replica) != address:
                self._drain(replica)
                self._connectors[replica] = self._loop.create_task(self._stay_connected(replica, address))

    async def call(self, payload: bytes, timeout_s: float) -> bytes:
        """Return some replica's answer; this method is a `Transport`.

        Raises:
            asyncio.TimeoutError: no answer within `timeout_s` seconds.
            Overloaded: every link is full, or the replica has too many calls under way.
            CallFailed: the replica's handler raised.
        """
        deadline = self._loop.time() + timeout_s
        answer = await self._call(payload, timeout_s, deadline)
        return await self._call_others(payload, answer, deadline) if self._try_another(answer) else answer

    async def close(self) -> None:
        """Close every link, each after its pending calls were answered."""
        self.update({})
        for link in self._links.values():
            link.close()
        self._links.clear()

    async def _call(self, payload: bytes, timeout_s: float, deadline: float) -> bytes:
        first = self._pick(None)
        if first is None:
            return await self._call_fallback(payload, timeout_s)
        # Half of the time for a replica that may hang, so that another one can still answer.
        first_timeout_s = timeout_s / 2 if self.open_links > 1 else timeout_s
        try:
            self._on_call("link")
            return await first.call(payload, first_timeout_s)
        except (LinkLost, asyncio.TimeoutError):
            left = deadline - self._loop.time()
            if left <= 0:
                raise asyncio.TimeoutError from None
        self._on_call("retry")
        second = self._pick(first)
        if second is None:
            return await self._call_fallback(payload, left)
        try:
            return await second.call(payload, left)
        except LinkLost:
            return await self._call_fallback(payload, max(deadline - self._loop.time(), 0))

    async def _call_others(self, payload: bytes, answer: bytes, deadline: float) -> bytes:
        """Call every replica in turn until one does not decline; return the last answer."""
        for link in [link for link in self._links.values() if link.usable and not link.suspect]:
            left = deadline - self._loop.time()
            if left <= 0:
                raise asyncio.TimeoutError
            self._on_call("retry")
            try:
                answer = await link.call(payload, left)
            except LinkLost:
                continue
            if not self._try_another(answer):
                break
        return answer

    def _pick(self, exclude: Link | None) -> Link | None:
        links = [link for link in self._links.values() if link.usable and link is not exclude]
        if not links:
            return None
        # A suspect replica is called only when there is no other; an answer to that call ends the suspicion.
        candidates = [link for link in links if not link.suspect] or links
        least = min(link.in_flight for link in candidates)
        if least >= self._max_in_flight:
            raise Overloaded(f"every replica of {self._deployment} is full; try again later")
        return random.choice([link for link in candidates if link.in_flight == least])

    async def _call_fallback(self, payload: bytes, timeout_s: float) -> bytes:
        self._on_call("handle")
        if not self._logged_fallback:
            self._logged_fallback = True
            logger.warning("no link to a replica of %s: calls go by Serve's handle until there is", self._deployment)
        return await self._fallback(payload, timeout_s)

    async def _stay_connected(self, replica: str, address: Address) -> None:
        """Keep a link to the replica open, reconnecting with exponential backoff, until this task is cancelled."""
        wait = _RETRY_MIN_S
        while True:
            try:
                link = await open_link(address.host, address.port, self._hello, _OPEN_TIMEOUT_S)
            except LinkRefused as exc:
                self._on_link_event("refused")
                self._log_refusal(str(exc))
            except LinkLost:
                self._on_link_event("unreachable")
            else:
                if self._members.get(replica) != address:
                    # The replica left meanwhile: `asyncio.wait_for` loses a cancellation that comes with its result.
                    link.close()
                    return
                self._on_link_event("opened")
                wait, self._logged_fallback = _RETRY_MIN_S, False
                self._links[replica] = link
                # Not `await link.lost`: cancelling this task would cancel the future too, and the link, which is still
                # being drained, would count as lost.
                await asyncio.wait([link.lost])
                self._on_link_event("lost")
                if self._links.get(replica) is link:
                    del self._links[replica]
            await asyncio.sleep(wait)
            wait = min(wait * 2, _RETRY_MAX_S)

    def _drain(self, replica: str) -> None:
        connector = self._connectors.pop(replica, None)
        if connector is not None:
            connector.cancel()
        link = self._links.pop(replica, None)
        if link is not None:
            self._close_when_idle(link)

    def _close_when_idle(self, link: Link) -> None:
        if link.in_flight and not link.lost.done():
            self._loop.call_later(_RETRY_MIN_S, self._close_when_idle, link)
        else:
            link.close()

    def _log_refusal(self, reason: str) -> None:
        if reason not in self._logged_refusals:
            self._logged_refusals.add(reason)
            logger.warning("a replica of %s refused the link: %s", self._deployment, reason)
