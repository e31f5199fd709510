"""Sends the metrics of a replica that holds no versions (feature fetch) to Control, once a second."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Protocol

from data.errors import ControlUnavailable
from ray_app.control.messages import BYSTANDER, ReplicaReport
from ray_app.control.supervised_loop import SupervisedLoop
from tune.registry.traffic_rules import TrafficRules

_EVERY_S = 1.0


class MetricsSink(Protocol):
    """The connection to Control."""

    async def tell(self, report: ReplicaReport) -> None:
        """Report; raises ControlUnavailable."""
        ...


class MetricsReporter:
    """Reports each second for as long as its replica lives. Belongs to one event loop.

    Args:
        replica: the replica's id in Serve.
        contract: of the application's models, as `BundleManifest.contract` has it.
        rules: the traffic rules that the application was built with.
        line: the connection to Control.
        extras: values of each report by name; each is called anew for every report.
    """

    def __init__(
        self,
        replica: str,
        contract: str,
        rules: TrafficRules,
        line: MetricsSink,
        extras: Mapping[str, Callable[[], Any]],
    ) -> None:
        self._named = (replica, BYSTANDER, contract)
        self._rules = rules
        self._line = line
        self._extras = extras
        self._count = 0
        self.loop = SupervisedLoop("the report to Control", self._tell)
        """What keeps the reports going, with the count of its failures and the health check."""
        self.loop.start()

    async def stop(self) -> None:
        """Stop reporting."""
        await self.loop.stop()

    async def _tell(self) -> None:
        self._count += 1
        extras = {name: give() for name, give in self._extras.items()}
        # While Control is away there is nobody to tell, and nothing that cannot wait.
        with suppress(ControlUnavailable):
            await self._line.tell(ReplicaReport(*self._named, self._count, -1, {}, self._rules, extras=extras))
        await asyncio.sleep(_EVERY_S)
