"""The thread of a SQLite event store that makes tiles where a read found too many events to read one by one."""

from __future__ import annotations

import contextlib
import queue
import sqlite3
import threading
import time

from data.errors import StoreError
from data.event_store.followed_table import FollowedTable
from data.event_store.tile_maker import TileMaker
from data.event_store.tile_table import Place
from data.event_store.tile_work import TileWork
from data.event_store.tiled_slice import TileJob, TileRules

_REST_S, _LONG_REST_S = 1.0, 30.0
_MOST_PLACES = 10_000


class TileFolder:
    """Takes jobs from the event loop and does them in a thread, which starts with the first one.

    An entity rests a second between two jobs, and half a minute when there was nothing to make or the file was locked.

    Args:
        following: the event table of a connection of its own; closed with the folder.
        rules: how large tiles are.
        work: counts what is made.
    """

    def __init__(self, following: FollowedTable, rules: TileRules, work: TileWork) -> None:
        self._following = following
        self._maker = TileMaker(following, rules, work, self._pause)
        self._jobs: queue.SimpleQueue[TileJob | None] = queue.SimpleQueue()
        self._rest: dict[Place, float] = {}
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    def offer(self, job: TileJob) -> None:
        """Have a job done soon, unless the entity rests. Never waits."""
        if time.monotonic() < self._rest.get(job.place, 0.0):
            return
        if len(self._rest) >= _MOST_PLACES:
            self._rest.clear()
        self._rest[job.place] = float("inf")
        self._jobs.put(job)
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="event-tiles", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """End the thread and close the connection; calling it twice is fine."""
        self._stopped.set()
        self._jobs.put(None)
        if self._thread is not None:
            self._thread.join()
        self._following.close()

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None and not self._stopped.is_set():
            made = 0
            # Whatever is wrong with the file, the next read or write reports it; without tiles reads are slow, no more.
            with contextlib.suppress(StoreError, sqlite3.Error, _Stopped):
                made = self._maker.make(job)
            self._rest[job.place] = time.monotonic() + (_REST_S if made else _LONG_REST_S)

    def _pause(self, seconds: float) -> None:
        if self._stopped.wait(seconds):
            raise _Stopped


class _Stopped(Exception):
    """The store is being closed."""
