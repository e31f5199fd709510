"""The classes that Ray Serve runs as replicas of the two stages behind gateways: feature fetch and model."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.registry import Collector
from ray.serve.handle import DeploymentHandle

from data.errors import ConfigError
from ray_app.control.autoscaling import BUSY, IN_FLIGHT, BusyMeter
from ray_app.control.messages import MODEL
from ray_app.control.metrics_reporter import MetricsReporter
from ray_app.control.supervised_loop import SupervisedLoop
from ray_app.deployments.control_client import ControlClient
from ray_app.deployments.replica import busy, follow, problem_of, replica_id
from ray_app.deployments.replica_metrics import (
    ControlLoopMetrics,
    LinkMetrics,
    ModelMetrics,
    ProcessMetrics,
    StoreMetrics,
)
from ray_app.deployments.replica_spec import ReplicaSpec
from ray_app.deployments.stage_connections import link_host
from ray_app.inference.feature_fetch import FeatureServer, local_features
from ray_app.inference.model_cache import ModelCache
from ray_app.inference.model_scoring import ModelServer
from ray_app.monitoring.scrape import PAGE, OwnMetrics
from ray_app.transport.request_router import HOST, PORT
from ray_app.transport.server import Handler, LinkServer


class _Stage:
    """What both stages share: they answer by Serve's handle and by links, and report how busy they are."""

    def _open(self, served: ReplicaSpec, handler: Handler, board: Callable[[str], Collector]) -> OwnMetrics:
        """Set up, and return the metrics page; `board` makes the collector of what only this stage has."""
        replica, name = replica_id(), type(self).__name__
        self._settings = served.settings
        self._handler = handler
        self._links = LinkServer(handler, served.hello(name))
        self._meter = BusyMeter()
        self._names = replica, name
        self._control_loop: SupervisedLoop | None = None
        self._registry = CollectorRegistry()
        for each in (ProcessMetrics(replica, name), LinkMetrics(replica, name, self._links), board(replica)):
            self._registry.register(each)
        return OwnMetrics(name, self._registry)

    def _watch(self, loop: SupervisedLoop) -> None:
        """Show the failures of the loop that speaks with Control, and make it part of the replica's health."""
        self._control_loop = loop
        self._registry.register(ControlLoopMetrics(*self._names, loop))

    async def check_health(self) -> None:
        """Raise when Control is reached no more, so that Serve starts another replica in this one's place."""
        if self._control_loop is not None:
            self._control_loop.check()

    async def call(self, request: bytes) -> bytes:
        """Answer a call that came by Serve's handle."""
        answer = self._handler(request)
        return answer if isinstance(answer, bytes) else await answer

    async def record_replica_metadata(self) -> dict[str, Any]:
        """Start listening for links; Serve passes the returned address on to gateways."""
        if not self._settings.direct_links:
            return {}
        host = link_host(self._settings)
        return {HOST: host, PORT: await self._links.start(host)}

    def record_autoscaling_stats(self) -> dict[str, float]:
        """Autoscaling input, read by `ray_app.control.autoscaling`: busy share and calls under way."""
        return {BUSY: self._meter.read(), IN_FLIGHT: float(self._links.in_flight)}


class FeatureFetch(_Stage):
    """Reads the online store for gateways."""

    async def __init__(self, served: ReplicaSpec, control: DeploymentHandle | None) -> None:
        features = local_features(served.settings, served.manifest)
        if features is None:
            raise ConfigError("the model has no online features: nothing to fetch")
        self._features = features
        page = self._open(served, FeatureServer(features).call, lambda replica: StoreMetrics(replica, features))
        if control is not None:
            line, contract = ControlClient(control), served.manifest.contract
            self._reporter = MetricsReporter(replica_id(), contract, served.rules, line, {PAGE: page, BUSY: busy()})
            self._watch(self._reporter.loop)

    async def ping(self) -> str | None:
        """Return what is wrong with the store, None when it answers."""
        return await problem_of(self._features)

    def __del__(self) -> None:
        # A constructor that failed leaves no features.
        if features := getattr(self, "_features", None):
            features.close()


class Model(_Stage):
    """Scores for gateways, by any of the versions that it holds."""

    async def __init__(self, served: ReplicaSpec, control: DeploymentHandle | None) -> None:
        shelf = ModelCache(served.rules, served.bundles())
        board = partial(ModelMetrics, held=shelf.held, model=shelf.model)
        page = self._open(served, ModelServer(shelf.model).call, board)
        self._agent = await follow(served, MODEL, shelf, control, {PAGE: page})
        if self._agent is not None:
            self._watch(self._agent.loop)

    async def ping(self) -> str | None:
        """Return None: a model that does not score never becomes a replica."""
        return None
