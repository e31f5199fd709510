"""The conformance suite of the online stores: one set of cases, every driver."""

from __future__ import annotations

import asyncio
import itertools
import pickle
import random
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data.errors import ConfigError, StoreError, StoreUnavailable
from data.online_store import OnlineStore, Outcome, StoredRow, open_store
from data.schema.scratch_name import scratch_name
from data.settings import Settings

ODD_KEYS = [
    "a b",
    "42",
    "'; DROP TABLE feature_rows; --",
    "zażółć gęślą jaźń",
    "日本語",
    "🂡",
    "e\u0301",
    "\u00e9",
    "nul\x00inside",
    "line\nbreak",
    "k" * 10_000,
    "%_*?",
    " ",
]

Open = Callable[..., OnlineStore]


@pytest.fixture
def open_(store_settings: Settings) -> Iterator[Open]:
    """Opens stores, by default for writing and of one view that is new in every test; closes them in the end."""
    opened: list[OnlineStore] = []
    fresh = f"cards@{uuid.uuid4().hex[:8]}"

    def open_one(view: str = fresh, *, ttl_seconds: int | None = None, create: bool = True) -> OnlineStore:
        opened.append(open_store(store_settings, view, ttl_seconds, create=create))
        return opened[-1]

    yield open_one
    for store in opened:
        store.close()


def get(store: OnlineStore, *entities: str) -> list[bytes | None]:
    """Read with an event loop of its own."""
    return asyncio.run(store.get_many(entities))


def written_by_hand(rows: Sequence[StoredRow]) -> tuple[dict[str, StoredRow], list[Outcome]]:
    """What must be stored after `rows` were written one after the other, and what must be said of each."""
    stored: dict[str, StoredRow] = {}
    outcomes = []
    for row in rows:
        before = stored.get(row.entity)
        if before is None or before.event_us < row.event_us:
            outcomes.append(Outcome.WRITTEN)
        elif before.event_us > row.event_us:
            outcomes.append(Outcome.OLDER)
        else:
            outcomes.append(Outcome.UNCHANGED if before == row else Outcome.CORRECTED)
        if outcomes[-1] is not Outcome.OLDER:
            stored[row.entity] = row
    return stored, outcomes


def test_absent_entity_is_none(open_: Open):
    """A key that was never written reads as None, alone and among others."""
    store = open_()
    store.put_many([StoredRow("here", 1, b"x")])
    assert get(store, "absent") == [None]
    assert get(store, "absent", "here", "gone") == [None, b"x", None]


def test_order_and_duplicates_are_kept(open_: Open):
    """The answer has the length and order of the question, repeated keys included."""
    store = open_()
    store.put_many([StoredRow(name, 1, name.encode()) for name in "abc"])
    assert get(store, *"cabbac") == [b"c", b"a", b"b", b"b", b"a", b"c"]
    assert get(store, "a", "a") == [b"a", b"a"]


def test_empty_batches(open_: Open):
    """Nothing asked is nothing answered; nothing to write is fine."""
    store = open_()
    assert store.put_many([]) == []
    assert get(store) == []


def test_newer_row_replaces(open_: Open):
    """A row with a newer event time takes the place of an older one."""
    store = open_()
    store.put_many([StoredRow("k", 1, b"zzz")])
    store.put_many([StoredRow("k", 2, b"a")])
    assert get(store, "k") == [b"a"]


def test_late_and_repeated_rows_change_nothing(open_: Open):
    """An older row that arrives late, and the same row again, leave the newer one."""
    store = open_()
    newest = StoredRow("k", 1_700_000_000_000_005, b"new")
    older = newest._replace(event_us=newest.event_us - 1, payload=b"zzz")
    steps = ((newest, Outcome.WRITTEN), (older, Outcome.OLDER), (newest, Outcome.UNCHANGED), (older, Outcome.OLDER))
    for row, expected in steps:
        assert store.put_many([row]) == [expected]
        assert get(store, "k") == [b"new"]


def test_event_times_before_1970(open_: Open):
    """Event times may be negative or zero, and order holds across."""
    store = open_()
    store.put_many([StoredRow("k", -5, b"old"), StoredRow("k", 0, b"new")])
    store.put_many([StoredRow("k", -1, b"zzz")])
    assert get(store, "k") == [b"new"]


@pytest.mark.parametrize(("first", "second"), [(b"a", b"z"), (b"z", b"a"), (b"zz", b""), (b"", b"a")])
@pytest.mark.parametrize("ttl_seconds", [None, 3600])
def test_correction_at_the_same_time_wins(open_: Open, first: bytes, second: bytes, ttl_seconds: int | None):
    """Of two rows with one event time the later written stays, whatever its bytes; written again it is unchanged."""
    store = open_(ttl_seconds=ttl_seconds)
    row = StoredRow("k", time.time_ns() // 1000, first)
    assert store.put_many([row]) == [Outcome.WRITTEN]
    assert store.put_many([row._replace(payload=second)]) == [Outcome.CORRECTED]
    assert store.put_many([row._replace(payload=second)]) == [Outcome.UNCHANGED]
    assert get(store, "k") == [second]


def test_later_of_two_rows_in_one_call_wins(open_: Open):
    """Rows of one entity and time in one call replace each other in their order, as those of two calls do."""
    store = open_()
    one, two = StoredRow("k", 5, b"1"), StoredRow("k", 5, b"2")
    assert store.put_many([two, one]) == [Outcome.WRITTEN, Outcome.CORRECTED]
    assert get(store, "k") == [b"1"]
    assert store.put_many([one, two, one, two]) == [Outcome.UNCHANGED] + [Outcome.CORRECTED] * 3
    assert get(store, "k") == [b"2"]


@pytest.mark.parametrize("ttls", [(3600, 600), (600, 3600), (3600, None), (None, 3600)])
def test_correction_wins_under_another_time_to_live(open_: Open, ttls: tuple[int | None, int | None]):
    """A correction stays that was written after the time to live was shortened, lengthened, given or taken away."""
    before, after = (open_(ttl_seconds=ttl_seconds) for ttl_seconds in ttls)
    row = StoredRow("k", time.time_ns() // 1000, b"z")
    before.put_many([row])
    assert after.put_many([row]) == [Outcome.UNCHANGED]
    for payload in (b"y", b"x"):
        assert after.put_many([row._replace(payload=payload)]) == [Outcome.CORRECTED]
        assert get(before, "k") == [payload]


counter = itertools.count()


@pytest.mark.parametrize("ttl_seconds", [None, 3600])
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_every_arrival_gives_the_right_rows_and_outcomes(
    open_: Open, ttl_seconds: int | None, data: st.DataObject, cache: dict[str, OnlineStore]
):
    """In whatever order and calls rows arrive, the latest and last written is stored, and of each the truth is said."""
    store = cache.setdefault("store", cache.get("store") or open_(ttl_seconds=ttl_seconds))
    run, now_us = next(counter), time.time_ns() // 1000
    drawn = st.tuples(st.integers(0, 2), st.integers(-3, 0), st.sampled_from([b"", b"a", b"b", b"\xff"]))
    rows = [
        StoredRow(f"{run}/{entity}", now_us + age_us, payload)
        for entity, age_us, payload in data.draw(st.lists(drawn, min_size=1, max_size=12).flatmap(st.permutations))
    ]
    cuts = sorted(data.draw(st.lists(st.integers(0, len(rows)), max_size=3)))
    calls = [rows[start:end] for start, end in itertools.pairwise([0, *cuts, len(rows)])]
    stored, outcomes = written_by_hand(rows)
    assert [said for call in calls for said in store.put_many(call)] == outcomes
    assert get(store, *stored) == [row.payload for row in stored.values()]


@pytest.fixture
def cache() -> dict[str, OnlineStore]:
    """Keeps one open store across the examples of a property."""
    return {}


def test_views_do_not_mix(open_: Open):
    """The same entity in two views is two rows."""
    one, two = open_("one@1"), open_("two@1")
    entity = uuid.uuid4().hex
    one.put_many([StoredRow(entity, 9, b"1")])
    assert get(two, entity) == [None]
    two.put_many([StoredRow(entity, 1, b"2")])
    assert get(one, entity) + get(two, entity) == [b"1", b"2"]


def test_thousand_keys_in_one_call(open_: Open):
    """A thousand keys, half of them absent, come back in order from one call."""
    store = open_()
    store.put_many([StoredRow(f"user_{i}", i, i.to_bytes(4, "big")) for i in range(0, 1000, 2)])
    keys = [f"user_{i}" for i in range(1000)]
    random.Random(0).shuffle(keys)
    numbers = [int(key.removeprefix("user_")) for key in keys]
    assert get(store, *keys) == [None if n % 2 else n.to_bytes(4, "big") for n in numbers]


def test_odd_keys_are_kept_apart(open_: Open):
    """Keys may be any text: long, Unicode (not normalized), with quotes, NUL or line breaks."""
    store = open_()
    store.put_many([StoredRow(key, 1, str(i).encode()) for i, key in enumerate(ODD_KEYS)])
    assert get(store, *ODD_KEYS) == [str(i).encode() for i in range(len(ODD_KEYS))]
    assert [get(store, key) for key in ODD_KEYS] == [[str(i).encode()] for i in range(len(ODD_KEYS))]


@pytest.mark.parametrize("key", ["", "k" * 65_536, "half a pair \ud800"], ids=["empty", "too long", "surrogate"])
def test_keys_that_cannot_be_stored(open_: Open, key: str):
    """A key that no store can hold reads as absent without harm to others; writing it is refused by name."""
    store = open_()
    store.put_many([StoredRow("good", 1, b"x")])
    assert get(store, key) == [None]
    assert get(store, "good", key, "good") == [b"x", None, b"x"]
    with pytest.raises(StoreError, match="cannot be a key"):
        store.put_many([StoredRow("other", 1, b"y"), StoredRow(key, 1, b"z")])
    assert get(store, "other") == [None]


@pytest.mark.parametrize("event_us", [2**63, -(2**63)])
def test_event_time_beyond_64_bits(open_: Open, event_us: int):
    """An event time that no store can hold is an error, and nothing of the batch is written."""
    store = open_()
    with pytest.raises(StoreError, match="entity 'b': event time"):
        store.put_many([StoredRow("a", 1, b"y"), StoredRow("b", event_us, b"z")])
    assert get(store, "a") == [None]


@pytest.mark.parametrize(
    "payload", [b"", b"\x00", bytes(range(256)), b"\xff" * 5000], ids=["empty", "nul", "all bytes", "long"]
)
def test_payload_is_exact(open_: Open, payload: bytes):
    """Bytes come back as they were written, as `bytes`."""
    store = open_()
    store.put_many([StoredRow("k", 1, payload)])
    found = get(store, "k")[0]
    assert (type(found), found) == (bytes, payload)


def test_two_writers_at_once(open_: Open):
    """Of two writers with overlapping rows the latest row stays; which one where both wrote it is for them to say."""
    rnd = random.Random(1)
    rows = [[StoredRow(f"k{rnd.randrange(50)}", rnd.randrange(20), rnd.randbytes(2)) for _ in range(400)] for _ in "ab"]
    writers = [open_(), open_()]

    def write(store: OnlineStore, mine: list[StoredRow]) -> None:
        for start in range(0, len(mine), 40):
            store.put_many(mine[start : start + 40])

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(write, writers, rows))
    last = [written_by_hand(mine)[0] for mine in rows]
    entities = sorted(last[0].keys() | last[1].keys())
    for entity, payload in zip(entities, get(open_(create=False), *entities), strict=True):
        theirs = [mine[entity] for mine in last if entity in mine]
        latest = max(row.event_us for row in theirs)
        assert payload in [row.payload for row in theirs if row.event_us == latest]


def test_reader_sees_later_writes(open_: Open):
    """A reader that was opened before a row was written finds it."""
    writer = open_()
    reader = open_(create=False)
    assert get(reader, "k") == [None]
    writer.put_many([StoredRow("k", 1, b"x")])
    assert get(reader, "k") == [b"x"]


def test_reads_at_once_on_one_loop(open_: Open):
    """Many reads under way at once each get their own answer."""
    store = open_()
    store.put_many([StoredRow(f"k{i}", 1, str(i).encode()) for i in range(50)])

    async def read_all() -> list[list[bytes | None]]:
        return await asyncio.gather(*(store.get_many([f"k{i}", "absent", f"k{49 - i}"]) for i in range(50)))

    assert asyncio.run(read_all()) == [[str(i).encode(), None, str(49 - i).encode()] for i in range(50)]


def test_creating_again_keeps_rows(open_: Open):
    """Opening for writing is idempotent: what is there stays."""
    open_().put_many([StoredRow("k", 1, b"x")])
    assert get(open_(), "k") == [b"x"]


def test_ping_and_close(open_: Open):
    """An open store answers ping; a closed one raises on every call, and closing again is fine."""
    store = open_()
    asyncio.run(store.ping())
    store.close()
    store.close()
    for call in (
        lambda: get(store, "k"),
        lambda: asyncio.run(store.ping()),
        lambda: store.put_many([StoredRow("k", 1, b"")]),
    ):
        with pytest.raises(StoreUnavailable, match="closed"):
            call()


def test_cannot_be_pickled(open_: Open):
    """A store refuses to be sent to another process, and says what to do."""
    with pytest.raises(TypeError, match="open the store where it is used"):
        pickle.dumps(open_())


def test_unclosed_store_is_reported(store_settings: Settings):
    """A store that is dropped without close is a ResourceWarning."""
    with pytest.warns(ResourceWarning, match="unclosed online store"):
        open_store(store_settings, "leaked@1", create=True)


def test_unknown_driver_is_a_config_error():
    """A store that is not known is refused with the names of those that are."""
    unknown = Settings.model_construct(store="redis")
    with pytest.raises(ConfigError, match="known: sqlite, cassandra"):
        open_store(unknown, "v@1")


def test_only_a_scratch_view_is_emptied(open_: Open):
    """Emptied, a scratch view takes rows of any time again; the live view refuses, and keeps what it has."""
    name = f"cards@{uuid.uuid4().hex[:8]}"
    live, scratch = open_(name), open_(scratch_name(name))
    for store, payload in ((live, b"live"), (scratch, b"scratch")):
        store.put_many([StoredRow("u1", 2_000_000, payload)])
    assert (get(live, "u1"), get(scratch, "u1")) == ([b"live"], [b"scratch"])
    scratch.empty()
    assert get(scratch, "u1") == [None]
    scratch.put_many([StoredRow("u1", 1_000_000, b"earlier")])
    assert get(scratch, "u1") == [b"earlier"]
    with pytest.raises(StoreError, match="is live and cannot be emptied"):
        live.empty()
    assert get(live, "u1") == [b"live"]
