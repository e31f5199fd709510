"""Many events at once: what becomes of each, what a killed process leaves, what others write meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data.event_store import EventOutcome
from data.event_store.sqlite.event_append import EventAppend
from data.event_store.sqlite.event_file import EventFile
from data.event_store.sqlite.event_table import EventTable, FiledSource
from data.feature_views.events.event import Event, EventCodec, event_key
from data.schema.events.event_source import EventEntity, EventSource

SOURCE = EventSource(
    entities=(EventEntity(name="card", columns=("card",)), EventEntity(name="shop", columns=("shop",)))
)
CODEC = EventCodec(SOURCE)
FILED = {"one by one": FiledSource("a", len(CODEC.names)), "at once": FiledSource("b", len(CODEC.names))}
TABLES = ("events", "entity_events")


@pytest.fixture
def table(tmp_path: Path) -> Iterator[EventTable]:
    """The tables of a new file."""
    file = EventFile(tmp_path / "events.db", 10.0)
    file.create()
    with closing(file.connect(10.0)) as connection:
        yield EventTable(connection, FILED)


def made(key: int, time_us: int = 0, known_us: int = 0, shop: str | None = "s") -> Event:
    """An event of a card, and where it has one of a shop."""
    return Event(event_key(key), time_us, max(time_us, known_us), ("c", shop), CODEC.pack(["c", shop]))


def rows(table: EventTable, name: str) -> list[list[tuple]]:
    """What both tables hold of a source, but for its number."""
    numbered = {name: number for number, name in table.connection.execute("SELECT * FROM event_sources")}
    number = numbered[FILED[name].name]
    return [
        [row[1:] for row in table.connection.execute(f"SELECT * FROM {each} WHERE source = ?", (number,))]
        for each in TABLES
    ]


_EVENTS = st.lists(
    st.builds(made, st.integers(0, 4), st.integers(0, 2), st.integers(0, 3), st.sampled_from([None, "s", "t"])),
    min_size=1,
    max_size=12,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(calls=st.lists(_EVENTS, min_size=1, max_size=3), atomic=st.booleans())
def test_at_once_is_one_by_one(table: EventTable, calls: list[list[Event]], atomic: bool):
    """Whatever keys repeat with whatever content: outcomes and tables are those of events stored by themselves."""
    for name in TABLES:
        table.connection.execute(f"DELETE FROM {name}")
    for events in calls:
        singly = [table.put("one by one", event)[0] for event in events]
        assert EventAppend(table, "at once", events, atomic=12 if atomic else 0).run() == singly
    assert rows(table, "at once") == rows(table, "one by one")


@pytest.mark.parametrize("atomic", [0, 10])
def test_what_was_killed_is_completed(table: EventTable, atomic: int):
    """An event of which a killed process stored the key alone gets its rows when it is stored again, by either way."""
    events = [made(key) for key in range(5)]
    EventAppend(table, "at once", events).run()
    whole = rows(table, "at once")
    table.connection.execute("DELETE FROM entity_events WHERE entity = 1")
    assert EventAppend(table, "at once", events[:4], atomic).run() == [EventOutcome.REPEATED] * 4
    assert table.put("at once", events[4]) == (EventOutcome.REPEATED, 0)
    assert rows(table, "at once") == whole


def test_what_others_change_meanwhile_stays(table: EventTable, tmp_path: Path):
    """An event that another process revises or removes between an append's transactions gets no rows of before."""
    events = [made(key) for key in range(3)]
    begun = []

    def meanwhile(statement: str) -> None:
        if statement == "BEGIN IMMEDIATE":
            begun.append(statement)
        if len(begun) == 2:
            begun.append("meanwhile")
            with closing(EventFile(tmp_path / "events.db", 10.0).connect(10.0)) as connection:
                other = EventTable(connection, FILED)
                assert other.put("at once", made(0, known_us=9, shop="t"))[0] is EventOutcome.REVISED
                assert other.drop("at once", [event_key(1)], 1) == 1

    table.connection.set_trace_callback(meanwhile)
    assert EventAppend(table, "at once", events, atomic=0).run() == [EventOutcome.TAKEN] * 3
    table.connection.set_trace_callback(None)
    for event in (made(0, known_us=9, shop="t"), made(2)):
        table.put("one by one", event)
    assert rows(table, "at once") == rows(table, "one by one")
