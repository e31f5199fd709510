"""The rows of a proof in time: a table's last rows in order, as they are sent, and what training has of each."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Literal

import numpy as np
import pyarrow as pa

from data.errors import ConfigError, DataError
from data.feature_views.batch_view import as_of
from data.feature_views.events.event import event_key
from data.feature_views.events.event_columns import EventColumns, Span, rows_as_events
from data.feature_views.events.event_entities import entity_key_column
from data.feature_views.events.event_tables import EventTables
from data.schema.entity import Entity
from data.schema.events.event_source import EventEntity, EventValue
from data.schema.features.feature import Feature, FeatureType, Scalar, Source
from data.schema.use_case import UseCase
from data.transform.derived_time import with_derived
from data.transform.encoding import Transform, as_floats
from data.transform.event_time import NO_TIME, event_us, iso_time
from data.transform.json_values import json_keys, json_values
from data.transform.table_columns import named_column
from data.transform.text_scores import text_column, with_text_scores
from data.transform.time_values import json_times
from tune.dataset.table_in_time import table_in_time
from tune.registry.bundle import BundleManifest
from tune.skew.row_comparison import SentRow

_KeyType = Literal["string", "integer"]
_EVER = Span(-(2**62), 2**62)
_UNCLEAR = ("with another content of the same key", "known earlier than another of the same key")


class InTimeTable:
    """The n rows that are sent, in the order of their time and key, and all that happened before and beside them.

    Args:
        table: raw rows: those that are sent, and earlier ones.
        use_case: what is declared.
        manifest: of the model.
        events: earlier rows of the table, and events of other sources.
        since_us: rows from this time on are sent, microseconds since 1970 UTC.
        last: of those the last so many; None for all.

    Raises:
        ConfigError: the use case has other windows than the model, or no event time.
        DataError: there are no such rows, rows lack key or time, keys repeat with other content, or a column does not
            fit.
    """

    def __init__(
        self,
        table: pa.Table,
        use_case: UseCase,
        manifest: BundleManifest,
        events: EventTables,
        since_us: int,
        last: int | None = None,
    ) -> None:
        _check_declared(use_case, manifest)
        self.use_case, self.manifest = use_case, manifest
        times, keys = _order(table, use_case)
        chosen = np.flatnonzero(times >= since_us)
        ordered = chosen[np.lexsort((keys[chosen], times[chosen]))]
        if not len(ordered):
            raise DataError(f"the table has no row from {iso_time(since_us)} on, when the version's holdout begins")
        ordered = ordered[-last:] if last is not None else ordered
        earlier = np.setdiff1d(np.arange(table.num_rows), ordered)
        self.rows = table.take(pa.array(ordered))
        """The n rows as they are in the table."""
        self.numbers = ordered
        """Their numbers in the table, int64 of shape (n,)."""
        self.time_us = times[ordered]
        """Their times, int64 of shape (n,), ascending."""
        self.history = _joined(events.history, table.take(pa.array(earlier)))
        """The rows before them."""
        self._others = events.others
        derived = with_derived(self.rows, use_case.schema_.derived)
        found = table_in_time(derived, use_case, EventTables(self.history, events.others), holds_windows=False)
        self.left_out = found.left_out
        """By source of events: how many rows are no event, by reason."""
        _check_keys(found.left_out, use_case)
        self.expected = with_text_scores(found.table, manifest.schema_.scores)
        """The rows with all that they should be answered with."""
        self.matrix = Transform(manifest.schema_).matrix(found.table)
        """The same as the model should see it, float32 of shape (n, k)."""

    @property
    def count(self) -> int:
        """Number of rows that are sent."""
        return self.rows.num_rows

    @cached_property
    def all_rows(self) -> pa.Table:
        """The rows before, and then those that are sent."""
        return _joined(self.history, self.rows)

    @cached_property
    def stored_until_us(self) -> np.ndarray:
        """Up to when rows are in the batch view at each row's time, int64 of shape (n,); 0 without a batch view."""
        schedule = self.use_case.materialized
        if schedule is None or not self.use_case.joins_stored:
            return np.zeros(self.count, np.int64)
        return as_of(self.time_us, schedule)

    @cached_property
    def recorded(self) -> tuple[str, ...]:
        """The sources of which a row becomes an event when it is sent."""
        return tuple(name for name, source in self.manifest.events.items() if name in self._read and source.record)

    @cached_property
    def values(self) -> list[Sequence[Scalar | None]]:
        """What training has of each feature, n values in JSON's types, None where it has none; in schema order."""
        return [_values(self.expected, feature) for feature in self.manifest.schema_.features]

    @cached_property
    def sent(self) -> list[SentRow]:
        """The request of each row."""
        columns = self._columns()
        return [self._sent(at, {name: values[at] for name, values in columns.items()}) for at in range(self.count)]

    @cached_property
    def events(self) -> dict[str, EventColumns]:
        """By source that windows read, all of its events: those of rows that are sent, too."""
        return {name: self._events_of(name) for name in sorted(self._read)}

    @cached_property
    def sent_keys(self) -> np.ndarray:
        """The keys of the events that rows become when they are sent, as `event_key` writes them."""
        keys = named_column(self.rows, self.use_case.key or "").to_pylist()
        return np.array([event_key(key) for key in keys], object)

    def entity_keys(self, entity: EventEntity) -> list[str | None]:
        """Return the key of an entity in each of the n rows; None where a row names none."""
        return entity_key_column(self.rows, entity).to_pylist()

    @property
    def _read(self) -> set[str]:
        return {window.source for window in self.manifest.windows}

    def _events_of(self, name: str) -> EventColumns:
        source, use_case = self.manifest.events[name], self.use_case
        key, time = source.key or use_case.key or "", source.time or use_case.event_time or ""
        table = self.all_rows if source.own else self._others[name]
        return rows_as_events(table, source, key, time, _EVER).events

    def _columns(self) -> dict[str, Sequence[Scalar | None]]:
        """The fields of requests with their n values: features, times, key, entities, and values of own events."""
        schema, rows = self.manifest.schema_, self.rows
        stored = (Source.ONLINE, Source.EITHER) if self.use_case.joins_stored else ()
        asked = [f for f in schema.features if not f.is_computed and f.source not in stored]
        columns: dict[str, Sequence[Scalar | None]] = {f.name: json_values(rows.column(f.name), f) for f in asked}
        for name in schema.times:
            columns.setdefault(name, json_times(rows.column(name), name))
        for name in schema.texts:
            columns.setdefault(name, text_column(rows.column(name), name).to_pylist())
        for name, kind in self._entity_columns().items():
            columns.setdefault(name, json_keys(named_column(rows, name), Entity(column=name, type=kind)))
        for name in self._own:
            source = self.manifest.events[name]
            for column, value in source.values.items():
                columns.setdefault(column, _event_values(rows, column, value))
        if self.use_case.key is not None and self.manifest.key is not None:
            columns.setdefault(self.use_case.key, named_column(rows, self.use_case.key).to_pylist())
        columns[self.use_case.event_time or ""] = [f"{np.datetime64(us, 'us')}Z" for us in self.time_us.tolist()]
        return columns

    @property
    def _own(self) -> list[str]:
        """The sources that a row itself is an event of: recorded, or counted by its own windows."""
        current = {window.source for window in self.manifest.windows if window.with_current}
        own = [name for name in self._read if self.manifest.events[name].own and not self.manifest.events[name].delayed]
        return sorted(name for name in own if name in current or name in self.recorded)

    def _entity_columns(self) -> dict[str, _KeyType]:
        """The columns that name entities, each with the type of its key."""
        manifest, kinds = self.manifest, dict[str, _KeyType]()
        if manifest.entity is not None:
            kinds[manifest.entity.column] = manifest.entity.type
        for window in manifest.windows:
            source = manifest.events[window.source]
            needed = source.entities if window.source in self._own else [source.entity(window.by)]
            for entity in filter(None, needed):
                for column in entity.columns:
                    integer = entity.type == "integer" and len(entity.columns) == 1
                    kinds[column] = "integer" if integer else kinds.get(column, "string")
        return kinds

    def _sent(self, at: int, values: Mapping[str, Scalar | None]) -> SentRow:
        body = {name: value for name, value in values.items() if value is not None}
        number = int(self.numbers[at])
        if any(isinstance(value, float) and math.isinf(value) for value in body.values()):
            return SentRow(number, None, None)
        entity = body.get(self.manifest.entity.column) if self.manifest.entity is not None else None
        return SentRow(number, body, None if entity is None else str(entity))


def _check_declared(use_case: UseCase, manifest: BundleManifest) -> None:
    if use_case.event_time is None:
        raise ConfigError(f"use case '{use_case.name}' has no event_time: its rows have no order to be sent in")
    windows = tuple(sorted(use_case.windows, key=lambda window: window.name))
    if windows != manifest.windows or dict(use_case.events) != dict(manifest.events):
        raise ConfigError(f"use case '{use_case.name}' declares other windows or events than the version has")


def _check_keys(left_out: Mapping[str, Counter[str]], use_case: UseCase) -> None:
    """Refuse rows whose key repeats with other content: which of them counts would depend on when one looks."""
    for name, reasons in left_out.items():
        found = next((reason for reason in _UNCLEAR if reasons[reason] and use_case.events[name].own), None)
        if found is not None:
            raise DataError(f"events.{name}: {reasons[found]:,} rows {found}: remove them, and prove again")


def _order(table: pa.Table, use_case: UseCase) -> tuple[np.ndarray, np.ndarray]:
    """Return the times of a table's rows, and the ranks of their keys (0 where the use case has none)."""
    name = use_case.event_time or ""
    times = event_us(named_column(table, name), name)
    if absent := int((times == NO_TIME).sum()):
        raise DataError(f"column '{name}': {absent:,} rows have no time; remove them")
    if use_case.key is None:
        return times, np.zeros(len(times), np.int64)
    keys = named_column(table, use_case.key)
    if any(source.own for source in use_case.events.values()) and keys.null_count:
        raise DataError(f"column '{use_case.key}': {keys.null_count:,} rows have no key; remove them")
    values = keys.combine_chunks().to_numpy(zero_copy_only=False)
    if keys.null_count:
        values = values.astype(str)
    return times, np.unique(values, return_inverse=True)[1]


def _joined(history: pa.Table | None, rows: pa.Table) -> pa.Table:
    if history is None:
        return rows
    names = [name for name in rows.column_names if name in history.column_names]
    try:
        return pa.concat_tables([history.select(names), rows.select(names)], promote_options="permissive")
    except (pa.ArrowInvalid, pa.ArrowTypeError) as exc:
        raise DataError(f"the history does not fit the table: {exc}") from exc


def _values(table: pa.Table, feature: Feature) -> Sequence[Scalar | None]:
    return json_values(named_column(table, feature.name), feature)


def _event_values(rows: pa.Table, name: str, value: EventValue) -> Sequence[Scalar | None]:
    """Return a value of the rows' own events as JSON carries it."""
    if value.type == "string":
        return json_values(named_column(rows, name), Feature(name=name, type=FeatureType.CATEGORY, empty="value"))
    kind = {"number": FeatureType.NUMBER, "integer": FeatureType.INTEGER, "boolean": FeatureType.BOOLEAN}[value.type]
    if kind is FeatureType.NUMBER:
        return [None if each != each else each for each in as_floats(named_column(rows, name), name).tolist()]
    return json_values(named_column(rows, name), Feature(name=name, type=kind))
