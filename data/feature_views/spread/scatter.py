"""The first step: rows go to the partitions of their keys, or of the entities whose windows they ask for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from data.distributed.shuffle_file import ShuffleFile, write_shuffle_file
from data.feature_views.events.event_entities import entity_key_column
from data.feature_views.events.event_keys import event_keys
from data.feature_views.point_in_time import source_columns
from data.feature_views.spread.exchange import ROW, conformed, partition_numbers, plain
from data.feature_views.spread.plan import SpreadPlan
from data.sources.parquet import ParquetSource
from data.sources.row_origin import origin_of
from data.transform.entity_key import entity_keys
from data.transform.event_time import NO_TIME, event_us, time_forms

STORED = "stored"
"""Name of the batch view's exchange."""


class Scattered(NamedTuple):
    """What became of a block."""

    rows: int
    files: dict[str, ShuffleFile]
    """By exchange: of a source's events by key, of a group's rows by entity, of stored rows by entity."""
    times: dict[tuple[str, str], int]
    """The `time_forms` of columns of times, by the source whose table it is ("" for the rows' own) and the column."""
    without_time: int = 0
    """Rows of the table that have no time."""


@dataclass(frozen=True)
class ScatterEvents:
    """Exchanges the events of a source that has a table of its own."""

    plan: SpreadPlan
    source: str

    def __call__(self, block: pa.Table) -> Scattered:
        """Write the rows of a block by their key."""
        place = _place(self.plan.files.others[self.source], block)
        files = dict([_by_key(self.plan, self.source, block, None, place)])
        return Scattered(block.num_rows, files, _times(block, self.source, self.plan.time_names(self.source)))


@dataclass(frozen=True)
class ScatterHistory:
    """Exchanges the earlier rows of the table."""

    plan: SpreadPlan

    def __call__(self, block: pa.Table) -> Scattered:
        """Write the rows of a block, as events by their key and as stored rows by their entity."""
        history = self.plan.files.history
        assert history is not None
        # Before the table's own rows: of what repeats the first stays.
        files = dict(_own(self.plan, block, None, f"0-{_place(history, block)}"))
        return Scattered(block.num_rows, files, _times(block, "", self.plan.own_time_names))


@dataclass(frozen=True)
class ScatterRows:
    """Exchanges the rows of the table."""

    plan: SpreadPlan

    def __call__(self, block: pa.Table) -> Scattered:
        """Write the rows of a block, as events, as stored rows, and as those whose windows are wanted."""
        place = f"1-{_place(self.plan.table, block)}"
        numbers = np.arange(block.num_rows) + self.plan.table.table_row(origin_of(block))
        files = dict([*_own(self.plan, block, numbers, place), *self._asking(block, numbers, place)])
        times = _times(block, "", self.plan.own_time_names)
        return Scattered(block.num_rows, files, times, self._without_time(block))

    def _asking(self, block: pa.Table, numbers: np.ndarray, place: str) -> Iterator[tuple[str, ShuffleFile]]:
        for group in self.plan.groups:
            if not group.own:
                names = list(dict.fromkeys([*self.plan.row_names, *group.entity.columns]))
                at = partition_numbers(entity_key_column(block, group.entity), group.partitions)
                rows = _numbered(plain(block.select(names)), numbers)
                path = self.plan.folder / f"{group.name}-rows-{place}.arrow"
                yield group.name, write_shuffle_file(path, rows, at, group.partitions)

    def _without_time(self, block: pa.Table) -> int:
        name = self.plan.use_case.event_time
        return int((event_us(block.column(name), name) == NO_TIME).sum()) if self.plan.groups and name else 0


def _own(
    plan: SpreadPlan, block: pa.Table, numbers: np.ndarray | None, place: str
) -> Iterator[tuple[str, ShuffleFile]]:
    for source in plan.sources:
        if plan.use_case.events[source].own:
            yield _by_key(plan, source, block, numbers, place)
    if plan.stored_names and plan.use_case.entity is not None:
        partitions = plan.partitions(plan.own_rows)
        keys = entity_keys(block.column(plan.use_case.entity.column), plan.use_case.entity).keys
        rows = _numbered(conformed(plain(block.select(plan.stored_names)), plan.stored_types), numbers)
        path = plan.folder / f"{STORED}-{place}.arrow"
        yield STORED, write_shuffle_file(path, rows, partition_numbers(keys, partitions), partitions)


def _times(block: pa.Table, source: str, names: Sequence[str]) -> dict[tuple[str, str], int]:
    return {(source, name): time_forms(block.column(name), name) for name in names}


def _by_key(
    plan: SpreadPlan, source: str, block: pa.Table, numbers: np.ndarray | None, place: str
) -> tuple[str, ShuffleFile]:
    events = conformed(plain(block.select(plan.event_names(source))), plan.event_types[source])
    partitions = plan.partitions(plan.event_rows(source))
    at = partition_numbers(event_keys(events, source_columns(plan.use_case, source).key), partitions)
    exchange = plan.key_exchange(source)
    path = plan.folder / f"{exchange}-{place}.arrow"
    return exchange, write_shuffle_file(path, _numbered(events, numbers), at, partitions)


def _numbered(table: pa.Table, numbers: np.ndarray | None) -> pa.Table:
    column = pa.nulls(table.num_rows, pa.int64()) if numbers is None else pa.array(numbers)
    return table.append_column(ROW, column)


def _place(source: ParquetSource, block: pa.Table) -> str:
    """Return a word that sorts as the rows of a table do."""
    return f"{source.table_row(origin_of(block)):015d}"
