"""The stored events of an entity by column: what a store packs comes back to the bit, in order, damage included."""

from __future__ import annotations

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.errors import DamagedRow
from data.feature_views.events.event import EventCodec
from data.feature_views.online.stored_events import NO_EVENTS, EventPacker, StoredEvent, StoredEvents
from data.schema.events.event_source import EventSource

CODEC = EventCodec(
    EventSource.model_validate({"entities": ["u"], "values": {"amount": {}, "kind": {"type": "string"}}})
)
_WHOLE = CODEC.pack([7, "a", "u"])
PACKER = EventPacker(len(CODEC.names))
_VALUES = st.tuples(st.none() | st.integers(-(2**53), 2**53), st.none() | st.text(max_size=3), st.just("u"))
_EVENTS = st.lists(
    st.builds(
        StoredEvent,
        st.integers(-5, 5) | st.integers(-(2**62), 2**62),
        st.binary(min_size=1, max_size=3),
        st.integers(-(2**62), 2**62),
        _VALUES.map(CODEC.pack),
    ),
    max_size=20,
    unique_by=lambda event: event.key,
)


def unpacked(events: list[StoredEvent]) -> StoredEvents:
    """Events as they come back from a store."""
    return PACKER.unpack(len(events), b"".join(PACKER.pack(*event) for event in events))


@given(_EVENTS)
def test_what_is_packed_comes_back_in_order(events: list[StoredEvent]):
    """In whatever order a table gives them, events come back ascending in time and key, with values by column."""
    found = unpacked(events)
    assert found == sorted(events)
    assert [*zip(*found.columns(CODEC), strict=True)] == [tuple(CODEC.unpack(each.payload)) for each in sorted(events)]


@given(_EVENTS.filter(bool), st.data())
def test_one_more_event_falls_into_its_place(events: list[StoredEvent], data: st.DataObject):
    """An event that is added to others is where it would be had it been stored with them."""
    added = data.draw(st.sampled_from(events))
    rest = unpacked([event for event in events if event != added])
    found = rest.with_event(added, CODEC)
    assert found == sorted(events)
    assert [*map(list, found.columns(CODEC))] == [*map(list, unpacked(events).columns(CODEC))]


@given(_EVENTS, st.integers(0, 20))
def test_parts_join(events: list[StoredEvent], at: int):
    """Parts that follow one another are the events as a whole, whether read from a table or made one by one."""
    ordered = sorted(events)
    for parts in (
        [unpacked(ordered[:at]), NO_EVENTS, unpacked(ordered[at:])],
        [StoredEvents.of(ordered[:at]), unpacked(ordered[at:])],
    ):
        joined = StoredEvents.joined(parts)
        assert joined == ordered
        assert [*map(list, joined.columns(CODEC))] == [*map(list, unpacked(ordered).columns(CODEC))]


@pytest.mark.parametrize(
    "payload",
    [b"", b"\xc1", CODEC.pack([1, "a", "u"])[:-1], CODEC.pack([1, "a"]), CODEC.pack([1, "a", "u"]) * 2, b"\x05"],
)
def test_a_payload_of_other_values_stays_as_it_is(payload: bytes):
    """What are no values of the source comes back byte for byte among the others, and is an error where it is read."""
    events = [StoredEvent(at, bytes([at + 1]), at, payload if at == 1 else _WHOLE) for at in range(3)]
    found = unpacked(events)
    assert found == events
    assert found.times == (0, 1, 2)
    with pytest.raises(DamagedRow, match="an event's values"):
        found.columns(CODEC)


def test_an_entity_without_events_is_of_every_source():
    """What one source asks of no events is not what another one with more values gets."""
    short = EventCodec(EventSource.model_validate({"entities": ["u"]}))
    assert len(NO_EVENTS.columns(short)) == 1
    assert len(NO_EVENTS.columns(CODEC)) == len(CODEC.names)
    event = StoredEvent(1, b"k", 1, _WHOLE)
    assert NO_EVENTS.with_event(event, CODEC) == [event]


def test_bytes_that_are_no_events():
    """A damaged column of the table is an error, not other events; so is what reads as a damaged payload by chance."""
    packed = PACKER.pack(1, b"k", 1, _WHOLE)
    by_chance = b"\xd4\x01" + packed[2:]
    for count, damaged in ((1, packed[:-1]), (2, packed), (1, packed * 2), (1, b"\xc1" * len(packed)), (1, by_chance)):
        with pytest.raises(DamagedRow, match="events of an entity cannot be read"):
            PACKER.unpack(count, damaged)


def test_more_values_than_a_short_array_holds():
    """A source of over fifteen values packs as any other."""
    packer, payload = EventPacker(40), msgpack.packb([*range(40)])
    event = StoredEvent(1, b"k", 2, payload)
    assert packer.unpack(1, packer.pack(*event)) == [event]
