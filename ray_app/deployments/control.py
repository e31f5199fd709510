"""Control as a Serve deployment: it reads the registry each second and answers the open call of every replica.

It loads MLflow, which replicas do not. They serve on by themselves while it is away; after a restart it learns from
them and from the registry what is in force.
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
from ray_app.control.messages import BYSTANDERS, Directive, ReplicaReport
from ray_app.control.registry_source import RegistrySource
from ray_app.control.rule_change import ChangeConflict, ChangeRefused, Outcome, RuleChange
from ray_app.control.state.replica_states import FUSED_KINDS, GRAPH_KINDS, ReplicaStates
from ray_app.control.state.version_set import PackedBundle, VersionLimits, VersionSet
from ray_app.deployments.metrics.control_metrics import ControlMetrics
from ray_app.deployments.metrics.replica_metrics import ProcessMetrics
from ray_app.deployments.replica_spec import ReplicaSpec
from ray_app.monitoring.recent_events import EVENT_COUNTS, RecentEvents
from ray_app.monitoring.scrape import PAGE, OwnMetrics, ReportedMetrics
from ray_app.rollout.recent_history import RecentHistory
from ray_app.rollout.rollout_driver import RolloutDriver
from ray_app.rollout.version_stats import VERSION_STATS
from tune.registry.bundle import Bundle

logger = logging.getLogger("ray.serve")

Answer = TypeVar("Answer")

NAME = "Control"
AUDIT_FILE = "audit.jsonl"
"""In the var folder of the machine that Control runs on."""

_LONG_POLL_S = 1.0
_TICK_S = 1.0
_WAKE_INTERVAL_S = 1.0
_CHANGE_TIMEOUT_S = 10.0
_SWITCH_TIMEOUT_S = 2.0
_STATUSES = {Outcome.COMMITTED: 200, Outcome.PREPARING: 202, Outcome.REFUSED: 422, Outcome.SUPERSEDED: 409}


class ControlPlane:
    """The deployment's class: runs one `Controller` against the clock, the registry and the replicas' calls."""

    def __init__(self, spec: ReplicaSpec, fused: bool) -> None:
        settings = spec.settings
        bundles = {version: Bundle.from_bytes(packed) for version, packed in spec.packed.items()}
        reference = bundles[spec.rules.champion].manifest
        packed = {version: PackedBundle.of(version, bundle) for version, bundle in bundles.items()}
        limits = VersionLimits(settings.versions_held, settings.version_grace_s)
        self._audit = AuditLog(settings.var_dir / AUDIT_FILE)
        self._contract = reference.contract
        self._control = Controller(
            os.urandom(4).hex(),
            spec.rules,
            VersionSet(packed, spec.rules.versions, limits),
            ReplicaStates(FUSED_KINDS if fused else GRAPH_KINDS),
            time.monotonic(),
            self._audit,
        )
        self._control.shown["audit_lost"] = lambda control: self._audit.lost
        rollout_driver = RolloutDriver()
        rollout_driver.join(self._control)
        self._actions = AdminActions(self._control)
        registry = CollectorRegistry()
        registry.register(ControlMetrics(self._control, rollout_driver, lambda: self._audit.lost))
        registry.register(ProcessMetrics(self._control.name, NAME))
        self._page = OwnMetrics(NAME, registry)
        self._bystanders = ReplicaStates(frozenset())
        self._history = RecentHistory()
        self._events = RecentEvents(dict.fromkeys(window.source for window in reference.windows))
        self._view = ControlView(
            self._control,
            self._bystanders,
            rollout_driver,
            self._history,
            self._events,
            lambda: self._audit.recent,
            time.monotonic(),
        )
        self._source = RegistrySource(settings, reference)
        self._thread = ThreadPoolExecutor(1, "registry")
        self._published: tuple[int, RuleChange | None] = (0, None)
        self._directive_changed = asyncio.Event()
        self._state_changed = asyncio.Event()
        self._registry_wakeup = asyncio.Event()
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(self._tick()), loop.create_task(self._sync_registry())]

    async def next_directive(self, report: ReplicaReport, known: tuple[str, int]) -> Directive | None:
        """Take a report; return the directive once it is not the known one (Control, seq), None after a second."""
        if report.contract != self._contract:
            # A replica of the application that this one replaces: it is kept waiting, so that it does not ask at once.
            await asyncio.sleep(_LONG_POLL_S)
            return None
        self._on_report(report)
        deadline = time.monotonic() + _LONG_POLL_S
        while True:
            directive_changed, directive = self._directive_changed, self._control.directive()
            if directive is not None and (directive.control, directive.seq) != known:
                return directive
            try:
                await asyncio.wait_for(directive_changed.wait(), deadline - time.monotonic())
            except asyncio.TimeoutError:
                return None

    async def report(self, report: ReplicaReport) -> None:
        """Take a report."""
        if report.contract == self._contract:
            self._on_report(report)

    async def scrape(self, report: ReplicaReport) -> dict[str, ReportedMetrics] | None:
        """Take a gateway's report; return the last metrics pages of all replicas, and this Control's own."""
        if report.contract != self._contract:
            return None
        self._on_report(report)
        own = {self._control.name: ReportedMetrics(NAME, await self._page.fresh())}
        return {**self._bystanders.extras(PAGE, gone=False), **self._control.replicas.extras(PAGE, gone=False), **own}

    async def bundle(self, digest: str) -> bytes | None:
        """Return the packed bundle with this digest, None while it is not at hand."""
        return self._control.versions.packed(digest)

    async def act(self, action: str, body: dict[str, Any], source: str) -> tuple[int, Any]:
        """Carry out a request of the admin API, and return the HTTP status and the JSON body.

        A change is waited for until every gateway answers by it, ten seconds at most: then the status is 202.
        """
        if action.startswith("look/"):
            return 200, self._read_view(action.removeprefix("look/"))
        try:
            change = self._actions.begin(action, body, source, time.monotonic())
        except ChangeConflict as exc:
            return 409, {"outcome": "conflict", "reason": str(exc), "epoch": self._control.rules.epoch}
        except (ChangeRefused, ConfigError) as exc:
            return 422, {"outcome": "refused", "reason": str(exc), "epoch": self._control.rules.epoch}
        self._publish()
        self._registry_wakeup.set()
        await self._wait_until(lambda: change.over, _CHANGE_TIMEOUT_S)
        if (epoch := change.epoch) is not None:
            # Bounded: a gateway that has just died counts for three seconds more.
            await self._wait_until(lambda: self._control.replicas.answer_by(epoch), _SWITCH_TIMEOUT_S)
        return _STATUSES[change.outcome], change.plain()

    async def check_health(self) -> None:
        """Raise RuntimeError when a background task has ended, so that Serve starts another Control."""
        for task in self._tasks:
            if task.done():
                raise RuntimeError(f"Control has stopped: {task.exception()!r}")

    def _on_report(self, report: ReplicaReport) -> None:
        if report.kind in BYSTANDERS:
            self._bystanders.record(report, time.monotonic())
            return
        self._control.on_report(report, time.monotonic())
        self._wake_waiters()
        self._publish()

    def _wake_waiters(self) -> None:
        """Have `_wait_until` look at its conditions again."""
        state_changed, self._state_changed = self._state_changed, asyncio.Event()
        state_changed.set()

    def _read_view(self, name: str) -> Any:
        if name == "audit":
            return list(self._audit.recent)
        if name == "console":
            return self._view.plain(time.monotonic())
        status = self._control.status(time.monotonic())
        return status["rules"] if name == "rules" else status

    def _publish(self) -> None:
        """Wake the calls that wait for another directive, or for the end of a change, if there is one."""
        state = (self._control.seq, self._control.pending)
        if state != self._published:
            self._published = state
            directive_changed, self._directive_changed = self._directive_changed, asyncio.Event()
            directive_changed.set()
            self._wake_waiters()

    async def _wait_until(self, condition: Callable[[], bool], timeout_s: float) -> None:
        """Wait until reports or decisions make a condition hold, for `timeout_s` seconds at most."""
        deadline = time.monotonic() + timeout_s
        while not condition() and (left := deadline - time.monotonic()) > 0:
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._state_changed.wait(), left)

    async def _tick(self) -> None:
        while True:
            now = time.monotonic()
            self._control.tick(now)
            self._bystanders.sweep(now)
            self._history.record(self._control.replicas.extras(VERSION_STATS), now, time.time())
            fused = self._control.replicas.extras(EVENT_COUNTS)
            self._events.record({**self._bystanders.extras(EVENT_COUNTS), **fused}, now)
            self._publish()
            await asyncio.sleep(_TICK_S)

    async def _sync_registry(self) -> None:
        """Read the registry each second, or at once after an action; fetch missing bundles, write what is pending."""
        woken_at = 0.0
        while True:
            self._registry_wakeup.clear()
            try:
                self._control.on_snapshot(await self._blocking(self._source.read), time.monotonic())
                # An order that was just read is carried out now, not with the next tick.
                self._control.tick(time.monotonic())
                await self._fetch()
                if writes := self._control.pending_writes:
                    await self._blocking(partial(self._source.write, writes))
                    self._control.registry_state.mark_written(writes)
                if self._view.wants_registered_versions(time.monotonic()):
                    self._view.registered_versions = await self._blocking(self._source.list_versions)
            except ModelError as exc:
                self._control.on_registry_unavailable(str(exc))
            self._publish()
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._registry_wakeup.wait(), _TICK_S)
                if not self._control.missing():
                    # A change is written at once, those in quick succession after it as one: a write through MLflow
                    # takes ten times the CPU of a change, and callers would wait for it.
                    await asyncio.sleep(max(woken_at + _WAKE_INTERVAL_S - time.monotonic(), 0.0))
                woken_at = time.monotonic()

    async def _fetch(self) -> None:
        for version in self._control.missing():
            try:
                packed = await self._blocking(partial(self._source.fetch, version))
            except RegistryUnavailable:
                raise
            except ModelError as exc:
                self._control.on_unfit(version, str(exc))
            else:
                self._control.on_bundle(packed, time.monotonic())
            self._publish()

    async def _blocking(self, work: Callable[[], Answer]) -> Answer:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)


def control(spec: ReplicaSpec, *, fused: bool = False) -> Application:
    """Bind the deployment of Control, as `ray_app.deployments.graph_builder.build` takes it."""
    deployment: Any = serve.deployment(
        ControlPlane,
        name=NAME,
        num_replicas=1,
        max_ongoing_requests=10_000,
        ray_actor_options={"num_cpus": 0.05},
        health_check_period_s=2,
        graceful_shutdown_timeout_s=2,
        logging_config=LoggingConfig(log_level=spec.settings.log_level, enable_access_log=False),
    )
    return deployment.bind(spec, fused)
