"""Window features: the offline kernel and the online computation give what the definition says, to the last bit."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.errors import DamagedRow
from data.feature_views import aggregates
from data.feature_views.events.event import Event, EventCodec, OwnEvent, event_key
from data.feature_views.kernel.event_arrays import NO_ENTITY, Events, Moments, Values
from data.feature_views.kernel.windows import windows
from data.feature_views.online.online_windows import WindowPlan, fold_by_key
from data.feature_views.online.stored_events import StoredEvent
from data.schema.events.event_source import EventSource
from data.schema.features.expression import parse_condition
from data.schema.features.window_feature import Aggregate, WindowFeature

_MS = 1000


class _Case(NamedTuple):
    """Some events and rows; the rows are the events themselves when `own`."""

    entity: list[int]
    time_us: list[int]
    amount: list[int | None]
    kind: list[int]
    known_us: list[int] | None
    delay_us: int
    rows: list[tuple[int, int, int]]
    """Entity, time and key rank of each row."""


@st.composite
def _cases(draw: st.DrawFn) -> _Case:
    count = draw(st.integers(0, 20))
    many: Any = lambda each: draw(st.lists(each, min_size=count, max_size=count))  # noqa: E731
    entity, times = many(st.integers(-1, 2)), [t * _MS for t in many(st.integers(0, 12))]
    size = draw(st.sampled_from([50, 2**52]))
    amount, kind = many(st.none() | st.integers(-size, size)), many(st.integers(0, 3))
    known = [t + d * _MS for t, d in zip(times, many(st.integers(-2, 6)), strict=True)] if draw(st.booleans()) else None
    delay = 0 if known is not None else draw(st.sampled_from([0, 3 * _MS]))
    own = [(entity[at], times[at], at) for at in range(count)]
    other = st.tuples(st.integers(-1, 3), st.integers(-3, 16).map(lambda t: t * _MS), st.integers(0, 20))
    rows = own if own and draw(st.booleans()) else draw(st.lists(other, min_size=1, max_size=12))
    return _Case(entity, times, amount, kind, known, delay, rows)


_FEATURES = st.builds(
    lambda aggregate, window, delay, where, with_current: WindowFeature(
        "f",
        aggregate,
        window * _MS,
        delay * _MS,
        "s",
        "u",
        ("kind" if aggregate is Aggregate.DISTINCT else "amount") if aggregate.reads_value else None,
        parse_condition(where) if where else None,
        with_current,
    ),
    st.sampled_from(list(Aggregate)),
    st.integers(1, 15),
    st.sampled_from([0, 0, 2]),
    st.sampled_from([None, "kind > 1", "kind != 2 and amount <= 10"]),
    st.booleans(),
)


@given(_cases(), _FEATURES)
def test_a_row_that_is_not_stored_counts_as_if_it_were(case: _Case, feature: WindowFeature) -> None:
    """The own event of a row that is not recorded counts as the definition says, and once if it is stored as well."""
    rows = [(case.entity[at], case.time_us[at], at) for at in range(len(case.time_us))]
    case = case._replace(rows=rows)
    expected = np.array([_by_definition(case, row, feature) for row in rows])
    assert np.array_equal(_online(case, feature, own="apart"), expected, equal_nan=True)
    assert np.array_equal(_online(case, feature, own="also"), expected, equal_nan=True)


@given(_cases(), _FEATURES)
def test_offline_online_and_the_definition_agree(case: _Case, feature: WindowFeature) -> None:
    """Every aggregate, with ties, late knowledge, delays, conditions, missing values and numbers of 53 bits."""
    if feature.aggregate in (Aggregate.SUM, Aggregate.MEAN) and any(abs(each or 0) > 2**50 for each in case.amount):
        return  # Twenty such may be beyond 64 bits, which is refused: see the test below.
    expected = [_by_definition(case, row, feature) for row in case.rows]
    assert np.array_equal(_offline(case, feature), np.array(expected), equal_nan=True)
    assert np.array_equal(_online(case, feature), np.array(expected), equal_nan=True)


def test_a_sum_beyond_64_bits_is_refused():
    """It would wrap around without a word."""
    count = 2000
    events = Events(
        {"u": np.zeros(count, np.int64)},
        np.arange(count),
        np.arange(count),
        {"amount": Values(np.full(count, 2**52), np.zeros(count, bool))},
    )
    total = WindowFeature("f", Aggregate.SUM, 10**6, 0, "s", "u", "amount", None, True)
    with pytest.raises(OverflowError, match="fewer decimals"):
        windows(events, Moments(events.entities, events.time_us, events.key_rank), [total])


def test_events_of_one_key_are_one_event():
    """Of one sent twice without a time the earliest counts; of other contents the one that is known latest."""
    first, again = StoredEvent(5, b"a", 5, b"x"), StoredEvent(9, b"a", 5, b"x")
    revised, other = StoredEvent(6, b"b", 20, b"z"), StoredEvent(6, b"b", 6, b"y")
    assert fold_by_key([again, other, revised, first]) == [first, revised]


def test_a_damaged_event_is_named_as_such():
    """Bytes that are no values of the source's events are an error, also among many events that are whole."""
    source = EventSource.model_validate({"entities": ["u"], "values": ["amount"]})
    plan = WindowPlan([WindowFeature("f", Aggregate.SUM, 10, 0, "s", "u", "amount", None, False)], {"s": source})
    whole = EventCodec(source).pack([1, "u"])
    for damaged in (b"", b"\xc1", whole[:-1], whole + whole, b"\x93\x01\xa1u\x02", b"\x05"):
        events = [StoredEvent(at, event_key(at), at, damaged if at == 2 else whole) for at in range(5)]
        with pytest.raises(DamagedRow, match="an event's values"):
            plan.compute([events], 9, b"~")


def _by_definition(case: _Case, row: tuple[int, int, int], feature: WindowFeature) -> float:
    taken = [at for at in range(len(case.time_us)) if _counts(case, row, at, feature)]
    taken.sort(key=lambda at: (case.time_us[at], at))
    count, aggregate = len(taken), feature.aggregate
    if aggregate is Aggregate.COUNT:
        return float(count)
    if aggregate is Aggregate.SINCE_LAST:
        return (row[1] - case.time_us[taken[-1]]) / 1_000_000 if count else math.nan
    if aggregate is Aggregate.DISTINCT:
        return float(len({case.kind[at] for at in taken}))
    held = [case.amount[at] or 0 for at in taken]
    if aggregate is Aggregate.SUM:
        return float(sum(held)) / 100
    if aggregate is Aggregate.STD:
        spread = count * sum(each * each for each in held) - sum(held) ** 2
        return math.sqrt(float(spread) / float(count * (count - 1))) / 100 if count > 1 else math.nan
    if not count:
        return math.nan
    if aggregate is Aggregate.MEAN:
        return float(sum(held)) / (count * 100.0)
    pick = {Aggregate.MIN: min, Aggregate.MAX: max}.get(aggregate)
    return (pick(held) if pick else held[0 if aggregate is Aggregate.FIRST else -1]) / 100


def _counts(case: _Case, row: tuple[int, int, int], at: int, feature: WindowFeature) -> bool:
    entity, time, key = row
    happened, amount = case.time_us[at], case.amount[at]
    known = happened + case.delay_us if case.known_us is None else max(case.known_us[at], happened)
    before = happened <= time - feature.delay_us
    if not feature.delay_us:
        before = (happened, at) <= (time, key) if feature.with_current else (happened, at) < (time, key)
    inside = before and happened > time - feature.reach_us and known <= time
    names = feature.where.names if feature.where else ()
    met = ("kind" not in names) or (case.kind[at] > 1 if len(names) == 1 else case.kind[at] != 2)
    met = met and ("amount" not in names or (amount is not None and amount / 100 <= 10))
    return entity == case.entity[at] != NO_ENTITY and inside and met and (feature.of != "amount" or amount is not None)


def _offline(case: _Case, feature: WindowFeature) -> np.ndarray:
    missing = np.array([each is None for each in case.amount], bool)
    values = {
        "amount": Values(np.array([each or 0 for each in case.amount], np.int64), missing, 2),
        "kind": Values(np.array(case.kind, np.int64), np.zeros(len(missing), bool)),
    }
    known = None if case.known_us is None else np.array(case.known_us, np.int64)
    entity, time = np.array(case.entity, np.int64), np.array(case.time_us, np.int64)
    events = Events({"u": entity}, time, np.arange(len(time)), values, known, case.delay_us)
    rows = np.array(case.rows, np.int64).reshape(-1, 3)
    found = windows(events, Moments({"u": rows[:, 0]}, rows[:, 1], rows[:, 2]), [feature])["f"]
    if case.rows == list(zip(case.entity, case.time_us, range(len(time)), strict=True)):
        # Rows that are the events themselves are not looked for among them.
        own = windows(events, Moments(events.entities, events.time_us, events.key_rank), [feature])["f"]
        assert np.array_equal(own, found, equal_nan=True)
    return found


def _online(case: _Case, feature: WindowFeature, own: str = "stored") -> np.ndarray:
    """Compute online; the event that a row is comes among the stored ones, "apart" from them, or "also" by itself."""
    known = {"known_at": "known"} if case.known_us is not None else {}
    delay = {"delay": f"{case.delay_us // _MS}ms"} if case.delay_us else {}
    values = {"amount": {"decimals": 2}, "kind": {"type": "integer"}}
    source = EventSource.model_validate({"entities": ["u"], "values": values, **known, **delay})
    plan, codec = WindowPlan([feature], {"s": source}), EventCodec(source)

    def stored(at: int) -> StoredEvent:
        happened = case.time_us[at]
        since = happened if case.known_us is None else max(case.known_us[at], happened)
        return StoredEvent(happened, event_key(at), since, codec.pack([case.amount[at], case.kind[at], "u"]))

    found = []
    for entity, time, key in case.rows:
        places = [at for at in range(len(case.time_us)) if case.entity[at] == entity != NO_ENTITY]
        events = [stored(at) for at in places if own != "apart" or at != key]
        itself = []
        if own != "stored":
            _, _, known_us, payload = stored(key)
            names = (None if entity == NO_ENTITY else str(entity),)
            itself = [OwnEvent("s", Event(event_key(key), time, known_us, names, payload), False)]
        found.append(plan.compute([fold_by_key(events)], time, event_key(key), itself)[0].value)
    return np.array(found, np.float64)


def test_a_mean_is_rounded_once():
    """The exact sum is divided once, by the count in units of the last decimal place."""
    assert aggregates.mean(3333, 10, 2) == 3.333
    assert aggregates.means(np.array([3333]), np.array([10]), 2)[0] == 3.333
