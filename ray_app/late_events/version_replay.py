"""Logged decisions of one model version, made again of the events that the store holds now, as serving makes them."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from data.errors import DamagedRow
from data.event_store import EventStore, RowEvents, RowQuery
from data.feature_views.events.event import shown_key
from data.feature_views.online.online_windows import WindowValue
from data.feature_views.online.stored_events import StoredEvent
from data.schema.features.window_feature import WindowFeature
from data.transform.encoding import Transform
from ray_app.inference.features.computed_features import ComputedFeatures
from ray_app.inference.features.event_windows import window_plan
from ray_app.inference.models.onnx_model import OnnxModel
from ray_app.late_events.logged_decision import DecisionReader, LoggedDecision, Unread
from ray_app.prediction import RowWindows
from tune.registry.bundle import Bundle, BundleManifest

DAMAGED = "with events in their windows that cannot be read"
WITHOUT_KEY = "without a key, at the time of several events that are like them"
DROPPED = "older than the store keeps the events of any of their windows"


class ChangedFeature(NamedTuple):
    """A feature that has another value now; None = missing. An expression follows from the windows that it reads."""

    name: str
    logged: Any
    present: Any


class LateDecision(NamedTuple):
    """A decision whose windows have other values, were it made of the events that the store holds now."""

    logged: LoggedDecision
    query: RowQuery
    """What its windows read; with the key that its own event has."""
    events: Sequence[Sequence[StoredEvent]]
    """For each slice of the version's windows, the events that are there now."""
    windows: tuple[WindowFeature, ...]
    """The windows that were made again: not those that reach back to where the store has dropped events."""
    changed: tuple[ChangedFeature, ...]
    vector: np.ndarray
    """What would be scored, float32 of shape (k,)."""
    scores: tuple[float, ...]
    """The model's numbers for it."""
    code: int | None
    """The position of the label that would be answered; None where none is."""
    other_score: bool
    """Whether the model scores the two vectors differently."""
    manifest: BundleManifest
    """Of the version that made it."""

    @property
    def other_vector(self) -> bool:
        """Whether `vector` is not what was scored. A default may have stood in for what the window has now."""
        return not np.array_equal(np.array(self.logged.vector, np.float32), self.vector, equal_nan=True)

    @property
    def other_label(self) -> bool:
        """Whether the row would get another label."""
        return self.code != self.logged.code


class Reviewed(NamedTuple):
    """One decision that was looked at: what it would be, None when the same; and windows that could not be."""

    late: LateDecision | None
    dropped: int = 0
    """Windows that reach back to where the store has dropped events; their logged value counts."""


class VersionReplay:
    """Makes decisions of one version again.

    Args:
        bundle: the version's bundle; its model has windows.
        store: the events of its use case.
        kept_us: age at which the store drops an event, microseconds; None when it keeps them.

    Raises:
        BundleError, SchemaMismatch: the model does not load.
    """

    def __init__(self, bundle: Bundle, store: EventStore, kept_us: int | None = None) -> None:
        self.manifest = bundle.manifest
        transform = Transform(self.manifest.schema_)
        self.reader = DecisionReader(self.manifest, transform)
        self.plan = window_plan(self.manifest)
        self._store, self._kept_us = store, kept_us
        self._model = OnnxModel(bundle)
        online = {feature.name: at for at, feature in enumerate(self.manifest.schema_.online)}
        self._computed = ComputedFeatures(
            self.manifest, transform, [online.get(name) for name in self.manifest.schema_.names]
        )

    def review(self, decisions: Sequence[LoggedDecision], now_us: int) -> list[Reviewed | Unread]:
        """Return what n decisions would be, in order.

        Args:
            decisions: decisions of this version.
            now_us: the time now, microseconds since 1970 UTC.

        Raises:
            StoreUnavailable: the store could not be reached.
            StoreError: the store answered with an error.
        """
        queries = [each.row.query for each in decisions if each.row.query is not None]
        # Without tiles: what came late is found among the events themselves.
        slices = [wanted._replace(tiles=None) for wanted in self.plan.slices]
        found = asyncio.run(self._store.fetch(slices, queries)) if queries else []
        reviewed = [self._review(*each, now_us) for each in zip(decisions, queries, found, strict=True)]
        return self._scored(reviewed)

    def _review(self, logged: LoggedDecision, query: RowQuery, found: RowEvents, now_us: int) -> Reviewed | Unread:
        keyed = _with_own_key(logged, query, found)
        if isinstance(keyed, Unread):
            return keyed
        whole = [self._is_whole(window.reach_us, logged.time_us, now_us) for window in self.plan.features]
        if not any(whole):
            return Unread(DROPPED)
        try:
            computed = self.plan.compute(found.events, logged.time_us, keyed.key, keyed.own)
        except DamagedRow:
            return Unread(DAMAGED)
        values = [self._value(*each, logged) for each in zip(self.plan.features, computed, whole, strict=True)]
        late = self._late(logged, keyed, RowWindows(logged.time_us, values, [0] * len(values)))
        if late is not None:
            made_again = tuple(window for window, is_whole in zip(self.plan.features, whole, strict=True) if is_whole)
            late = late._replace(events=found.events, windows=made_again)
        return Reviewed(late, whole.count(False))

    def _is_whole(self, reach_us: int, time_us: int, now_us: int) -> bool:
        return self._kept_us is None or time_us - reach_us >= now_us - self._kept_us

    def _value(self, window: WindowFeature, computed: WindowValue, whole: bool, logged: LoggedDecision) -> float | str:
        if whole:
            return computed.value
        value = logged.served[window.name]
        return math.nan if value is None else value

    def _late(self, logged: LoggedDecision, query: RowQuery, windows: RowWindows) -> LateDecision | None:
        present = {window.name: value for window, value in zip(self.plan.features, windows.values, strict=True)}
        if all(same_value(logged.served[name], value) for name, value in present.items()):
            return None
        codes = list(logged.vector)
        expressions = self._computed.fill(codes, logged.row, logged.stored, windows)
        present |= dict(zip((each.name for each in self.manifest.schema_.expressions), expressions, strict=True))
        changed = tuple(
            ChangedFeature(name, logged.served.get(name), None if value != value else value)
            for name, value in present.items()
            if not same_value(logged.served.get(name), value)
        )
        vector = np.array(codes, np.float32)
        return LateDecision(logged, query, (), (), changed, vector, logged.scores, logged.code, False, self.manifest)

    def _scored(self, reviewed: Sequence[Reviewed | Unread]) -> list[Reviewed | Unread]:
        """Fill in scores and labels of the decisions that changed."""
        late = [each.late for each in reviewed if isinstance(each, Reviewed) and each.late is not None]
        # Both by one call: of what is the same, the score is too.
        matrix = [np.array(each.logged.vector, np.float32) for each in late] + [each.vector for each in late]
        scores = self._model.score(np.stack(matrix)).tolist() if late else []
        pairs = iter(zip(late, scores[: len(late)], scores[len(late) :], strict=True))
        return [
            each._replace(late=self._with_score(*next(pairs)))
            if isinstance(each, Reviewed) and each.late is not None
            else each
            for each in reviewed
        ]

    def _with_score(self, late: LateDecision, before: Sequence[float], after: Sequence[float]) -> LateDecision:
        if before == after:
            return late
        return late._replace(scores=tuple(after), code=self.manifest.output.code(after), other_score=True)


def same_value(logged: Any, present: Any) -> bool:
    """Return whether two values of a feature are one, bit for bit; None and NaN are missing."""
    missing = logged is None or logged != logged, present is None or present != present
    return all(missing) if any(missing) else logged == present


def _with_own_key(logged: LoggedDecision, query: RowQuery, found: RowEvents) -> RowQuery | Unread:
    """Return the query with the key of the row's own event: of a row that names none, the log does not have it."""
    if logged.row.key is not None:
        return query
    likes = {
        event.key
        for events in found.events
        for event in events
        if event.time_us == logged.time_us
        and isinstance(shown_key(event.key), str)
        and any(event.payload == own.event.payload for own in query.own)
    }
    if len(likes) > 1:
        return Unread(WITHOUT_KEY)
    key = next(iter(likes), query.key)
    return query._replace(key=key, own=tuple(own._replace(event=own.event._replace(key=key)) for own in query.own))
