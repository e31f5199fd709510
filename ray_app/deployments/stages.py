"""The deployments of the two stages behind gateways: `FeatureFetch` and `Model`."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.registry import Collector
from ray.serve.handle import DeploymentHandle

from data.errors import ConfigError
from ray_app.control.messages import MODEL
from ray_app.control.replicas.autoscaling import BUSY, IN_FLIGHT, BusyMeter
from ray_app.control.replicas.metrics_reporter import MetricsReporter
from ray_app.control.supervised_loop import SupervisedLoop
from ray_app.deployments.control_client import ControlClient
from ray_app.deployments.metrics.replica_metrics import (
    ControlLoopMetrics,
    LinkMetrics,
    ModelMetrics,
    ProcessMetrics,
    StoreMetrics,
)
from ray_app.deployments.replica import busy, event_reports, freeze_heap, replica_id, start_agent, store_problem
from ray_app.deployments.replica_spec import ReplicaSpec
from ray_app.deployments.stage_connections import link_host
from ray_app.inference.features.feature_fetch import FeatureServer, local_features
from ray_app.inference.models.model_cache import ModelCache
from ray_app.inference.models.model_scoring import ModelServer
from ray_app.inference.models.onnx_model import OnnxModel
from ray_app.monitoring.scrape import PAGE, OwnMetrics
from ray_app.transport.request_router import HOST, PORT
from ray_app.transport.server import Handler, LinkServer


class Stage:
    """Base of all stages: answers calls by Serve's handle and by links, and reports how busy the replica is."""

    def _open(self, spec: ReplicaSpec, handler: Handler, stage_metrics: Callable[[str], Collector]) -> OwnMetrics:
        """Set up, and return the metrics page; `stage_metrics` makes this stage's own collector from a replica id."""
        replica, name = replica_id(), type(self).__name__
        self._settings = spec.settings
        self._handler = handler
        self._links = LinkServer(handler, spec.handshake(name))
        self._meter = BusyMeter()
        self._labels = replica, name
        self._control_loop: SupervisedLoop | None = None
        self._registry = CollectorRegistry()
        for each in (ProcessMetrics(replica, name), LinkMetrics(replica, name, self._links), stage_metrics(replica)):
            self._registry.register(each)
        return OwnMetrics(name, self._registry)

    def _watch(self, loop: SupervisedLoop) -> None:
        """Show the failures of the loop that calls Control, and make it part of the replica's health."""
        self._control_loop = loop
        self._registry.register(ControlLoopMetrics(*self._labels, loop))

    async def check_health(self) -> None:
        """Raise RuntimeError when calls to Control have failed for a minute; Serve then replaces the replica."""
        if self._control_loop is not None:
            self._control_loop.check()

    async def call(self, request: bytes) -> bytes:
        """Answer a call that came by Serve's handle, not by a link."""
        answer = self._handler(request)
        return answer if isinstance(answer, bytes) else await answer

    async def record_replica_metadata(self) -> dict[str, Any]:
        """Start to listen for links and return the address, which Serve passes on to gateways; empty without links."""
        if not self._settings.direct_links:
            return {}
        host = link_host(self._settings)
        return {HOST: host, PORT: await self._links.start(host)}

    def record_autoscaling_stats(self) -> dict[str, float]:
        """Input of `ray_app.control.replicas.autoscaling`: busy share, and calls in flight over links."""
        return {BUSY: self._meter.read(), IN_FLIGHT: float(self._links.in_flight)}


class FeatureFetch(Stage):
    """Reads the stores for gateways, and records events; raises ConfigError when the model needs none of it."""

    async def __init__(self, spec: ReplicaSpec, control: DeploymentHandle | None) -> None:
        features = local_features(spec.settings, spec.manifest)
        if features is None:
            raise ConfigError("the model has no online features and no windows: nothing to fetch")
        self._features = features
        page = self._open(spec, FeatureServer(features).call, lambda replica: StoreMetrics(replica, features))
        if control is not None:
            client, contract = ControlClient(control), spec.manifest.contract
            extras = {PAGE: page, BUSY: busy(), **event_reports(features)}
            self._reporter = MetricsReporter(replica_id(), contract, spec.rules, client, extras)
            self._watch(self._reporter.loop)
        freeze_heap()

    async def ping(self) -> str | None:
        """Return what is wrong with the store, None when it answers."""
        return await store_problem(self._features)

    def __del__(self) -> None:
        # A constructor that failed leaves no features.
        if features := getattr(self, "_features", None):
            features.close()


class Model(Stage):
    """Scores rows for gateways, by any of the model versions that it has loaded."""

    async def __init__(self, spec: ReplicaSpec, control: DeploymentHandle | None) -> None:
        models = ModelCache(spec.rules, spec.bundles(), OnnxModel)
        model_metrics = partial(ModelMetrics, held=models.held, model=models.model)
        page = self._open(spec, ModelServer(models.model).call, model_metrics)
        self._agent = await start_agent(spec, MODEL, models, control, {PAGE: page})
        if self._agent is not None:
            self._watch(self._agent.loop)
        freeze_heap()

    async def ping(self) -> str | None:
        """Return None, for no problem: loading checks that a model scores, so a replica that runs has a sound one."""
        return None
