"""Calls Control by Serve's handle, for the agents in replicas and for the admin routes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping
from typing import Any

from ray.serve.handle import DeploymentHandle

from data.errors import ControlUnavailable
from ray_app.control.messages import Directive, ReplicaReport
from ray_app.monitoring.scrape import ReportedMetrics
from ray_app.transport.serve_handle import method_of

_REPORT_TIMEOUT_S = 5.0
_ACT_TIMEOUT_S = 15.0
_SCRAPE_TIMEOUT_S = 1.0


class ControlClient:
    """The methods of Control that replicas call. Each raises ControlUnavailable when it does not answer in time."""

    def __init__(self, handle: DeploymentHandle) -> None:
        self._changes, self._tell, self._bundle, self._act, self._scrape = (
            method_of(handle, name) for name in ("changes", "tell", "bundle", "act", "scrape")
        )

    async def changes(self, report: ReplicaReport, known: tuple[str, int]) -> Directive | None:
        """Report and wait for a directive; see `ControlConnection`."""
        return await _asked(self._changes.remote(report, known))

    async def tell(self, report: ReplicaReport) -> None:
        """Report; see `ControlConnection`."""
        await _asked(self._tell.remote(report))

    async def bundle(self, digest: str) -> bytes | None:
        """Fetch a bundle; see `ControlConnection`."""
        return await _asked(self._bundle.remote(digest))

    async def scrape(self, report: ReplicaReport) -> Mapping[str, ReportedMetrics] | None:
        """Report, and return the last metrics pages of all replicas; see `ray_app.monitoring.scrape.Ask`."""
        return await _asked(self._scrape.remote(report), _SCRAPE_TIMEOUT_S)

    async def act(self, action: str, told: dict[str, Any], source: str) -> tuple[int, Any]:
        """Have an action of the admin API carried out; return status and body."""
        return await _asked(self._act.remote(action, told, source), _ACT_TIMEOUT_S)


async def _asked(response: Awaitable[Any], timeout_s: float = _REPORT_TIMEOUT_S) -> Any:
    """Await an answer of Control; every other outcome becomes ControlUnavailable.

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
