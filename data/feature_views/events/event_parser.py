"""Events out of decoded JSON: one mechanism for `POST /events`, for a topic's messages and for a request's row."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from data.errors import InvalidRow
from data.feature_views.events.event import Event, EventCodec, event_key
from data.feature_views.events.event_entities import joined_key
from data.schema.events.event_source import EventEntity, EventSource, EventValue
from data.transform.encoding import json_type
from data.transform.entity_key import LONGEST
from data.transform.fixed_point import fixed_value
from data.transform.missing import is_blank
from data.transform.time_values import EXPECTED, time_us

FUTURE_US = 5 * 60 * 1_000_000
"""How far ahead of this machine's clock the time of an event may be; later it is refused."""
_INTEGER = "an integer of at most 64 bits"
_EXPECTED = {"number": "a number", "integer": "an integer", "boolean": "true or false, or 1 or 0"}


class ParsedEvent(NamedTuple):
    """An event of a decoded object; `sent_key` and `sent_time` say whether it came with those."""

    event: Event
    sent_key: bool
    sent_time: bool


class EventParser:
    """Reads events of one source from decoded JSON objects.

    Args:
        source: the source.
        key: field of the event's key.
        time: field of the event's time.
        reach_us: longest window over the source, delays included, in microseconds; an event older than that would be
            in no window and is refused.
    """

    def __init__(self, source: EventSource, key: str, time: str, reach_us: int) -> None:
        self._source = source
        self._key = key
        self._time = time
        self._reach_us = reach_us
        self._codec = EventCodec(source)
        named = {key, time, source.known_at, *source.entity_columns, *source.values}
        self.fields: frozenset[str] = frozenset(name for name in named if name is not None)
        """The fields that an event may have."""

    def parse(self, item: Mapping[str, Any], now_us: int, errors: list[InvalidRow]) -> ParsedEvent:
        """Return the event of an object; a field that is wrong adds to `errors`, and the event is not to be used then.

        Args:
            item: the decoded object; other fields are not looked at.
            now_us: the time here, microseconds since 1970 UTC: that of an event without one.
            errors: what is wrong, one for each field.
        """
        key = parse_key(self._key, item.get(self._key), errors)
        sent = parse_moment(self._time, item.get(self._time), now_us, errors)
        happened = now_us if sent is None else sent
        if happened <= now_us - self._reach_us:
            errors.append(InvalidRow(self._time, "is older than the longest window over these events"))
        event = Event(
            key or b"",
            happened,
            self._known_us(item, happened, errors),
            tuple(entity_key(entity, item, errors) for entity in self._source.entities),
            self._codec.pack([self._value(name, item.get(name), errors) for name in self._codec.names]),
        )
        return ParsedEvent(event, key is not None, sent is not None)

    def _known_us(self, item: Mapping[str, Any], happened: int, errors: list[InvalidRow]) -> int:
        column = self._source.known_at
        if column is None:
            return happened + self._source.delay_us
        known = parse_time(column, item.get(column), errors)
        if known is None and is_blank(item.get(column)):
            errors.append(InvalidRow(column, "is required: since when the event's values are known"))
        return max(happened, known or happened)

    def _value(self, name: str, value: object, errors: list[InvalidRow]) -> int | str | None:
        declared = self._source.values.get(name)
        if declared is None:
            # A column of an entity, which is checked as such: as a value it is its text.
            return None if is_blank(value) or isinstance(value, (float, bool, list, dict)) else str(value)
        return parse_value(name, declared, value, errors)


def parse_key(name: str, value: object, errors: list[InvalidRow]) -> bytes | None:
    """Return an event's key; None where it is blank, or wrong, which is added to errors."""
    if is_blank(value):
        return None
    try:
        if type(value) is int or isinstance(value, str):
            return event_key(value)
    except ValueError:
        pass
    errors.append(InvalidRow(name, f"expected a string or {_INTEGER}, got {json_type(value)}"))
    return None


def parse_moment(name: str, value: object, now_us: int, errors: list[InvalidRow]) -> int | None:
    """Return the time at which something happened; None where it is blank, or wrong, which is added to errors."""
    time = parse_time(name, value, errors)
    if time is not None and time > now_us + FUTURE_US:
        errors.append(InvalidRow(name, "is in the future: more than 5 minutes ahead of the service's clock"))
    return time


def parse_time(name: str, value: object, errors: list[InvalidRow]) -> int | None:
    """Return any time in microseconds since 1970 UTC; None where it is blank, or wrong, which is added to errors."""
    if is_blank(value):
        return None
    time = time_us(value)
    if time is None:
        shown = f"{value!r:.60}" if isinstance(value, str) else json_type(value)
        errors.append(InvalidRow(name, f"expected {EXPECTED}; got {shown}"))
    return time


def entity_key(entity: EventEntity, item: Mapping[str, Any], errors: list[InvalidRow]) -> str | None:
    """Return the key of an entity in a decoded object; None where a column is blank, or wrong, which is added."""
    parts = [parse_entity(name, entity, item.get(name), errors) for name in entity.columns]
    if None in parts:
        return None
    return parts[0] if len(parts) == 1 else joined_key([part or "" for part in parts])


def parse_entity(name: str, entity: EventEntity, value: object, errors: list[InvalidRow]) -> str | None:
    """Return the key of one column of an entity as text; None where it is blank, or wrong, which is added to errors."""
    if is_blank(value):
        return None
    if entity.type == "integer" and len(entity.columns) == 1:
        return integer_key(name, value, errors)
    return str(value) if type(value) is int else text_key(name, value, errors)


def integer_key(name: str, value: object, errors: list[InvalidRow]) -> str | None:
    """Return a key of type integer, which is not blank, as text; None where it is wrong, which is added to errors."""
    if type(value) is int:  # True and False are none, though Python has them so.
        return str(value)
    errors.append(InvalidRow(name, f"expected {_INTEGER}, got {json_type(value)}"))
    return None


def text_key(name: str, value: object, errors: list[InvalidRow]) -> str | None:
    """Return a key of type string, which is not blank; None where it is wrong, which is added to errors."""
    if not isinstance(value, str):
        errors.append(InvalidRow(name, f"expected a non-empty string, got {json_type(value)}"))
    elif len(value) > LONGEST:
        errors.append(InvalidRow(name, f"has {len(value):,} characters, at most {LONGEST:,} are taken"))
    else:
        return value
    return None


def parse_value(name: str, declared: EventValue, value: object, errors: list[InvalidRow]) -> int | str | None:
    """Return a value as an event holds it; None where it is missing, or wrong, which is added to `errors`."""
    if value is None or value == "" or value != value:
        return None
    kind = declared.type
    if kind == "string":
        if isinstance(value, str):
            return value
        errors.append(InvalidRow(name, f"expected a string, got {json_type(value)}"))
        return None
    if kind == "boolean" and isinstance(value, bool):
        return int(value)
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number and not (kind == "boolean" or (kind == "integer" and isinstance(value, bool))):
        errors.append(InvalidRow(name, f"expected a number, got {json_type(value)}"))
        return None
    return _fixed(name, declared, value, errors)


def _fixed(name: str, declared: EventValue, value: Any, errors: list[InvalidRow]) -> int | None:
    wanted = isinstance(value, (int, float)) and math.isfinite(value)
    if wanted and declared.type != "number":
        wanted = value == int(value) and (declared.type != "boolean" or value in (0, 1))
    if not wanted:
        errors.append(InvalidRow(name, f"expected {_EXPECTED[declared.type]}, got {json_type(value)}"))
        return None
    try:
        scaled = fixed_value(value, declared.places)
    except OverflowError:  # a whole number that no float holds
        scaled = None
    if scaled is None:
        errors.append(InvalidRow(name, f"{value!r:.40} is out of range for {declared.places} decimal places"))
    return scaled
