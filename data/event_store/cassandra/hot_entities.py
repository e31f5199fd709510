"""The hot entities of a process: the tiles of each, and what is known of marks that came after them."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable

from data.event_store.cassandra.late_marks import Marks
from data.event_store.cassandra.tile_rows import HotPlace
from data.event_store.cassandra.tile_shelf import TileShelf
from data.event_store.tile_spans import Span

_MOST_BYTES = 128 * 2**20


class HotEntity:
    """The tiles of an entity, each of which is what its events are as long as the marks stay the same.

    Args:
        shelf: its tiles.
        marks: the marks for which they are valid.
        from_us: tiles that begin before this time were not looked for.
    """

    def __init__(self, shelf: TileShelf, marks: Marks, from_us: int) -> None:
        self.shelf = shelf
        self.marks = marks
        self.from_us = from_us
        self.avoid: list[Span] = shelf.disputed
        """Spans, in order, whose tiles are not read."""
        self._seen: dict[int, dict[str, int] | None] = {}
        self._dirty: dict[int, list[Span]] = {}

    def changed_days(self, present: Marks) -> list[int]:
        """Return the days whose marks are others than when they were last looked at."""
        days = {*self.marks.days, *present.days}
        return [day for day in days if self._seen.get(day, self.marks.days.get(day)) != present.days.get(day)]

    def note(self, days: Iterable[int], present: Marks, cells: Marks) -> None:
        """Take note of the cells of days that have changed.

        Args:
            days: the days.
            present: their marks, read before the cells.
            cells: the marks of their cells.
        """
        for day in days:
            self._seen[day] = present.days.get(day)
            self._dirty[day] = self.marks.changed(day, cells)
        self.avoid = sorted({*self.shelf.disputed, *(span for spans in self._dirty.values() for span in spans)})


class HotEntities:
    """Keeps the entities that were read last, as many as fit into 128 MiB, but always one. Thread-safe."""

    def __init__(self) -> None:
        self._entities: OrderedDict[HotPlace, HotEntity] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def get(self, place: HotPlace) -> HotEntity | None:
        """Return an entity, None when it has no tiles here."""
        with self._lock:
            if (found := self._entities.get(place)) is not None:
                self._entities.move_to_end(place)
            return found

    def put(self, place: HotPlace, entity: HotEntity) -> None:
        """Keep an entity, in place of what was there."""
        with self._lock:
            self._remove(place)
            self._entities[place] = entity
            self._bytes += entity.shelf.bytes
            while self._bytes > _MOST_BYTES and len(self._entities) > 1:
                self._remove(next(iter(self._entities)))

    def drop(self, place: HotPlace) -> None:
        """Forget an entity."""
        with self._lock:
            self._remove(place)

    def _remove(self, place: HotPlace) -> None:
        if (before := self._entities.pop(place, None)) is not None:
            self._bytes -= before.shelf.bytes
