"""The online store in one SQLite file: the embedded default, for one machine.

Written by `rayscore materialize`, read by the feature-fetch replicas. The file is in WAL mode, so
readers and a writer do not wait for each other.
"""

from __future__ import annotations

import math
import os
import sqlite3
import threading
import time
import warnings
from collections.abc import Sequence
from operator import itemgetter
from pathlib import Path
from typing import NoReturn
from urllib.parse import quote

from data.errors import StoreError, StoreUnavailable
from data.online_store import Outcome, StoredRow, check_storable, is_storable
from data.schema.scratch_name import require_scratch

_TABLE = """CREATE TABLE IF NOT EXISTS feature_rows (
  entity TEXT NOT NULL, view TEXT NOT NULL, event_us INTEGER NOT NULL, payload BLOB NOT NULL,
  PRIMARY KEY (entity, view)
) WITHOUT ROWID"""
_READ = "SELECT payload FROM feature_rows WHERE entity = ? AND view = ?"
_READ_SOME = "SELECT entity, payload FROM feature_rows WHERE view = ? AND entity IN ({})"
# `met` is a function of ours, called where the entity has a row that is no older: it notes what became of the new one.
_WRITE = """INSERT INTO feature_rows (entity, view, event_us, payload) VALUES (?1, ?2, ?3, ?4)
ON CONFLICT (entity, view) DO UPDATE SET event_us = excluded.event_us, payload = excluded.payload
WHERE CASE WHEN excluded.event_us > feature_rows.event_us THEN 1
  ELSE met(?5, excluded.event_us = feature_rows.event_us, excluded.payload = feature_rows.payload) END"""
_EMPTY = "DELETE FROM feature_rows WHERE view = ?"
_MATERIALIZE = "write rows first: `rayscore materialize`"
_READ_WAIT_S = 0.005  # a reader waits on the event loop, so it may wait no longer than this
_FILE_CHECK_S = 1.0
_KEYS_A_QUERY = 500  # SQLite before 3.32 refuses a statement of more than 999 parameters
_CACHE_KIB = 131_072
_CHECKPOINT_PAGES = 16_384  # 64 MiB of log: rows in random order touch most pages of the file in every batch


class SqliteStore:
    """The rows of one view in a SQLite file; implements `data.online_store.OnlineStore`.

    `get_many` runs on the event loop itself, without a thread: a hop to a thread and back costs more than
    the read. A committed row survives the end of the process; a power cut may lose the last commits, which
    `materialize` writes again. A file that is deleted or replaced while open (with its -wal and -shm files: they
    belong to it) is noticed within a second.

    Args:
        path: the database file.
        view: name of the feature view.
        create: create the folder, file and table when they do not exist.
        lock_wait_s: how long a writer waits for another writer, in seconds.

    Raises:
        StoreUnavailable: there is no such file or it cannot be opened.
        StoreError: the file is not a SQLite database, or is damaged.
    """

    def __init__(self, path: str | Path, view: str, *, create: bool = False, lock_wait_s: float = 10.0) -> None:
        self._reader: sqlite3.Connection | None = None
        self._writer: sqlite3.Connection | None = None
        self._closed = False
        self._file = Path(path).absolute()
        self._view = view
        self._lock_wait_s = lock_wait_s
        self._write_lock = threading.Lock()
        self._inode: int | None = None
        self._check_at = 0.0
        try:
            if create:
                self._create()
            self._open_reader()
        except BaseException:
            self.close()
            raise

    async def get_many(self, entities: Sequence[str], timeout_s: float = math.inf) -> list[bytes | None]:
        """Return payloads in the order of `entities`, None where there is no row.

        Raises:
            StoreUnavailable: the store is closed, its file is gone or locked.
            StoreError: the file is damaged.
        """
        if time.monotonic() >= self._check_at:
            self._follow_file()
        try:
            return self._read(entities)
        except UnicodeEncodeError:  # half a surrogate pair, which JSON can carry: no such key can be stored
            rows = iter(self._read([entity for entity in entities if is_storable(entity)]))
            return [next(rows) if is_storable(entity) else None for entity in entities]
        except sqlite3.Error as exc:
            self._check_at = 0.0
            self._fail("read", exc)

    def put_many(self, rows: Sequence[StoredRow]) -> list[Outcome]:
        """Write rows in one transaction; a row never replaces one with a later event time.

        Returns:
            What became of each row, in order: exact, whatever else is written to the file at the same time.

        Raises:
            StoreUnavailable: the store is closed, or another writer held the file for too long.
            StoreError: a key or event time that no store can hold, or the file is damaged or full.
        """
        check_storable(rows)
        view = self._view
        # In the order of the key neighbours share pages: a large unsorted batch is written twice as fast.
        numbered = enumerate(rows)
        places = ((entity, view, event_us, payload, at) for at, (entity, event_us, payload) in numbered)
        ordered = sorted(places, key=itemgetter(0))
        with self._write_lock:
            try:
                writer = self._open_writer()
                outcomes = _noted(writer, len(rows))
                with writer:
                    # A deferred transaction takes the write lock at its first write, and there SQLite may report
                    # "locked" at once instead of waiting; BEGIN IMMEDIATE waits for `lock_wait_s` up front.
                    writer.execute("BEGIN IMMEDIATE")
                    writer.executemany(_WRITE, ordered)
            except sqlite3.Error as exc:
                self._fail("write", exc)
        return outcomes

    def empty(self) -> None:
        """Remove all rows of a scratch view; see `OnlineStore`. Blocks."""
        require_scratch(self._view)
        with self._write_lock:
            try:
                self._open_writer().execute(_EMPTY, (self._view,))
            except sqlite3.Error as exc:
                self._fail("empty", exc)

    async def ping(self) -> None:
        """Raise StoreUnavailable or StoreError when the file cannot be read."""
        self._check_at = 0.0
        await self.get_many(["ping"])

    def close(self) -> None:
        """Close both connections; calling it twice is fine."""
        self._closed = True
        for connection in (self._reader, self._writer):
            if connection is not None:
                connection.close()
        self._reader = self._writer = None

    def __reduce__(self) -> NoReturn:
        raise TypeError("SqliteStore holds open files and cannot be pickled: open the store where it is used")

    def __del__(self) -> None:
        if not getattr(self, "_closed", True):
            warnings.warn(f"unclosed online store {self._file}", ResourceWarning, source=self, stacklevel=2)
            self.close()

    def _read(self, entities: Sequence[str]) -> list[bytes | None]:
        reader = self._reader
        if reader is None:
            raise StoreUnavailable(f"the online store {self._file} is closed")
        if len(entities) == 1:
            row = reader.execute(_READ, (entities[0], self._view)).fetchone()
            return [row and row[0]]
        payloads: dict[str, bytes] = {}
        for start in range(0, len(entities), _KEYS_A_QUERY):
            part = entities[start : start + _KEYS_A_QUERY]
            query = _READ_SOME.format(",".join("?" * len(part)))
            payloads.update(reader.execute(query, (self._view, *part)).fetchall())
        return [payloads.get(entity) for entity in entities]

    def _create(self) -> None:
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            connection = self._connect("rwc", self._lock_wait_s)
            try:
                connection.execute("PRAGMA journal_mode = WAL")
                connection.execute(_TABLE)
            finally:
                connection.close()
        except (OSError, sqlite3.Error) as exc:
            self._fail("create", exc)

    def _open_reader(self) -> None:
        if not self._file.is_file():
            raise StoreUnavailable(f"there is no online store at {self._file}; {_MATERIALIZE}")
        try:
            inode = self._file.stat().st_ino
            reader = self._connect("ro", _READ_WAIT_S)
            try:
                reader.execute(_READ, ("", self._view)).fetchone()
            except sqlite3.Error:
                reader.close()
                raise
        except (OSError, sqlite3.Error) as exc:
            self._fail("open", exc)
        if self._reader is not None:
            self._reader.close()
        self._reader, self._inode = reader, inode
        self._check_at = time.monotonic() + _FILE_CHECK_S

    def _open_writer(self) -> sqlite3.Connection:
        """Return the writing connection, opened anew when the file was replaced: rows must not go to a deleted file."""
        if self._closed:
            raise StoreUnavailable(f"the online store {self._file} is closed")
        self._follow_file()
        if self._writer is None:
            self._writer = self._connect("rw", self._lock_wait_s)
            # In WAL mode NORMAL leaves out the fsync of each commit: a crash of the process loses nothing.
            self._writer.execute("PRAGMA synchronous = NORMAL")
            self._writer.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
            self._writer.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}")
        return self._writer

    def _follow_file(self) -> None:
        """Open the file anew when another inode has its path: an open connection goes on reading the deleted one."""
        if self._closed:
            return
        self._check_at = time.monotonic() + _FILE_CHECK_S
        try:
            inode = self._file.stat().st_ino
        except OSError as exc:
            self._check_at = 0.0
            raise StoreUnavailable(f"the online store {self._file} is gone: {exc}; {_MATERIALIZE}") from exc
        if inode == self._inode:
            return
        if self._writer is not None:
            self._writer.close()
            self._writer = None
        try:
            self._open_reader()
        except StoreError:
            # Check again at the next read: until the new file can be opened, rows of the old one must not be served.
            self._check_at = 0.0
            raise

    def _connect(self, mode: str, wait_s: float) -> sqlite3.Connection:
        # mode=ro and mode=rw never create the file: a mistyped path is an error instead of an empty database.
        # No mmap: a file truncated under a mapping ends the process with SIGBUS.
        # isolation_level=None: sqlite3 would otherwise open (deferred) transactions of its own before a write.
        uri = f"file:{quote(os.fspath(self._file))}?mode={mode}"
        return sqlite3.connect(uri, uri=True, timeout=wait_s, isolation_level=None, check_same_thread=False)

    def _fail(self, action: str, exc: Exception) -> NoReturn:
        text = str(exc)
        if "no such table" in text:
            raise StoreUnavailable(f"the online store {self._file} holds no feature rows; {_MATERIALIZE}") from exc
        error = StoreUnavailable if any(word in text for word in ("locked", "unable to open", "closed")) else StoreError
        raise error(f"cannot {action} the online store {self._file}: {text}") from exc


def _noted(writer: sqlite3.Connection, rows: int) -> list[Outcome]:
    """Return `rows` outcomes that are WRITTEN, but for those that `_WRITE` notes by its function `met`."""
    outcomes = [Outcome.WRITTEN] * rows

    def met(place: int, same_time: int, same_payload: int) -> bool:
        noted = Outcome.OLDER if not same_time else Outcome.UNCHANGED if same_payload else Outcome.CORRECTED
        outcomes[place] = noted
        return noted is Outcome.CORRECTED

    writer.create_function("met", 3, met)
    return outcomes
