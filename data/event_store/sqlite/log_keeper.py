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
_LONG_LOG_BYTES, _LONGEST_LOG_BYTES = 64 * 2**20, 2**30
_ROUNDS, _FEW_PAGES = 3, 250
_LOCK_WAIT_S = 0.05
"""How long the log is locked at most for those who still read an older part of it; then it stays long for a second."""


class LogKeeper:
    """A thread that syncs a file's log every second, and moves it into the file when it is long.

    Every process that has the file open has one; what one has synced is nothing to do for the others.

    Args:
        file: the event store's file.
    """

    def __init__(self, file: EventFile) -> None:
        self._file = file
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
                if (length := self._sync()) >= _LONG_LOG_BYTES:
                    self._shorten(at_once=length >= _LONGEST_LOG_BYTES)

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
            # they do when the log is a gigabyte long.
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
