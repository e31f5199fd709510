"""The keeper of a SQLite write-ahead log: has it on disk within a second and keeps it short, so that no commit must."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading

from data.errors import StoreError
from data.event_store.sqlite.event_file import EventFile

SYNC_EVERY_S = 1.0
"""What a power cut can lose: the commits of so many seconds, and of the sync that is under way."""
LONG_LOG_BYTES = 512 * 2**20
"""When a log is moved into its file. Rows that are recorded wait for the disk then, some 90 ms on a slow one: with 64
MiB every ten seconds at 300 rows a second. Reads are as fast with a long log as with a short one."""
_LONGEST = 4
"""A log so many times as long is moved even while much is written."""
_ROUNDS, _FEW_PAGES = 3, 250
_LOCK_WAIT_S = 0.05
"""How long the log is locked at most for those who still read an older part of it; then it stays long for a second."""


class LogKeeper:
    """A thread that syncs a file's log every second, and moves it into the file when it is long.

    Every process that has the file open has one; what one has synced is nothing to do for the others.

    Args:
        file: the event store's file.
        long_bytes: how long a log may become before it is moved.
    """

    def __init__(self, file: EventFile, long_bytes: int = LONG_LOG_BYTES) -> None:
        self._file = file
        self._long_bytes = long_bytes
        self._log = file.path.with_name(f"{file.path.name}-wal")
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="event-log", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread; calling it twice is fine."""
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopped.wait(SYNC_EVERY_S):
            # Whatever is wrong with the file, the next read or write reports it.
            with contextlib.suppress(OSError, sqlite3.Error, StoreError):
                if (length := self._sync()) >= self._long_bytes:
                    self._shorten(at_once=length >= _LONGEST * self._long_bytes)

    def _sync(self) -> int:
        """Have what was committed on disk; return the log's length in bytes."""
        log = os.open(self._log, os.O_RDONLY)
        try:
            os.fdatasync(log)
            return os.fstat(log).st_size
        finally:
            os.close(log)

    def _shorten(self, *, at_once: bool) -> None:
        with contextlib.closing(self._file.connect(_LOCK_WAIT_S)) as connection:
            # Most of it without the write lock; then the little that was committed meanwhile, with it. While that is
            # much, as in a backfill, it is left for the next second: rows that are recorded would wait for the disk, as
            # they do when the log is too long by far.
            for _ in range(_ROUNDS):
                _, pages, moved = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
                if pages - moved <= _FEW_PAGES:
                    break
            else:
                if not at_once:
                    return
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            # The first commit of a new log waits for a sync of its header, so it is made here.
            connection.execute("UPDATE event_clock SET latest_us = latest_us")
