"""The second step: of each key one event stays, and goes to the partitions of its entities."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data.distributed.shuffle_file import Shuffle, ShuffleFile, read_partition, write_shuffle_file
from data.feature_views.events.event_entities import entity_key_column
from data.feature_views.events.table_events import event_places
from data.feature_views.point_in_time import source_columns
from data.feature_views.spread.exchange import EVENT, ROW, job_of, partition_numbers
from data.feature_views.spread.plan import SpreadPlan


class KeyPartition(NamedTuple):
    """Rows of one source, all that have the same keys among them."""

    source: str
    shuffle: Shuffle
    number: int


class SingleEvents(NamedTuple):
    """What became of a partition of keys."""

    partition: KeyPartition
    files: dict[str, ShuffleFile]
    """By group."""
    left_out: Counter[str]
    """Rows that are no event, by reason."""


@dataclass(frozen=True)
class KeepSingleEvents:
    """Finds the events among the rows of a partition of keys."""

    plan: SpreadPlan
    jobs: Sequence[KeyPartition]

    def __call__(self, block: pa.Table) -> SingleEvents:
        """Write the events of a partition by entity, with those of the table's rows that are none."""
        job = job_of(block, self.jobs)
        table = read_partition(job.shuffle, job.number)
        places, left_out = event_places(table, source_columns(self.plan.use_case, job.source))
        is_event = np.zeros(table.num_rows, bool)
        is_event[places] = True
        table = table.append_column(EVENT, pa.array(is_event))
        needed = table.filter(pc.call_function("or", [table.column(EVENT), table.column(ROW).is_valid()]))
        return SingleEvents(job, self._by_entity(job, needed), left_out)

    def _by_entity(self, job: KeyPartition, table: pa.Table) -> dict[str, ShuffleFile]:
        files = {}
        for group in self.plan.groups:
            if group.source == job.source:
                at = partition_numbers(entity_key_column(table, group.entity), group.partitions)
                path = self.plan.folder / f"{group.name}-events-{job.number:06d}.arrow"
                files[group.name] = write_shuffle_file(path, table, at, group.partitions)
        return files
