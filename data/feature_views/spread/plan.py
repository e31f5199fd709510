"""The plan of a spread table in time: what is read, what is exchanged by which entity, and in how many partitions."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa

from data.feature_views.events.event_tables import EventFiles, event_columns, history_columns
from data.feature_views.point_in_time import PointInTime, events_of, point_in_time, windows_by_source
from data.feature_views.spread.exchange import partitions_for, plain
from data.schema.events.event_source import EventEntity
from data.schema.features.window_feature import WindowFeature
from data.schema.use_case import UseCase
from data.sources.parquet import ParquetSource

PARTITION_ROWS = 500_000
"""Rows of a partition, unless it holds an entity with more: some 200 MiB while 12 windows are computed."""


@dataclass(frozen=True)
class EntityGroup:
    """The windows of one source over one entity, computed from one exchange of rows."""

    name: str
    source: str
    own: bool
    """Whether the source's events are rows of the table."""
    entity: EventEntity
    features: tuple[WindowFeature, ...]
    partitions: int

    @property
    def reach_us(self) -> int:
        """How far back from a row's time the events of its windows can lie, in microseconds."""
        return max(feature.reach_us for feature in self.features)


@dataclass(frozen=True)
class SpreadPlan:
    """What all steps share; pickled to the workers."""

    use_case: UseCase
    table: ParquetSource
    files: EventFiles
    folder: Path
    """Where shuffle files lie, on a disk that all nodes share."""
    partition_rows: int = PARTITION_ROWS

    @cached_property
    def empty(self) -> PointInTime:
        """What is made of tables without rows: it has all columns, with their types and metadata.

        Raises:
            DataError: a column is missing or of a type that does not fit.
        """
        history = None if self.files.history is None else self._history_schema(self.files.history).empty_table()
        others = {
            name: source.select(event_columns(self.use_case.events[name])).empty_table()
            for name, source in self.files.others.items()
        }
        return point_in_time(self.table.schema.empty_table(), self.use_case, history, others)

    @cached_property
    def groups(self) -> tuple[EntityGroup, ...]:
        """The windows by source and entity."""
        found = []
        for name, features in windows_by_source(self.use_case).items():
            source = self.use_case.events[name]
            for by in dict.fromkeys(feature.by for feature in features):
                entity = next(entity for entity in source.entities if entity.name == by)
                asked = tuple(feature for feature in features if feature.by == by)
                partitions = self.partitions(max(self.table.rows, self.event_rows(name)))
                found.append(EntityGroup(f"group-{len(found)}", name, source.own, entity, asked, partitions))
        return tuple(found)

    @cached_property
    def sources(self) -> tuple[str, ...]:
        """Names of the sources of events that windows read."""
        return tuple(windows_by_source(self.use_case))

    @cached_property
    def event_types(self) -> dict[str, pa.Schema]:
        """By source, the types of its events' columns as they are exchanged."""
        history = None if self.files.history is None else self._history_schema(self.files.history).empty_table()
        table = self.table.schema.empty_table()
        found = {}
        for name in self.sources:
            other = self.files.others[name].schema.empty_table() if name in self.files.others else None
            events = events_of(table, self.use_case, name, history, other)
            found[name] = plain(events.select(self.event_names(name))).schema
        return found

    def key_exchange(self, name: str) -> str:
        """Return the name of the exchange of a source's events by their keys."""
        return f"keys-{self.sources.index(name)}"

    def event_names(self, name: str) -> list[str]:
        """The columns of a source's events, each once."""
        source = self.use_case.events[name]
        names = event_columns(source)
        return list(dict.fromkeys([*self.row_names, *names])) if source.own else names

    def time_names(self, name: str) -> list[str]:
        """The columns of times of a source that has a table of its own."""
        source = self.use_case.events[name]
        return [column for column in (source.time, source.known_at) if column is not None]

    @property
    def own_time_names(self) -> list[str]:
        """The columns of times of the table, and of its history, that are exchanged."""
        own = [self.use_case.events[name].known_at for name in self.sources if self.use_case.events[name].own]
        return list(dict.fromkeys(name for name in (self.use_case.event_time, *own) if name is not None))

    @property
    def row_names(self) -> list[str]:
        """The columns of a row's key and time; a table need not have the key unless its rows are events."""
        names = [self.use_case.key, self.use_case.event_time]
        return [name for name in names if name is not None and name in self.table.schema.names]

    @cached_property
    def row_types(self) -> pa.Schema:
        """The types of the table's columns as they are exchanged."""
        return plain(self.table.schema.empty_table()).schema

    @property
    def stored_names(self) -> list[str]:
        """The columns of the batch view; none without one."""
        if not self.use_case.joins_stored or self.use_case.entity is None or self.use_case.event_time is None:
            return []
        online = [feature.name for feature in self.use_case.schema_.online]
        return list(dict.fromkeys([self.use_case.entity.column, self.use_case.event_time, *online]))

    @cached_property
    def stored_types(self) -> pa.Schema:
        """The types of the batch view's columns as they are exchanged."""
        parts = [self.table.schema.empty_table().select(self.stored_names)]
        if self.files.history is not None:
            parts.insert(0, self.files.history.schema.empty_table().select(self.stored_names))
        return plain(pa.concat_tables(parts, promote_options="permissive")).schema

    @property
    def scattered_names(self) -> list[str]:
        """The columns of the table that are exchanged, each once; none where nothing is."""
        names = [*self.stored_names, *(self.row_names if self.groups else [])]
        for group in self.groups:
            names += [*group.entity.columns, *(self.event_names(group.source) if group.own else [])]
        return list(dict.fromkeys(names))

    def history_names(self) -> list[str]:
        """The columns of the history that are exchanged, each once."""
        names = [
            name for source in self.sources if self.use_case.events[source].own for name in self.event_names(source)
        ]
        return list(dict.fromkeys([*names, *self.stored_names]))

    def event_rows(self, name: str) -> int:
        """How many rows the events of a source are made of."""
        if name in self.files.others:
            return self.files.others[name].rows
        return self.own_rows

    @property
    def own_rows(self) -> int:
        """Rows of the table and of its history."""
        return self.table.rows + (self.files.history.rows if self.files.history is not None else 0)

    def partitions(self, rows: int) -> int:
        """Return how many partitions some rows are divided into."""
        return partitions_for(rows, self.partition_rows)

    @cached_property
    def first_rows(self) -> np.ndarray:
        """The number of the first row of each of the table's chunks in the whole table, int64 of shape (chunks,)."""
        return np.array([self.table.table_row(chunk.origin) for chunk in self.table.chunks])

    def _history_schema(self, history: ParquetSource) -> pa.Schema:
        return history.select(history_columns(self.use_case))
