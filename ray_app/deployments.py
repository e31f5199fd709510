"""The classes that Ray Serve runs as replicas: gateway, feature fetch and model apart, or all in one.

Each is built from what is `Served`; one that restarts asks Control what its siblings serve by now.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any
from weakref import WeakValueDictionary

from prometheus_client import CollectorRegistry
from prometheus_client.registry import Collector
from ray import serve
from ray.serve.handle import DeploymentHandle

from data.errors import ConfigError, ControlUnavailable, RayscoreError
from ray_app.admin import AdminDoor, Forward
from ray_app.asgi import PredictApp, Readiness
from ray_app.console import Console
from ray_app.control.bystander import Bystander
from ray_app.control.follower import Follower, Holder
from ray_app.control.report import FUSED, GATEWAY, MODEL
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
from ray_app.replica_boards import LinkBoard, ModelBoard, ProcessBoard, StoreBoard
from ray_app.rollout.board import GatewayBoard
from ray_app.rollout.comparison import SHADOWS
from ray_app.rollout.shadow import Shadow
from ray_app.rollout.tally import TALLIES, Tallies
from ray_app.runtime import OnnxModel
from ray_app.scaling import BUSY, IN_FLIGHT, BusyMeter
from ray_app.scrape import CONTROL, PAGE, Ask, OwnPage, Scrape, ToldPage
from ray_app.scrape import PATH as METRICS
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

    def _open(self, served: Served, handler: Handler, board: Callable[[str], Collector]) -> OwnPage:
        """Set up, and return the page of what there is to be told; `board` makes the part of it that is the stage's."""
        replica, name = _replica(), type(self).__name__
        self._settings = served.settings
        self._handler = handler
        self._links = LinkServer(handler, served.hello(name))
        self._meter = BusyMeter()
        registry = CollectorRegistry()
        for each in (ProcessBoard(replica, name), LinkBoard(replica, name, self._links), board(replica)):
            registry.register(each)
        return OwnPage(name, registry)

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

    async def __init__(self, served: Served, control: DeploymentHandle | None) -> None:
        features = local_features(served.settings, served.manifest)
        if features is None:
            raise ConfigError("the model has no online features: nothing to fetch")
        self._features = features
        page = self._open(served, FeatureServer(features).call, lambda replica: StoreBoard(replica, features))
        if control is not None:
            line, contract = ControlLine(control), served.manifest.contract
            self._bystander = Bystander(_replica(), contract, served.rules, line, {PAGE: page})

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
        board = partial(ModelBoard, held=shelf.held, model=shelf.model)
        page = self._open(served, ModelServer(shelf.model).call, board)
        self._follower = await _follow(served, MODEL, shelf, control, {PAGE: page})

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
        stages: Sequence[str],
    ) -> Lanes:
        build, refused = partial(build_lane, parts), parts.metrics.queue_refused.inc
        lanes = Lanes(build, served.rules, served.bundles(), served.settings.queue_limit, refused)
        lanes.on_switch = partial(_say_served, parts.metrics)
        _say_served(parts.metrics, lanes.view)
        observers, extras = _onlookers(parts.metrics, lanes)
        self._log = _prediction_log(served, parts.metrics)
        if self._log is not None:
            observers.append(self._log)
        settings, metrics = served.settings, parts.metrics
        predictor = Predictor(lanes, metrics, settings.max_items, observers)
        name = type(self).__name__
        metrics.registry.register(ProcessBoard(_replica(), name))
        page = OwnPage(name, metrics.registry)
        self._follower = await _follow(served, kind, lanes, control, {**extras, PAGE: page})
        scrape = Scrape(_replica(), page, (name, *stages, CONTROL), _ask(control, self._follower))
        forward = _forward(control)
        routes = {
            **AdminDoor(settings.admin_token, forward).routes(),
            **Console(forward, readiness, settings.admin_token is not None).routes(),
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
        stages = [handle.deployment_name for handle in (features, model) if handle is not None]
        await self._open(served, GATEWAY, parts, self._readiness, control, stages)

    async def _readiness(self) -> dict[str, str]:
        answers = await asyncio.gather(*(ping(handle) for handle in self._pings.values()))
        return {name: said for name, said in zip(self._pings, answers, strict=True) if said}


@serve.ingress()
class Fused(_Ingress):
    """The whole path in one replica, for the lowest latency."""

    async def __init__(self, served: Served, control: DeploymentHandle | None) -> None:
        settings = served.settings
        self._features = local_features(settings, served.manifest, settings.feature_timeout_ms / 1000)
        metrics, models = _metrics(served), WeakValueDictionary[bytes, OnnxModel]()

        def local(bundle: Bundle) -> LocalModel:
            model = models[bytes.fromhex(bundle.digest)] = OnnxModel(bundle)
            return LocalModel(model)

        parts = LaneParts(settings, self._features, local, metrics, slow=_slow())
        if self._features is not None:
            metrics.registry.register(StoreBoard(_replica(), self._features))
        lanes = await self._open(served, FUSED, parts, self._readiness, control, ())
        metrics.registry.register(ModelBoard(_replica(), lanes.held, models.get))

    async def _readiness(self) -> dict[str, str]:
        said = await _problem(self._features) if self._features else None
        return {"feature_fetch": said} if said else {}


def _onlookers(metrics: Metrics, lanes: Lanes) -> tuple[list[Observer], dict[str, Callable[[], Any]]]:
    """Who is told of each answer, and what a gateway reports to Control besides, by name."""
    tallies, shadow = Tallies(), Shadow(lanes)
    metrics.registry.register(GatewayBoard(_replica(), tallies.report, shadow.report))
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
    log = PredictionLog(_replica(), served.manifest.schema_.names, options, metrics.log_rows)
    metrics.watch_log_disk(lambda: log.disk_free)
    return log


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
    follower = Follower(_replica(), kind, served.manifest.contract, holder, ControlLine(control), extras)
    await follower.start()
    return follower


def _forward(control: DeploymentHandle | None) -> Forward:
    if control is not None:
        return ControlLine(control).act

    async def nowhere(action: str, told: dict[str, Any], source: str) -> tuple[int, Any]:
        raise ControlUnavailable("this application was built without Control: its versions stay as they are")

    return nowhere


def _ask(control: DeploymentHandle | None, follower: Follower | None) -> Ask | None:
    if control is None or follower is None:
        return None
    line = ControlLine(control)

    async def ask() -> Mapping[str, ToldPage] | None:
        return await line.scrape(follower.report())

    return ask


def _replica() -> str:
    return serve.get_replica_context().replica_tag


def _metrics(served: Served) -> Metrics:
    return Metrics(_replica(), served.manifest.name, served.rules.champion)


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
