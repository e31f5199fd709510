"""What a use case computes from events: its window features with their sources and entities found, and its checks."""

from __future__ import annotations

from collections.abc import Mapping

from data.schema.events.event_source import EventSource
from data.schema.features.expression import Comparison, Expression
from data.schema.features.feature import Feature, FeatureType
from data.schema.features.feature_schema import FeatureSchema
from data.schema.features.window_feature import Aggregate, WindowFeature


def window_features(schema: FeatureSchema, events: Mapping[str, EventSource]) -> tuple[WindowFeature, ...]:
    """Return the window features in schema order, each with its source of events and its entity.

    Raises:
        ValueError: a source, entity or value is not declared or does not fit; names the feature and the remedy.
    """
    return tuple(_resolved(feature, events) for feature in schema.windows)


def check_expressions(schema: FeatureSchema) -> None:
    """Check that expressions read numbers that are declared before them, so that none needs itself.

    Raises:
        ValueError: names the feature and what it reads.
    """
    known: dict[str, Feature] = {}
    for feature in schema.features:
        for name in Expression(feature.expression).names if feature.expression is not None else ():
            if name not in known:
                later = name in schema.names
                why = "is declared after it: put it before" if later else "is no feature"
                raise ValueError(f"features.{feature.name}.expression: {name!r} {why}")
            kind = known[name].type
            if kind in (FeatureType.CATEGORY, FeatureType.TEXT):
                raise ValueError(f"features.{feature.name}.expression: {name!r} is a {kind.value}, which is no number")
        known[feature.name] = feature


def _resolved(feature: Feature, events: Mapping[str, EventSource]) -> WindowFeature:
    place = f"features.{feature.name}"
    if not events:
        raise ValueError(f"{place}: a window feature needs [events.NAME], the source whose events it aggregates")
    name = _source_name(feature, events, place)
    source = events[name]
    by = feature.by if feature.by is not None else source.entities[0].name
    if feature.by is None and len(source.entities) > 1:
        names = ", ".join(entity.name for entity in source.entities)
        raise ValueError(f"{place}.by: source '{name}' has several entities, name one of them: {names}")
    if source.entity(by) is None:
        names = ", ".join(entity.name for entity in source.entities)
        raise ValueError(f"{place}.by: {by!r} is no entity of source '{name}'; it has: {names}")
    window = feature.window_feature(feature.name, name, by)
    _check_value(feature, source, name, place)
    for comparison in window.where.comparisons if window.where else ():
        _check_comparison(comparison, source, name, place)
    return window


def _source_name(feature: Feature, events: Mapping[str, EventSource], place: str) -> str:
    if feature.events is not None:
        if feature.events not in events:
            raise ValueError(f"{place}.events: no source {feature.events!r}; declared: {', '.join(events)}")
        return feature.events
    fits = [name for name, source in events.items() if feature.of is None or source.value(feature.of) is not None]
    fits = [name for name in fits if feature.by is None or events[name].entity(feature.by) is not None]
    if len(events) == 1:
        return next(iter(events))
    if len(fits) != 1:
        held = f"sources that fit: {', '.join(fits)}" if fits else f"none of {', '.join(events)} has what it reads"
        raise ValueError(f"{place}.events: name the source of its events; {held}")
    return fits[0]


def _check_value(feature: Feature, source: EventSource, name: str, place: str) -> None:
    if feature.of is None:
        return
    value = source.value(feature.of)
    if value is None:
        known = ", ".join([*source.values, *source.entity_columns])
        raise ValueError(f"{place}.of: {feature.of!r} is no value of source '{name}'; it has: {known}")
    aggregate = feature.aggregate
    if aggregate is not None and aggregate.needs_numbers and not value.is_numeric:
        raise ValueError(f"{place}: aggregate = '{aggregate.value}' needs numbers, and {feature.of!r} is text")
    word = feature.type is FeatureType.CATEGORY
    if aggregate in (Aggregate.FIRST, Aggregate.LAST) and word == value.is_numeric:
        expected = "number" if value.is_numeric else "category"
        raise ValueError(f"{place}.type: {feature.of!r} is of type '{value.type}', so the feature is of '{expected}'")
    if feature.type in (FeatureType.BOOLEAN, FeatureType.TEXT) or (
        word and aggregate not in (Aggregate.FIRST, Aggregate.LAST)
    ):
        raise ValueError(f"{place}.type: a window feature is a number, or an integer, not '{feature.type.value}'")


def _check_comparison(comparison: Comparison, source: EventSource, name: str, place: str) -> None:
    value = source.value(comparison.name)
    if value is None:
        known = ", ".join([*source.values, *source.entity_columns])
        raise ValueError(f"{place}.where: {comparison.name!r} is no value of source '{name}'; it has: {known}")
    if isinstance(comparison.constant, str) == value.is_numeric:
        kind = "text" if not value.is_numeric else "a number"
        raise ValueError(f"{place}.where: {comparison.name!r} is {kind}, and {comparison.constant!r} is not")
