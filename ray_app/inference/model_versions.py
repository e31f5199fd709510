"""The model versions that a gateway has loaded, and the traffic rules that say which version answers which row.

Each version has its own parser, micro-batch queue, inference pipeline and renderer, so no micro-batch mixes versions.
A request uses one `VersionsView` from start to end. A change of rules or versions replaces the view in one assignment,
so no request sees half of a change.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from data.errors import ModelNotFound
from data.settings import Settings
from data.transform.encoding import Transform
from ray_app.inference.explanation.answer_explainer import AnswerExplainer, ExplanationParts
from ray_app.inference.micro_batching import MicroBatcher
from ray_app.inference.pipeline import InferencePipeline
from ray_app.inference.queue_limit import QueueLimit
from ray_app.inference.scratch_stage import ScratchStage, scratch_stage
from ray_app.inference.stages import FeatureStage, ModelStage
from ray_app.monitoring.gateway_metrics import GatewayMetrics
from ray_app.prediction import Prediction, Row
from ray_app.protocol.pages import StaticPage, build_pages
from ray_app.protocol.responses import ResponseRenderer
from ray_app.protocol.row_parser import RowParser
from tune.registry.bundle import Bundle, BundleManifest
from tune.registry.traffic_rules import TrafficRules, bucket


@dataclass(frozen=True, eq=False)
class LoadedVersion:
    """One model version, loaded and warmed up, with all that answering its rows takes.

    `inference` scores a list of rows at once; `batcher` collects the rows of concurrent requests for it, and `scratch`
    those of a proof, which are answered from scratch stores; `explainer` is None where no reasons are declared.
    """

    version: str
    digest: str
    manifest: BundleManifest
    parser: RowParser
    inference: InferencePipeline
    batcher: MicroBatcher[Row, Prediction]
    scratch: MicroBatcher[Row, Prediction]
    renderer: ResponseRenderer
    pages: dict[str, StaticPage]
    explainer: AnswerExplainer | None = None


@dataclass(frozen=True)
class VersionParts:
    """What all versions of one replica share.

    `model` returns the stage that scores a bundle's rows; `replicas` returns the number of model replicas, which sets
    the number of batch slots; `slow` says why the service is not on its fast path, None when it is; `explanation`
    is None where no reasons are declared.
    """

    settings: Settings
    features: FeatureStage | None
    model: Callable[[Bundle], ModelStage]
    metrics: GatewayMetrics
    replicas: Callable[[], int] = lambda: 1
    slow: str | None = None
    explanation: ExplanationParts | None = None

    @cached_property
    def scratch(self) -> ScratchStage | None:
        """The feature stage over the scratch stores."""
        return scratch_stage(self.features)

    @cached_property
    def uncounted(self) -> GatewayMetrics:
        """Metrics that nobody sees, for the rows of a proof."""
        return GatewayMetrics("", "", "")

    @cached_property
    def queue_limit(self) -> QueueLimit:
        """Limit of the queued rows of all versions together."""
        return QueueLimit(self.settings.queue_limit, self.metrics.queue_refused.inc)


def load_version(parts: VersionParts, version: str, bundle: Bundle) -> LoadedVersion:
    """Load one version from its bundle; may be called on any thread.

    Raises:
        BundleError: the bundle does not load, or does not score its probe rows as recorded.
        SchemaMismatch: the model's number of inputs is not its schema's number of features.
    """
    manifest, settings = bundle.manifest, parts.settings
    transform = Transform(manifest.schema_)
    model = parts.model(bundle)
    inference = InferencePipeline(manifest, transform, parts.features, model, parts.metrics)
    scratch = InferencePipeline(manifest, transform, parts.scratch, model, parts.uncounted)
    batcher = MicroBatcher(
        inference.predict,
        max_batch=settings.max_batch,
        slots=lambda: settings.batch_slots * max(parts.replicas(), 1),
        limit=parts.queue_limit,
        on_batch=parts.metrics.batch_rows.observe,
    )
    renderer = ResponseRenderer(manifest, transform, version)
    return LoadedVersion(
        version,
        bundle.digest,
        manifest,
        RowParser(manifest, transform),
        inference,
        batcher,
        # One batch at a time, so that the rows of a long array see those before them.
        MicroBatcher(scratch.predict, max_batch=settings.max_batch, slots=lambda: 1, limit=parts.queue_limit),
        renderer,
        build_pages(manifest, version, settings.max_items, parts.slow),
        parts.explanation.explainer(bundle, renderer) if parts.explanation is not None else None,
    )


class VersionsView:
    """Immutable snapshot of the loaded versions and the traffic rules; a request keeps the one it started with.

    Attributes:
        loaded: the versions by number, those of the rules first.
        epoch: the rules' epoch.
        champion: the version that answers where no challenger does.
    """

    def __init__(self, rules: TrafficRules, loaded: Mapping[str, LoadedVersion]) -> None:
        """Combine rules and versions.

        Raises:
            KeyError: a version that the rules name is not loaded.
        """
        self.rules = rules
        self.loaded = {version: loaded[version] for version in rules.versions} | dict(loaded)
        self.epoch = rules.epoch
        self.champion = loaded[rules.champion]
        entity = self.champion.manifest.entity
        self._entity = entity.column if entity else None
        # Without live challengers, the usual case, `choose` needs no hash of the entity.
        self._only_version = None if any(each.buckets for each in rules.challengers) else self.champion
        self._version_by_bucket = [] if self._only_version else rules.dealt(self.loaded)

    def choose(self, item: Any, request_id: str, version: str | None) -> LoadedVersion:
        """Return the version that answers one decoded item.

        Args:
            item: one row as decoded from JSON, not validated yet.
            request_id: used in place of the entity where the item has none.
            version: the version that the request asks for by header; None leaves the choice to the traffic rules.

        Raises:
            ModelNotFound: the version asked for is not loaded; the message lists those that are.
        """
        if version is not None:
            loaded = self.loaded.get(version)
            if loaded is None:
                raise ModelNotFound(f"version {version[:40]} is not loaded; there are: {', '.join(self.loaded)}")
            return loaded
        if self._only_version is not None:
            return self._only_version
        key = item.get(self._entity) if self._entity is not None and isinstance(item, dict) else None
        return self._version_by_bucket[bucket(request_id if key is None else str(key))]


class ModelVersions:
    """All loaded versions of one replica. `view` is replaced as a whole, on the event loop that serves requests.

    Args:
        build: loads a version from its bundle; called on any thread.
        rules: the traffic rules to start with.
        bundles: bundles by version, of every version that `rules` names.
        limit: the queue limit that the batchers made by `build` share.
    """

    def __init__(
        self,
        build: Callable[[str, Bundle], LoadedVersion],
        rules: TrafficRules,
        bundles: Mapping[str, Bundle],
        limit: QueueLimit,
    ) -> None:
        self._build = build
        self._limit = limit
        self._loaded = {version: build(version, bundles[version]) for version in rules.versions}
        self.view = VersionsView(rules, self._loaded)
        self.on_switch: Callable[[VersionsView], None] = lambda view: None
        """Called with every new view."""

    @property
    def rules(self) -> TrafficRules:
        """The traffic rules in force."""
        return self.view.rules

    @property
    def waiting(self) -> int:
        """Number of rows queued for all versions, including versions that were dropped meanwhile."""
        return self._limit.waiting

    def require_room(self, count: int) -> None:
        """Raise Overloaded when `count` more rows would exceed the queue limit."""
        self._limit.require_room(count)

    def held(self) -> dict[str, str]:
        """Return the bundle digests of the loaded versions, by version."""
        return {version: loaded.digest for version, loaded in self._loaded.items()}

    def load(self, version: str, packed: bytes) -> Callable[[], None]:
        """Load a version from `Bundle.to_bytes()`, on any thread; return a function that adds it, for the event loop.

        Two steps, because loading takes too long for the event loop, and the view may change on the event loop alone.

        Raises:
            BundleError: the bundle is damaged, does not load, or does not score its probe rows as recorded.
            SchemaMismatch: the model's number of inputs is not its schema's number of features.
        """
        loaded = self._build(version, Bundle.from_bytes(packed))

        def add() -> None:
            self._loaded[version] = loaded
            self._replace_view(self.view.rules)

        return add

    def drop(self, version: str) -> None:
        """Unload a version unless the rules name it; rows already in its queue are still answered."""
        if version not in self.view.rules.versions and self._loaded.pop(version, None) is not None:
            self._replace_view(self.view.rules)

    def switch(self, rules: TrafficRules) -> bool:
        """Put other rules in force from the next request on; False when a version that they name is not loaded."""
        if any(version not in self._loaded for version in rules.versions):
            return False
        self._replace_view(rules)
        return True

    async def close(self) -> None:
        """Close every version's batcher: batches under way finish, queued rows fail with Overloaded."""
        for loaded in tuple(self._loaded.values()):
            await loaded.batcher.close()
            await loaded.scratch.close()
            if loaded.explainer is not None:
                await loaded.explainer.close()

    def _replace_view(self, rules: TrafficRules) -> None:
        self.view = VersionsView(rules, self._loaded)
        self.on_switch(self.view)
