"""A training table in time: windows, what the store would have held, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from data.errors import ConfigError, DataError
from data.feature_views.events.event_tables import EventTables
from data.feature_views.events.table_mark import with_mark
from data.feature_views.point_in_time import with_windows
from data.schema.events.event_paths import NOTHING_BESIDE, EventPaths
from data.schema.use_case import UseCase, parse_use_case
from data.settings import Settings
from data.sources.atomic_output import write_table
from tests.support.training.swipes import SWIPES, swipes_table, swipes_use_case
from tune.dataset.loading import prepared_table
from tune.dataset.training_table import load_training_table

_STORED = """
name = "cards"
label = "y"
event_time = "t"
materialized = { every = "100s" }
entity = { column = "card" }
[features]
amount = { type = "number" }
trust = { type = "number", source = "online" }
ratio = { expression = "amount / trust" }
"""


def _stored() -> tuple[UseCase, pa.Table]:
    table = pa.table(
        {"t": [10, 50, 120, 210], "card": ["a"] * 4, "amount": [8.0] * 4, "trust": [1.0, 2, 4, 8], "y": [0, 1, 0, 1]}
    )
    return parse_use_case(_STORED, "x"), table


def _unstored() -> UseCase:
    return parse_use_case(_STORED.replace(', source = "online"', ""), "x")


def _write(folder: Path, table: pa.Table, name: str = "t.parquet") -> Path:
    write_table(table, folder / name)
    return folder / name


def _prepare(
    path: Path, use_case: UseCase, folder: Path, events: EventPaths = NOTHING_BESIDE, memory_mb: int = 1000
) -> None:
    with prepared_table(path, use_case, Settings(var_dir=folder, train_memory_mb=memory_mb), events):
        pass


def test_training_sees_the_windows_and_counts_what_is_left_out(tmp_path: Path):
    """Windows and expressions are columns of the table; a repeated swipe is in no window and is counted."""
    table = swipes_table(200)
    table = pa.concat_tables([table, table.slice(7, 1)])
    loaded = load_training_table(_write(tmp_path, table), swipes_use_case())
    expected = with_windows(table, swipes_use_case()).table
    for name in ("card_count_1d", "terminal_risk_2d", "amount_ratio"):
        assert loaded.table.column(name).equals(expected.column(name))
    assert {name: dict(counts) for name, counts in loaded.left_out.items()} == {
        "swipes": {"repeated": 1},
        "reports": {"repeated": 1},
    }
    assert loaded.own is None


def test_history_changes_the_windows_and_the_fingerprint(tmp_path: Path):
    """Later rows with the earlier ones as history have the windows of the whole table, and are other data."""
    table, use_case = swipes_table(200), swipes_use_case()
    later = _write(tmp_path, table.slice(100))
    history = table.slice(0, 100)
    alone, joined = load_training_table(later, use_case), load_training_table(later, use_case, EventTables(history, {}))
    whole = with_windows(table, use_case).table.slice(100)
    assert joined.table.column("card_count_1d").equals(whole.column("card_count_1d"))
    assert not alone.table.column("card_count_1d").equals(whole.column("card_count_1d"))
    assert alone.fingerprint != joined.fingerprint


def test_stored_values_are_those_of_earlier_rows_and_expressions_read_them(tmp_path: Path):
    """With a schedule no row sees its own value; the table with own values stays beside it."""
    use_case, table = _stored()
    loaded = load_training_table(_write(tmp_path, table), use_case)
    assert loaded.table.column("trust").to_pylist() == [None, None, 2, 4]
    assert loaded.table.column("ratio").to_pylist() == [None, None, 4, 2]
    assert loaded.own is not None and loaded.own.column("ratio").to_pylist() == [8, 4, 2, 1]


def test_a_marked_table_is_taken_as_it_is(tmp_path: Path):
    """Windows that were written are not computed again, and need no events beside the table."""
    use_case = swipes_use_case()
    table = with_windows(swipes_table(400), use_case).table
    fixed = table.set_column(table.column_names.index("card_count_1d"), "card_count_1d", pa.array([5] * 400))
    path = _write(tmp_path, fixed.cast(with_mark(fixed.schema, use_case)))
    with prepared_table(path, use_case, Settings(var_dir=tmp_path)) as (source, prepared):
        assert pc.unique(source.table.column("card_count_1d")).to_pylist() == [5]
        assert prepared.profile.features["card_count_1d"].high == 5
    with pytest.raises(ConfigError, match="--history: the table holds its windows already"):
        _prepare(path, use_case, tmp_path, EventPaths(path))


def test_events_that_are_not_given_or_not_needed_are_refused_by_name(tmp_path: Path):
    """A source beside the table is named by an option, and no other is."""
    path = _write(tmp_path, swipes_table(300))
    beside = parse_use_case(SWIPES.replace('delay = "1d"', 'key = "report"\ntime = "when"'), "x")
    for use_case, events, said in [
        (beside, EventPaths(), "the events of source 'reports' are not given: add --events reports=PATH"),
        (
            swipes_use_case(),
            EventPaths(None, {"reports": path}),
            "--events reports: events of that name are not needed",
        ),
        (_unstored(), EventPaths(path), "--history: nothing is computed"),
    ]:
        table = path if use_case.name == "swipes" else _write(tmp_path, _stored()[1], "s.parquet")
        with pytest.raises(ConfigError, match=said):
            _prepare(table, use_case, tmp_path, events)


def test_events_of_the_wrong_type_are_refused_by_file_and_column(tmp_path: Path):
    """A column that cannot hold an entity, a time or a value is named with its role before a value is read."""
    table = swipes_table(300)
    for column, values, said in [
        ("card", pa.array([1.5] * 300), "holds double, expected strings or integers .it is an entity of events.swipes"),
        ("terminal", None, "column 'terminal' is missing"),
        ("at", pa.array(["noon"] * 300), "column 'at'"),
    ]:
        at = table.column_names.index(column)
        changed = table.remove_column(at) if values is None else table.set_column(at, column, values)
        with pytest.raises(DataError, match=rf"t\.parquet: .*{said}"):
            _prepare(_write(tmp_path, changed), swipes_use_case(), tmp_path)
