"""The thread of an event store that makes tiles where a read found too many events to read one by one."""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
import time
from collections.abc import Callable
from typing import Any, Generic

from data.errors import StoreError
from data.event_store.tile_making import PlaceT, TileJob

log = logging.getLogger(__name__)
_REST_S, _LONG_REST_S = 1.0, 30.0
_MOST_PLACES = 10_000


class TileFolder(Generic[PlaceT]):
    """Takes jobs from the event loop and does them in a thread, which starts with the first one.

    An entity rests a second between two jobs, and half a minute when there was nothing to make or the store was busy.

    Args:
        make: does a job; returns how much it has made. Between two steps it calls what it is given with how many
            seconds to leave the store and the CPU to others, which may raise to stop.
        errors: what the driver raises when something is wrong with the store.
    """

    def __init__(
        self,
        make: Callable[[TileJob[PlaceT], Callable[[float], object]], int],
        errors: tuple[type[BaseException], ...],
    ) -> None:
        self._make = make
        self._errors = errors
        self._jobs: queue.SimpleQueue[TileJob[PlaceT] | None] = queue.SimpleQueue()
        self._rest: dict[Any, float] = {}
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    def offer(self, job: TileJob[PlaceT]) -> None:
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
        """End the thread; calling it twice is fine."""
        self._stopped.set()
        self._jobs.put(None)
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None and not self._stopped.is_set():
            made = 0
            try:
                # What is wrong with the store the next read or write reports; without tiles reads are slow, no more.
                with contextlib.suppress(StoreError, _Stopped, *self._errors):
                    made = self._make(job, self._pause)
            except Exception:
                log.exception("no tiles are made of %s", job.place)  # others still get theirs
            finally:
                self._rest[job.place] = time.monotonic() + (_REST_S if made else _LONG_REST_S)

    def _pause(self, seconds: float) -> None:
        if self._stopped.wait(seconds):
            raise _Stopped


class _Stopped(Exception):
    """The store is being closed."""
