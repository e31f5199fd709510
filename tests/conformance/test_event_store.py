"""The conformance suite of the event stores: one set of cases, every driver."""

from __future__ import annotations

import asyncio
import itertools
import json
import pickle
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data.errors import ConfigError, StoreError, StoreUnavailable
from data.event_store import EventOutcome, EventStore, OwnEvent, RowEvents, RowQuery, open_events
from data.feature_views.event import Event, EventCodec, event_key
from data.feature_views.online_windows import Slice, StoredEvent, WindowPlan
from data.schema.event_source import EventSource
from data.schema.scratch_name import scratch_name
from data.schema.window_feature import Aggregate, WindowFeature
from data.settings import Settings

SECOND = 1_000_000
HOUR = 3600 * SECOND
CARDS = {
    "swipes": EventSource.model_validate(
        {"entities": ["card", "shop"], "values": {"amount": {"decimals": 2}}, "record": True}
    ),
    "reports": EventSource.model_validate(
        {"entities": ["card"], "values": ["fraud"], "key": "id", "time": "at", "known_at": "known"}
    ),
}
CARD, SHOP = Slice("swipes", "card", HOUR), Slice("swipes", "shop", HOUR)
CODEC = EventCodec(CARDS["swipes"])
NOW = time.time_ns() // 1000 - HOUR

Open = Callable[..., EventStore]


@pytest.fixture
def open_(store_settings: Settings) -> Iterator[Open]:
    """Opens stores, by default for writing and of one use case that is new in every test; closes them in the end."""
    opened: list[EventStore] = []
    fresh = f"cards_{uuid.uuid4().hex[:8]}"

    def open_one(use_case: str = fresh, *, sources: Mapping[str, EventSource] = CARDS, create: bool = True):
        opened.append(open_events(store_settings, use_case, sources, keep_us=24 * HOUR, create=create))
        return opened[-1]

    yield open_one
    for store in opened:
        store.close()


@pytest.fixture
def looks(store_settings: Settings) -> bool:
    """Whether the store looks at what is there before it writes, and so can say what became of an event."""
    return store_settings.store == "sqlite"


def swipe(key: int | str, time_us: int, card: str | None = "c", shop: str | None = None, amount: int = 100) -> Event:
    """An event of a card at a shop."""
    return Event(event_key(key), time_us, time_us, (card, shop), CODEC.pack([amount, card, shop]))


def row(key: int | str, time_us: int | None, *entities: str | None, own: Sequence[OwnEvent] = ()) -> RowQuery:
    """A row that is scored."""
    return RowQuery(event_key(key), time_us, entities or ("c",), tuple(own))


def swiped(key: int | str, card: str = "c", time_us: int | None = None) -> RowQuery:
    """A row that is scored and recorded, by default at the time when the store takes it."""
    return row(key, time_us, card, own=[OwnEvent("swipes", swipe(key, time_us or 0, card), True)])


def fetch(store: EventStore, *rows: RowQuery, slices: Sequence[Slice] = (CARD,)) -> list[RowEvents]:
    """Record and read with an event loop of its own."""
    return asyncio.run(store.fetch(slices, rows, 10.0))


def stored(*events: Event) -> list[StoredEvent]:
    """Events as a store returns them."""
    return [StoredEvent(each.time_us, each.key, each.known_us, each.payload) for each in events]


def seen(store: EventStore, time_us: int, *entities: str | None, slices: Sequence[Slice] = (CARD,)) -> list[list]:
    """The events of entities up to a time."""
    return [list(events) for events in fetch(store, row("?", time_us, *entities), slices=slices)[0].events]


def test_nothing_stored_is_nothing_read(open_: Open):
    """An entity without events has none, and so has one that the row does not name; no rows are no answers."""
    store = open_()
    assert store.append("swipes", []) == []
    assert seen(store, NOW, None) == seen(store, NOW, "nobody") == [[]]
    assert fetch(store) == []


def test_events_come_back_in_order(open_: Open):
    """Ascending in time and then in key, numbers by size before text, whatever the order in which they were stored."""
    store = open_()
    events = [swipe(9, NOW), swipe(10, NOW), swipe("10", NOW), swipe("9", NOW), swipe(1, NOW + 1)]
    assert store.append("swipes", events[::-1]) == [EventOutcome.TAKEN] * 5
    assert seen(store, NOW + 1, "c") == [stored(*events)]


def test_ends_of_a_slice(open_: Open):
    """An event as old as the reach is outside, one at the row's time is inside, and what is later is not read."""
    store = open_()
    events = [swipe(at, NOW + us) for at, us in enumerate((-HOUR, 1 - HOUR, -1, 0, 1))]
    store.append("swipes", events)
    assert seen(store, NOW, "c") == [stored(*events[1:4])]


def test_a_slice_of_many_days(open_: Open):
    """A window of a year reads the events of the whole year."""
    store = open_()
    year = 365 * 24 * HOUR
    events = [swipe(at, NOW - year + 1 + at * 73 * 24 * HOUR) for at in range(5)]
    store.append("swipes", [*events, swipe(9, NOW - year)])
    assert seen(store, NOW, "c", slices=[Slice("swipes", "card", year)]) == [stored(*events)]


def test_each_entity_has_its_events(open_: Open):
    """One event is found by each of its entities; one without an entity by the others; entities do not mix."""
    store = open_()
    both, card, shop = swipe(1, NOW, "x", "y"), swipe(2, NOW, "x", None), swipe(3, NOW, None, "x")
    store.append("swipes", [both, card, shop])
    assert seen(store, NOW, "x", "y", slices=(CARD, SHOP)) == [stored(both, card), stored(both)]
    assert seen(store, NOW, "y", "x", slices=(CARD, SHOP)) == [[], stored(shop)]


def test_sources_and_use_cases_do_not_mix(open_: Open):
    """An event is found in its source and use case alone, and not when the source is made of something else."""
    store, key = open_(), swipe(1, NOW)
    store.append("swipes", [key])
    other = CARDS | {"swipes": EventSource.model_validate({"entities": ["card", "shop"], "values": ["amount"]})}
    assert seen(open_("another"), NOW, "c") == seen(open_(sources=other), NOW, "c") == [[]]
    assert seen(store, NOW, "c", slices=[Slice("reports", "card", HOUR)]) == [[]]


@pytest.mark.parametrize("entity", ["'; DROP TABLE events; --", "日本語", "nul\x00inside", " ", "k" * 10_000])
def test_odd_entities(open_: Open, entity: str):
    """The key of an entity may be any text."""
    store, event = open_(), swipe(1, NOW, entity)
    store.append("swipes", [event])
    assert seen(store, NOW, entity) == [stored(event)]


@pytest.mark.parametrize("entity", ["half a pair \ud800", "k" * 70_000], ids=["surrogate", "too long"])
def test_entities_that_cannot_be_stored(open_: Open, entity: str):
    """Such an entity has no events; an event of it is refused by name, and with it the call."""
    store = open_()
    bad = Event(event_key(2), NOW, NOW, (entity, None), b"")
    assert seen(store, NOW, entity) == [[]]
    with pytest.raises(StoreError, match="is not UTF-8, or is too long"):
        store.append("swipes", [swipe(1, NOW), bad])
    assert seen(store, NOW, "c") == [[]]


def test_event_time_beyond_64_bits(open_: Open):
    """A time that no store can hold is refused by name."""
    with pytest.raises(StoreError, match="146,000 years"):
        open_().append("swipes", [swipe(1, 2**63)])


def test_a_repeat_changes_nothing(open_: Open, looks: bool):
    """The same events again, in the same call or a later one, are what they were."""
    store, event = open_(), swipe(1, NOW)
    again = EventOutcome.REPEATED if looks else EventOutcome.TAKEN
    assert store.append("swipes", [event, event]) == [EventOutcome.TAKEN, again]
    assert store.append("swipes", [event]) == [again]
    assert seen(store, NOW, "c") == [stored(event)]


def report(key: int, time_us: int, known_us: int, card: str = "c", fraud: int = 0) -> Event:
    """An event whose content is known later than it happened."""
    packed = EventCodec(CARDS["reports"]).pack([fraud, card])
    return Event(event_key(key), time_us, known_us, (card,), packed)


REPORTS = Slice("reports", "card", HOUR)


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_the_content_known_latest_stays(open_: Open, order: Sequence[int], looks: bool):
    """Of three contents of a key, at two times and of two cards, the one known latest, in whatever order they come."""
    store = open_()
    contents = [
        report(1, NOW, NOW + 1, fraud=1),
        report(1, NOW + 5, NOW + 9, "d", fraud=2),
        report(1, NOW, NOW + 20, fraud=3),
    ]
    for each in order:
        outcome = store.append("reports", [contents[each]])[0]
        assert outcome in (EventOutcome.TAKEN, EventOutcome.REVISED, EventOutcome.SUPERSEDED)
    if looks:
        assert store.append("reports", contents) == [EventOutcome.SUPERSEDED] * 2 + [EventOutcome.REPEATED]
        assert seen(store, NOW + 9, "d", slices=[REPORTS]) == [[]]
    assert seen(store, NOW + 9, "c", slices=[REPORTS]) == [stored(contents[2])]


def test_another_content_known_since_the_same_time_is_refused(open_: Open, looks: bool):
    """Where the store can tell it says so, and keeps the first; of two contents at most one is ever read."""
    store = open_()
    first, other = report(1, NOW, NOW + 1, fraud=1), report(1, NOW, NOW + 1, fraud=2)
    outcomes = store.append("reports", [first, other])
    found = seen(store, NOW, "c", slices=[REPORTS])
    if looks:
        assert (outcomes, found) == ([EventOutcome.TAKEN, EventOutcome.CONFLICT], [stored(first)])
    assert found in ([stored(first)], [stored(other)])


PLAN = WindowPlan(
    [
        WindowFeature(f"{source}_{aggregate.value}", aggregate, HOUR, 0, source, "card", of, None, False)
        for source, of in (("swipes", "amount"), ("reports", "fraud"))
        for aggregate in (Aggregate.COUNT, Aggregate.SUM, Aggregate.LAST, Aggregate.STD)
    ],
    CARDS,
)
counter = itertools.count()


@pytest.fixture
def cache() -> dict[str, EventStore]:
    """Keeps one open store across the examples of a property."""
    return {}


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_order_of_arrival_decides_nothing(open_: Open, data: st.DataObject, cache: dict[str, EventStore]):
    """Whatever the order, the calls and the repeats in which events and revisions come, the windows are the same."""
    store = cache.setdefault("store", cache.get("store") or open_())
    run = f"run {next(counter)}"
    drawn = data.draw(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 6), st.integers(0, 9)), max_size=12))
    swipes = {key: swipe(f"{run}/{key}", NOW - time_us, run, amount=amount) for key, time_us, amount in drawn}
    reports = {}
    for key, time_us, known in drawn:
        # A content for each moment of knowing, so that no two are known since the same.
        each = Event(event_key(f"{run}/{key}"), NOW - time_us % 2, NOW + known, (run,), b"")
        reports[key, known] = each._replace(payload=EventCodec(CARDS["reports"]).pack([known, run]))
    sent = [("swipes", each) for each in swipes.values()] + [("reports", each) for each in reports.values()]
    sent += data.draw(st.lists(st.sampled_from(sent), max_size=5)) if sent else []
    for source, each in data.draw(st.permutations(sent)):
        store.append(source, [each])
    query = RowQuery(event_key("~"), NOW + 10, (run,) * 2)
    found = fetch(store, query, slices=PLAN.slices)[0]
    latest: dict[bytes, Event] = {}
    for each in sorted(reports.values(), key=lambda event: event.known_us):
        latest[each.key] = each
    expected = [sorted(stored(*swipes.values())), sorted(stored(*latest.values()))]
    assert [list(each) for each in found.events] == expected
    assert PLAN.compute(found.events, NOW + 10, query.key) == PLAN.compute(expected, NOW + 10, query.key)


def test_rows_of_one_call_see_those_before_them(open_: Open):
    """Many recorded rows in one call are taken in their order, and each sees those before it and itself."""
    answers = fetch(open_(), *(swiped(at) for at in range(40)))
    assert [len(each.events[0]) for each in answers] == list(range(1, 41))
    times = [each.time_us for each in answers]
    assert times == sorted(set(times))
    assert {each.outcomes for each in answers} == {(EventOutcome.TAKEN,)}


def test_a_row_recorded_again_has_the_time_it_had(open_: Open, looks: bool):
    """Sent again without a time, by whatever way, it is one event at its first time and sees what it saw."""
    store = open_()
    first = fetch(store, swiped("a"))[0]
    fetch(store, swiped("b"))
    again = fetch(open_(), swiped("a"))[0]
    assert again == first._replace(outcomes=(EventOutcome.REPEATED,))
    later = fetch(store, row("?", None, "c"))[0].events[0]
    assert [event.key for event in later] == [event_key("a"), event_key("b")]


def test_a_row_with_a_time_keeps_it(open_: Open):
    """A recorded row that comes with its time is an event at that time, and sees none that are later."""
    store = open_()
    store.append("swipes", [swipe("late", NOW + 5), swipe("early", NOW - 5)])
    answer = fetch(store, swiped("a", time_us=NOW))[0]
    assert (answer.time_us, answer.outcomes) == (NOW, (EventOutcome.TAKEN,))
    assert [event.key for event in answer.events[0]] == [event_key("early"), event_key("a")]


def test_an_event_that_is_not_to_be_recorded_is_not(open_: Open):
    """The own event of a row counts in the row's windows by `WindowPlan` alone."""
    store = open_()
    own = OwnEvent("swipes", swipe("a", NOW), False)
    answer = fetch(store, row("a", NOW, "c", own=[own]))[0]
    assert (answer.outcomes, answer.events) == ((), ([],))
    assert seen(store, NOW, "c") == [[]]


def test_what_one_store_records_another_sees(open_: Open):
    """The next row, at whichever store of whichever process, sees the one before: 0, 1, ..., 19."""
    stores = [open_(), open_()]
    before = [len(fetch(stores[at % 2], swiped(at))[0].events[0]) - 1 for at in range(20)]
    assert before == list(range(20))


SWIPER = """
import asyncio, json, sys
from data.event_store import OwnEvent, RowQuery, open_events
from data.feature_views.event import Event, event_key
from data.feature_views.online_windows import Slice
from data.schema.event_source import EventSource
from data.schema.scratch_name import scratch_name
from data.settings import Settings

said = json.loads(sys.argv[1])
sources = {name: EventSource.model_validate(each) for name, each in said["sources"].items()}
store = open_events(Settings(**said["settings"]), said["use_case"], sources)
print("open", flush=True)

async def swipe(key):
    own = OwnEvent("swipes", Event(event_key(key), 0, 0, ("c", None), b""), True)
    row = RowQuery(event_key(key), None, ("c",), (own,))
    return len((await store.fetch([Slice("swipes", "card", 3_600_000_000)], [row], 20.0))[0].events[0]) - 1

async def swipes(keys):
    return await asyncio.gather(*map(swipe, keys))

for line in sys.stdin:
    print(json.dumps(asyncio.run(swipes(json.loads(line)))), flush=True)
"""


def child(code: str, store_settings: Settings, use_case: str) -> subprocess.Popen[str]:
    """A process that has the store open."""
    names = ("store", "var_dir", "cassandra_hosts", "cassandra_keyspace", "cassandra_read_timeout_ms")
    said = {
        "settings": {name: str(getattr(store_settings, name)) for name in names},
        "sources": {name: each.model_dump(mode="json", exclude_unset=True) for name, each in CARDS.items()},
        "use_case": use_case,
    }
    process = subprocess.Popen(
        [sys.executable, "-c", code, json.dumps(said)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "open\n"
    return process


def test_fifty_at_once_from_two_processes(open_: Open, store_settings: Settings, looks: bool):
    """Of 50 swipes at once none is lost; a store that has a lock gives each another number, 0 to 49."""
    use_case = f"fifty_{uuid.uuid4().hex[:8]}"
    store = open_(use_case)
    children = [child(SWIPER, store_settings, use_case) for _ in range(2)]
    try:
        numbers: list[int] = []
        for at, process in enumerate(children):
            assert process.stdin is not None
            process.stdin.write(json.dumps([f"{at}/{each}" for each in range(25)]) + "\n")
            process.stdin.flush()
        for process in children:
            assert process.stdout is not None
            numbers += json.loads(process.stdout.readline())
    finally:
        for process in children:
            process.kill()
            process.communicate()
    assert len(fetch(store, row("?", None, "c"))[0].events[0]) == 50
    if looks:
        assert sorted(numbers) == list(range(50))


APPENDER = """
import json, sys
from data.event_store import open_events
from data.feature_views.event import Event, event_key
from data.schema.event_source import EventSource
from data.schema.scratch_name import scratch_name
from data.settings import Settings

said = json.loads(sys.argv[1])
sources = {name: EventSource.model_validate(each) for name, each in said["sources"].items()}
store = open_events(Settings(**said["settings"]), said["use_case"], sources)
print("open", flush=True)
now = int(sys.stdin.readline())
for start in range(0, 1_000_000, 50):
    store.append("swipes", [Event(event_key(key), now, now, ("c", "s"), b"") for key in range(start, start + 50)])
    print(start + 50, flush=True)
"""


def test_a_killed_writer_loses_nothing_that_was_answered(open_: Open, store_settings: Settings):
    """After a kill -9 in the middle of an append all that was answered is there, for each of its entities."""
    use_case = f"killed_{uuid.uuid4().hex[:8]}"
    store = open_(use_case)
    process = child(APPENDER, store_settings, use_case)
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(f"{NOW}\n")
    process.stdin.flush()
    answered = [int(process.stdout.readline()) for _ in range(20)][-1]
    process.send_signal(signal.SIGKILL)
    rest, _ = process.communicate()
    answered = max([answered, *map(int, rest.split())])
    found = seen(store, NOW, "c", "s", slices=(CARD, SHOP))
    for events in found:
        assert {event_key(key) for key in range(answered)} <= {event.key for event in events}
    again = [Event(event_key(key), NOW, NOW, ("c", "s"), b"") for key in range(answered + 50)]
    store.append("swipes", again)
    assert seen(store, NOW, "c", "s", slices=(CARD, SHOP)) == [sorted(stored(*again))] * 2


def test_events_that_are_too_old_can_be_removed(open_: Open, looks: bool):
    """What lies before a time is removed, where the store does not do it by itself; the rest stays."""
    store = open_()
    events = [swipe(at, NOW + at, shop="s") for at in range(1200)]
    store.append("swipes", events)
    assert store.expire("swipes", NOW + 1100) == (1100 if looks else 0)
    if looks:
        assert seen(store, NOW + HOUR - 1, "c", "s", slices=(CARD, SHOP)) == [stored(*events[1100:])] * 2
        assert store.append("swipes", events[:1]) == [EventOutcome.TAKEN]


def test_ping_and_close(open_: Open):
    """An open store answers ping; a closed one raises on every call, and closing again is fine."""
    store = open_()
    asyncio.run(store.ping())
    store.close()
    store.close()
    for call in (
        lambda: fetch(store, row(1, NOW)),
        lambda: fetch(store, swiped(1)),
        lambda: asyncio.run(store.ping()),
        lambda: store.append("swipes", [swipe(1, NOW)]),
        lambda: store.expire("swipes", NOW),
    ):
        with pytest.raises(StoreUnavailable, match="closed"):
            call()


def test_cannot_be_pickled(open_: Open):
    """A store refuses to be sent to another process, and says what to do."""
    with pytest.raises(TypeError, match="open the store where it is used"):
        pickle.dumps(open_())


def test_unclosed_store_is_reported(store_settings: Settings):
    """A store that is dropped without close is a ResourceWarning."""
    with pytest.warns(ResourceWarning, match="unclosed event store"):
        open_events(store_settings, "leaked", CARDS, create=True)


def test_unknown_driver_is_a_config_error():
    """A store that is not known is refused with the names of those that are."""
    unknown = Settings.model_construct(store="redis")
    with pytest.raises(ConfigError, match="known: sqlite, cassandra"):
        open_events(unknown, "v", CARDS)


def test_only_a_scratch_store_is_emptied(open_: Open):
    """Emptied, a scratch store takes the same events again; the live store refuses, and keeps what it has."""
    name = f"cards_{uuid.uuid4().hex[:8]}"
    live, scratch = open_(name), open_(scratch_name(name))
    for store in (live, scratch):
        store.append("swipes", [swipe(1, NOW)])
    scratch.append("swipes", [swipe(2, NOW)])
    assert seen(live, NOW, "c") == [stored(swipe(1, NOW))]
    scratch.empty()
    assert seen(scratch, NOW, "c") == [[]]
    scratch.append("swipes", [swipe(2, NOW)])
    assert seen(scratch, NOW, "c") == [stored(swipe(2, NOW))]
    with pytest.raises(StoreError, match="is live and cannot be emptied"):
        live.empty()
    assert seen(live, NOW, "c") == [stored(swipe(1, NOW))]
