"""The pipeline of a spread table in time: its steps, one after the other, each over all of the rows.

rows by key -> one event of each key -> events and rows by entity -> windows -> rows in their order
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa

from data.distributed.pieces import Pieces, Runner, parquet_pieces
from data.distributed.shuffle_file import Shuffle, ShuffleFile
from data.feature_views.events.table_events import rows_without_time
from data.feature_views.spread.entity_windows import ComputeWindows, EntityPartition, JoinStored, StoredPartition
from data.feature_views.spread.exchange import job_pieces
from data.feature_views.spread.plan import SpreadPlan
from data.feature_views.spread.row_features import AddFeatures
from data.feature_views.spread.scatter import STORED, Scattered, ScatterEvents, ScatterHistory, ScatterRows
from data.feature_views.spread.single_events import KeepSingleEvents, KeyPartition, SingleEvents
from data.feature_views.spread.time_slices import SliceByTime
from data.transform.event_time import check_forms

Stage = Callable[[str, int], AbstractContextManager[Callable[[int], None]]]
"""Shows the progress of a step: its title and number of rows; yields what is called with the rows that are done."""
_Result = TypeVar("_Result")
_Key = TypeVar("_Key")
_Value = TypeVar("_Value")


class SpreadTableInTime:
    """The table in time of tables that need not fit into memory.

    Args:
        plan: what is computed; its folder is empty, and is emptied by the caller.
        run: applies the steps, by Ray Data or in this process.
        stage: shows progress.
    """

    def __init__(self, plan: SpreadPlan, run: Runner, stage: Stage) -> None:
        self._plan, self._run, self._stage = plan, run, stage
        self.left_out: dict[str, Counter[str]] = {}
        """By source of events: rows that are no event, by reason; all of them once `tables` has begun."""

    def tables(self) -> Iterator[pa.Table]:
        """Compute everything, then yield the table in parts, in the order of its rows, each with the plan's schema.

        Raises:
            DataError: a column is missing or does not fit, rows have no time, a sum does not fit into 64 bits, or a
                shuffle file cannot be written or read.
        """
        plan = self._plan
        scattered = self._scattered()
        windows = self._windows(scattered) if plan.groups else {}
        stored = self._stored(scattered[STORED]) if STORED in scattered else None
        with self._stage("features: write", plan.table.rows) as advance:
            for table in self._run(parquet_pieces(plan.table), AddFeatures(plan, windows, stored), in_order=True):
                yield table
                advance(table.num_rows)

    def _scattered(self) -> dict[str, list[ShuffleFile]]:
        """Exchange the rows of all tables; return what was written by exchange."""
        plan = self._plan
        steps: list[tuple[Pieces[Any], Callable[[pa.Table], Scattered]]] = []
        if plan.scattered_names:
            steps.append((parquet_pieces(plan.table, plan.scattered_names), ScatterRows(plan)))
        if plan.files.history is not None:
            steps.append((parquet_pieces(plan.files.history, plan.history_names()), ScatterHistory(plan)))
        for name, source in plan.files.others.items():
            steps.append((parquet_pieces(source, plan.event_names(name)), ScatterEvents(plan, name)))
        found: dict[str, list[ShuffleFile]] = {}
        times: dict[tuple[str, str], list[int]] = {}
        without_time = 0
        with self._stage("features: rows by key", sum(pieces.rows or 0 for pieces, _ in steps)) as advance:
            for pieces, step in steps:
                for block in self._run(pieces, step, small_results=True):
                    _gather(found, block.files)
                    _gather(times, block.times)
                    without_time += block.without_time
                    advance(block.rows)
        for (_, name), forms in times.items():
            check_forms(name, forms)
        if without_time:
            raise rows_without_time(plan.use_case.event_time or "", without_time)
        return found

    def _windows(self, scattered: dict[str, list[ShuffleFile]]) -> dict[str, Shuffle]:
        """Compute the windows; return them by group."""
        plan, chunks = self._plan, len(self._plan.first_rows)
        events = self._single_events(scattered)
        jobs = []
        for at, group in enumerate(plan.groups):
            held = Shuffle.of(events[group.name], group.partitions)
            rows = None if group.own else Shuffle.of(scattered[group.name], group.partitions)
            asked = np.flatnonzero((held if rows is None else rows).rows).tolist()
            jobs += [EntityPartition(at, held, rows, number, f"{number:06d}") for number in asked]
        jobs = self._sliced(jobs)
        found: dict[str, list[ShuffleFile]] = {group.name: [] for group in plan.groups}
        with self._stage("features: windows", plan.table.rows * len(plan.groups)) as advance:
            for name, rows, file in self._each("Entities", jobs, ComputeWindows(plan, jobs)):
                found[name].append(file)
                advance(rows)
        return {name: Shuffle.of(files, chunks) for name, files in found.items()}

    def _single_events(self, scattered: dict[str, list[ShuffleFile]]) -> dict[str, list[ShuffleFile]]:
        """Keep one event of each key; return the events by group."""
        plan = self._plan
        jobs = []
        for name in plan.sources:
            shuffle = Shuffle.of(scattered[plan.key_exchange(name)], plan.partitions(plan.event_rows(name)))
            jobs += [KeyPartition(name, shuffle, number) for number in np.flatnonzero(shuffle.rows).tolist()]
        done: list[SingleEvents] = []
        found: dict[str, list[ShuffleFile]] = {}
        with self._stage("features: events", sum(map(plan.event_rows, plan.sources))) as advance:
            for each in self._each("Keys", jobs, KeepSingleEvents(plan, jobs)):
                _gather(found, each.files)
                done.append(each)
                advance(int(each.partition.shuffle.rows[each.partition.number]))
        # In the order of the partitions, so that reasons are always said in the same order.
        for name in plan.sources:
            counts = {each.partition.number: each.left_out for each in done if each.partition.source == name}
            self.left_out[name] = sum((counts[number] for number in sorted(counts)), Counter[str]())
        return found

    def _sliced(self, jobs: Sequence[EntityPartition]) -> list[EntityPartition]:
        """Return partitions, those with too many rows divided by time."""
        large = [job for job in jobs if job.rows_held > 2 * self._plan.partition_rows]
        found = [job for job in jobs if job.rows_held <= 2 * self._plan.partition_rows]
        if not large:
            return found
        with self._stage("features: slices", sum(job.rows_held for job in large)) as advance:
            for rows, slices in self._each("Slices", large, SliceByTime(self._plan, large)):
                found += slices
                advance(rows)
        return found

    def _stored(self, files: list[ShuffleFile]) -> Shuffle:
        """Join what the store would have held; return it."""
        plan = self._plan
        shuffle = Shuffle.of(files, plan.partitions(plan.own_rows))
        jobs = [StoredPartition(shuffle, number) for number in np.flatnonzero(shuffle.rows).tolist()]
        found = []
        with self._stage("features: stored values", plan.table.rows) as advance:
            for rows, file in self._each("Entities", jobs, JoinStored(plan, jobs)):
                found.append(file)
                advance(rows)
        return Shuffle.of(found, len(plan.first_rows))

    def _each(self, name: str, jobs: Sequence[Any], step: Callable[[pa.Table], _Result]) -> Iterator[_Result]:
        return self._run(job_pieces(name, jobs), step, small_results=True)


def _gather(found: dict[_Key, list[_Value]], given: Mapping[_Key, _Value]) -> None:
    for key, value in given.items():
        found.setdefault(key, []).append(value)
