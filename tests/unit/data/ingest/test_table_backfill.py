"""Backfill of a table into a real store: every row is in one count, and a second run changes nothing."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data.cli.commands.ingest import report
from data.distributed.pieces import each_block_here, parquet_pieces
from data.errors import DataError
from data.event_store import EventOutcome, EventStore, open_events
from data.ingest.event_input import event_inputs
from data.ingest.event_tally import EventTally
from data.ingest.table_backfill import SourceRows, backfill, reader
from data.schema.use_case import parse_use_case
from data.settings import Settings
from data.sources.parquet import open_source
from tests.support.training.cards_in_time import CARDS_HEAD

USE_CASE = parse_use_case(
    CARDS_HEAD
    + """
[events.swipes]
entities = ["card"]
values = ["amount"]
[events.reports]
entities = ["shop"]
values = ["y"]
delay = "1h"
[features]
amount = { type = "number" }
a = { aggregate = "count", window = "30d", by = "card", events = "swipes" }
b = { aggregate = "mean", of = "y", window = "30d", by = "shop" }
""",
    "x",
)
NOW_US = time.time_ns() // 1000


@pytest.fixture
def store(tmp_path: Path) -> Iterator[EventStore]:
    """An empty event store."""
    with closing(open_events(Settings(var_dir=tmp_path), USE_CASE.name, USE_CASE.events, create=True)) as store:
        yield store


def _table(path: Path, **columns: list) -> Path:
    seconds = NOW_US // 1_000_000
    rows = {
        "id": [1, 2, 3, 4],
        "t": [seconds - 40, seconds - 30, seconds - 20, seconds - 10],
        "card": ["a", "b", "a", "a"],
        "shop": ["x", "x", "y", "y"],
        "amount": [1.0, 2.0, 3.0, 4.0],
        "y": [0, 1, 0, 0],
    }
    pq.write_table(pa.table({**rows, **columns}), path / "t.parquet")
    return path / "t.parquet"


def _run(path: Path, store: EventStore) -> dict[str, EventTally]:
    source, inputs = open_source(path), event_inputs(USE_CASE, None)
    done = [0]
    blocks = each_block_here(parquet_pieces(source), reader(source, inputs, NOW_US))

    def advance(count: int) -> None:
        done[0] += count

    tallies: dict[str, EventTally] = {}
    backfill(blocks, store, advance, tallies)
    assert done[0] == sum(each.read for each in tallies.values()) == source.rows * len(inputs)
    return tallies


def test_one_table_is_the_events_of_two_sources(tmp_path: Path, store: EventStore):
    """Both are taken, and repeated when the run is."""
    path = _table(tmp_path)
    for outcome in (EventOutcome.TAKEN, EventOutcome.REPEATED):
        found = _run(path, store)
        assert {name: tally.outcomes for name, tally in found.items()} == {
            "swipes": Counter({outcome: 4}),
            "reports": Counter({outcome: 4}),
        }


def test_every_row_is_accounted_for(tmp_path: Path, store: EventStore, capsys: pytest.CaptureFixture[str]):
    """What came to the store stands on stdout, what did not on stderr with the names of its rows."""
    path = _table(tmp_path, id=[1, 1, None, 4], card=["a", "b", "a", " "], shop=["x", "x", "y", "y"])
    report("t.parquet", ("row", "rows"), _run(path, store))
    printed = capsys.readouterr()
    assert printed.out.splitlines() == [
        "t.parquet: 4 rows read",
        "swipes: 1 event taken, 0 repeated, 1 revised, 0 superseded, 0 conflicts",
        "reports: 2 events taken, 0 repeated, 1 revised, 0 superseded, 0 conflicts",
    ]
    assert printed.err.splitlines() == [
        "left out of swipes: 1 row without id (t.parquet row 2)",
        "left out of swipes: 1 row without card (t.parquet row 3)",
        "left out of reports: 1 row without id (t.parquet row 2)",
    ]


def test_a_key_with_another_content_is_refused_by_name(
    tmp_path: Path, store: EventStore, capsys: pytest.CaptureFixture[str]
):
    """Known since the same time neither is the later one: the first stays."""
    _run(_table(tmp_path), store)
    found = _run(_table(tmp_path, amount=[1.0, 2.5, 3.0, 4.5]), store)
    report("t.parquet", ("row", "rows"), {"swipes": found["swipes"]})
    printed = capsys.readouterr()
    assert printed.out.splitlines()[1] == "swipes: 0 events taken, 2 repeated, 0 revised, 0 superseded, 2 conflicts"
    assert printed.err.strip() == "not stored of swipes: 2 keys that repeat with another content (2, 4)"


def test_a_column_that_cannot_be_events_names_the_file(tmp_path: Path, store: EventStore):
    """And what the column holds."""
    with pytest.raises(DataError, match=r"t.parquet: column 'amount' holds string, expected numbers"):
        _run(_table(tmp_path, amount=["1", "2", "3", "4"]), store)


def test_what_came_before_an_error_is_counted(tmp_path: Path, store: EventStore):
    """A table that cannot be read to its end leaves the counts of what was stored until then."""
    source, inputs = open_source(_table(tmp_path)), event_inputs(USE_CASE, None)
    tallies: dict[str, EventTally] = {}

    def blocks() -> Iterator[list[SourceRows]]:
        yield from each_block_here(parquet_pieces(source), reader(source, inputs, NOW_US))
        raise DataError("t.parquet: cut short")

    with pytest.raises(DataError, match="cut short"):
        backfill(blocks(), store, lambda _: None, tallies)
    assert {each.read for each in tallies.values()} == {4}
    assert all(each.outcomes[EventOutcome.TAKEN] + each.left_out_count == 4 for each in tallies.values())
