"""Slices of time: each row in one of them, with all that its windows reach, and no more of the others."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa

from data.distributed.pieces import each_block_here
from data.distributed.shuffle_file import Shuffle, read_partition, write_shuffle_file
from data.feature_views.events.event_tables import EventFiles
from data.feature_views.spread.entity_windows import EntityPartition
from data.feature_views.spread.exchange import EVENT, ROW, job_pieces
from data.feature_views.spread.plan import SpreadPlan
from data.feature_views.spread.time_slices import SliceByTime
from data.schema.use_case import parse_use_case
from data.sources.atomic_output import write_table
from data.sources.parquet import open_source
from tests.support.training.cards_in_time import CARDS_HEAD

_USE_CASE = (
    CARDS_HEAD
    + """
[events.swipes]
entities = ["card"]
[features]
seen = { aggregate = "count", window = "WINDOW", events = "swipes" }
"""
)
_ROWS = 1_000


def _slices(folder: Path, window: str) -> list[pa.Table]:
    """Divide the swipes of one card, one a second, 100 rows a partition."""
    seconds = np.arange(_ROWS)
    table = pa.table({"id": seconds, "t": seconds * 1_000_000 + 10**15, "card": ["a"] * _ROWS, "y": [0] * _ROWS})
    write_table(table, folder / "swipes.parquet")
    use_case = parse_use_case(_USE_CASE.replace("WINDOW", window), "x")
    plan = SpreadPlan(use_case, open_source(folder / "swipes.parquet"), EventFiles(None, {}), folder, 100)
    marked = table.append_column(ROW, pa.array(seconds)).append_column(EVENT, pa.array(seconds % 10 > 0))
    files = [
        write_shuffle_file(folder / f"{at}.arrow", marked.filter(pa.array(seconds % 2 == at)), np.zeros(500, int), 1)
        for at in range(2)
    ]
    jobs = [EntityPartition(0, Shuffle.of(files, 1), None, 0, "000000")]
    found = next(each_block_here(job_pieces("Slices", jobs), SliceByTime(plan, jobs)))
    assert found[0] == _ROWS
    return [read_partition(slice_.events, slice_.number) for slice_ in found[1]]


def test_rows_are_in_one_slice_with_what_they_reach(tmp_path: Path):
    """The events of the 25 s before a slice come with it, and no row that is no event; of rows each comes once."""
    slices = _slices(tmp_path, "25s")
    assert len(slices) == 10
    asked = [table.filter(table.column(ROW).is_valid()).column(ROW).to_pylist() for table in slices]
    assert sorted(row for rows in asked for row in rows) == list(range(_ROWS))
    for table, rows in zip(slices, asked, strict=True):
        reached = table.filter(table.column(ROW).is_null()).column("id").to_pylist()
        before = range(max(min(rows) - 24, 0), min(rows))
        assert sorted(reached) == [key for key in before if key % 10]


def test_slices_are_as_long_as_the_window(tmp_path: Path):
    """So that each event is in two of them at most; a window over everything cannot be divided."""
    assert len(_slices(tmp_path, "250s")) == 4
    assert len(_slices(tmp_path, "2000s")) == 1
