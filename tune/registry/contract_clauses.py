"""What a model's contract says of its features, windows and events, in words that differ where serving would."""

from __future__ import annotations

import json

from data.schema.events.event_source import EventSource
from data.schema.features.feature import Feature
from data.schema.features.window_feature import WindowFeature


def window_clause(window: WindowFeature) -> str:
    """Return how a window feature is computed."""
    of = f" of {window.of}" if window.of is not None else ""
    tests = window.where.comparisons if window.where is not None else ()
    where = "".join(f", {each.name} {each.sign} {each.constant!r}" for each in tests)
    current = ", with the current" if window.with_current else ""
    span = f"{window.window_us} us until {window.delay_us} us before"
    return f" {window.source}: {window.aggregate.value}{of} by {window.by}{where} in {span}{current}"


def source_clause(source: EventSource) -> str:
    """Return what an event of a source is made of."""
    said = source.model_dump(mode="json", exclude_defaults=True)
    return json.dumps(said, sort_keys=True, separators=(",", ":"))


def feature_clause(feature: Feature) -> str:
    """Return whether a feature has to be sent, and what it is derived from."""
    required = ", required" if feature.required else ""
    return required + (f", {feature.derived_from}" if feature.derived_from else "")
