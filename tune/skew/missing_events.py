"""Which events a service missed, or counted too early, in words for each row of a proof whose windows differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data.feature_views.events.event import event_key, shown_key
from data.feature_views.events.event_columns import EventColumns
from data.feature_views.online.explaining_events import SeenWindows
from data.feature_views.online.stored_events import StoredEvent
from data.schema.events.event_source import EventEntity
from data.schema.features.feature import Scalar
from data.schema.features.window_feature import WindowFeature
from data.transform.event_time import iso_time
from data.transform.table_columns import named_column
from tune.skew.in_time_table import InTimeTable
from tune.skew.row_comparison import RowMismatch

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
        declared = table.manifest.events[source]
        self._windows, self._sources = windows, table.manifest.events
        self._defaults = {f.name: f.default for f in table.manifest.schema_.features}
        self._time_us = int(table.time_us[at])
        self._key = _row_key(table, at)
        entity = declared.entity(by) or EventEntity(name=by, columns=(by,))
        entity_key = table.entity_keys(entity)[at]
        self._name = f"{source} of {by} {entity_key}"
        number = [each.name for each in declared.entities].index(by)
        self._events = _events_of(table.events[source], number, entity_key)

    def cause(self, online: Mapping[str, Scalar | None]) -> str:
        """Return in words which event explains what was seen online."""

        def is_seen(name: str, value: float | str) -> bool:
            # An answer shows the default where there is no value.
            return (self._defaults[name] if value != value else value) == online.get(name)

        windows = SeenWindows(self._windows, self._sources, self._time_us, self._key, is_seen)
        near = [each for each in self._events if each.time_us > self._time_us - windows.reach_us]
        events = [each for each in near if self._counts(each)]
        if runs := windows.missing_runs(events):
            firsts, number = _named([run[0] for run in runs]), len(runs[0])
            if number == 1:
                return f"missing of events {self._name}: {firsts}"
            return f"{number:,} events one after another are missing of {self._name}, from {firsts}"
        if early := windows.counted_early(events, (each for each in near if not self._counts(each))):
            return f"counted too early of events {self._name}: {_named(early)}"
        return f"no single event of {self._name} explains it"

    def _counts(self, event: StoredEvent) -> bool:
        """Whether an event is known at the row's time, and not later than the row."""
        return event[:2] <= (self._time_us, self._key) and event.known_us <= self._time_us


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


def _named(events: Sequence[StoredEvent]) -> str:
    """Return each of some events in words, but for more than a few of them."""
    words = [f"{shown_key(each.key)} of {iso_time(each.time_us)}" for each in events[:_MOST_NAMED]]
    if len(events) > _MOST_NAMED:
        words.append(f"{len(events) - _MOST_NAMED:,} others")
    return ", or ".join(words)
