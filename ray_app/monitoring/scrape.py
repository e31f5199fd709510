"""GET /metrics: the metrics of the whole application in one answer, whichever gateway is reached.

Each replica tells its page with its reports to Control. A gateway that is scraped makes its own page anew, tells it,
and merges it with what all others told last. A gateway's page so goes to Control before it goes to whoever scrapes:
the next scrape, through another gateway, finds the same page or a later one, and no counter ever steps back.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import NamedTuple

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector, CollectorRegistry

from data.errors import ControlUnavailable
from ray_app.monitoring.text_format import CONTENT_TYPE, merged, packed, rendered
from ray_app.protocol.route import Route, RouteReply, RouteRequest

logger = logging.getLogger("ray.serve")

PATH = "/metrics"
PAGE = "metrics"
"""Name under which replicas report their pages."""
CONTROL = "Control"
"""Deployment of Control, whose page is its own."""

_EVERY_S = 5.0


class ReportedMetrics(NamedTuple):
    """What one replica tells: its deployment and its packed page, empty while there is none yet."""

    deployment: str
    page: bytes


Ask = Callable[[], Awaitable[Mapping[str, ReportedMetrics] | None]]
"""Reports, and returns what all replicas told last, by replica; None, or ControlUnavailable, when nobody says."""


class OwnMetrics:
    """The page of one replica. Called for each report, it gives the last one, and has it made anew when that is old.

    Args:
        deployment: the replica's.
        registry: of its metrics.
        every_s: how old it may become.
    """

    def __init__(self, deployment: str, registry: CollectorRegistry, every_s: float = _EVERY_S) -> None:
        self.deployment = deployment
        self._registry = registry
        self._every_s = every_s
        self._page = b""
        self._due = 0.0
        self._lock = asyncio.Lock()
        self._task: asyncio.Task[bytes] | None = None

    def __call__(self) -> ReportedMetrics:
        """The last page; a new one is begun in the background when it is due."""
        if time.monotonic() >= self._due and (self._task is None or self._task.done()):
            self._task = asyncio.get_running_loop().create_task(self.fresh())
        return ReportedMetrics(self.deployment, self._page)

    async def fresh(self) -> bytes:
        """Make the page of this moment, and keep it."""
        # One after the other, or an older page could take the place of a newer one.
        async with self._lock:
            self._page = packed(await rendered(self._registry))
            self._due = time.monotonic() + self._every_s
            return self._page


class Scrape:
    """Answers scrapes of one gateway.

    Args:
        replica: the gateway's id.
        own: its page.
        deployments: those of which there should be replicas.
        ask: of Control; None where there is none.
    """

    def __init__(self, replica: str, own: OwnMetrics, deployments: Sequence[str], ask: Ask | None) -> None:
        self._replica = replica
        self._own = own
        self._deployments = deployments
        self._ask = ask
        self._under_way: asyncio.Task[bytes] | None = None

    @property
    def route(self) -> Route:
        """What answers `GET /metrics`."""
        return Route(("GET",), self.answer)

    async def answer(self, told: RouteRequest) -> RouteReply:
        """The page of the whole application; scrapes that come together share one."""
        if self._under_way is None or self._under_way.done():
            # An empty context: others wait for it too, and the first of them may leave.
            self._under_way = contextvars.Context().run(asyncio.get_running_loop().create_task, self._whole())
        return RouteReply(200, CONTENT_TYPE.encode(), await asyncio.shield(self._under_way))

    async def _whole(self) -> bytes:
        fresh = ReportedMetrics(self._own.deployment, await self._own.fresh())
        others = await self._others()
        # This gateway's own series come first, so that a reader knows which are of this moment.
        told = {self._replica: fresh}
        told |= {replica: page for replica, page in sorted((others or {}).items()) if replica != self._replica}
        summary = packed(await rendered(_Summary(told, self._deployments, others is not None)))
        return await merged([summary, *(each.page for each in told.values() if each.page)])

    async def _others(self) -> Mapping[str, ReportedMetrics] | None:
        if self._ask is None:
            return None
        try:
            return await self._ask()
        except ControlUnavailable as exc:
            logger.debug("a scrape has this gateway's metrics alone: %s", exc)
            return None


class _Summary(Collector):
    """Whose metrics are on a page."""

    def __init__(self, told: Mapping[str, ReportedMetrics], deployments: Sequence[str], complete: bool) -> None:
        self._found = Counter(each.deployment for each in told.values())
        self._deployments = dict.fromkeys([*deployments, *sorted(self._found)])
        self._complete = complete

    def collect(self) -> list[GaugeMetricFamily]:
        """The metric families."""
        replicas = GaugeMetricFamily(
            "rayscore_scrape_replicas", "Replicas whose metrics are in this scrape.", labels=["deployment"]
        )
        for deployment in self._deployments:
            replicas.add_metric([deployment], self._found[deployment])
        text = "1 when Control answered with the metrics of all replicas, 0 for one gateway's alone."
        return [replicas, GaugeMetricFamily("rayscore_scrape_complete", text, float(self._complete))]
