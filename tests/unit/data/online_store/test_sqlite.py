"""SQLite's own faults: locks, missing, damaged and replaced files, a writer killed half way."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from data.errors import StoreError, StoreUnavailable
from data.online_store import StoredRow
from data.online_store.sqlite import SqliteStore

ROWS = [StoredRow(f"user_{i:05d}", i, i.to_bytes(4, "big") * 10) for i in range(20_000)]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Where the store is to be, in a folder that does not exist yet."""
    return tmp_path / "var" / "online.db"


@pytest.fixture
def store(file: Path) -> Iterator[SqliteStore]:
    """A store that holds one row, `k`."""
    with closing(SqliteStore(file, "v@1", create=True)) as made:
        made.put_many([StoredRow("k", 1, b"x")])
        yield made


def get(store: SqliteStore, *entities: str) -> list[bytes | None]:
    """Read with an event loop of its own."""
    return asyncio.run(store.get_many(entities))


def until(condition: Callable[[], bool]) -> None:
    """Wait for a condition; fail after 60 s."""
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "it did not come true within 60 s"


def raises(error: type[Exception], call: Callable[[], object]) -> bool:
    """True when the call raises the error."""
    try:
        call()
    except error:
        return True
    return False


def test_missing_file_says_what_to_do(file: Path):
    """A reader does not make the file: it names the command that does."""
    with pytest.raises(StoreUnavailable, match=r"no online store at .*online\.db.*rayscore materialize"):
        SqliteStore(file, "v@1")
    assert not file.parent.exists()


def test_database_without_table(file: Path):
    """Another program's database is not taken for a store."""
    file.parent.mkdir()
    with closing(sqlite3.connect(file)) as other:
        other.execute("CREATE TABLE t (a)")
    with pytest.raises(StoreUnavailable, match="holds no feature rows"):
        SqliteStore(file, "v@1")


@pytest.mark.parametrize("create", [False, True])
def test_not_a_database(file: Path, create: bool):
    """A file of another kind is refused by name and left as it is."""
    file.parent.mkdir()
    file.write_text("user_id,amount\n" * 1000)
    with pytest.raises(StoreError, match=r"online\.db: file is not a database"):
        SqliteStore(file, "v@1", create=create)
    assert file.read_text() == "user_id,amount\n" * 1000


def test_folder_in_place_of_the_file(file: Path):
    """A folder of the store's name is refused for readers and writers."""
    file.mkdir(parents=True)
    for create in (False, True):
        with pytest.raises(StoreUnavailable, match=r"online\.db"):
            SqliteStore(file, "v@1", create=create)


def test_damaged_pages(file: Path):
    """Damage inside the file is an error that names it, not an absent row."""
    with closing(SqliteStore(file, "v@1", create=True)) as writer:
        writer.put_many(ROWS)
    with file.open("r+b") as raw:
        half = file.stat().st_size // 2
        raw.seek(half)
        raw.write(b"\xa5" * half)
    with closing(SqliteStore(file, "v@1")) as reader, pytest.raises(StoreError, match=r"online\.db.*malformed"):
        get(reader, *(row.entity for row in ROWS[::100]))


def test_file_truncated_in_place(store: SqliteStore, file: Path):
    """A file cut short under an open reader is an error, not a crash."""
    store.put_many(ROWS)
    store.close()
    with closing(SqliteStore(file, "v@1")) as reader:
        assert get(reader, ROWS[0].entity) == [ROWS[0].payload]
        os.truncate(file, 4096)
        with pytest.raises(StoreError, match=r"online\.db"):
            get(reader, *(row.entity for row in ROWS[::100]))


def test_reader_beside_a_long_transaction(store: SqliteStore, file: Path):
    """While a writer holds a transaction open, readers go on with what was committed before."""
    with closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        other.execute("UPDATE feature_rows SET payload = x'00'")
        assert get(store, "k") == [b"x"]
        with closing(SqliteStore(file, "v@1")) as late:
            assert get(late, "k") == [b"x"]
        other.execute("COMMIT")
    assert get(store, "k") == [b"\x00"]


def test_writer_beside_a_long_transaction(store: SqliteStore, file: Path):
    """A writer that cannot have the file in time says so, writes nothing, and can be called again."""
    with closing(SqliteStore(file, "v@1", create=True, lock_wait_s=0.01)) as second:
        with closing(sqlite3.connect(file, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(StoreUnavailable, match="locked"):
                second.put_many([StoredRow("k", 2, b"y")])
            other.execute("ROLLBACK")
        assert get(store, "k") == [b"x"]
        second.put_many([StoredRow("k", 2, b"y")])
    assert get(store, "k") == [b"y"]


def test_replaced_file_is_followed(store: SqliteStore, file: Path, tmp_path: Path):
    """When another file takes the store's place, an open reader soon reads it, and writes go to it."""
    other = tmp_path / "other.db"
    with closing(SqliteStore(other, "v@1", create=True)) as made:
        made.put_many([StoredRow("k", 1, b"new")])
    assert get(store, "k") == [b"x"]
    for name in ("online.db-wal", "online.db-shm"):
        file.with_name(name).unlink()
    os.replace(other, file)
    store.put_many([StoredRow("later", 1, b"z")])
    until(lambda: get(store, "k", "later") == [b"new", b"z"])


def test_file_replaced_by_garbage_serves_no_old_rows(store: SqliteStore, file: Path, tmp_path: Path):
    """Once the file is seen to be no store every read fails: rows of the deleted one are not taken for current."""
    garbage = tmp_path / "garbage"
    garbage.write_bytes(b"not a database" * 1000)
    for name in ("online.db-wal", "online.db-shm"):
        file.with_name(name).unlink()
    os.replace(garbage, file)
    until(lambda: raises(StoreError, lambda: get(store, "k")))
    assert all(raises(StoreError, lambda: get(store, "k")) for _ in range(20))


def test_deleted_file_is_noticed(store: SqliteStore, file: Path):
    """A deleted file soon makes reads fail with its name, and a new one in its place heals the reader."""
    for path in file.parent.iterdir():
        path.unlink()
    until(lambda: raises(StoreUnavailable, lambda: get(store, "k")))
    with closing(SqliteStore(file, "v@1", create=True)) as made:
        made.put_many([StoredRow("k", 1, b"again")])
    assert get(store, "k") == [b"again"]


WRITER = """
import sys
from data.online_store.sqlite import SqliteStore
from data.online_store import StoredRow
store = SqliteStore(sys.argv[1], "v@1", create=True)
while True:
    for start in range(0, 20_000, 1000):
        store.put_many([StoredRow(f"user_{i:05d}", i - 1, b"half") for i in range(start, start + 1000)])
        print(start, flush=True)
"""


def test_killed_writer_can_run_again(file: Path):
    """After SIGKILL in the middle of writing the file is whole, and writing again gives the full state."""
    root = Path(__file__).parents[4]
    command = [sys.executable, "-c", WRITER, str(file)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=root) as writer:
        assert writer.stdout is not None
        for _ in range(3):
            assert writer.stdout.readline()
        writer.send_signal(signal.SIGKILL)
    with closing(SqliteStore(file, "v@1", create=True)) as again:
        assert get(again, ROWS[0].entity) == [b"half"]
        again.put_many(ROWS)
        assert get(again, *(row.entity for row in ROWS)) == [row.payload for row in ROWS]
    with closing(sqlite3.connect(file)) as plain:
        assert plain.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
