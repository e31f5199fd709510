"""The deployments that answer HTTP: `Gateway`, in front of the stages, and `Fused`, which is all of it in one.

Each replica is built from a `ReplicaSpec`; one that restarts gets from Control the versions that its siblings serve.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any
from weakref import WeakValueDictionary

from ray import serve
from ray.serve.handle import DeploymentHandle

from data.errors import ControlUnavailable
from ray_app.console.routes import ConsoleRoutes
from ray_app.control.messages import FUSED, GATEWAY
from ray_app.control.replicas.autoscaling import BUSY, BusyMeter
from ray_app.control.replicas.replica_agent import ReplicaAgent
from ray_app.deployments.control_client import ControlClient
from ray_app.deployments.explanation import connect_explanation
from ray_app.deployments.ingress.direct_ingress import register
from ray_app.deployments.metrics.replica_metrics import ControlLoopMetrics, ModelMetrics, ProcessMetrics, StoreMetrics
from ray_app.deployments.replica import event_reports, freeze_heap, replica_id, start_agent, store_problem
from ray_app.deployments.replica_spec import ReplicaSpec
from ray_app.deployments.stage_connections import connect_stage
from ray_app.environment.serve_environment import slow_reason
from ray_app.http.admin import AdminRoutes, Forward
from ray_app.http.asgi import PredictApp, Readiness
from ray_app.http.events import EventLimits, EventRoutes
from ray_app.http.predict_handler import PredictHandler
from ray_app.inference.features.feature_fetch import RemoteFeatures, local_features
from ray_app.inference.model_versions import ModelVersions, VersionParts, VersionsView, load_version
from ray_app.inference.models.model_scoring import LocalModel, RemoteModel, is_absent_version
from ray_app.inference.models.onnx_model import OnnxModel
from ray_app.inference.observers import Observer
from ray_app.inference.stages import window_stage
from ray_app.monitoring.gateway_metrics import GatewayMetrics
from ray_app.monitoring.scrape import CONTROL, PAGE, Ask, OwnMetrics, ReportedMetrics, Scrape
from ray_app.monitoring.scrape import PATH as METRICS
from ray_app.prediction_log.log import LogOptions, PredictionLog, Sampling
from ray_app.prediction_log.retention import Retention
from ray_app.rollout.metrics import RolloutMetrics
from ray_app.rollout.shadow import Shadow
from ray_app.rollout.shadow_comparison import SHADOWS
from ray_app.rollout.version_stats import VERSION_STATS, VersionStatsTable
from ray_app.transport.serve_handle import method_of, ping
from tune.registry.bundle import Bundle

logger = logging.getLogger("ray.serve")


class _Ingress:
    """Base of both kinds of gateway: the HTTP application, the agent that follows Control, and the busy share."""

    async def _open(
        self,
        spec: ReplicaSpec,
        kind: str,
        parts: VersionParts,
        readiness: Readiness,
        control: DeploymentHandle | None,
        stages: Sequence[str],
    ) -> ModelVersions:
        versions = ModelVersions(partial(load_version, parts), spec.rules, spec.bundles(), parts.queue_limit)
        versions.on_switch = partial(_record_champion, parts.metrics)
        _record_champion(parts.metrics, versions.view)
        observers, extras = _observers(parts.metrics, versions)
        self._log = _prediction_log(spec, parts.metrics)
        if self._log is not None:
            observers.append(self._log)
        settings, metrics = spec.settings, parts.metrics
        predict_handler = PredictHandler(versions, metrics, settings.max_items, observers)
        name = type(self).__name__
        metrics.registry.register(ProcessMetrics(replica_id(), name))
        page = OwnMetrics(name, metrics.registry)
        self._agent = await start_agent(
            spec, kind, versions, control, {**extras, **event_reports(parts.features), PAGE: page}
        )
        if self._agent is not None:
            metrics.registry.register(ControlLoopMetrics(replica_id(), name, self._agent.loop))
        scrape = Scrape(replica_id(), page, (name, *stages, CONTROL), _ask(control, self._agent))
        forward = _forward(control)
        limits = EventLimits(settings.max_body_bytes, settings.max_items, settings.request_timeout_ms / 1000)
        events = EventRoutes(settings.events_token, spec.manifest, window_stage(parts.features), metrics, limits)
        routes = {
            **events.routes(),
            **AdminRoutes(settings.admin_token, forward).routes(),
            **ConsoleRoutes(forward, readiness, settings.admin_token is not None).routes(),
            METRICS: scrape.route,
        }
        self._app = PredictApp(settings, versions, predict_handler, metrics, readiness, routes)
        self._meter = BusyMeter()
        register(self._app)
        return versions

    def __serve_build_asgi_app__(self) -> PredictApp:
        return self._app

    def __del__(self) -> None:
        # A constructor that failed leaves no log.
        if log := getattr(self, "_log", None):
            log.close()

    def record_autoscaling_stats(self) -> dict[str, float]:
        """Autoscaling input, read by `ray_app.control.replicas.autoscaling`: the busy share of this process."""
        return {BUSY: self._meter.read()}

    async def check_health(self) -> None:
        """Raise RuntimeError when calls to Control have failed for a minute; Serve then replaces the replica."""
        if self._agent is not None:
            self._agent.loop.check()


@serve.ingress()
class Gateway(_Ingress):
    """Answers HTTP requests, with calls to feature-fetch and model replicas."""

    async def __init__(
        self,
        spec: ReplicaSpec,
        features: DeploymentHandle | None,
        model: DeploymentHandle,
        explanation: DeploymentHandle | None,
        control: DeploymentHandle | None,
    ) -> None:
        settings = spec.settings
        metrics = _metrics(spec)
        scorers = connect_stage(model, spec, metrics, is_absent_version)
        fetch = None
        self._pings = {"model": method_of(model, "ping")}
        if features is not None:
            self._pings["feature_fetch"] = method_of(features, "ping")
            fetch = RemoteFeatures(connect_stage(features, spec, metrics).transport, settings.feature_timeout_ms / 1000)
        # Serve tells a process about a deployment's replicas from its first call on: pinged now, the stages get their
        # links before the first request.
        self._warm_up = asyncio.get_running_loop().create_task(self._readiness())

        def scorer(bundle: Bundle) -> RemoteModel:
            scored = bundle.manifest.output.width
            return RemoteModel(scorers.transport, bundle.digest, scored, settings.request_timeout_ms / 1000)

        self._explanation = connect_explanation(explanation, spec, metrics)
        explained = self._explanation.parts if self._explanation is not None else None
        parts = VersionParts(settings, fetch, scorer, metrics, scorers.replicas, _slow(), explained)
        stages = [handle.deployment_name for handle in (features, model, explanation) if handle is not None]
        await self._open(spec, GATEWAY, parts, self._readiness, control, stages)
        freeze_heap()

    async def _readiness(self) -> dict[str, str]:
        problems = await asyncio.gather(*(ping(handle) for handle in self._pings.values()))
        return {name: problem for name, problem in zip(self._pings, problems, strict=True) if problem}


@serve.ingress()
class Fused(_Ingress):
    """Answers HTTP requests in one replica, feature fetch and model included, for the lowest latency.

    Explanations are apart here too: they would hold up every other request.
    """

    async def __init__(
        self, spec: ReplicaSpec, explanation: DeploymentHandle | None, control: DeploymentHandle | None
    ) -> None:
        settings = spec.settings
        self._features = local_features(settings, spec.manifest, settings.feature_timeout_ms / 1000)
        # Weak: the metrics must not keep a dropped version's model in memory.
        metrics, models = _metrics(spec), WeakValueDictionary[bytes, OnnxModel]()

        def scorer(bundle: Bundle) -> LocalModel:
            model = models[bytes.fromhex(bundle.digest)] = OnnxModel(bundle)
            return LocalModel(model)

        self._explanation = connect_explanation(explanation, spec, metrics)
        explained = self._explanation.parts if self._explanation is not None else None
        parts = VersionParts(settings, self._features, scorer, metrics, slow=_slow(), explanation=explained)
        stages = [explanation.deployment_name] if explanation is not None else []
        if self._features is not None:
            metrics.registry.register(StoreMetrics(replica_id(), self._features))
        versions = await self._open(spec, FUSED, parts, self._readiness, control, stages)
        metrics.registry.register(ModelMetrics(replica_id(), versions.held, models.get))
        freeze_heap()

    async def _readiness(self) -> dict[str, str]:
        problem = await store_problem(self._features) if self._features else None
        return {"feature_fetch": problem} if problem else {}


def _observers(metrics: GatewayMetrics, versions: ModelVersions) -> tuple[list[Observer], dict[str, Callable[[], Any]]]:
    """The observers of each answer, and what they add to a gateway's reports to Control, by name."""
    version_stats, shadow = VersionStatsTable(lambda: versions.view.champion.manifest.output), Shadow(versions)
    metrics.registry.register(RolloutMetrics(replica_id(), version_stats.report, shadow.report))
    return [version_stats, shadow], {VERSION_STATS: version_stats.report, SHADOWS: shadow.report}


def _prediction_log(spec: ReplicaSpec, metrics: GatewayMetrics) -> PredictionLog | None:
    s = spec.settings
    sampling = Sampling(s.prediction_log_share, s.prediction_log_positive_share)
    if not any(sampling):
        return None
    key = s.prediction_log_entity_key
    options = LogOptions(
        s.prediction_log_path,
        sampling,
        key.get_secret_value().encode() if key else None,
        s.prediction_log_flush_s,
        keep=Retention(s.prediction_log_max_age_days * 86_400, s.prediction_log_max_mb * 2**20),
    )
    log = PredictionLog(replica_id(), spec.manifest, options, metrics.log_rows, on_removed=metrics.log_files_removed)
    metrics.watch_log_disk(lambda: log.disk_free)
    return log


def _forward(control: DeploymentHandle | None) -> Forward:
    if control is not None:
        return ControlClient(control).act

    async def refuse(action: str, body: dict[str, Any], source: str) -> tuple[int, Any]:
        raise ControlUnavailable("this application was built without Control: its versions stay as they are")

    return refuse


def _ask(control: DeploymentHandle | None, agent: ReplicaAgent | None) -> Ask | None:
    if control is None or agent is None:
        return None
    client = ControlClient(control)

    async def ask() -> Mapping[str, ReportedMetrics] | None:
        return await client.scrape(agent.report())

    return ask


def _metrics(spec: ReplicaSpec) -> GatewayMetrics:
    return GatewayMetrics(replica_id(), spec.manifest.name, spec.rules.champion)


def _record_champion(metrics: GatewayMetrics, view: VersionsView) -> None:
    metrics.serve(view.champion.manifest.name, view.champion.version, view.epoch)


def _slow() -> str | None:
    slow = slow_reason()
    if slow:
        logger.warning(slow)
    return slow
