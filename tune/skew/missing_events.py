"""Which event a service missed, or counted too early: found by computing a row's windows without it, or with it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import groupby, islice

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data.feature_views.event import event_key, shown_key
from data.feature_views.event_columns import EventColumns
from data.feature_views.online_windows import StoredEvent, WindowPlan
from data.schema.event_source import EventEntity, EventSource
from data.schema.feature import Scalar
from data.schema.window_feature import WindowFeature
from data.transform.event_time import iso_time
from data.transform.table_columns import named_column
from tune.skew.in_time_table import InTimeTable
from tune.skew.row_comparison import RowMismatch

_MOST_TRIED = 500
"""Most events of one entity that are tried, the newest first."""
_MOST_NAMED = 3


class MissingEvents:
    """Explains rows whose windows differ.

    Args:
        table: the rows that were sent, and all events.
    """

    def __init__(self, table: InTimeTable) -> None:
        self._table = table
        self._windows = sorted(table.manifest.windows, key=lambda window: (window.source, window.by))

    def explain(self, at: int, mismatch: RowMismatch) -> list[str]:
        """Return a sentence for each entity whose windows differ.

        Args:
            at: the row's place in the order of time.
            mismatch: what differs.
        """
        online = {line.name: line.used.value for line in mismatch.lines}
        faulty = {line.name for line in mismatch.lines if line.fault}
        said = []
        for (source, by), group in groupby(self._windows, key=lambda window: (window.source, window.by)):
            windows = list(group)
            differing = [window.name for window in windows if window.name in faulty]
            if differing:
                found = _Line(self._table, at, source, by, windows).cause(online)
                said.append(f"row {mismatch.row}: {', '.join(differing)}: {found}")
        return said


class _Line:
    """The events of one row's entity, and the windows over them."""

    def __init__(self, table: InTimeTable, at: int, source: str, by: str, windows: Sequence[WindowFeature]) -> None:
        self._declared: EventSource = table.manifest.events[source]
        self._source, self._by = source, by
        self._plan = WindowPlan(windows, table.manifest.events)
        self._defaults = {f.name: f.default for f in table.manifest.schema_.features}
        self._time_us = int(table.time_us[at])
        self._key = _row_key(table, at)
        entity = self._declared.entity(by) or EventEntity(name=by, columns=(by,))
        self._entity_key = table.entity_keys(entity)[at]
        number = [each.name for each in self._declared.entities].index(by)
        self._events = _events_of(table.events[source], number, self._entity_key)

    def cause(self, online: Mapping[str, Scalar | None]) -> str:
        """Return in words which event explains what was seen online."""
        of = f"{self._source} of {self._by} {self._entity_key}"
        for found, text in self._theories(online):
            if found:
                more = f", or {len(found) - _MOST_NAMED:,} others" if len(found) > _MOST_NAMED else ""
                return f"{text.format(of=of)} {', or '.join(map(_named, found[:_MOST_NAMED]))}{more}"
        return f"no single event of {of} explains it"

    def _theories(self, online: Mapping[str, Scalar | None]) -> Iterator[tuple[list[StoredEvent], str]]:
        tried = self._seen[-_MOST_TRIED:]
        explains = self._explainer(online)
        yield [each for each in tried if explains(self._without({each}))], "missing of events {of}:"
        ends = (set(tried[-count:]) for count in range(2, len(tried) + 1))
        run = next((end for end in ends if explains(self._without(end))), set())
        yield sorted(run)[:1], f"the last {len(run):,} events are missing of {{of}}, from"
        ahead = list(islice(self._ahead, _MOST_TRIED))
        yield [each for each in ahead if explains(self._with(each))], "counted too early of events {of}:"

    def _explainer(self, online: Mapping[str, Scalar | None]) -> Callable[[Sequence[StoredEvent]], bool]:
        def explains(events: Sequence[StoredEvent]) -> bool:
            found = self._plan.compute([events], self._time_us, self._key)
            return all(
                self._shown(window.name, each.value) == online.get(window.name)
                for window, each in zip(self._plan.features, found, strict=True)
            )

        return explains

    def _shown(self, name: str, value: float | str) -> Scalar | None:
        """What an answer shows of a window: the default where there is no value."""
        return self._defaults[name] if value != value else value

    @cached_property
    def _seen(self) -> list[StoredEvent]:
        """The events that are known at the row's time and not later than the row, in order."""
        here = (self._time_us, self._key)
        return [each for each in self._events if each[:2] <= here and each.known_us <= self._time_us]

    @property
    def _ahead(self) -> Iterator[StoredEvent]:
        seen = set(self._seen)
        reach_us = self._plan.slices[0].reach_us
        return (each for each in self._events if each not in seen and each.time_us > self._time_us - reach_us)

    def _without(self, left_out: set[StoredEvent]) -> list[StoredEvent]:
        return [each for each in self._seen if each not in left_out]

    def _with(self, early: StoredEvent) -> list[StoredEvent]:
        """The events with one more, as if it had happened, and been known, just before the row."""
        before_us = min(early.time_us, self._time_us - 1 - self._declared.delay_us)
        return sorted([*self._seen, early._replace(time_us=before_us, known_us=self._time_us)])


def _row_key(table: InTimeTable, at: int) -> bytes:
    if table.use_case.key is None:
        return b"\xff"
    key = named_column(table.rows, table.use_case.key)[at].as_py()
    return b"\xff" if key is None else event_key(key)


def _events_of(events: EventColumns, entity: int, key: str | None) -> list[StoredEvent]:
    """Return the events of one entity, in the order of time and key."""
    same = pc.call_function("equal", [events.entities[entity], pa.scalar(key, pa.string())])
    numbers = np.flatnonzero(pc.fill_null(same, False).to_numpy(zero_copy_only=False))
    taken = events.taken(numbers)
    return sorted({StoredEvent(each.time_us, each.key, each.known_us, each.payload) for each in taken})


def _named(event: StoredEvent) -> str:
    return f"{shown_key(event.key)} of {iso_time(event.time_us)}"
