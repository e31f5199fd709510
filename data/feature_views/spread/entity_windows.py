"""The third step: all windows of the entities of a partition, and what the store would have held of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data.distributed.shuffle_file import Shuffle, ShuffleFile, read_partition, write_shuffle_file
from data.feature_views.batch_view import with_batch_view
from data.feature_views.point_in_time import source_windows
from data.feature_views.spread.exchange import EVENT, ROW, job_of
from data.feature_views.spread.plan import EntityGroup, SpreadPlan


class EntityPartition(NamedTuple):
    """Some entities with all of their events and rows, or with those of a time slice."""

    group: int
    """Number of the group."""
    events: Shuffle
    """The events; those of the table's own rows have all rows among them."""
    rows: Shuffle | None
    """The rows, where events have a table of their own."""
    number: int
    """Of the partition in both."""
    name: str
    """Unlike that of any other."""

    @property
    def rows_held(self) -> int:
        """How many events and rows it has."""
        return sum(int(shuffle.rows[self.number]) for shuffle in (self.events, self.rows) if shuffle is not None)


class StoredPartition(NamedTuple):
    """Some entities of the batch view with all of their rows."""

    shuffle: Shuffle
    number: int


@dataclass(frozen=True)
class ComputeWindows:
    """Computes the windows of partitions of entities."""

    plan: SpreadPlan
    jobs: Sequence[EntityPartition]

    def __call__(self, block: pa.Table) -> tuple[str, int, ShuffleFile]:
        """Write the windows of a partition's rows by the table's chunks; return the group, the rows and the file."""
        job = job_of(block, self.jobs)
        group = self.plan.groups[job.group]
        events, rows = self._own(job, group) if group.own else self._beside(job)
        columns, _ = source_windows(events, rows, self.plan.use_case, group.features)
        found = pa.table({ROW: rows.column(ROW), **columns})
        return group.name, found.num_rows, _by_chunk(self.plan, found, f"{group.name}-windows-{job.name}")

    def _own(self, job: EntityPartition, group: EntityGroup) -> tuple[pa.Table, pa.Table]:
        table = read_partition(job.events, job.number)
        # The very same table where each row is an event: then the kernel looks for none.
        events, rows = _only(table, table.column(EVENT)), _only(table, table.column(ROW).is_valid())
        return events, self._typed(rows, group)

    def _typed(self, rows: pa.Table, group: EntityGroup) -> pa.Table:
        """Return rows with the types of the table, into which those of a history may have been merged."""
        for name in dict.fromkeys([*self.plan.row_names, *group.entity.columns]):
            kind = self.plan.row_types.field(name).type
            if rows.schema.field(name).type != kind:
                rows = rows.set_column(rows.column_names.index(name), name, rows.column(name).cast(kind))
        return rows

    def _beside(self, job: EntityPartition) -> tuple[pa.Table, pa.Table]:
        assert job.rows is not None
        events = read_partition(job.events, job.number)
        return _only(events, events.column(EVENT)), read_partition(job.rows, job.number)


@dataclass(frozen=True)
class JoinStored:
    """Finds what the store would have held of the entities of a partition."""

    plan: SpreadPlan
    jobs: Sequence[StoredPartition]

    def __call__(self, block: pa.Table) -> tuple[int, ShuffleFile]:
        """Write the stored values of a partition's rows by the table's chunks; return the rows and the file."""
        job = job_of(block, self.jobs)
        table = read_partition(job.shuffle, job.number)
        own = table.column(ROW).is_valid()
        rows = table.filter(own)
        found = with_batch_view(rows, self.plan.use_case, table.filter(pc.call_function("invert", [own])))
        found = found.select([ROW, *(feature.name for feature in self.plan.use_case.schema_.online)])
        return found.num_rows, _by_chunk(self.plan, found, f"stored-values-{job.number:06d}")


def _only(table: pa.Table, mask: pa.ChunkedArray) -> pa.Table:
    return table if pc.call_function("all", [mask]).as_py() else table.filter(mask)


def _by_chunk(plan: SpreadPlan, found: pa.Table, name: str) -> ShuffleFile:
    numbers = np.searchsorted(plan.first_rows, found.column(ROW).to_numpy(), "right") - 1
    return write_shuffle_file(plan.folder / f"{name}.arrow", found, numbers, len(plan.first_rows))
