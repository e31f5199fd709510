"""Control as a Serve deployment: it reads the registry each second and answers every replica's open call.

It loads MLflow, which replicas do not. They serve on by themselves while it is away; once it is started over it
learns from them and from the registry what is in force.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

from prometheus_client import CollectorRegistry
from ray import serve
from ray.serve import Application
from ray.serve.schema import LoggingConfig

from data.errors import ConfigError, ModelError, RegistryUnavailable
from ray_app.console.control_view import ControlView
from ray_app.control.admin_actions import AdminActions
from ray_app.control.audit_log import AuditLog
from ray_app.control.controller import Controller
from ray_app.control.messages import BYSTANDER, Directive, ReplicaReport
from ray_app.control.registry_source import RegistrySource
from ray_app.control.replica_states import FUSED_KINDS, GRAPH_KINDS, ReplicaStates
from ray_app.control.rule_change import ChangeConflict, ChangeRefused, Outcome, RuleChange
from ray_app.control.version_set import HeldBundle, VersionLimits, VersionSet
from ray_app.deployments.control_metrics import ControlMetrics
from ray_app.deployments.replica_metrics import ProcessMetrics
from ray_app.deployments.replica_spec import ReplicaSpec
from ray_app.monitoring.scrape import PAGE, OwnMetrics, ReportedMetrics
from ray_app.rollout.recent_history import RecentHistory
from ray_app.rollout.rollout_driver import RolloutDriver
from ray_app.rollout.version_stats import TALLIES
from tune.registry.bundle import Bundle

logger = logging.getLogger("ray.serve")

Answer = TypeVar("Answer")

NAME = "Control"
AUDIT_FILE = "audit.jsonl"
"""In the var folder of the machine that Control runs on."""

_HELD_OPEN_S = 1.0
_TICK_S = 1.0
_POKED_EVERY_S = 1.0
_CHANGE_S = 10.0
_ANSWERED_BY_S = 2.0
_STATUSES = {Outcome.COMMITTED: 200, Outcome.PREPARING: 202, Outcome.REFUSED: 422, Outcome.SUPERSEDED: 409}


class ControlPlane:
    """The deployment's class: runs one `Controller` against the clock, the registry and the replicas' calls."""

    def __init__(self, served: ReplicaSpec, fused: bool) -> None:
        settings = served.settings
        bundles = {version: Bundle.from_bytes(packed) for version, packed in served.packed.items()}
        reference = bundles[served.rules.champion].manifest
        held = {version: HeldBundle.of(version, bundle) for version, bundle in bundles.items()}
        limits = VersionLimits(settings.versions_held, settings.version_grace_s)
        self._audit = AuditLog(settings.var_dir / AUDIT_FILE)
        self._contract = reference.contract
        self._control = Controller(
            os.urandom(4).hex(),
            served.rules,
            VersionSet(held, served.rules.versions, limits),
            ReplicaStates(FUSED_KINDS if fused else GRAPH_KINDS),
            time.monotonic(),
            self._audit,
        )
        self._control.shown["audit_lost"] = lambda control: self._audit.lost
        steering = RolloutDriver()
        steering.join(self._control)
        self._actions = AdminActions(self._control)
        registry = CollectorRegistry()
        registry.register(ControlMetrics(self._control, steering, lambda: self._audit.lost))
        registry.register(ProcessMetrics(self._control.name, NAME))
        self._page = OwnMetrics(NAME, registry)
        self._bystanders = ReplicaStates(frozenset())
        self._history = RecentHistory()
        self._view = ControlView(
            self._control, self._bystanders, steering, self._history, lambda: self._audit.recent, time.monotonic()
        )
        self._source = RegistrySource(settings, reference)
        self._thread = ThreadPoolExecutor(1, "registry")
        self._told: tuple[int, RuleChange | None] = (0, None)
        self._changed = asyncio.Event()
        self._stirred = asyncio.Event()
        self._poke = asyncio.Event()
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(self._tick()), loop.create_task(self._watch())]

    async def changes(self, report: ReplicaReport, known: tuple[str, int]) -> Directive | None:
        """Take a report; return the directive once it is another than the known one, None after a second."""
        if report.contract != self._contract:
            # A replica of the application that this one takes the place of.
            await asyncio.sleep(_HELD_OPEN_S)
            return None
        self._hear(report)
        deadline = time.monotonic() + _HELD_OPEN_S
        while True:
            changed, directive = self._changed, self._control.directive()
            if directive is not None and (directive.control, directive.seq) != known:
                return directive
            try:
                await asyncio.wait_for(changed.wait(), deadline - time.monotonic())
            except asyncio.TimeoutError:
                return None

    async def tell(self, report: ReplicaReport) -> None:
        """Take a report."""
        if report.contract == self._contract:
            self._hear(report)

    async def scrape(self, report: ReplicaReport) -> dict[str, ReportedMetrics] | None:
        """Take a gateway's report; return the last metrics pages of all replicas, and this Control's own."""
        if report.contract != self._contract:
            return None
        self._hear(report)
        own = {self._control.name: ReportedMetrics(NAME, await self._page.fresh())}
        return {**self._bystanders.extras(PAGE, gone=False), **self._control.replicas.extras(PAGE, gone=False), **own}

    async def bundle(self, digest: str) -> bytes | None:
        """A packed bundle, None while it is not at hand."""
        return self._control.versions.packed(digest)

    async def act(self, action: str, told: dict[str, Any], source: str) -> tuple[int, Any]:
        """Carry out a request of the admin API; a change is waited for until every gateway answers by it."""
        if action.startswith("look/"):
            return 200, self._look(action.removeprefix("look/"))
        try:
            change = self._actions.begin(action, told, source, time.monotonic())
        except ChangeConflict as exc:
            return 409, {"outcome": "conflict", "reason": str(exc), "epoch": self._control.rules.epoch}
        except (ChangeRefused, ConfigError) as exc:
            return 422, {"outcome": "refused", "reason": str(exc), "epoch": self._control.rules.epoch}
        self._spread()
        self._poke.set()
        await self._until(lambda: change.over, _CHANGE_S)
        if (epoch := change.epoch) is not None:
            # A gateway that falls silent is not waited for.
            await self._until(lambda: self._control.replicas.answer_by(epoch), _ANSWERED_BY_S)
        return _STATUSES[change.outcome], change.plain()

    async def check_health(self) -> None:
        """Raise when this Control has stopped working, so that Serve starts another."""
        for task in self._tasks:
            if task.done():
                raise RuntimeError(f"Control has stopped: {task.exception()!r}")

    def _hear(self, report: ReplicaReport) -> None:
        if report.kind == BYSTANDER:
            self._bystanders.hear(report, time.monotonic())
            return
        self._control.hear(report, time.monotonic())
        self._stir()
        self._spread()

    def _stir(self) -> None:
        """Have the conditions that are waited for looked at again."""
        stirred, self._stirred = self._stirred, asyncio.Event()
        stirred.set()

    def _look(self, name: str) -> Any:
        if name == "audit":
            return list(self._audit.recent)
        if name == "console":
            return self._view.plain(time.monotonic())
        status = self._control.status(time.monotonic())
        return status["rules"] if name == "rules" else status

    def _spread(self) -> None:
        """Wake whoever waits for what has changed: another directive, or the end of a change."""
        state = (self._control.seq, self._control.pending)
        if state != self._told:
            self._told = state
            changed, self._changed = self._changed, asyncio.Event()
            changed.set()
            self._stir()

    async def _until(self, holds: Callable[[], bool], most_s: float) -> None:
        """Wait until reports or decisions make a condition hold, for `most_s` seconds at most."""
        deadline = time.monotonic() + most_s
        while not holds() and (left := deadline - time.monotonic()) > 0:
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._stirred.wait(), left)

    async def _tick(self) -> None:
        while True:
            now = time.monotonic()
            self._control.tick(now)
            self._bystanders.sweep(now)
            self._history.see(self._control.replicas.extras(TALLIES), now, time.time())
            self._spread()
            await asyncio.sleep(_TICK_S)

    async def _watch(self) -> None:
        """Read the registry each second, or at once after an action, and fetch and write what is to be."""
        poked = 0.0
        while True:
            self._poke.clear()
            try:
                self._control.see(await self._blocking(self._source.read), time.monotonic())
                # An order that was just read is carried out now, not with the next tick.
                self._control.tick(time.monotonic())
                await self._fetch()
                if owed := self._control.owed:
                    await self._blocking(partial(self._source.write, owed))
                    self._control.truth.wrote(owed)
                if self._view.wants_list(time.monotonic()):
                    self._view.listed = await self._blocking(self._source.listed)
            except ModelError as exc:
                self._control.unavailable(str(exc))
            self._spread()
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._poke.wait(), _TICK_S)
                if not self._control.missing():
                    # A change is written at once, those in quick succession after it as one: MLflow takes ten times
                    # the processor that they do, which callers would wait for.
                    await asyncio.sleep(max(poked + _POKED_EVERY_S - time.monotonic(), 0.0))
                poked = time.monotonic()

    async def _fetch(self) -> None:
        for version in self._control.missing():
            try:
                held = await self._blocking(partial(self._source.fetch, version))
            except RegistryUnavailable:
                raise
            except ModelError as exc:
                self._control.unfit(version, str(exc))
            else:
                self._control.fetched(held, time.monotonic())
            self._spread()

    async def _blocking(self, work: Callable[[], Answer]) -> Answer:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)


def control(served: ReplicaSpec, *, fused: bool = False) -> Application:
    """The deployment, for `ray_app.deployments.graph_builder.build`."""
    deployment: Any = serve.deployment(
        ControlPlane,
        name=NAME,
        num_replicas=1,
        max_ongoing_requests=10_000,
        ray_actor_options={"num_cpus": 0.05},
        health_check_period_s=2,
        graceful_shutdown_timeout_s=2,
        logging_config=LoggingConfig(log_level=served.settings.log_level, enable_access_log=False),
    )
    return deployment.bind(served, fused)
