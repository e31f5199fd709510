"""A table in time that is spread equals the one that is made in memory, bit for bit, however small its partitions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.distributed.pieces import each_block_here
from data.errors import DataError
from data.feature_views.events.event_tables import EventFiles, read_events
from data.feature_views.point_in_time import PointInTime, point_in_time
from data.feature_views.spread.pipeline import SpreadTableInTime
from data.feature_views.spread.plan import SpreadPlan
from data.schema.use_case import UseCase, parse_use_case
from data.sources.atomic_output import write_table
from data.sources.parquet import open_source, read_source
from tests.support.training.cards_in_time import CARDS_HEAD

_TEXT = (
    CARDS_HEAD
    + """
materialized = { every = "10s", takes = "3s" }
[entity]
column = "card"
ttl = "1h"
[events.swipes]
entities = ["card", { columns = ["card", "shop"] }]
values = { amount = { decimals = 2 }, score = { type = "integer" } }
[events.reports]
entities = ["shop"]
values = ["y"]
delay = "20s"
[events.logins]
entities = ["card"]
values = { device = { type = "string" } }
key = "login"
time = "at"
known_at = "seen"
[features]
amount = { type = "number", default = 4 }
score = { type = "number", source = "online" }
kind = { type = "category", source = "online" }
seen_10s = { aggregate = "count", window = "10s", by = "card", events = "swipes" }
both = { aggregate = "std", of = "amount", window = "30s", by = "card+shop" }
shops = { aggregate = "distinct", of = "shop", window = "60s", by = "card", with_current = true }
mean = { aggregate = "mean", of = "amount", window = "10s", delay = "2s", by = "card", where = "score > 2" }
risk = { aggregate = "mean", of = "y", window = "30s", by = "shop", default = 0 }
device = { type = "category", aggregate = "last", of = "device", window = "40s" }
logins = { aggregate = "since_last", window = "40s", events = "logins" }
ratio = { expression = "amount / mean + score" }
"""
)
_USE_CASE = parse_use_case(_TEXT, "x")


@contextmanager
def _silent(title: str, rows: int) -> Iterator[Callable[[int], None]]:
    yield lambda count: None


def _spread(use_case: UseCase, table: Path, files: EventFiles, folder: Path, partition_rows: int) -> PointInTime:
    folder.mkdir()
    plan = SpreadPlan(use_case, open_source(table), files, folder, partition_rows)
    spread = SpreadTableInTime(plan, each_block_here, _silent)
    return PointInTime(pa.concat_tables(list(spread.tables())), spread.left_out)


def _swipes(rng: np.random.Generator, rows: int, first: int, hot: bool) -> pa.Table:
    ids = rng.integers(first, first + max(rows, 1) * 6, rows)
    cards = np.where(rng.random(rows) < 0.8, "a", "b") if hot else rng.choice(["a", "b", "c", "d", "", "é"], rows)
    amounts = np.round(rng.normal(0, 50, rows), 3)
    amounts[rng.random(rows) < 0.05] = 1e300
    return pa.table(
        {
            "id": pa.array(ids, mask=rng.random(rows) < 0.05),
            "t": pa.array(rng.integers(0, 300, rows) * 1_000_000, pa.timestamp("us")),
            "note": rng.choice(["x", "y"], rows),
            "card": pa.array(cards.tolist(), pa.string()),
            "shop": pa.array(rng.choice(["s", "t", " "], rows).tolist(), pa.string()).dictionary_encode(),
            "amount": pa.array(amounts, mask=rng.random(rows) < 0.1),
            "score": pa.array(rng.integers(0, 6, rows), mask=rng.random(rows) < 0.1),
            "kind": pa.array(rng.choice(["k", "l"], rows).tolist(), pa.string()).dictionary_encode(),
            "y": rng.integers(0, 2, rows),
        }
    )


def _logins(rng: np.random.Generator, rows: int) -> pa.Table:
    at = rng.integers(0, 300, rows)
    return pa.table(
        {
            "login": pa.array([f"l{key}" for key in rng.integers(0, rows * 4, rows)]),
            "at": pa.array(at * 1_000_000, pa.timestamp("us"), mask=rng.random(rows) < 0.1),
            "seen": pa.array((at + rng.integers(-5, 50, rows)) * 1_000_000, pa.timestamp("us")),
            "card": rng.choice(["a", "b", "c"], rows),
            "device": pa.array(rng.choice(["phone", "tv", ""], rows).tolist(), pa.string()),
        }
    )


def _write(folder: Path, table: pa.Table, files: int) -> Path:
    """Write a table as a folder of so many files, each with several row groups."""
    step = -(-table.num_rows // files)
    for at in range(files):
        write_table(table.slice(at * step, step), folder / f"{at}.parquet")
    return folder


@given(
    seed=st.integers(0, 2**32 - 1),
    rows=st.integers(1, 60),
    files=st.integers(1, 3),
    partition_rows=st.sampled_from([12, 40, 1000]),
    earlier=st.integers(0, 30),
    hot=st.booleans(),
)
@settings(max_examples=6, deadline=None)
def test_spread_equals_memory(
    tmp_path_factory: pytest.TempPathFactory,
    seed: int,
    rows: int,
    files: int,
    partition_rows: int,
    earlier: int,
    hot: bool,
):
    """Order, columns, types, metadata and what is left out, with repeated keys, blank entities and slices of time."""
    rng = np.random.default_rng(seed)
    folder = tmp_path_factory.mktemp("spread")
    table = _write(folder / "table", _swipes(rng, rows, 0, hot), files)
    history = open_source(_write(folder / "history", _swipes(rng, earlier, -50, hot), 2)) if earlier else None
    logins = open_source(_write(folder / "logins", _logins(rng, 40), 2))
    events = EventFiles(history, {"logins": logins})
    held = read_events(events, _USE_CASE)
    expected = point_in_time(read_source(open_source(table)), _USE_CASE, held.history, held.others)
    found = _spread(_USE_CASE, table, events, folder / "scratch", partition_rows)
    assert found.left_out == expected.left_out
    assert found.table.schema.equals(expected.table.schema, check_metadata=True)
    for name in expected.table.column_names:
        assert found.table.column(name).to_pylist() == expected.table.column(name).to_pylist(), name


@pytest.mark.parametrize(
    ("column", "values"),
    [("t", [None, 100, None, 103]), ("amount", ["a", "b", "c", "d"]), ("card", [1.5, 2.5, 3.5, 4.5])],
)
def test_refused_as_in_memory(tmp_path: Path, column: str, values: list):
    """Rows of all files without time are counted together; types that do not fit are found before rows are read."""
    swipes = _swipes(np.random.default_rng(0), 4, 0, hot=False)
    swipes = swipes.set_column(swipes.column_names.index(column), column, pa.array(values))
    table = _write(tmp_path / "table", swipes, 2)
    logins = _write(tmp_path / "logins", _logins(np.random.default_rng(0), 4), 1)
    events = EventFiles(None, {"logins": open_source(logins)})
    with pytest.raises(DataError) as memory:
        point_in_time(read_source(open_source(table)), _USE_CASE, None, read_events(events, _USE_CASE).others)
    with pytest.raises(DataError) as spread:
        _spread(_USE_CASE, table, events, tmp_path / "scratch", 2)
    assert str(spread.value) == str(memory.value)


_ZONES = "some of its times name a zone and others none"
_MIXED = ["2024-01-01T10:00:00Z", "2024-01-01T10:00:01+02:00", "2024-01-01T10:00:02", "2024-01-01 10:00:03"]


@pytest.mark.parametrize(("column", "of"), [("t", "swipes"), ("t", "history"), ("at", "logins"), ("seen", "logins")])
@pytest.mark.parametrize("files", [1, 2])
def test_zones_that_differ_are_refused_as_in_memory(tmp_path: Path, column: str, of: str, files: int):
    """Texts of which some name a zone are refused, also where each file is of one kind, or only the history differs."""
    tables = _with_text_times(np.random.default_rng(0))
    mixed = _MIXED[:2] if of == "history" else _MIXED
    tables[of] = _with_column(tables[of], column, mixed)
    memory, spread = (refusal(tmp_path, tables, files) for refusal in (_memory_refusal, _spread_refusal))
    assert spread == memory and f"column '{column}': {_ZONES}" in memory


def test_digits_that_no_year_has_are_refused(tmp_path: Path):
    """Digits below a microsecond in one file and a year that has none in another are no one form, as in memory."""
    tables = _with_text_times(np.random.default_rng(0))
    texts = ["2024-01-01T10:00:00.123456789", "2024-01-01T10:00:01", "3024-01-01T10:00:02", "3024-01-01T10:00:03"]
    tables["swipes"] = _with_column(tables["swipes"], "t", texts)
    for refused in (_memory_refusal(tmp_path, tables, 2), _spread_refusal(tmp_path, tables, 2)):
        assert refused.startswith("column 't': not ISO 8601 times: ")


def _with_text_times(rng: np.random.Generator) -> dict[str, pa.Table]:
    texts = ["2024-01-01T10:00:00", "", "2024-01-01T10:00:02.123456789", "2024-01-01"]
    swipes = _with_column(_swipes(rng, 4, 0, hot=False), "t", [texts[3], *texts[2:], texts[0]])
    logins = _with_column(_with_column(_logins(rng, 4), "at", texts), "seen", texts)
    return {"swipes": swipes, "history": _with_column(_swipes(rng, 2, -9, hot=False), "t", texts[:2]), "logins": logins}


def _with_column(table: pa.Table, name: str, values: list[str]) -> pa.Table:
    return table.set_column(table.column_names.index(name), name, pa.array(values))


def _memory_refusal(folder: Path, tables: dict[str, pa.Table], files: int) -> str:
    with pytest.raises(DataError) as refused:
        point_in_time(tables["swipes"], _USE_CASE, tables["history"], {"logins": tables["logins"]})
    return str(refused.value)


def _spread_refusal(folder: Path, tables: dict[str, pa.Table], files: int) -> str:
    paths = {name: _write(folder / name, table, files) for name, table in tables.items()}
    events = EventFiles(open_source(paths["history"]), {"logins": open_source(paths["logins"])})
    with pytest.raises(DataError) as refused:
        _spread(_USE_CASE, paths["swipes"], events, folder / "scratch", 2)
    return str(refused.value)
