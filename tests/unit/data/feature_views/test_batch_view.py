"""The batch view in time: each row gets what the store would have held, by schedule and TTL, never its own values."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from data.feature_views.batch_view import with_batch_view
from data.schema.use_case import UseCase, parse_use_case

_TEXT = """
name = "cards"
label = "y"
event_time = "t"
materialized = { every = "10s", takes = "3s" }
[entity]
column = "card"
ttl = "20s"
[features]
score = { type = "integer", source = "online" }
word = { type = "category", source = "either" }
"""
_US = 1_000_000


def _use_case(text: str = _TEXT) -> UseCase:
    return parse_use_case(text, "x")


def _table(rows: list[tuple[Any, int | None, int | None]]) -> pa.Table:
    cards, times, scores = zip(*rows, strict=True) if rows else ((), (), ())
    words = [None if score is None else f"w{score}" for score in scores]
    at = pa.array([None if time is None else time * _US for time in times], pa.timestamp("us"))
    columns = {"card": pa.array(cards, pa.string()), "t": at, "score": pa.array(scores, pa.int64())}
    return pa.table({**columns, "word": pa.array(words, pa.string())})


def test_a_row_sees_the_last_materialization_that_was_there():
    """The one of 10 s is there at 13 s with the rows up to 10 s; a row is expired 20 s after its own time."""
    rows = [
        ("a", 5, 1),
        ("a", 10, 2),
        ("a", 11, 3),
        ("a", 12, 4),
        ("a", 13, 5),
        ("a", 31, 6),
        ("b", 13, 7),
        ("a", 90, 8),
    ]
    found = with_batch_view(_table(rows), _use_case())
    assert found.column("score").to_pylist() == [None, None, None, None, 2, 5, None, None]
    assert found.column("word").to_pylist() == [None, None, None, None, "w2", "w5", None, None]


def test_history_is_stored_and_gets_no_row():
    """The later rows of a table get the same values when the earlier ones come as history."""
    table = _table([("a", 5, 1), ("b", 8, 2), ("a", 15, 3), ("b", 24, 4)])
    whole = with_batch_view(table, _use_case())
    assert with_batch_view(table.slice(2), _use_case(), table.slice(0, 2)).equals(whole.slice(2))


@given(st.lists(st.tuples(st.sampled_from(["a", "b", None]), st.none() | st.integers(-5, 60), st.integers(0, 99))))
def test_every_row_equals_a_search_through_all(rows: list[tuple[str | None, int | None, int]]) -> None:
    """Ties of a time go to the row further back, rows without entity or time store and see nothing."""
    expected = []
    for card, time, _ in rows:
        until = None if time is None else (time - 3) // 10 * 10
        held = [(t, at) for at, (c, t, _) in enumerate(rows) if c == card and c and t is not None and until is not None]
        held = [(t, at) for t, at in held if t <= (until or 0)]
        latest = max(held, default=None)
        alive = latest is not None and time is not None and time - latest[0] <= 20
        expected.append(rows[latest[1]][2] if alive and latest is not None else None)
    assert with_batch_view(_table(rows), _use_case()).column("score").to_pylist() == expected
