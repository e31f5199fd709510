"""Number of running replicas over time, from the REST API of Ray's dashboard."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import orjson

from data.errors import RayscoreError
from ray_app.loadtest.http_client.http_response import parse
from ray_app.loadtest.http_client.target import Target

_EVERY_S = 1.0
_TIMEOUT_S = 2.0


class ReplicaWatch:
    """Polls the dashboard once a second and records the number of running replicas of each deployment.

    A poll without a usable answer is skipped. Plain asyncio streams instead of an HTTP library, which costs ms in the
    event loop that has to send on time.

    Args:
        dashboard: address of the dashboard.
        record: list to append (s from the start of measuring, running replicas by deployment) to.
    """

    def __init__(self, dashboard: Target, record: list[tuple[float, dict[str, int]]]) -> None:
        self._dashboard, self._record = dashboard, record

    async def follow(self, origin: float) -> None:
        """Poll until cancelled; `origin` is the event loop's time at which measuring starts."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                applications = await asyncio.wait_for(self._ask(), _TIMEOUT_S)
                self._record.append((loop.time() - origin, running(applications)))
            except (OSError, asyncio.TimeoutError, RayscoreError, ValueError):
                pass
            await asyncio.sleep(_EVERY_S)

    async def _ask(self) -> Any:
        target = self._dashboard
        reader, writer = await asyncio.open_connection(target.host, target.port, ssl=target.tls)
        try:
            # HTTP/1.0: the server closes the connection after the answer, so reading to the end yields all of it.
            path = f"{target.base}/api/serve/applications/"
            writer.write(f"GET {path} HTTP/1.0\r\nhost: {target.host}\r\naccept: application/json\r\n\r\n".encode())
            received = await reader.read(-1)
        finally:
            writer.close()
        response = parse(received, closed=True)
        if response is None or response.status != 200:
            raise RayscoreError(f"{target.url}: no list of applications")
        return orjson.loads(received[response.start : response.end])


def running(document: Mapping[str, Any]) -> dict[str, int]:
    """Number of RUNNING replicas by deployment, from the JSON of the dashboard's `/api/serve/applications/`."""
    counts: dict[str, int] = {}
    for application in document.get("applications", {}).values():
        for name, deployment in application.get("deployments", {}).items():
            states = [replica.get("state") for replica in deployment.get("replicas", [])]
            counts[name] = counts.get(name, 0) + states.count("RUNNING")
    return counts
