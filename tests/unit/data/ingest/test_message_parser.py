"""Messages of a topic: an event each, or a reason that says what to correct."""

from __future__ import annotations

import pytest

from data.feature_views.events.event import Event, event_key
from data.ingest.event_input import EVER_US, EventInput
from data.ingest.message_parser import MessageParser, Poison
from data.schema.events.event_source import EventSource

NOW_US = 1_700_000_000_000_000
SOURCE = EventSource.model_validate({"entities": ["card", "shop"], "values": {"amount": {"decimals": 2}}})
PARSER = MessageParser(
    EventInput("swipes", SOURCE, "id", "at", EVER_US),
)


def test_a_message_is_one_event():
    """Fields that the source does not declare are not looked at."""
    event = PARSER.parse(b'{"id": "e1", "at": 1700000000, "card": "a", "amount": 1.25, "more": [1]}', NOW_US)
    assert isinstance(event, Event)
    assert (event.key, event.time_us, event.entities) == (event_key("e1"), NOW_US, ("a", None))


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (None, "the message is empty"),
        (b"", "not JSON: "),
        (b'{"id": 1', "not JSON: "),
        (b'{"id": NaN}', "not JSON: "),
        (b"\xff", "not JSON: "),
        (b"[]", "not a JSON object"),
        (b"1", "not a JSON object"),
        (b'{"at": 1700000000, "card": "a"}', "id: is required: it identifies the event"),
        (b'{"id": " ", "at": 1700000000, "card": "a"}', "id: is required: it identifies the event"),
        (b'{"id": 1, "card": "a"}', "at: is required: when the event happened"),
        (b'{"id": 1.5, "at": 1700000000, "card": "a"}', "id: expected a string or an integer"),
        (b'{"id": "%s", "at": 1700000000, "card": "a"}' % (b"k" * 1025), "id: has 1,025 characters, at most 1,024"),
        (b'{"id": 1, "at": "soon", "card": "a"}', "at: expected a time"),
        (b'{"id": 1, "at": 1700009999, "card": "a"}', "at: is in the future"),
        (b'{"id": 1, "at": 1700000000}', "names no entity: card or shop is required"),
        (b'{"id": 1, "at": 1700000000, "card": "a", "amount": "1"}', "amount: expected a number, got a string"),
        (b'{"id": 1, "at": 1700000000, "card": "a", "amount": 1e300}', "amount: 1e+300 is out of range"),
    ],
)
def test_what_is_no_event_is_poison(message: bytes | None, reason: str):
    """Each with its reason alone."""
    found = PARSER.parse(message, NOW_US)
    assert isinstance(found, Poison)
    assert found.reason.startswith(reason)
    assert " | " not in found.reason
