"""Metrics as Prometheus reads them, and a page that has every one of the application's."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import closing
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from data.feature_views.events.event import Event
from data.online_store.sqlite import SqliteStore
from ray_app.control.messages import FUSED, ReplicaReport
from ray_app.control.supervised_loop import SupervisedLoop
from ray_app.deployments.metrics.control_metrics import ControlMetrics
from ray_app.deployments.metrics.explanation_metrics import ExplanationMetrics
from ray_app.deployments.metrics.replica_metrics import (
    ControlLoopMetrics,
    LinkMetrics,
    ModelMetrics,
    ProcessMetrics,
    StoreMetrics,
)
from ray_app.inference.explanation.explanation_stage import load_explainer
from ray_app.inference.features.feature_fetch import LocalFeatures
from ray_app.inference.models.onnx_model import OnnxModel
from ray_app.monitoring.explanation_outcomes import ExplanationOutcomes
from ray_app.monitoring.gateway_metrics import GatewayMetrics
from ray_app.monitoring.scrape import OwnMetrics, Scrape
from ray_app.monitoring.text_format import merged, packed, rendered
from ray_app.protocol.route import RouteRequest
from ray_app.rollout.metrics import RolloutMetrics
from ray_app.rollout.shadow_comparison import SHADOWS, ScoredRow, ShadowComparison
from ray_app.rollout.version_stats import VersionStats
from ray_app.transport.handshake import Handshake
from ray_app.transport.server import LinkServer
from tests.support.serving.made_models import DIGITS
from tests.support.serving.predict_app import run
from tests.support.serving.rollout_driver import Place, quick
from tests.support.serving.window_app import swipes_stage
from tests.support.training.models import card_bundle
from tune.registry.rollout_spec import RolloutAction

GET = RouteRequest("GET", "/metrics", b"", {}, b"", "test")


class Boards(Collector):
    """Several collectors as one."""

    def __init__(self, *boards: Collector) -> None:
        self._boards = boards

    def collect(self) -> Iterable[Metric]:
        """All their families."""
        return [family for board in self._boards for family in board.collect()]


class TwoLinks:
    """What is shown of links to two replicas, one of them open."""

    open_links = 1
    replicas = 2


def text(*collectors: Collector) -> str:
    """The page that collectors make."""

    async def page() -> bytes:
        return await merged([packed(await rendered(Boards(*collectors)))])

    return run(page()).decode()


def samples(page: str) -> dict[tuple[str, str], float]:
    """Samples by name and by the labels other than the replica's; fails when one is there twice."""
    found: dict[tuple[str, str], float] = {}
    seen: set[tuple[str, str]] = set()
    for family in text_string_to_metric_families(page):
        for sample in family.samples:
            series = (sample.name, str(sorted(sample.labels.items())))
            assert series not in seen, series
            seen.add(series)
            labels = {name: value for name, value in sample.labels.items() if name != "replica"}
            found[sample.name, ",".join(f"{k}={v}" for k, v in sorted(labels.items()))] = sample.value
    return found


def gateway_metrics() -> GatewayMetrics:
    """Those of a gateway, with links, a queue and a log."""
    metrics = GatewayMetrics("g1", "card_fraud", "1")
    metrics.count_calls("Model")("link")
    metrics.count_link_events("Model")("opened")
    metrics.watch_links("Model", TwoLinks())
    metrics.watch_queue(lambda: 3, 4096)
    metrics.watch_log_disk(lambda: 0.5)
    ExplanationOutcomes(metrics.registry, "g1")
    metrics.registry.register(RolloutMetrics("g1", lambda: {"1": VersionStats()}, lambda: {"2": ShadowComparison("1")}))
    metrics.registry.register(ProcessMetrics("g1", "Gateway"))
    return metrics


def steered() -> ControlMetrics:
    """That of a Control with a rollout under way, and a shadow."""
    place = Place()
    place.order(RolloutAction.START, quick(hold_s=1000))
    for _ in range(8):
        place.second()
    shadow = ShadowComparison("1")
    shadow.add(DIGITS, ScoredRow([0.2], 0, 0.001), ScoredRow([0.6], 1, 0.001))
    extras = {SHADOWS: {"3": shadow}}
    place.control.on_report(ReplicaReport("g2", FUSED, "contract", 1, -1, {}, place.rules, extras=extras), place.now)
    return ControlMetrics(place.control, place.rollout_driver, lambda: 0)


def stage_boards() -> list[Collector]:
    """Those of a feature-fetch and of a model replica."""
    view, digest, model = card_bundle().manifest.view, card_bundle().digest, OnnxModel(card_bundle())
    explainer = load_explainer(card_bundle())
    server = LinkServer(lambda request: request, Handshake(b"secret", "Model", "f"))
    event = Event(b"k", 0, 0, ("c1", "t1", None), b"")
    with (
        TemporaryDirectory() as folder,
        closing(SqliteStore(Path(folder) / "online.db", view, create=True)) as store,
        swipes_stage(Path(folder) / "events.db") as events,
    ):
        run(events.record("swipes", [event]))
        return [
            StoreMetrics("f1", LocalFeatures(lambda: store, windows=events.windows)),
            ModelMetrics("m1", lambda: {"1": digest}, lambda wanted: model),
            ExplanationMetrics("e1", lambda: {"1": digest}, lambda wanted: explainer),
            LinkMetrics("m1", "Model", server),
            ControlLoopMetrics("m1", "Model", SupervisedLoop("the test", partial(asyncio.sleep, 1.0))),
        ]


def every_metric() -> str:
    """A scrape with every metric of the application in it."""

    stages = stage_boards()

    async def scrape() -> str:
        metrics = gateway_metrics()
        for board in (*stages, steered()):
            metrics.registry.register(board)
        own = OwnMetrics("Gateway", metrics.registry)
        return (await Scrape("g1", own, ("Gateway", "Model"), None).answer(GET)).body.decode()

    return run(scrape())
