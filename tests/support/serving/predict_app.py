"""The HTTP application over a real model and a real SQLite store, in this process, wired as a replica wires it."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import httpx

from data.errors import StoreUnavailable
from data.online_store import StoredRow
from data.online_store.row_codec import RowCodec
from data.online_store.sqlite import SqliteStore
from data.schema.features.feature import Scalar
from data.schema.reason_codes import ReasonCodes
from data.settings import Settings
from ray_app.console.routes import ConsoleRoutes
from ray_app.http.admin import AdminRoutes
from ray_app.http.asgi import PredictApp
from ray_app.http.events import EventLimits, EventRoutes
from ray_app.http.predict_handler import PredictHandler
from ray_app.inference.explanation.answer_explainer import ExplanationParts
from ray_app.inference.explanation.explanation_stage import ExplanationStage
from ray_app.inference.features.feature_fetch import LocalFeatures
from ray_app.inference.micro_batching import MicroBatcher
from ray_app.inference.model_versions import ModelVersions, VersionParts, load_version
from ray_app.inference.models.model_scoring import LocalModel
from ray_app.inference.models.onnx_model import OnnxModel
from ray_app.inference.observers import Observer
from ray_app.inference.stages import FeatureStage, ModelStage, window_stage
from ray_app.monitoring.explanation_outcomes import ExplanationOutcomes
from ray_app.monitoring.gateway_metrics import GatewayMetrics
from ray_app.monitoring.scrape import PATH, OwnMetrics, Scrape
from tests.support.serving.explanations import explained_here
from tests.support.training.models import card_bundle
from tune.registry.bundle import Bundle, BundleManifest
from tune.registry.traffic_rules import TrafficRules

Result = TypeVar("Result")

VERSION = "3"
ROW: dict[str, Any] = {
    "user_id": "u1",
    "amount": 120.5,
    "transaction_hour": 3,
    "merchant_category": "electronics",
    "foreign_transaction": 1,
    "location_mismatch": 0,
}
"""What a client must send; the three features left out are in the store for `u1`."""
FULL: dict[str, Any] = {**ROW, "device_trust_score": 80, "velocity_last_24h": 1, "cardholder_age": 40}
STORED: dict[str, Scalar | None] = {"device_trust_score": 10, "velocity_last_24h": 7, "cardholder_age": 33}
AGE_S = 60.0


def manifest() -> BundleManifest:
    """The manifest of the model under test."""
    return card_bundle().manifest


def write_store(file: Path, rows: Mapping[str, Mapping[str, Scalar | None]], age_s: float = AGE_S) -> Path:
    """Write entities with their online values into a SQLite store, `age_s` old."""
    codec = RowCodec(manifest().schema_)
    event_us = int((time.time() - age_s) * 1e6)
    packed = [
        StoredRow(entity, event_us, codec.pack(event_us, [values.get(n) for n in codec.names]))
        for entity, values in rows.items()
    ]
    with closing(SqliteStore(file, manifest().view, create=True)) as store:
        store.put_many(packed)
    return file


def local_store(file: Path, retry_s: float = 0.01) -> LocalFeatures:
    """Feature fetch from a SQLite file in this process."""
    return LocalFeatures(lambda: SqliteStore(file, manifest().view), retry_s=retry_s)


class CountingStage:
    """A feature stage that answers from a dictionary and remembers what it was asked."""

    def __init__(self, payloads: Mapping[str, bytes] | None = None) -> None:
        self.asked: list[list[str]] = []
        self.payloads = payloads or {}

    async def fetch(self, entities: Sequence[str], timeout_s: float = math.inf) -> list[bytes | None]:
        """Answer from the dictionary."""
        self.asked.append(list(entities))
        return [self.payloads.get(entity) for entity in entities]


class DownStage:
    """A feature stage whose store is out of reach."""

    async def fetch(self, entities: Sequence[str], timeout_s: float = math.inf) -> list[bytes | None]:
        """Fail."""
        raise StoreUnavailable("no store today")


@dataclass
class ServedApp:
    """A wired application and its parts."""

    app: PredictApp
    versions: ModelVersions
    metrics: GatewayMetrics
    bundle: Bundle

    @property
    def batcher(self) -> MicroBatcher[Any, Any]:
        """The champion's batcher."""
        return self.versions.view.champion.batcher

    @asynccontextmanager
    async def client(self) -> AsyncIterator[httpx.AsyncClient]:
        """An HTTP client whose connection is the application itself."""
        transport = httpx.ASGITransport(self.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://testserver") as client:
            yield client

    async def post(self, body: Any, path: str = "/predict", **headers: str) -> httpx.Response:
        """Send one request to /predict."""
        async with self.client() as client:
            return await client.post(path, json=body, headers=headers)

    async def send(self, content: bytes, **headers: str) -> httpx.Response:
        """Send raw bytes as JSON to /predict."""
        async with self.client() as client:
            given = {"content-type": "application/json", **headers}
            return await client.post("/predict", content=content, headers=given)


def build_app(
    features: FeatureStage | None = None,
    model: ModelStage | None = None,
    bundle: Bundle | None = None,
    body_timeout_s: float = 10.0,
    problems: Callable[[], dict[str, str]] = dict,
    rules: TrafficRules | None = None,
    bundles: Mapping[str, Bundle] | None = None,
    observers: Sequence[Observer] = (),
    reasons: ReasonCodes | None = None,
    explained: Callable[[Bundle], ExplanationStage] = explained_here,
    **settings: Any,
) -> ServedApp:
    """Wire the application as a replica does.

    `settings` override the defaults; the request timeout is 20 s, enough also on a busy machine, and so is that of
    explanations.
    """
    values = Settings(**{"request_timeout_ms": 20_000, "explanation_timeout_ms": 20_000, **settings})
    bundle = bundle or card_bundle()
    name = bundle.manifest.name
    metrics = GatewayMetrics("replica-1", name, VERSION)
    rules = rules or TrafficRules(use_case=name, champion=VERSION, epoch=1)
    explanation = None
    if reasons is not None:
        outcomes = ExplanationOutcomes(metrics.registry, "replica-1")
        timeout_s = values.explanation_timeout_ms / 1000
        explanation = ExplanationParts(reasons, explained, outcomes, timeout_s, values.queue_limit)

    def scorer(own: Bundle) -> ModelStage:
        return model or LocalModel(OnnxModel(own))

    parts = VersionParts(values, features, scorer, metrics, explanation=explanation)
    versions = ModelVersions(partial(load_version, parts), rules, bundles or {VERSION: bundle}, parts.queue_limit)

    async def readiness() -> dict[str, str]:
        return problems()

    async def forward(action: str, told: dict[str, Any], source: str) -> tuple[int, Any]:
        return 200, {"action": action, "told": told, "source": source}

    handler = PredictHandler(versions, metrics, values.max_items, observers)
    scrape = Scrape("replica-1", OwnMetrics("Gateway", metrics.registry), ("Gateway",), None)
    limits = EventLimits(values.max_body_bytes, values.max_items, values.request_timeout_ms / 1000)
    routes = {
        **EventRoutes(values.events_token, bundle.manifest, window_stage(features), metrics, limits).routes(),
        **AdminRoutes(values.admin_token, forward).routes(),
        **ConsoleRoutes(forward, readiness, values.admin_token is not None).routes(),
        PATH: scrape.route,
    }
    app = PredictApp(values, versions, handler, metrics, readiness, routes, body_timeout_s)
    return ServedApp(app, versions, metrics, bundle)


def run(work: Coroutine[Any, Any, Result]) -> Result:
    """Run a scenario in an event loop of its own, for at most 60 seconds."""
    return asyncio.run(asyncio.wait_for(work, 60))


async def until(condition: Callable[[], bool]) -> None:
    """Let the event loop work until the condition holds, for a minute at most."""
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "what was waited for never came"
        await asyncio.sleep(0.001)
