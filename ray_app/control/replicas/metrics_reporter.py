"""Sends the metrics of a replica that holds no versions (feature fetch) to Control, once a second."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Protocol

from data.errors import ControlUnavailable
from ray_app.control.messages import METRICS_ONLY, ReplicaReport
from ray_app.control.supervised_loop import SupervisedLoop
from tune.registry.traffic_rules import TrafficRules

_EVERY_S = 1.0


class MetricsSink(Protocol):
    """The connection to Control."""

    async def report(self, report: ReplicaReport) -> None:
        """Report; raises ControlUnavailable."""
        ...


class MetricsReporter:
    """Reports once a second until it is stopped. Belongs to one event loop.

    Args:
        replica: the replica's id in Serve.
        contract: of the application's models, as `BundleManifest.contract` has it.
        rules: the traffic rules that the application was built with.
        connection: the connection to Control.
        extras: values of each report by name; each is called anew for every report.
    """

    def __init__(
        self,
        replica: str,
        contract: str,
        rules: TrafficRules,
        connection: MetricsSink,
        extras: Mapping[str, Callable[[], Any]],
    ) -> None:
        self._identity = (replica, METRICS_ONLY, contract)
        self._rules = rules
        self._connection = connection
        self._extras = extras
        self._count = 0
        self.loop = SupervisedLoop("the report to Control", self._send)
        """The loop that sends the reports, with its count of failures and its health check."""
        self.loop.start()

    async def stop(self) -> None:
        """Stop reporting."""
        await self.loop.stop()

    async def _send(self) -> None:
        self._count += 1
        extras = {name: value() for name, value in self._extras.items()}
        # While Control is away a report may be lost: values are cumulative, so the next one has them.
        with suppress(ControlUnavailable):
            await self._connection.report(
                ReplicaReport(*self._identity, self._count, -1, {}, self._rules, extras=extras)
            )
        await asyncio.sleep(_EVERY_S)
