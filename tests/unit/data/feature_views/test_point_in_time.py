"""Point-in-time tables: windows of a table's rows over its own and other events, and what is left out."""

from __future__ import annotations

import pyarrow as pa
import pytest

from data.errors import DataError
from data.feature_views.events.table_mark import holds_stored, marked
from data.feature_views.point_in_time import point_in_time, with_windows
from data.schema.use_case import UseCase, parse_use_case
from tests.support.training.cards_in_time import CARDS_HEAD

_TEXT = (
    CARDS_HEAD
    + """
[events.swipes]
entities = ["card", { columns = ["card", "shop"] }]
values = { amount = { decimals = 2 } }
[events.logins]
entities = ["card"]
values = { device = { type = "string" } }
key = "login"
time = "at"
[features]
amount = { type = "number", default = 4 }
seen = { aggregate = "count", window = "10s", by = "card", events = "swipes" }
both = { aggregate = "count", window = "10s", by = "card+shop" }
mean = { aggregate = "mean", of = "amount", window = "10s", by = "card", with_current = true }
device = { type = "category", aggregate = "last", of = "device", window = "1h" }
ratio = { expression = "amount / mean" }
"""
)


@pytest.fixture
def use_case() -> UseCase:
    """Card swipes with windows over the card, over card and shop, and over logins."""
    return parse_use_case(_TEXT, "x")


def _swipes(**columns: list) -> pa.Table:
    rows = {
        "id": [1, 2, 3, 4],
        "t": [100, 105, 105, 115],
        "card": ["a", "a", "a", "a"],
        "shop": ["x", "y", "x", "y"],
        "amount": [1.0, 2.5, None, 4.0],
        "y": [0, 1, 0, 1],
    }
    return pa.table({**rows, **columns})


_LOGINS = pa.table({"login": ["l1", "l2"], "at": [101, 110], "card": ["a", "a"], "device": ["phone", "laptop"]})


def test_rows_get_the_windows_of_their_moment(use_case: UseCase):
    """The window is open at its beginning, an instant is in the order of its keys, a pair is one entity."""
    table = with_windows(_swipes(), use_case, others={"logins": _LOGINS}).table
    assert table.column("seen").to_pylist() == [0, 1, 2, 0]
    assert table.column("both").to_pylist() == [0, 0, 1, 0]
    assert table.column("mean").to_pylist() == [1.0, 1.75, 1.75, 4.0]
    assert table.column("device").to_pylist() == [None, "phone", "phone", "laptop"]
    assert table.column("ratio").to_pylist() == [1.0, 2.5 / 1.75, 4 / 1.75, 1.0]


def test_history_counts_and_gets_no_row(use_case: UseCase):
    """The later rows of a table have the same windows whether the earlier ones come with them or as history."""
    whole = with_windows(_swipes(), use_case, others={"logins": _LOGINS}).table
    later = with_windows(_swipes().slice(2), use_case, _swipes().slice(0, 2), {"logins": _LOGINS}).table
    assert later.equals(whole.slice(2))


def test_the_order_of_a_table_decides_nothing(use_case: UseCase):
    """Time and key alone say what was before."""
    straight = with_windows(_swipes(), use_case, others={"logins": _LOGINS}).table
    shuffled = with_windows(_swipes().take([2, 0, 3, 1]), use_case, others={"logins": _LOGINS}).table
    assert shuffled.equals(straight.take([2, 0, 3, 1]))


def test_what_is_no_event_is_counted_by_its_reason(use_case: UseCase):
    """Without key, out of range, repeated, and another content of the same key: none goes missing without a count."""
    logins = pa.table(
        {
            "login": ["l1", "l1", "l1", None, "l5"],
            "at": [101, 101, 101, 102, None],
            "card": ["a"] * 5,
            "device": ["phone", "phone", "tv", "tv", "tv"],
        }
    )
    found = with_windows(_swipes(amount=[1.0, 1e300, 2.0, 3.0]), use_case, others={"logins": logins})
    assert found.left_out["swipes"] == {"amount out of range": 1}
    assert found.left_out["logins"] == {
        "without at": 1,
        "without login": 1,
        "repeated": 1,
        "with another content of the same key": 1,
    }
    assert found.table.column("seen").to_pylist() == [0, 1, 1, 0]


def test_a_row_without_time_is_refused(use_case: UseCase):
    """Its windows have no end."""
    with pytest.raises(DataError, match="1 rows have no time"):
        with_windows(_swipes(t=[100, None, 105, 115]), use_case, others={"logins": _LOGINS})


def test_events_of_another_table_must_be_given(use_case: UseCase):
    """They are named with the option that gives them."""
    with pytest.raises(DataError, match="--events logins=PATH"):
        with_windows(_swipes(), use_case)


def test_expressions_read_what_is_derived(use_case: UseCase):
    """An hour of the day is no column of the table, and a number like any other."""
    hour = 'hour = { type = "integer", derive = "hour", column = "t" }\nlate = { expression = "hour + seen" }'
    found = with_windows(_swipes(t=[7200, 7205, 7205, 10_800]), _with(hour), others={"logins": _LOGINS}).table
    assert found.column("late").to_pylist() == [2.0, 3.0, 4.0, 3.0]


def test_windows_see_the_rows_values_and_expressions_those_of_the_store():
    """The mean is of the amounts as they were sent; the ratio has the stored score, as it would be served."""
    text = _TEXT.replace("values = { amount = { decimals = 2 } }", 'values = ["amount", "score"]')
    text = text.replace(
        "[events.swipes]", 'materialized = { every = "10s" }\n[entity]\ncolumn = "card"\n[events.swipes]'
    )
    text += """score = { type = "number", source = "online" }
best = { aggregate = "max", of = "score", window = "1h", by = "card", with_current = true }
shown = { expression = "score / best" }
"""
    case = parse_use_case(text, "x")
    found = point_in_time(_swipes(score=[1.0, 2.0, 4.0, 8.0]), case, others={"logins": _LOGINS}).table
    assert found.column("best").to_pylist() == [1.0, 2.0, 4.0, 8.0]
    assert found.column("score").to_pylist() == [1.0, 1.0, 1.0, 4.0]
    assert found.column("shown").to_pylist() == [1.0, 0.5, 0.25, 0.5]
    assert marked(found.schema, case)
    assert holds_stored(found.schema, case, "t")


def _with(features: str) -> UseCase:
    return parse_use_case(f"{_TEXT}{features}\n", "x")
