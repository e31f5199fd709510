"""The fields of a request that windows need: entities, the row's key and time, and the values of its own events."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

from data.errors import InvalidRow
from data.event_store import OwnEvent, RowQuery
from data.feature_views.events.event import event_key
from data.feature_views.events.event_parser import EventParser, entity_key, parse_key, parse_moment
from data.feature_views.online.online_windows import WindowPlan
from data.schema.events.event_source import EventEntity, EventSource
from data.transform.missing import is_blank
from tune.registry.bundle import BundleManifest


class WindowFields:
    """Reads and checks what the windows of a model's rows need.

    Args:
        manifest: of a model with windows.
        clock: returns the time in microseconds since 1970 UTC.
    """

    def __init__(self, manifest: BundleManifest, clock: Callable[[], int] = lambda: time.time_ns() // 1000) -> None:
        self._clock = clock
        self._key, self._time = manifest.key, manifest.event_time
        self._entities = slice_entities(manifest)
        self._own = own_sources(manifest)
        # However old: the windows of a row are those of its own time, so that what is past can be replayed.
        self._parsers = {
            name: EventParser(source, manifest.key or "", manifest.event_time or "", sys.maxsize)
            for name, source in self._own.items()
        }
        columns = [column for entity in self._entities for column in entity.columns]
        self.required: tuple[str, ...] = tuple(dict.fromkeys(columns))
        """The fields that a request must have: the entities whose events are counted."""
        own = {name for parser in self._parsers.values() for name in parser.fields}
        self.names = frozenset(self.required) | own | ({self._time} if self._time is not None else set())
        """All fields that a request may have for its windows."""

    def parse(self, item: Mapping[str, Any], fallback_key: str, errors: list[InvalidRow]) -> RowQuery:
        """Return what the windows of one row need; what is wrong is added to errors, once for each field.

        Args:
            item: the decoded object.
            fallback_key: key of the row's events when it names none.
            errors: the row's errors so far; with any the query is not to be used.
        """
        found: list[InvalidRow] = []
        now_us = self._clock()
        key = parse_key(self._key, item.get(self._key), found) if self._key is not None else None
        moment = parse_moment(self._time, item.get(self._time), now_us, found) if self._time is not None else None
        for name in self.required:
            if is_blank(item.get(name)):
                found.append(InvalidRow(name, "is required: windows count the events of this entity"))
        entities = tuple(entity_key(entity, item, found) for entity in self._entities)
        key = key or event_key(fallback_key)
        own = tuple(
            OwnEvent(name, self._parsers[name].parse(item, now_us, found).event._replace(key=key), source.record)
            for name, source in self._own.items()
        )
        wrong = {error.field for error in errors}
        for error in found:
            if error.field not in wrong:
                wrong.add(error.field)
                errors.append(error)
        return RowQuery(key, moment, entities, own)


def slice_entities(manifest: BundleManifest) -> tuple[EventEntity, ...]:
    """Return the entity of each slice of events that a row's windows read, in their order."""
    slices = WindowPlan(manifest.windows, manifest.events).slices
    return tuple(_entity(manifest.events[each.source], each.entity) for each in slices)


def own_sources(manifest: BundleManifest) -> dict[str, EventSource]:
    """Return the sources that a request's row is itself an event of, by name: recorded, or counted by its own windows.

    A source whose events are known later has none: what is known with the row are not its values.
    """
    read = {window.source for window in manifest.windows}
    current = {window.source for window in manifest.windows if window.with_current}
    return {
        name: source
        for name, source in manifest.events.items()
        if source.own and not source.delayed and (name in current or (source.record and name in read))
    }


def _entity(source: EventSource, name: str) -> EventEntity:
    found = source.entity(name)
    if found is None:
        raise ValueError(f"{name!r} is no entity of the source")
    return found
