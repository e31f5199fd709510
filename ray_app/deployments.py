"""The classes that Ray Serve runs as replicas: gateway, feature fetch and model apart, or all in one.

Each is built from what is `Served`; one that restarts asks Control what its siblings serve by now.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from ray import serve
from ray.serve.handle import DeploymentHandle

from data.errors import ConfigError, ControlUnavailable, RayscoreError
from ray_app.admin import AdminDoor, Forward
from ray_app.asgi import PredictApp, Readiness
from ray_app.console import Console
from ray_app.control_follower import Follower, Holder
from ray_app.control_report import FUSED, GATEWAY, MODEL
from ray_app.environment import slow_reason
from ray_app.handle import ControlLine, method_of, ping
from ray_app.ingress import offer
from ray_app.lanes import LaneParts, Lanes, View, build_lane
from ray_app.link.router import HOST, PORT
from ray_app.link.server import Handler, LinkServer
from ray_app.metrics import Metrics
from ray_app.observer import Observer
from ray_app.prediction_log import LogOptions, PredictionLog, Sampling
from ray_app.predictor import Predictor
from ray_app.reach import link_host, reach
from ray_app.rollout.board import GatewayBoard
from ray_app.rollout.comparison import SHADOWS
from ray_app.rollout.shadow import Shadow
from ray_app.rollout.tally import TALLIES, Tallies
from ray_app.runtime import OnnxModel
from ray_app.scaling import BUSY, IN_FLIGHT, BusyMeter
from ray_app.served import Served
from ray_app.shelf import Shelf
from ray_app.stages import (
    FeatureServer,
    LocalFeatures,
    LocalModel,
    ModelServer,
    RemoteFeatures,
    RemoteModel,
    is_absent_version,
    local_features,
)
from tune.bundle import Bundle

logger = logging.getLogger("ray.serve")


class _Stage:
    """What both stages share: they answer by Serve's handle and by links, and report how busy they are."""

    def _open(self, served: Served, handler: Handler) -> None:
        self._settings = served.settings
        self._handler = handler
        self._links = LinkServer(handler, served.hello(type(self).__name__))
        self._meter = BusyMeter()

    async def call(self, request: bytes) -> bytes:
        """Answer a call that came by Serve's handle."""
        answer = self._handler(request)
        return answer if isinstance(answer, bytes) else await answer

    async def record_replica_metadata(self) -> dict[str, Any]:
        """Start listening for links; Serve hands on to gateways what this returns."""
        if not self._settings.direct_links:
            return {}
        host = link_host(self._settings)
        return {HOST: host, PORT: await self._links.start(host)}

    def record_autoscaling_stats(self) -> dict[str, float]:
        """What `ray_app.scaling` decides by."""
        return {BUSY: self._meter.read(), IN_FLIGHT: float(self._links.in_flight)}


class FeatureFetch(_Stage):
    """Reads the online store for gateways."""

    def __init__(self, served: Served) -> None:
        features = local_features(served.settings, served.manifest)
        if features is None:
            raise ConfigError("the model has no online features: nothing to fetch")
        self._features = features
        self._open(served, FeatureServer(features).call)

    async def ping(self) -> str | None:
        """Return what is wrong with the store, None when it answers."""
        return await _problem(self._features)

    def __del__(self) -> None:
        # A constructor that failed leaves no features.
        if features := getattr(self, "_features", None):
            features.close()


class Model(_Stage):
    """Scores for gateways, by any of the versions that it holds."""

    async def __init__(self, served: Served, control: DeploymentHandle | None) -> None:
        shelf = Shelf(served.rules, served.bundles())
        self._open(served, ModelServer(shelf.model).call)
        self._follower = await _follow(served, MODEL, shelf, control, {})

    async def ping(self) -> str | None:
        """Return None: a model that does not score never becomes a replica."""
        return None


class _Ingress:
    """What both kinds of gateway share: a door, and the report of how busy they are."""

    async def _open(
        self,
        served: Served,
        kind: str,
        parts: LaneParts,
        readiness: Readiness,
        control: DeploymentHandle | None,
    ) -> None:
        lanes = Lanes(partial(build_lane, parts), served.rules, served.bundles(), served.settings.queue_limit)
        lanes.on_switch = partial(_say_served, parts.metrics)
        _say_served(parts.metrics, lanes.view)
        observers, extras = _onlookers(parts.metrics, lanes)
        self._log = _prediction_log(served, parts.metrics)
        if self._log is not None:
            observers.append(self._log)
        settings, metrics = served.settings, parts.metrics
        predictor = Predictor(lanes, metrics, settings.max_items, observers)
        forward = _forward(control)
        routes = AdminDoor(settings.admin_token, forward).routes()
        routes |= Console(forward, readiness, settings.admin_token is not None).routes()
        self._door = PredictApp(settings, lanes, predictor, metrics, readiness, routes)
        self._meter = BusyMeter()
        self._follower = await _follow(served, kind, lanes, control, extras)
        offer(self._door)

    def __serve_build_asgi_app__(self) -> PredictApp:
        return self._door

    def __del__(self) -> None:
        # A constructor that failed leaves no log.
        if log := getattr(self, "_log", None):
            log.close()

    def record_autoscaling_stats(self) -> dict[str, float]:
        """What `ray_app.scaling` decides by."""
        return {BUSY: self._meter.read()}


@serve.ingress()
class Gateway(_Ingress):
    """HTTP in front of feature-fetch and model replicas."""

    async def __init__(
        self,
        served: Served,
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

        parts = LaneParts(settings, fetch, scorer, metrics, scorers.replicas, _slow())
        await self._open(served, GATEWAY, parts, self._readiness, control)

    async def _readiness(self) -> dict[str, str]:
        answers = await asyncio.gather(*(ping(handle) for handle in self._pings.values()))
        return {name: said for name, said in zip(self._pings, answers, strict=True) if said}


@serve.ingress()
class Fused(_Ingress):
    """The whole path in one replica, for the lowest latency."""

    async def __init__(self, served: Served, control: DeploymentHandle | None) -> None:
        self._features = local_features(served.settings, served.manifest)
        parts = LaneParts(
            served.settings,
            self._features,
            lambda bundle: LocalModel(OnnxModel(bundle)),
            _metrics(served),
            slow=_slow(),
        )
        await self._open(served, FUSED, parts, self._readiness, control)

    async def _readiness(self) -> dict[str, str]:
        said = await _problem(self._features) if self._features else None
        return {"feature_fetch": said} if said else {}


def _onlookers(metrics: Metrics, lanes: Lanes) -> tuple[list[Observer], dict[str, Callable[[], Any]]]:
    """Who is told of each answer, and what a gateway reports to Control besides, by name."""
    tallies, shadow = Tallies(), Shadow(lanes)
    replica = serve.get_replica_context().replica_tag
    metrics.registry.register(GatewayBoard(replica, tallies.report, shadow.report))
    return [tallies, shadow], {TALLIES: tallies.report, SHADOWS: shadow.report}


def _prediction_log(served: Served, metrics: Metrics) -> PredictionLog | None:
    s = served.settings
    sampling = Sampling(s.prediction_log_share, s.prediction_log_positive_share)
    if not any(sampling):
        return None
    key = s.prediction_log_entity_key
    options = LogOptions(
        s.prediction_log_path, sampling, key.get_secret_value().encode() if key else None, s.prediction_log_flush_s
    )
    replica = serve.get_replica_context().replica_tag
    return PredictionLog(replica, served.manifest.schema_.names, options, metrics.log_rows)


async def _follow(
    served: Served,
    kind: str,
    holder: Holder,
    control: DeploymentHandle | None,
    extras: Mapping[str, Callable[[], Any]],
) -> Follower | None:
    """Take over from Control what is to be held, and follow it."""
    if control is None:
        return None
    replica = serve.get_replica_context().replica_tag
    follower = Follower(replica, kind, served.manifest.contract, holder, ControlLine(control), extras)
    await follower.start()
    return follower


def _forward(control: DeploymentHandle | None) -> Forward:
    if control is not None:
        return ControlLine(control).act

    async def nowhere(action: str, told: dict[str, Any], source: str) -> tuple[int, Any]:
        raise ControlUnavailable("this application was built without Control: its versions stay as they are")

    return nowhere


def _metrics(served: Served) -> Metrics:
    return Metrics(serve.get_replica_context().replica_tag, served.manifest.name, served.rules.champion)


def _say_served(metrics: Metrics, view: View) -> None:
    metrics.serve(view.champion.manifest.name, view.champion.version, view.epoch)


def _slow() -> str | None:
    slow = slow_reason()
    if slow:
        logger.warning(slow)
    return slow


async def _problem(features: LocalFeatures) -> str | None:
    try:
        await features.ping()
    except RayscoreError as exc:
        return str(exc)
    return None
