"""The SQLite event store's own faults and guarantees: locks, clocks, missing, damaged, full and replaced files."""

from __future__ import annotations

import asyncio
import os
import resource
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from data.errors import StoreError, StoreUnavailable
from data.event_store import EventOutcome, OwnEvent, RowQuery
from data.event_store.sqlite.store import SqliteEvents
from data.feature_views.events.event import Event, event_key
from data.feature_views.online.online_windows import Slice
from data.schema.events.event_source import EventSource
from tests.support.environment.waiting import wait_for

SOURCES = {"swipes": EventSource.model_validate({"entities": ["card"], "values": ["amount"], "record": True})}
SLICES = (Slice("swipes", "card", 10**12),)
NOW = time.time_ns() // 1000
MANY = [Event(event_key(at), NOW + at, NOW + at, (f"card {at % 997}",), b"x" * 40) for at in range(20_000)]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Where the store is to be, in a folder that does not exist yet."""
    return tmp_path / "var" / "events.db"


@pytest.fixture
def store(file: Path) -> Iterator[SqliteEvents]:
    """An empty store that waits for a lock no longer than 50 ms."""
    with closing(SqliteEvents(file, "cards", SOURCES, create=True, lock_wait_s=0.05)) as made:
        yield made


def recorded(key: int, time_us: int | None = None, card: str = "c") -> RowQuery:
    """A row that is recorded."""
    own = OwnEvent("swipes", Event(event_key(key), time_us or 0, time_us or 0, (card,), b""), True)
    return RowQuery(event_key(key), time_us, (card,), (own,))


def record(store: SqliteEvents, key: int, time_us: int | None = None) -> int:
    """Record a row; returns its time in force."""
    return asyncio.run(store.fetch(SLICES, [recorded(key, time_us)]))[0].time_us


def count(store: SqliteEvents, card: str = "c") -> int:
    """The number of a card's events until well after now."""
    row = RowQuery(event_key(0), NOW + 10**11, (card,))
    return len(asyncio.run(store.fetch(SLICES, [row]))[0].events[0])


def raises(error: type[Exception], call: Callable[[], object]) -> bool:
    """True when the call raises the error."""
    try:
        call()
    except error:
        return True
    return False


def test_missing_file_is_not_made(file: Path):
    """Opened without `create` there must be a file: a mistyped path is no empty store."""
    with pytest.raises(StoreUnavailable, match=r"no event store at .*events\.db"):
        SqliteEvents(file, "cards", SOURCES)
    assert not file.parent.exists()


def test_a_file_of_an_earlier_version(store: SqliteEvents, file: Path):
    """A file whose events lie in other columns is refused, with what to do."""
    store.close()
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("ALTER TABLE entity_events RENAME COLUMN packed TO event")
    with pytest.raises(StoreError, match="by an earlier version: move it away, and ingest its events again"):
        SqliteEvents(file, "cards", SOURCES, create=True)


def test_database_without_tables(file: Path):
    """Another program's database is not taken for a store."""
    file.parent.mkdir()
    with closing(sqlite3.connect(file)) as other:
        other.execute("CREATE TABLE t (a)")
    with pytest.raises(StoreUnavailable, match="holds no events: it is another database"):
        SqliteEvents(file, "cards", SOURCES)


@pytest.mark.parametrize("create", [False, True])
def test_not_a_database(file: Path, create: bool):
    """A file of another kind is refused by name and left as it is."""
    file.parent.mkdir()
    file.write_text("user_id,amount\n" * 1000)
    with pytest.raises(StoreError, match=r"events\.db: file is not a database"):
        SqliteEvents(file, "cards", SOURCES, create=create)
    assert file.read_text() == "user_id,amount\n" * 1000


def test_folder_in_place_of_the_file(file: Path):
    """A folder of the store's name is refused for readers and writers."""
    file.mkdir(parents=True)
    for create in (False, True):
        with pytest.raises(StoreUnavailable, match=r"events\.db"):
            SqliteEvents(file, "cards", SOURCES, create=create)


def test_damaged_pages(store: SqliteEvents, file: Path):
    """Damage inside the file is an error that names it, not an entity without events."""
    store.append("swipes", MANY)
    store.close()
    with file.open("r+b") as raw:
        half = file.stat().st_size // 2
        raw.seek(half)
        raw.write(b"\xa5" * half)
    with closing(SqliteEvents(file, "cards", SOURCES)) as reader, pytest.raises(StoreError, match=r"events\.db.*malf"):
        for at in range(997):
            count(reader, f"card {at}")


def test_many_events_at_once_and_again(store: SqliteEvents):
    """Events of one call are stored in order of key, and what became of each is said in the order of the call."""
    mixed = [*MANY[:9000:3], *MANY[:9000], MANY[7]._replace(payload=b"other"), MANY[8]._replace(known_us=NOW * 2)]
    first, second = len(MANY[:9000:3]), len(MANY[:9000])
    outcomes = store.append("swipes", mixed)
    assert set(outcomes[:first]) == {EventOutcome.TAKEN}
    expected = [EventOutcome.TAKEN if at % 3 else EventOutcome.REPEATED for at in range(second)]
    assert outcomes[first : first + second] == expected
    assert outcomes[-2:] == [EventOutcome.CONFLICT, EventOutcome.REVISED]
    assert sum(count(store, f"card {at}") for at in range(997)) == 9000


def test_recording_beside_a_long_transaction(store: SqliteEvents, file: Path):
    """While another process writes, reading goes on; recording says that the file is locked, and succeeds later."""
    record(store, 1)
    with closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        assert count(store) == 1
        for call in (lambda: record(store, 2), lambda: store.append("swipes", MANY[:1])):
            with pytest.raises(StoreUnavailable, match="locked by another process"):
                call()
        other.execute("ROLLBACK")
    record(store, 2)
    assert count(store) == 2


def test_waiting_for_a_lock_leaves_the_loop_free(file: Path):
    """While one row waits for the lock, the loop answers others; the row is recorded once the lock is free."""

    async def both(store: SqliteEvents, other: sqlite3.Connection) -> tuple[int, int]:
        waiting = asyncio.create_task(store.fetch(SLICES, [recorded(1)]))
        reads = 0
        for _ in range(20):
            await store.fetch(SLICES, [RowQuery(b"?", NOW, ("c",))])
            await asyncio.sleep(0.001)
            reads += not waiting.done()
        other.execute("ROLLBACK")
        return reads, len((await waiting)[0].events[0])

    with (
        closing(SqliteEvents(file, "cards", SOURCES, create=True)) as store,
        closing(sqlite3.connect(file, isolation_level=None)) as other,
    ):
        other.execute("BEGIN IMMEDIATE")
        assert asyncio.run(both(store, other)) == (20, 1)


def test_a_clock_that_is_set_back(file: Path):
    """The times that stores of one file set go on rising, though the clock of one be a minute behind."""
    clocks = iter([NOW, NOW - 60_000_000, NOW - 60_000_000, NOW + 5])
    stores = [SqliteEvents(file, "cards", SOURCES, create=True, clock=lambda: next(clocks)) for _ in range(2)]
    assert [record(stores[at % 2], at) for at in range(4)] == [NOW, NOW + 1, NOW + 2, NOW + 5]
    for store in stores:
        store.close()


def test_a_clock_that_was_far_ahead(file: Path):
    """A time that was given out a day ahead of the clock does not hold up those that come once it is right again."""
    clocks = iter([NOW + 86_400_000_000, NOW])
    with closing(SqliteEvents(file, "cards", SOURCES, create=True, clock=lambda: next(clocks))) as store:
        assert [record(store, at) for at in range(2)] == [NOW + 86_400_000_000, NOW]


def test_an_event_in_the_future_does_not_move_the_clock(store: SqliteEvents):
    """A row without a time is taken now, whatever times others bring."""
    record(store, 1, NOW + 10**10)
    assert abs(record(store, 2) - time.time_ns() // 1000) < 10**9


def test_replaced_file_is_followed(store: SqliteEvents, file: Path, tmp_path: Path):
    """When another file takes the store's place, reads and writes soon go to it."""
    other = tmp_path / "other.db"
    with closing(SqliteEvents(other, "cards", SOURCES, create=True)) as made:
        made.append("swipes", [event._replace(entities=("c",)) for event in MANY[:3]])
    record(store, 1)
    for name in ("events.db-wal", "events.db-shm"):
        file.with_name(name).unlink()
    os.replace(other, file)
    wait_for(lambda: count(store) == 3, "the third event")
    assert store.append("swipes", [MANY[5]._replace(entities=("c",))]) == [EventOutcome.TAKEN]
    record(store, 10**6)
    assert count(store) == 5


def test_deleted_file_is_noticed(store: SqliteEvents, file: Path):
    """A deleted file soon makes every call fail with its name, and a new one in its place heals the store."""
    record(store, 1)
    for path in file.parent.iterdir():
        path.unlink()
    wait_for(lambda: raises(StoreUnavailable, lambda: count(store)), "reads to notice that the file is gone")
    wait_for(lambda: raises(StoreUnavailable, lambda: store.append("swipes", MANY[:1])), "writes to notice it, too")
    with pytest.raises(StoreUnavailable, match=r"events\.db is gone"):
        record(store, 2)
    SqliteEvents(file, "cards", SOURCES, create=True).close()
    record(store, 3)
    assert count(store) == 1


def test_a_file_that_goes_while_it_is_written_to(store: SqliteEvents, file: Path):
    """Events that went into a file which is gone when the call ends are not said to be stored."""

    class Removing(list):
        def __getitem__(self, at):
            for path in file.parent.iterdir():
                path.unlink()
            return super().__getitem__(at)

    with pytest.raises(StoreUnavailable, match=r"events\.db is gone"):
        store.append("swipes", Removing(MANY[:3]))


def test_full_disk(store: SqliteEvents, file: Path):
    """When the file cannot grow the call fails and stores nothing of its transaction; later it succeeds."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    record(store, 1)
    resource.setrlimit(resource.RLIMIT_FSIZE, (file.with_name("events.db-wal").stat().st_size, hard))
    try:
        for call in (lambda: record(store, 2), lambda: store.append("swipes", MANY[:100])):
            with pytest.raises(StoreError, match=r"events\.db: "):
                call()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert count(store) == 1
    record(store, 2)
    assert store.append("swipes", MANY[100:200]) == [EventOutcome.TAKEN] * 100
    assert count(store) == 2


def test_the_log_is_kept_short(file: Path):
    """The log goes into the file by itself once it is long, without a writer's help, and nothing is lost."""
    log, long_bytes = file.with_name("events.db-wal"), 2**22
    with closing(SqliteEvents(file, "cards", SOURCES, create=True, long_log_bytes=long_bytes)) as store:
        store.append("swipes", [event._replace(payload=b"x" * 400) for event in MANY])
        assert log.stat().st_size > long_bytes
        wait_for(lambda: log.stat().st_size < 2**20, "the log to be moved into the file")
        assert sum(count(store, f"card {at}") for at in range(997)) == len(MANY)
