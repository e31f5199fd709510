"""Events out of a table: what is taken, what is left out and why, and the same bytes as the JSON way makes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.errors import DataError, InvalidRow
from data.feature_views.events.event import event_key
from data.feature_views.events.event_columns import RowsRead, Span, rows_as_events
from data.feature_views.events.event_parser import EventParser
from data.schema.events.event_source import EventSource

NOW_US = 1_700_000_000_000_000
EVER = Span(-(2**62), 2**62)
SOURCE = EventSource.model_validate(
    {
        "entities": ["card", {"name": "shop", "type": "integer"}, {"columns": ["card", "shop"]}],
        "values": {
            "amount": {"decimals": 2},
            "items": {"type": "integer"},
            "online": {"type": "boolean"},
            "word": {"type": "string"},
        },
        "known_at": "seen",
    }
)
TYPES = {
    "at": pa.int64(),
    "seen": pa.int64(),
    "card": pa.string(),
    "shop": pa.int64(),
    "amount": pa.float64(),
    "items": pa.int64(),
    "online": pa.bool_(),
    "word": pa.string(),
}
_words = st.sampled_from(["", " ", "a", "a b", "ä", '"', "\\", "\u2028", "x" * 1024])
_rows = st.fixed_dictionaries(
    {
        "at": st.integers(1_690_000_000, 1_700_000_000),
        "seen": st.integers(1_690_000_000, 1_700_000_000),
        "card": st.none() | _words,
        "shop": st.none() | st.integers(-(2**63), 2**63 - 1),
        "amount": st.none() | st.floats(-1e12, 1e12) | st.sampled_from([0.005, 0.015, 2.675, -0.0]),
        "items": st.none() | st.integers(-(2**53) + 1, 2**53 - 1),
        "online": st.none() | st.booleans(),
        "word": st.none() | _words,
    }
)
_whole_keys = st.integers(-(2**63), 2**63 - 1)
_text_keys = st.text(st.characters(codec="utf-8"), min_size=1).filter(lambda text: not text.isspace())


def _table(rows: list[dict[str, Any]], keys: list[int] | list[str]) -> pa.Table:
    columns = {name: pa.array([row[name] for row in rows], kind) for name, kind in TYPES.items()}
    return pa.table({"id": keys, **columns})


def _read(rows: list[dict[str, Any]], keys: list[int] | list[str], span: Span = EVER) -> RowsRead:
    return rows_as_events(_table(rows, keys), SOURCE, "id", "at", span)


@given(st.lists(_rows, min_size=1, max_size=5), st.data())
def test_a_row_is_the_event_that_its_json_is(rows: list[dict[str, Any]], data: st.DataObject):
    """Key, times, entities and the packed values are the same bytes by both ways."""
    keys = data.draw(
        st.one_of(st.lists(each, min_size=len(rows), max_size=len(rows)) for each in (_whole_keys, _text_keys))
    )
    read, errors = _read(rows, keys), list[InvalidRow]()
    parser = EventParser(SOURCE, "id", "at", 2**62)
    parsed = [parser.parse({"id": key, **row}, NOW_US, errors).event for key, row in zip(keys, rows, strict=True)]
    assert not errors
    assert read.events.events(0, len(rows)) == [each for each in parsed if any(each.entities)]
    assert read.events.length + sum(map(len, read.left_out.values())) == len(rows)


GOOD = {"at": 1_700_000_000, "seen": 0, "card": "a", "shop": 1, "amount": 1.0, "items": 1, "online": True, "word": "w"}


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"at": None}, "without at"),
        ({"at": 1_700_000_301}, "in the future"),
        ({"at": 1_699_999_989}, "older than the longest window over them"),
        ({"seen": None}, "without seen"),
        ({"card": " ", "shop": None}, "without card or shop"),
        ({"amount": 1e14}, "whose amount is out of range for 2 decimal places"),
        ({"amount": float("inf")}, "whose amount is out of range for 2 decimal places"),
    ],
)
def test_what_is_no_event_is_left_out_by_its_reason(wrong: dict[str, Any], reason: str):
    """A row stands under one reason, and its neighbours are events all the same."""
    span = Span(NOW_US - 10_000_000, NOW_US + 300_000_000)
    read = _read([GOOD, {**GOOD, **wrong}, GOOD], [1, 2, 3], span)
    assert {name: rows.tolist() for name, rows in read.left_out.items()} == {reason: [1]}
    assert [each.key for each in read.events.events(0, 9)] == [event_key(1), event_key(3)]


@pytest.mark.parametrize(
    ("keys", "reason"),
    [
        (pa.array([1, None]), "without id"),
        (pa.array(["a", " "]), "without id"),
        (pa.array([1, 2**63], pa.uint64()), "whose id is beyond 64 bits"),
        (pa.array([b"a", b"\xff"]).cast(pa.string(), safe=False), "whose id is not UTF-8"),
        (pa.array(["a", "k" * 1025]), "whose id is longer than 1,024 characters"),
    ],
)
def test_a_key_that_is_none_leaves_its_row_out(keys: pa.Array, reason: str):
    """Blank keys and whole numbers that no event key holds."""
    table = _table([GOOD, GOOD], [1, 2]).set_column(0, "id", keys)
    assert {name: rows.tolist() for name, rows in rows_as_events(table, SOURCE, "id", "at", EVER).left_out.items()} == {
        reason: [1]
    }


@pytest.mark.parametrize(
    ("column", "values", "reason"),
    [
        ("online", pa.array([1, 2]), "whose online is not true or false"),
        ("items", pa.array([1.0, 1.5]), "whose items is not a whole number"),
        ("at", pa.array(["2023-11-14", "yesterday"]), "whose at is no time"),
        ("word", pa.array([b"w", b"\xff"]).cast(pa.string(), safe=False), "whose word is not UTF-8"),
    ],
)
def test_a_value_of_another_kind_leaves_its_row_out(column: str, values: pa.Array, reason: str):
    """Columns whose type allows more than the source declares."""
    table = _table([GOOD, GOOD], [1, 2])
    table = table.set_column(table.column_names.index(column), column, values)
    read = rows_as_events(table, SOURCE, "id", "at", EVER)
    assert {name: rows.tolist() for name, rows in read.left_out.items()} == {reason: [1]}


def test_an_entity_that_is_not_named_is_counted():
    """The event is of its other entities, and the pair needs both."""
    read = _read([GOOD, {**GOOD, "card": None}], [1, 2])
    assert read.events.events(1, 1)[0].entities == (None, "1", None)
    assert read.without == {"card": 1, "card+shop": 1}


def test_a_delay_moves_what_is_known_and_not_the_time():
    """Without a column of its own, an event is known the source's delay after its time."""
    source = EventSource.model_validate({"entities": ["card"], "delay": "1s"})
    events = rows_as_events(_table([GOOD], [1]), source, "id", "at", EVER).events
    assert (events.time_us.tolist(), events.known_us.tolist()) == ([NOW_US], [NOW_US + 1_000_000])


def test_a_column_that_is_missing_is_named():
    """The table's own columns are listed."""
    with pytest.raises(DataError, match="column 'id' is missing; the table has: at, seen"):
        rows_as_events(_table([GOOD], [1]).drop_columns("id"), SOURCE, "id", "at", EVER)


def test_no_rows_are_no_events():
    """An empty table is read."""
    assert _read([], []).events.events(0, 5) == []
    assert np.array_equal(_read([], []).events.time_us, [])
