"""The classes that Ray Serve runs as replicas that answer HTTP: a gateway before the stages, or all of it in one.

Each is built from a `ReplicaSpec`; one that restarts asks Control which versions its siblings serve by now.
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
from ray_app.control.autoscaling import BUSY, BusyMeter
from ray_app.control.messages import FUSED, GATEWAY
from ray_app.control.replica_agent import ReplicaAgent
from ray_app.deployments.control_client import ControlClient
from ray_app.deployments.direct_ingress import offer
from ray_app.deployments.replica import follow, problem_of, replica_id
from ray_app.deployments.replica_metrics import ControlLoopMetrics, ModelMetrics, ProcessMetrics, StoreMetrics
from ray_app.deployments.replica_spec import ReplicaSpec
from ray_app.deployments.stage_connections import reach
from ray_app.environment.serve_environment import slow_reason
from ray_app.http.admin import AdminRoutes, Forward
from ray_app.http.asgi import PredictApp, Readiness
from ray_app.http.predict_handler import PredictHandler
from ray_app.inference.feature_fetch import RemoteFeatures, local_features
from ray_app.inference.model_scoring import LocalModel, RemoteModel, is_absent_version
from ray_app.inference.model_versions import ModelVersions, VersionParts, VersionsView, load_version
from ray_app.inference.observers import Observer
from ray_app.inference.onnx_model import OnnxModel
from ray_app.monitoring.gateway_metrics import GatewayMetrics
from ray_app.monitoring.scrape import CONTROL, PAGE, Ask, OwnMetrics, ReportedMetrics, Scrape
from ray_app.monitoring.scrape import PATH as METRICS
from ray_app.prediction_log.log import LogOptions, PredictionLog, Sampling
from ray_app.prediction_log.retention import Retention
from ray_app.rollout.metrics import RolloutMetrics
from ray_app.rollout.shadow import Shadow
from ray_app.rollout.shadow_comparison import SHADOWS
from ray_app.rollout.version_stats import TALLIES, VersionStatsTable
from ray_app.transport.serve_handle import method_of, ping
from tune.registry.bundle import Bundle

logger = logging.getLogger("ray.serve")


class _Ingress:
    """What both kinds of gateway share: the HTTP application, the agent that follows Control, and the busy share."""

    async def _open(
        self,
        served: ReplicaSpec,
        kind: str,
        parts: VersionParts,
        readiness: Readiness,
        control: DeploymentHandle | None,
        stages: Sequence[str],
    ) -> ModelVersions:
        lanes = ModelVersions(partial(load_version, parts), served.rules, served.bundles(), parts.queue_limit)
        lanes.on_switch = partial(_say_served, parts.metrics)
        _say_served(parts.metrics, lanes.view)
        observers, extras = _onlookers(parts.metrics, lanes)
        self._log = _prediction_log(served, parts.metrics)
        if self._log is not None:
            observers.append(self._log)
        settings, metrics = served.settings, parts.metrics
        predictor = PredictHandler(lanes, metrics, settings.max_items, observers)
        name = type(self).__name__
        metrics.registry.register(ProcessMetrics(replica_id(), name))
        page = OwnMetrics(name, metrics.registry)
        self._agent = await follow(served, kind, lanes, control, {**extras, PAGE: page})
        if self._agent is not None:
            metrics.registry.register(ControlLoopMetrics(replica_id(), name, self._agent.loop))
        scrape = Scrape(replica_id(), page, (name, *stages, CONTROL), _ask(control, self._agent))
        forward = _forward(control)
        routes = {
            **AdminRoutes(settings.admin_token, forward).routes(),
            **ConsoleRoutes(forward, readiness, settings.admin_token is not None).routes(),
            METRICS: scrape.route,
        }
        self._door = PredictApp(settings, lanes, predictor, metrics, readiness, routes)
        self._meter = BusyMeter()
        offer(self._door)
        return lanes

    def __serve_build_asgi_app__(self) -> PredictApp:
        return self._door

    def __del__(self) -> None:
        # A constructor that failed leaves no log.
        if log := getattr(self, "_log", None):
            log.close()

    def record_autoscaling_stats(self) -> dict[str, float]:
        """Autoscaling input, read by `ray_app.control.autoscaling`: the busy share of this process."""
        return {BUSY: self._meter.read()}

    async def check_health(self) -> None:
        """Raise when Control is followed no more, so that Serve starts another replica in this one's place."""
        if self._agent is not None:
            self._agent.loop.check()


@serve.ingress()
class Gateway(_Ingress):
    """HTTP in front of feature-fetch and model replicas."""

    async def __init__(
        self,
        served: ReplicaSpec,
        features: DeploymentHandle | None,
        model: DeploymentHandle,
        control: DeploymentHandle | None,
    ) -> None:
        settings = served.settings
        metrics = _metrics(served)
        scorers = reach(model, served, metrics, is_absent_version)
        fetch = None
        self._pings = {"model": method_of(model, "ping")}
        if features is not None:
            self._pings["feature_fetch"] = method_of(features, "ping")
            fetch = RemoteFeatures(reach(features, served, metrics).transport, settings.feature_timeout_ms / 1000)
        # Serve tells a process of a deployment's replicas from its first call on: links can be opened before traffic.
        self._warm_up = asyncio.get_running_loop().create_task(self._readiness())

        def scorer(bundle: Bundle) -> RemoteModel:
            return RemoteModel(scorers.transport, bundle.digest, settings.request_timeout_ms / 1000)

        parts = VersionParts(settings, fetch, scorer, metrics, scorers.replicas, _slow())
        stages = [handle.deployment_name for handle in (features, model) if handle is not None]
        await self._open(served, GATEWAY, parts, self._readiness, control, stages)

    async def _readiness(self) -> dict[str, str]:
        answers = await asyncio.gather(*(ping(handle) for handle in self._pings.values()))
        return {name: said for name, said in zip(self._pings, answers, strict=True) if said}


@serve.ingress()
class Fused(_Ingress):
    """The whole path in one replica, for the lowest latency."""

    async def __init__(self, served: ReplicaSpec, control: DeploymentHandle | None) -> None:
        settings = served.settings
        self._features = local_features(settings, served.manifest, settings.feature_timeout_ms / 1000)
        metrics, models = _metrics(served), WeakValueDictionary[bytes, OnnxModel]()

        def local(bundle: Bundle) -> LocalModel:
            model = models[bytes.fromhex(bundle.digest)] = OnnxModel(bundle)
            return LocalModel(model)

        parts = VersionParts(settings, self._features, local, metrics, slow=_slow())
        if self._features is not None:
            metrics.registry.register(StoreMetrics(replica_id(), self._features))
        lanes = await self._open(served, FUSED, parts, self._readiness, control, ())
        metrics.registry.register(ModelMetrics(replica_id(), lanes.held, models.get))

    async def _readiness(self) -> dict[str, str]:
        said = await problem_of(self._features) if self._features else None
        return {"feature_fetch": said} if said else {}


def _onlookers(metrics: GatewayMetrics, lanes: ModelVersions) -> tuple[list[Observer], dict[str, Callable[[], Any]]]:
    """The observers of each answer, and the extras of a gateway's reports to Control by name."""
    tallies, shadow = VersionStatsTable(), Shadow(lanes)
    metrics.registry.register(RolloutMetrics(replica_id(), tallies.report, shadow.report))
    return [tallies, shadow], {TALLIES: tallies.report, SHADOWS: shadow.report}


def _prediction_log(served: ReplicaSpec, metrics: GatewayMetrics) -> PredictionLog | None:
    s = served.settings
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
    log = PredictionLog(replica_id(), served.manifest, options, metrics.log_rows, on_removed=metrics.log_files_removed)
    metrics.watch_log_disk(lambda: log.disk_free)
    return log


def _forward(control: DeploymentHandle | None) -> Forward:
    if control is not None:
        return ControlClient(control).act

    async def nowhere(action: str, told: dict[str, Any], source: str) -> tuple[int, Any]:
        raise ControlUnavailable("this application was built without Control: its versions stay as they are")

    return nowhere


def _ask(control: DeploymentHandle | None, agent: ReplicaAgent | None) -> Ask | None:
    if control is None or agent is None:
        return None
    line = ControlClient(control)

    async def ask() -> Mapping[str, ReportedMetrics] | None:
        return await line.scrape(agent.report())

    return ask


def _metrics(served: ReplicaSpec) -> GatewayMetrics:
    return GatewayMetrics(replica_id(), served.manifest.name, served.rules.champion)


def _say_served(metrics: GatewayMetrics, view: VersionsView) -> None:
    metrics.serve(view.champion.manifest.name, view.champion.version, view.epoch)


def _slow() -> str | None:
    slow = slow_reason()
    if slow:
        logger.warning(slow)
    return slow
