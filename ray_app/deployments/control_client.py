"""Client of Control over Serve's handle, for the agents in replicas and for the admin routes."""

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
    """The methods of Control that replicas call. Each raises ControlUnavailable when Control fails or is too late."""

    def __init__(self, handle: DeploymentHandle) -> None:
        self._next_directive, self._report, self._bundle, self._act, self._scrape = (
            method_of(handle, name) for name in ("next_directive", "report", "bundle", "act", "scrape")
        )

    async def next_directive(self, report: ReplicaReport, known: tuple[str, int]) -> Directive | None:
        """Report, and wait for a directive; see `ray_app.control.replicas.replica_agent.ControlConnection`."""
        return await _call(self._next_directive.remote(report, known))

    async def report(self, report: ReplicaReport) -> None:
        """Report without waiting for a directive; see `ControlConnection`."""
        await _call(self._report.remote(report))

    async def bundle(self, digest: str) -> bytes | None:
        """Return a packed bundle by its digest; see `ControlConnection`."""
        return await _call(self._bundle.remote(digest))

    async def scrape(self, report: ReplicaReport) -> Mapping[str, ReportedMetrics] | None:
        """Report, and return the last metrics pages of all replicas; see `ray_app.monitoring.scrape.Ask`."""
        return await _call(self._scrape.remote(report), _SCRAPE_TIMEOUT_S)

    async def act(self, action: str, body: dict[str, Any], source: str) -> tuple[int, Any]:
        """Carry out an action of the admin API, and return the HTTP status and the decoded JSON of its answer."""
        return await _call(self._act.remote(action, body, source), _ACT_TIMEOUT_S)


async def _call(response: Awaitable[Any], timeout_s: float = _REPORT_TIMEOUT_S) -> Any:
    """Return the answer of Control; every other outcome becomes ControlUnavailable."""

    async def answer() -> Any:
        return await response

    # A task of its own: when Control's replica dies, Serve may cancel the response, which must not cancel the caller.
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
