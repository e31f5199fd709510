"""The versions of a model side by side in a gateway: each has a lane of its own, and rules say whose row is whose.

A lane is everything of one version, from the check of a request's fields to its answer, so that a micro-batch, and
with it an answer, is of one version alone. A request sees one `VersionsView`, as it was when the request came: the
change to other rules is one assignment.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from data.errors import ModelNotFound
from data.settings import Settings
from data.transform.encoding import Transform
from ray_app.inference.micro_batching import MicroBatcher
from ray_app.inference.pipeline import InferencePipeline
from ray_app.inference.queue_limit import QueueLimit
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
    """One version, loaded and warm: `predict` scores a batch at once, `batcher` gathers rows for it."""

    version: str
    digest: str
    manifest: BundleManifest
    parser: RowParser
    inference: InferencePipeline
    batcher: MicroBatcher[Row, Prediction]
    answers: ResponseRenderer
    pages: dict[str, StaticPage]


@dataclass(frozen=True)
class VersionParts:
    """What lanes of one replica share.

    `model` gives the model stage of a version by its bundle; `replicas` counts those that score, for batch slots.
    """

    settings: Settings
    features: FeatureStage | None
    model: Callable[[Bundle], ModelStage]
    metrics: GatewayMetrics
    replicas: Callable[[], int] = lambda: 1
    slow: str | None = None

    @cached_property
    def queue_limit(self) -> QueueLimit:
        """The one limit of all versions' queues."""
        return QueueLimit(self.settings.queue_limit, self.metrics.queue_refused.inc)


def load_version(parts: VersionParts, version: str, bundle: Bundle) -> LoadedVersion:
    """Make a version's lane; it may be done on any thread.

    Raises:
        BundleError: the bundle does not load, or does not score its probe rows as recorded.
        SchemaMismatch: the model takes another number of features than its schema has.
    """
    manifest, settings = bundle.manifest, parts.settings
    transform = Transform(manifest.schema_)
    inference = InferencePipeline(manifest, transform, parts.features, parts.model(bundle), parts.metrics)
    batcher = MicroBatcher(
        inference.predict,
        max_batch=settings.max_batch,
        slots=lambda: settings.batch_slots * max(parts.replicas(), 1),
        limit=parts.queue_limit,
        on_batch=parts.metrics.batch_rows.observe,
    )
    return LoadedVersion(
        version,
        bundle.digest,
        manifest,
        RowParser(manifest, transform),
        inference,
        batcher,
        ResponseRenderer(manifest, transform, version),
        build_pages(manifest, version, settings.max_items, parts.slow),
    )


class VersionsView:
    """The loaded versions and the rules as one request sees them. `champion` is the rules' champion, loaded."""

    def __init__(self, rules: TrafficRules, lanes: Mapping[str, LoadedVersion]) -> None:
        """Put together; raises KeyError when a version that the rules name has no lane."""
        self.rules = rules
        self.lanes = {version: lanes[version] for version in rules.versions} | dict(lanes)
        self.epoch = rules.epoch
        self.champion = lanes[rules.champion]
        entity = self.champion.manifest.entity
        self._entity = entity.column if entity else None
        self._sole = None if any(each.buckets for each in rules.challengers) else self.champion
        self._owners = [] if self._sole else rules.dealt(self.lanes)

    def choose(self, item: Any, request_id: str, version: str | None) -> LoadedVersion:
        """The lane of one decoded item.

        Args:
            item: whatever the client sent as one row.
            request_id: decides where there is no entity.
            version: the one asked for by header, None when the rules are to say.

        Raises:
            ModelNotFound: no such version is loaded; the text names those that are.
        """
        if version is not None:
            lane = self.lanes.get(version)
            if lane is None:
                raise ModelNotFound(f"version {version[:40]} is not loaded; there are: {', '.join(self.lanes)}")
            return lane
        if self._sole is not None:
            return self._sole
        key = item.get(self._entity) if self._entity is not None and isinstance(item, dict) else None
        return self._owners[bucket(request_id if key is None else str(key))]


class ModelVersions:
    """All lanes of one replica; `view` is replaced as a whole, on the event loop that answers.

    Args:
        build: makes a lane; called on any thread.
        rules: the first to be in force.
        bundles: of the versions that they name.
        limit: the one that `build` gives the lanes' batchers.
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
        self._lanes = {version: build(version, bundles[version]) for version in rules.versions}
        self.view = VersionsView(rules, self._lanes)
        self.on_switch: Callable[[VersionsView], None] = lambda view: None
        """Told of every new view."""

    @property
    def rules(self) -> TrafficRules:
        """The rules in force."""
        return self.view.rules

    @property
    def waiting(self) -> int:
        """Rows queued, in all lanes, those of a version that was dropped included."""
        return self._limit.waiting

    def require_room(self, count: int) -> None:
        """Raise Overloaded when so many more rows would be too many."""
        self._limit.require_room(count)

    def held(self) -> dict[str, str]:
        """Digests of the versions that are loaded."""
        return {version: lane.digest for version, lane in self._lanes.items()}

    def load(self, version: str, packed: bytes) -> Callable[[], None]:
        """Make a lane from `Bundle.to_bytes()`, on any thread, and return what takes it in, on the loop.

        Raises:
            as `load_version`.
        """
        lane = self._build(version, Bundle.from_bytes(packed))

        def take() -> None:
            self._lanes[version] = lane
            self._show(self.view.rules)

        return take

    def drop(self, version: str) -> None:
        """Let go of a version that the rules do not name; rows that wait in its lane are still answered."""
        if version not in self.view.rules.versions and self._lanes.pop(version, None) is not None:
            self._show(self.view.rules)

    def switch(self, rules: TrafficRules) -> bool:
        """Answer by other rules from the next request on; False when a lane that they need is not there."""
        if any(version not in self._lanes for version in rules.versions):
            return False
        self._show(rules)
        return True

    async def close(self) -> None:
        """Wait for what is under way in every lane."""
        for lane in tuple(self._lanes.values()):
            await lane.batcher.close()

    def _show(self, rules: TrafficRules) -> None:
        self.view = VersionsView(rules, self._lanes)
        self.on_switch(self.view)
