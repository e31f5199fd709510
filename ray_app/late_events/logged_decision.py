"""A decision of the prediction log, read back: the row as it was sent, and what the service took for its windows."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from data.prediction_log.files import logged_scores
from data.transform.encoding import Transform
from data.transform.missing import is_blank
from ray_app.prediction import Row
from ray_app.protocol.row_parser import RefusedItem, RowParser
from ray_app.protocol.window_fields import slice_entities
from tune.registry.bundle import BundleManifest

DEGRADED = "answered degraded: defaults stood in for what a store did not give"
OTHER_FEATURES = "with other features than their version has"
WITHOUT_WINDOWS = "logged without the values of their windows, or the time that these are of"
WITHOUT_ENTITIES = "without the entities of their events, which RAYSCORE_PREDICTION_LOG_ENTITY_KEY leaves out"
UNREADABLE = "that cannot be read: no JSON object, or one that their version would refuse"


class Unread(NamedTuple):
    """A logged row that is not made again, and why."""

    reason: str


class LoggedDecision(NamedTuple):
    """A logged row that can be made again."""

    request_id: str
    version: str
    answered_at: datetime
    scores: tuple[float, ...]
    """The model's numbers."""
    code: int | None
    """The position of the label that was answered; None where none was."""
    vector: Sequence[float]
    """What was scored, k codes in schema order."""
    row: Row
    """The row as it was sent; its query is of the time in force, and records nothing."""
    served: Mapping[str, Any]
    """What the service added, by name: values of windows, of expressions and of the online store, None = missing."""
    stored: tuple[Any, ...]
    """Values of the online store, in the order of the schema's online features; None where it had none."""

    @property
    def time_us(self) -> int:
        """The time as of which the decision was made, microseconds since 1970 UTC."""
        return (self.row.query.time_us if self.row.query is not None else None) or 0


class DecisionReader:
    """Reads logged rows of one model version that has windows.

    Args:
        manifest: manifest of the version's bundle.
        transform: encodes values by the manifest's schema.
    """

    def __init__(self, manifest: BundleManifest, transform: Transform) -> None:
        self._parser = RowParser(manifest, transform)
        self._names = frozenset(manifest.schema_.names)
        self._windows = frozenset(window.name for window in manifest.windows)
        self._online = tuple(feature.name for feature in manifest.schema_.online)
        self._event_time = manifest.event_time or ""
        self._entities = {column for entity in slice_entities(manifest) for column in entity.columns}

    def read(self, logged: Mapping[str, Any], features: Sequence[str]) -> LoggedDecision | Unread:
        """Return the decision of a row of the log, or why there is none to be made again.

        Args:
            logged: the row, by the log's columns.
            features: names of the features of its file.
        """
        if logged["degraded"]:
            return Unread(DEGRADED)
        if self._names != set(features) or len(logged["vector"]) != len(self._names):
            return Unread(OTHER_FEATURES)
        sent, served = _object(logged["sent"]), _object(logged["online"])
        if sent is None or served is None:
            return Unread(UNREADABLE)
        time_us = served.get(self._event_time)
        if type(time_us) is not int or not served.keys() >= self._windows:
            return Unread(WITHOUT_WINDOWS)
        if any(is_blank(sent.get(column)) for column in self._entities):
            return Unread(WITHOUT_ENTITIES)
        try:
            row = self._parser.parse(sent, logged["request_id"])
        except RefusedItem:
            return Unread(UNREADABLE)
        key = row.query.key if row.query is not None else b""
        return LoggedDecision(
            logged["request_id"],
            logged["version"],
            logged["answered_at"],
            tuple(logged_scores(logged)),
            logged["label"],
            logged["vector"],
            row.unrecorded(time_us, key),
            served,
            tuple(served.get(name) for name in self._online),
        )


def _object(text: str | None) -> dict[str, Any] | None:
    try:
        decoded = json.loads(text or "{}")
    except ValueError:
        return None
    return decoded if isinstance(decoded, dict) else None
