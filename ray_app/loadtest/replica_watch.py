"""How many replicas a service has while it is under load, from the REST API of Ray's dashboard."""

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
    """Asks the dashboard once a second. A time at which it does not answer is left out of the record.

    It is asked by hand rather than with an HTTP library: those cost ms in the loop that has to send on time.

    Args:
        dashboard: where the dashboard listens.
        record: the counts are added to it, as (s from the start of measuring, replicas by deployment).
    """

    def __init__(self, dashboard: Target, record: list[tuple[float, dict[str, int]]]) -> None:
        self._dashboard, self._record = dashboard, record

    async def follow(self, origin: float) -> None:
        """Ask until cancelled; `origin` is the loop time at which measuring starts."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                found = await asyncio.wait_for(self._ask(), _TIMEOUT_S)
                self._record.append((loop.time() - origin, running(found)))
            except (OSError, asyncio.TimeoutError, RayscoreError, ValueError):
                pass
            await asyncio.sleep(_EVERY_S)

    async def _ask(self) -> Any:
        target = self._dashboard
        reader, writer = await asyncio.open_connection(target.host, target.port, ssl=target.tls)
        try:
            # HTTP/1.0: the answer is one piece and ends with the connection.
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
    """Running replicas by deployment in an answer of `/api/serve/applications/`."""
    found: dict[str, int] = {}
    for application in document.get("applications", {}).values():
        for name, deployment in application.get("deployments", {}).items():
            states = [replica.get("state") for replica in deployment.get("replicas", [])]
            found[name] = found.get(name, 0) + states.count("RUNNING")
    return found
