"""Many events into the tables of a SQLite event store, in short transactions.

All keys go first, in their order, and then the rows of entities in theirs: neighbours share pages, and a transaction
writes a page once. Event by event each of its rows would write a page of its own. What is killed in between leaves keys
without rows; an event gets its missing rows when it is stored again.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

from data.event_store import EventOutcome
from data.event_store.sqlite.event_table import EventTable
from data.feature_views.events.event import Event

_HELD_S, _FREE_S = 0.008, 0.0015
_FEWEST, _FIRST, _MOST = 50, 1_000, 20_000
_Part = TypeVar("_Part")


class EventAppend:
    """Stores events of one source, each as if it had been stored by itself.

    Args:
        table: where they go.
        source: their source.
        events: the events, one at least.
        atomic: up to so many events are stored in one transaction.
    """

    def __init__(self, table: EventTable, source: str, events: Sequence[Event], atomic: int = 500) -> None:
        self._atomic = len(events) <= atomic
        self._table, self._source, self._events = table, source, events
        self._outcomes = [EventOutcome.TAKEN] * len(events)
        self._contested: dict[bytes, list[int]] = {}
        self._pace = _Pace(table, _FIRST)

    def run(self) -> list[EventOutcome]:
        """Store the events; return what became of each, in order."""
        with self._table.transaction() if self._atomic else contextlib.nullcontext():
            before = self._table.removals()
            self._add_keys()
            self._add_entity_rows(before)
            self._put_contested()
        return self._outcomes

    def _add_keys(self) -> None:
        keys = [event.key for event in self._events]
        order = sorted(range(len(keys)), key=keys.__getitem__)

        def rows(part: Sequence[int]) -> list[tuple]:
            return self._table.key_rows(self._source, [(at, self._events[at]) for at in part])

        self._pace.each(order, rows, lambda part: self._look(self._table.add_keys(part)))

    def _look(self, met: Sequence[int]) -> None:
        """Tell events that the table has already from others of the same key, those of one key in their order."""
        for at in met:
            event = self._events[at]
            if event.key not in self._contested and self._table.holds(self._source, event):
                self._outcomes[at] = EventOutcome.REPEATED
            else:
                self._contested.setdefault(event.key, []).append(at)

    def _add_entity_rows(self, before: int) -> None:
        """Store the rows of all events but the contested; `before` is `removals` from before the keys were."""
        left = {at for places in self._contested.values() for at in places}
        chosen = [event for at, event in enumerate(self._events) if at not in left] if left else self._events
        rows = self._table.entity_rows(self._source, chosen)

        def add(part: Sequence[tuple]) -> None:
            # Another process may have revised or removed an event meanwhile.
            changed = self._table.removals() != before
            self._table.add_entity_rows([row for row in part if self._table.has_event(row)] if changed else part)

        self._pace.each(rows, lambda part: part, add)

    def _put_contested(self) -> None:
        places = [at for found in self._contested.values() for at in found]

        def put(part: Sequence[int]) -> None:
            for at in part:
                self._outcomes[at] = self._table.put(self._source, self._events[at])[0]

        # One by one they take far longer than the rows before.
        _Pace(self._table).each(places, lambda part: part, put)


class _Pace:
    """Does many things in transactions of some 8 ms, with a rest between them in which others can write."""

    def __init__(self, table: EventTable, first: int = _FEWEST) -> None:
        self._table = table
        self._size = first
        self._free_at = 0.0

    def each(
        self, things: Sequence[_Part], make: Callable[[Sequence[_Part]], Sequence], store: Callable[[Sequence], None]
    ) -> None:
        """Store all of some things: `make` is called outside of a transaction, `store` inside."""
        at = 0
        while at < len(things):
            part = things[at : at + self._size]
            made = make(part)
            self._store(made, store)
            at += len(part)

    def _store(self, made: Sequence, store: Callable[[Sequence], None]) -> None:
        if self._table.connection.in_transaction:
            store(made)
            return
        time.sleep(max(0.0, self._free_at - time.perf_counter()))
        with self._table.transaction():
            start = time.perf_counter()
            store(made)
        end = time.perf_counter()
        self._free_at = end + _FREE_S
        self._size = min(2 * self._size, max(_FEWEST, int(self._size * _HELD_S / (end - start))), _MOST)
