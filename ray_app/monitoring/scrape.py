"""GET /metrics: the metrics of all replicas in one response, whichever gateway is scraped.

Each replica sends its metrics ("page") to the Control deployment with its periodic reports. A gateway that is scraped
renders its own page anew, sends it to Control, and merges it with the last page of every other replica. Because its
page reaches Control before it reaches the scraper, the next scrape, through another gateway, shows the same page or a
later one: no counter ever decreases between two scrapes.
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
"""Key of the metrics page in a replica's report to Control."""
CONTROL = "Control"
"""Name of the Control deployment, which has metrics of its own."""

_EVERY_S = 5.0


class ReportedMetrics(NamedTuple):
    """The metrics of one replica: its deployment, and its page as `packed` makes it; empty before the first."""

    deployment: str
    page: bytes


Ask = Callable[[], Awaitable[Mapping[str, ReportedMetrics] | None]]
"""Sends this replica's report to Control and returns the last metrics of every replica, by replica id.

Returns None, or raises ControlUnavailable, when Control cannot answer.
"""


class OwnMetrics:
    """The metrics page of one replica, rendered again in the background when it has become old.

    Args:
        deployment: name of the replica's deployment.
        registry: the replica's metrics.
        every_s: age at which the page is rendered again, in s.
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
        """Return the last page at once; when it is old, also start rendering the next one."""
        if time.monotonic() >= self._due and (self._task is None or self._task.done()):
            self._task = asyncio.get_running_loop().create_task(self.fresh())
        return ReportedMetrics(self.deployment, self._page)

    async def fresh(self) -> bytes:
        """Render the metrics as they are now, keep that page and return it packed."""
        # Rendering yields to the event loop: without the lock, an older page could replace a newer one.
        async with self._lock:
            self._page = packed(await rendered(self._registry))
            self._due = time.monotonic() + self._every_s
            return self._page


class Scrape:
    """Handler of `GET /metrics` in one gateway.

    Args:
        replica: id of this gateway's replica.
        own: its metrics.
        deployments: names of the deployments that are expected to have replicas; those without are shown as 0.
        ask: gets the metrics of the other replicas from Control; None where there is no Control.
    """

    def __init__(self, replica: str, own: OwnMetrics, deployments: Sequence[str], ask: Ask | None) -> None:
        self._replica = replica
        self._own = own
        self._deployments = deployments
        self._ask = ask
        self._under_way: asyncio.Task[bytes] | None = None

    @property
    def route(self) -> Route:
        """The route of `GET /metrics`."""
        return Route(("GET",), self.answer)

    async def answer(self, request: RouteRequest) -> RouteReply:
        """Respond with the metrics of all replicas; concurrent scrapes share one collection."""
        if self._under_way is None or self._under_way.done():
            # In an empty context, not the first scraper's: Serve cancels what belongs to a request when its client
            # disconnects, and other scrapers wait for the same task.
            self._under_way = contextvars.Context().run(asyncio.get_running_loop().create_task, self._whole())
        return RouteReply(200, CONTENT_TYPE.encode(), await asyncio.shield(self._under_way))

    async def _whole(self) -> bytes:
        fresh = ReportedMetrics(self._own.deployment, await self._own.fresh())
        others = await self._others()
        # This gateway's own series come first: readers tell by it which gateway answered.
        reported = {self._replica: fresh}
        reported |= {replica: page for replica, page in sorted((others or {}).items()) if replica != self._replica}
        summary = packed(await rendered(_Summary(reported, self._deployments, others is not None)))
        return await merged([summary, *(metrics.page for metrics in reported.values() if metrics.page)])

    async def _others(self) -> Mapping[str, ReportedMetrics] | None:
        if self._ask is None:
            return None
        try:
            return await self._ask()
        except ControlUnavailable as exc:
            logger.debug("a scrape has this gateway's metrics alone: %s", exc)
            return None


class _Summary(Collector):
    """Gauges that say how complete a scrape is: replicas by deployment, and whether Control answered."""

    def __init__(self, reported: Mapping[str, ReportedMetrics], deployments: Sequence[str], complete: bool) -> None:
        self._replicas = Counter(metrics.deployment for metrics in reported.values())
        self._deployments = dict.fromkeys([*deployments, *sorted(self._replicas)])
        self._complete = complete

    def collect(self) -> list[GaugeMetricFamily]:
        """Return the two gauges."""
        replicas = GaugeMetricFamily(
            "rayscore_scrape_replicas", "Replicas whose metrics are in this scrape.", labels=["deployment"]
        )
        for deployment in self._deployments:
            replicas.add_metric([deployment], self._replicas[deployment])
        text = "1 when Control answered with the metrics of all replicas, 0 for one gateway's alone."
        return [replicas, GaugeMetricFamily("rayscore_scrape_complete", text, float(self._complete))]
