"""Time slices of a partition with more rows than fit: each with the events before it that its windows reach.

A slice is at least as long as the longest window, so that what it reaches lies in the slice before it. Memory is
bounded by twice the events in the longest window of the largest entity, however long the table is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from data.distributed.shuffle_file import Shuffle, partition_batches, write_shuffle_file
from data.feature_views.kernel.entity_order import earlier
from data.feature_views.point_in_time import source_columns
from data.feature_views.spread.entity_windows import EntityPartition
from data.feature_views.spread.exchange import EVENT, ROW, job_of
from data.feature_views.spread.plan import SpreadPlan
from data.transform.event_time import event_us

_SAMPLES = 100_000
"""Times of a partition by which it is divided."""


@dataclass(frozen=True)
class SliceByTime:
    """Divides partitions of entities by time."""

    plan: SpreadPlan
    jobs: Sequence[EntityPartition]

    def __call__(self, block: pa.Table) -> tuple[int, list[EntityPartition]]:
        """Write the slices of a partition and return its size and them; itself where one slice has all rows."""
        job = job_of(block, self.jobs)
        group = self.plan.groups[job.group]
        parts = [(job.events, source_columns(self.plan.use_case, group.source).time)]
        if job.rows is not None:
            parts.append((job.rows, self.plan.use_case.event_time or ""))
        starts = self._starts(job, parts, group.reach_us)
        if len(starts) == 1:
            return job.rows_held, [job]
        sliced = [
            self._sliced(job, shuffle, time, starts, f"{group.name}-{kind}-{job.number:06d}")
            for (shuffle, time), kind in zip(parts, ("slices", "row-slices"), strict=False)
        ]
        rows = sliced[1] if len(sliced) > 1 else None
        asked = sliced[0].rows if rows is None else rows.rows
        divided = job._replace(events=sliced[0], rows=rows)
        slices = [divided._replace(number=at, name=f"{job.name}-{at}") for at in np.flatnonzero(asked).tolist()]
        return job.rows_held, slices

    def _starts(self, job: EntityPartition, parts: Sequence[tuple[Shuffle, str]], reach_us: int) -> np.ndarray:
        """Return where slices begin, int64 of shape (slices,), ascending; whatever is earlier is in the first."""
        stride = max(job.rows_held // _SAMPLES, 1)
        sample = np.sort(np.concatenate([_times(shuffle, job.number, time, stride) for shuffle, time in parts]))
        step = max(self.plan.partition_rows // stride, 1)
        starts = [int(sample[0])]
        for time in sample[step::step].tolist():
            if time - starts[-1] >= reach_us:
                starts.append(time)
        return np.array(starts)

    def _sliced(self, job: EntityPartition, shuffle: Shuffle, time: str, starts: np.ndarray, name: str) -> Shuffle:
        reach_us, files = self.plan.groups[job.group].reach_us, []
        for at, batch in enumerate(partition_batches(shuffle, job.number)):
            table = pa.Table.from_batches([batch])
            table, numbers = _with_reached(table, event_us(table.column(time), time), starts, reach_us)
            path = self.plan.folder / f"{name}-{at:06d}.arrow"
            files.append(write_shuffle_file(path, table, numbers, len(starts)))
        return Shuffle.of(files, len(starts))


def _times(shuffle: Shuffle, number: int, time: str, stride: int) -> np.ndarray:
    """Return the times of every so many rows of a partition."""
    seen, found = 0, []
    for batch in partition_batches(shuffle, number):
        found.append(event_us(pa.chunked_array([batch.column(time)]), time)[-seen % stride :: stride])
        seen += batch.num_rows
    return np.concatenate(found)


def _with_reached(
    table: pa.Table, time_us: np.ndarray, starts: np.ndarray, reach_us: int
) -> tuple[pa.Table, np.ndarray]:
    """Return n rows and, once more, the events that windows of the next slice reach; and the slice of each."""
    numbers = np.searchsorted(starts[1:], time_us, "right")
    if EVENT not in table.column_names:
        return table, numbers
    later = earlier(np.append(starts[1:], starts[-1])[numbers], reach_us)
    reached = table.column(EVENT).to_numpy() & (numbers < len(starts) - 1) & (time_us > later)
    places = np.flatnonzero(reached)
    again = table.take(pa.array(places))
    # There they are events alone: their own windows are computed in their own slice.
    again = again.set_column(again.column_names.index(ROW), ROW, pa.nulls(len(places), pa.int64()))
    return pa.concat_tables([table, again]), np.concatenate((numbers, numbers[places] + 1))
