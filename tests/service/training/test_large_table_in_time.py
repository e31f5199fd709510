"""A table that does not fit into memory and lacks its windows: search computes them on disk, and learns from them."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from data.errors import DataError
from data.feature_views.events.event_tables import EventTables
from data.schema.events.event_paths import NOTHING_BESIDE, EventPaths
from data.settings import Settings
from data.sources.atomic_output import write_table
from tests.support.training.swipes import swipes_table, swipes_use_case
from tune.dataset.loading import prepared_table
from tune.dataset.training_table import load_training_table

ROWS, FEW_ROWS, EARLIER = 9000, 800, 500


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Settings by which so many rows are too many."""
    return Settings(var_dir=tmp_path / "var", train_memory_mb=1)


def left(settings: Settings) -> list[Path]:
    """What is on disk beside the shards."""
    return [*(settings.var_dir / "shards").iterdir()]


def written(path: Path, table: pa.Table) -> Path:
    """A table as a file."""
    write_table(table, path)
    return path


def earlier_swipes(rows: int = EARLIER) -> pa.Table:
    """Swipes with keys of their own."""
    return swipes_table(rows, seed=4).set_column(0, "swipe_id", pa.array(range(ROWS, ROWS + rows)))


def test_rows_have_the_windows_of_memory(ray_cluster, tmp_path, settings, capsys):
    """With a history beside the table; it keeps its name, and nothing stays on disk."""
    table, use_case = swipes_table(ROWS), swipes_use_case()
    path, history = written(tmp_path / "t.parquet", table), written(tmp_path / "h.parquet", earlier_swipes())
    expected = load_training_table(path, use_case, EventTables(earlier_swipes(), {})).table
    with prepared_table(path, use_case, settings, EventPaths(history)) as (source, prepared):
        assert (source.path, source.rows, prepared.shards is not None) == (path, ROWS, True)
        # Keys are the numbers of the rows.
        same = expected.take(source.table.column("swipe_id"))
        for feature in (*use_case.schema_.windows, *use_case.schema_.expressions):
            assert source.table.column(feature.name).to_pylist() == same.column(feature.name).to_pylist()
    said = " ".join(capsys.readouterr().err.split())
    assert f"{ROWS + EARLIER:,} rows and events are more than the " in said
    assert "Ray Data computes the features of the rows" in said
    assert left(settings) == []


def test_events_alone_may_be_too_many(ray_cluster, tmp_path, settings):
    """Rows that fit are read into memory once their windows are there, which needed more."""
    use_case, table, earlier = swipes_use_case(), swipes_table(FEW_ROWS), earlier_swipes(ROWS)
    path, history = written(tmp_path / "t.parquet", table), written(tmp_path / "h.parquet", earlier)
    expected = load_training_table(path, use_case, EventTables(earlier, {})).table
    with prepared_table(path, use_case, settings, EventPaths(history)) as (source, prepared):
        assert (source.path, source.sampled_from, prepared.shards) == (path, None, None)
        same = expected.take(source.table.column("swipe_id"))
        for feature in (*use_case.schema_.windows, *use_case.schema_.expressions):
            assert source.table.column(feature.name).to_pylist() == same.column(feature.name).to_pylist()
    assert left(settings) == []


def test_error_is_said_of_the_table_that_was_named(ray_cluster, tmp_path, settings):
    """A label that is none is found in the written table, which is gone then."""
    table = swipes_table(ROWS)
    labels = pa.array([2, *table.column("fraud").to_pylist()[1:]])
    path = written(tmp_path / "t.parquet", table.set_column(table.column_names.index("fraud"), "fraud", labels))
    with (
        pytest.raises(DataError, match=rf"^{path}: label column 'fraud' holds "),
        prepared_table(path, swipes_use_case(), settings, NOTHING_BESIDE),
    ):
        pass
    assert left(settings) == []
