"""Messages of a topic as events: one JSON object each. What is none is poison, with the reason in words."""

from __future__ import annotations

from typing import NamedTuple

import orjson

from data.errors import InvalidRow
from data.feature_views.events.event import Event
from data.feature_views.events.event_parser import EventParser
from data.ingest.event_input import EventInput
from data.transform.entity_key import LONGEST

_SHOWN_ERRORS = 3


class Poison(NamedTuple):
    """Why a message is no event."""

    reason: str


class MessageParser:
    """Reads the messages of a topic as events of one source.

    Unlike a request, a message has no id of its own that stays when its producer sends it again, and comes at another
    time than it happened: so key and time must be in it.
    """

    def __init__(self, wanted: EventInput) -> None:
        self._key, self._time = wanted.key, wanted.time
        self._entities = " or ".join(wanted.source.entity_columns)
        self._parser = EventParser(wanted.source, wanted.key, wanted.time, wanted.reach_us)

    def parse(self, message: bytes | None, now_us: int) -> Event | Poison:
        """Return the event of a message, or why it is none.

        Args:
            message: the message's value; None for a tombstone.
            now_us: the time here, microseconds since 1970 UTC.
        """
        if message is None:
            return Poison("the message is empty")
        try:
            item = orjson.loads(message)
        except orjson.JSONDecodeError as exc:
            return Poison(f"not JSON: {exc}")
        if not isinstance(item, dict):
            return Poison("not a JSON object")
        errors: list[InvalidRow] = []
        parsed = self._parser.parse(item, now_us, errors)
        key = item.get(self._key)
        if isinstance(key, str) and len(key) > LONGEST:
            errors.append(InvalidRow(self._key, f"has {len(key):,} characters, at most {LONGEST:,} are taken"))
        wrong = {error.field for error in errors}
        if not parsed.sent_key and self._key not in wrong:
            errors.append(InvalidRow(self._key, "is required: it identifies the event"))
        if not parsed.sent_time and self._time not in wrong:
            errors.append(InvalidRow(self._time, "is required: when the event happened"))
        if not errors and not any(parsed.event.entities):
            errors.append(InvalidRow(None, f"names no entity: {self._entities} is required"))
        return Poison(" | ".join(map(str, errors[:_SHOWN_ERRORS]))) if errors else parsed.event
