"""Serve's own handles as a transport to a stage: the fallback of links, and their reference."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping
from typing import Any

from ray.exceptions import RayActorError
from ray.serve.exceptions import DeploymentUnavailableError, ReplicaUnavailableError
from ray.serve.handle import DeploymentHandle

from data.errors import ControlUnavailable, Overloaded
from ray_app.control.report import Directive, Report
from ray_app.link.membership import Transport
from ray_app.scrape import ToldPage

_PING_TIMEOUT_S = 1.0
_REPORT_TIMEOUT_S = 5.0
_ACT_TIMEOUT_S = 15.0
_SCRAPE_TIMEOUT_S = 1.0
_UNREACHABLE = (RayActorError, DeploymentUnavailableError, ReplicaUnavailableError)


def method_of(handle: DeploymentHandle, name: str) -> DeploymentHandle:
    """Return the handle of one method, to be kept: looking it up anew makes a new handle each time."""
    # The one argument is bytes, for which pickle does what cloudpickle does in a sixth of the time.
    return handle.options(method_name=name, request_serialization="pickle", response_serialization="pickle")


def by_handle(handle: DeploymentHandle) -> Transport:
    """Return a transport to the `call` method; a replica that died is retried once, then Overloaded is raised."""
    call = method_of(handle, "call")

    async def send(request: bytes) -> bytes:
        try:
            return await call.remote(request)
        except _UNREACHABLE:
            # The replica died with the request. Every call only reads, so another replica may answer it.
            try:
                return await call.remote(request)
            except _UNREACHABLE as exc:
                raise Overloaded(f"no replica of {handle.deployment_name} answers; try again") from exc

    async def send_in_time(request: bytes, timeout_s: float) -> bytes:
        return await asyncio.wait_for(send(request), timeout_s)

    return send_in_time


class ControlLine:
    """Control by Serve's handle, as a replica's Follower and the admin door reach it."""

    def __init__(self, handle: DeploymentHandle) -> None:
        self._changes, self._tell, self._bundle, self._act, self._scrape = (
            method_of(handle, name) for name in ("changes", "tell", "bundle", "act", "scrape")
        )

    async def changes(self, report: Report, known: tuple[str, int]) -> Directive | None:
        """Report and wait for news; see Line."""
        return await _asked(self._changes.remote(report, known))

    async def tell(self, report: Report) -> None:
        """Report; see Line."""
        await _asked(self._tell.remote(report))

    async def bundle(self, digest: str) -> bytes | None:
        """Fetch a bundle; see Line."""
        return await _asked(self._bundle.remote(digest))

    async def scrape(self, report: Report) -> Mapping[str, ToldPage] | None:
        """Report, and return what all replicas told of their metrics; see Ask."""
        return await _asked(self._scrape.remote(report), _SCRAPE_TIMEOUT_S)

    async def act(self, action: str, told: dict[str, Any], source: str) -> tuple[int, Any]:
        """Have an action done; raises ControlUnavailable."""
        return await _asked(self._act.remote(action, told, source), _ACT_TIMEOUT_S)


async def _asked(response: Awaitable[Any], timeout_s: float = _REPORT_TIMEOUT_S) -> Any:
    """Await an answer of Control; whatever else comes of it means that there is none.

    A replica that dies under a call fails it in many ways, one of which is a cancellation that nobody here asked for.
    """

    async def answer() -> Any:
        return await response

    task = asyncio.ensure_future(answer())
    try:
        await asyncio.wait([task], timeout=timeout_s)
    finally:
        late = not task.done()
        task.cancel()
    if late:
        raise ControlUnavailable(f"Control does not answer in {timeout_s:g} s; what is served goes on")
    if task.cancelled() or task.exception() is not None:
        why = "cancelled" if task.cancelled() else repr(task.exception())[:300]
        raise ControlUnavailable(f"Control does not answer; what is served goes on ({why})")
    return task.result()


async def ping(handle: DeploymentHandle) -> str | None:
    """Return what a stage's `ping` method says is wrong, or that no replica answers."""
    try:
        return await asyncio.wait_for(handle.remote(), _PING_TIMEOUT_S)
    except (asyncio.TimeoutError, *_UNREACHABLE):
        return "no replica answers"
